"""Camera raw, in a DNG made here, against LibRaw's own answer."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from picture_files import by_tifffile
from PIL import Image

from emt_cli.errors import InputError
from emt_cli.media.picture.head import read_head
from emt_cli.media.picture.io import read_picture, write_picture

rawpy = pytest.importorskip("rawpy")


CR3 = b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"


def dng(orientation: int = 1) -> bytes:
    """A sensor of 48x64 under a mosaic of red, green and blue: a slope of reddish light."""
    y, x = np.mgrid[:48, :64]
    light = 500 + 40 * x + 20 * y
    share = np.where((x + y) % 2, 0.5, np.where(y % 2, 0.25, 1.0))
    tags = [
        (271, "s", 0, "Maker", True),
        (274, "H", 1, orientation, True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, bytes([0, 1, 1, 2]), True),
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),
        (50708, "s", 0, "Maker One", True),
        (50717, "H", 1, 4095, True),
        (50721, "2i", 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True),
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),
        (50778, "H", 1, 21, True),
    ]
    return by_tifffile((light * share).astype(np.uint16), photometric=32803, extratags=tags, metadata=None)


@pytest.mark.parametrize("orientation", [1, 6, 3])
def test_raw_is_developed_to_sixteen_bits_and_upright(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.dng"
    path.write_bytes(dng(orientation))
    with rawpy.imread(io.BytesIO(dng(orientation))) as raw:
        expected = raw.postprocess(use_camera_wb=True, output_bps=16, gamma=(2.4, 12.92))

    picture, head = read_picture(path), read_head(path)

    assert (picture.format, picture.pixels.dtype) == ("tiff", np.uint16)
    assert (head.height, head.width) == picture.pixels.shape[:2]
    assert picture.height > picture.width if orientation == 6 else picture.width > picture.height
    np.testing.assert_array_equal(picture.pixels, expected)
    assert "LibRaw" in picture.notes[0]


def test_what_the_camera_wrote_goes_on(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", read_picture(dng(6)))

    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert image.getexif()[0x010F] == "Maker"
        assert image.getexif()[0x0112] == 1


def test_without_libraw_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emt_cli.media.picture.raw.find_spec", lambda name: None)

    with pytest.raises(InputError, match=r"emt-cli\[raw\]"):
        read_picture(dng())


@pytest.mark.parametrize("head", [b"FUJIFILMCCD-RAW 0201", b"IIU\0\x08\0\0\0", CR3])
def test_damaged_raw_is_one_line(head: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"developed|damaged"):
        read_picture(head + bytes(3000))

    assert capfd.readouterr() == ("", "")

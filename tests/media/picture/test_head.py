"""What files declare, against what reading them whole gives."""

from __future__ import annotations

import contextlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from picture_files import by_pillow, png_chunk
from PIL import Image

from emt_cli.errors import InputError
from emt_cli.media.picture.head import read_head
from emt_cli.media.picture.io import read_picture


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif", "bmp"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_head_says_what_reading_finds(
    tmp_path: Path, photo: np.ndarray, kind: str, mode: str, orientation: int
) -> None:
    if (mode in ("RGBA", "P") and kind == "jpg") or (mode == "RGBA" and kind == "bmp"):
        pytest.skip("there is no such file")
    path = tmp_path / f"picture.{kind}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(photo[:20, :30]).convert(mode)
    image.save(path, **({} if kind == "bmp" else {"exif": exif}))

    head = read_head(path)
    picture = read_picture(path)

    assert (head.format, head.height, head.width) == (picture.format, picture.height, picture.width)
    assert head.itemsize == picture.pixels.itemsize
    assert head.alpha >= (picture.alpha is not None)
    assert head.gray <= picture.gray
    assert head.file_bytes == path.stat().st_size


def test_deep_samples_are_seen(tmp_path: Path, deep: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    tifffile.imwrite(tmp_path / "b.tif", deep)
    tifffile.imwrite(tmp_path / "c.tif", deep.astype(np.float32), photometric="rgb")

    heads = [read_head(tmp_path / name) for name in ("a.png", "b.tif", "c.tif")]

    assert [head.itemsize for head in heads] == [2, 2, 4]
    assert {(head.height, head.width) for head in heads} == {deep.shape[:2]}


@pytest.mark.parametrize("length", [0, 3, 20, 30, 40])
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif", "bmp"])
def test_files_cut_off_near_their_beginning_are_refused(
    tmp_path: Path, photo: np.ndarray, kind: str, length: int
) -> None:
    path = tmp_path / f"picture.{kind}"
    Image.fromarray(photo).save(path)
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(InputError):
        read_picture(path)
    with contextlib.suppress(InputError):
        assert read_head(path).pixels == photo.shape[0] * photo.shape[1], "or it tells the truth"


def test_the_limit_of_pixels_holds(tmp_path: Path, photo: np.ndarray) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")

    with pytest.raises(InputError, match="--max-pixels"):
        read_head(tmp_path / "a.png", max_pixels=100)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("as_text", [False, True])
def test_exif_anywhere_in_a_png_turns_head_and_picture_alike(
    tmp_path: Path, photo: np.ndarray, behind: bool, as_text: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    text = b"Raw profile type exif\0\nexif\n%8d\n%s\n" % (len(block), block.hex().encode())
    chunk = png_chunk(b"tEXt", text) if as_text else png_chunk(b"eXIf", block)
    data = by_pillow(Image.fromarray(photo), "PNG")
    at = len(data) - 12 if behind else 33
    (tmp_path / "a.png").write_bytes(data[:at] + chunk + data[at:])

    head, picture = read_head(tmp_path / "a.png"), read_picture(tmp_path / "a.png")

    assert (head.height, head.width) == (picture.height, picture.width) == (120, 96)


def test_wide_samples_of_a_tiff_are_seen_as_they_are_read(tmp_path: Path) -> None:
    for bits, size in ((4, 1), (12, 2)):
        tifffile.imwrite(
            tmp_path / "a.tif", np.zeros((5, 7), np.uint8 if bits < 9 else np.uint16), bitspersample=bits
        )

        assert (
            read_head(tmp_path / "a.tif").itemsize == read_picture(tmp_path / "a.tif").pixels.itemsize == size
        )

"""Writing pictures, read back by Pillow, OpenCV and tifffile."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from own_peak import needs_account, run_code
from picture_files import three
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from emt_cli.errors import OutputExistsError, UsageError
from emt_cli.media.picture.io import Picture, read_picture, write_picture
from emt_cli.media.samples import full_scale

KINDS = [("u1", "png"), ("u2", "png"), ("u1", "tiff"), ("u2", "tiff"), ("f4", "tiff")]


@pytest.mark.parametrize("gray", [False, True], ids=["colour", "gray"])
@pytest.mark.parametrize("clear", [False, True], ids=["opaque", "clear"])
@pytest.mark.parametrize(("dtype", "format"), KINDS)
def test_samples_are_written_exactly(
    deep: np.ndarray, tmp_path: Path, dtype: str, format: str, clear: bool, gray: bool
) -> None:
    values = {"u1": (deep >> 8).astype(np.uint8), "u2": deep, "f4": (deep / 65535).astype(np.float32)}[dtype]
    pixels = three(values[..., 0]) if gray else values
    path = tmp_path / f"out.{format}"

    write_picture(path, Picture(pixels, alpha=values[..., 1] if clear else None, gray=gray))

    expected = pixels[..., :1] if gray else pixels
    if clear:
        expected = np.concatenate([expected, values[..., 1:2]], axis=2)
    if format == "tiff":
        with tifffile.TiffFile(path) as file:
            assert file.pages[0].extrasamples == ((2,) if clear else ())  # not multiplied into the colours
            found = file.asarray().reshape(expected.shape)
    else:
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        found = found[..., None] if found.ndim == 2 else found[..., [2, 1, 0, 3][: found.shape[2]]]
        found = found[..., [0, 3]] if gray and clear else found
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("format", ["webp", "bmp", "png"])
def test_sixteen_bits_are_rounded_once_where_eight_are_kept(
    deep: np.ndarray, tmp_path: Path, format: str
) -> None:
    path = tmp_path / f"out.{format}"

    write_picture(path, Picture(deep), quality=100)

    exact = deep if format == "png" else np.rint(deep / 257)
    np.testing.assert_array_equal(read_picture(path).pixels, exact)


def test_float_is_clipped_and_becomes_sixteen_bit_png(tmp_path: Path) -> None:
    values = np.array([[[-0.5, 0.25, 1.5]]], np.float32)

    write_picture(tmp_path / "out.png", Picture(values))

    assert read_picture(tmp_path / "out.png").pixels.tolist() == [[[0, 16384, 65535]]]


@pytest.mark.parametrize(("quality", "sampling"), [(95, 0), (90, 0), (80, 2)])
def test_jpeg_of_high_quality_keeps_full_colour_resolution(
    photo: np.ndarray, tmp_path: Path, quality: int, sampling: int
) -> None:
    write_picture(tmp_path / "out.jpg", Picture(photo), quality=quality)

    with Image.open(tmp_path / "out.jpg") as image:
        assert get_sampling(image) == sampling


@pytest.mark.parametrize("name", ["out.jpg", "out.jpeg"])
def test_transparency_is_not_dropped_silently(
    photo: np.ndarray, ramp: np.ndarray, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match=r"transparency.*PNG"):
        write_picture(tmp_path / name, Picture(photo, alpha=ramp))

    assert list(tmp_path.iterdir()) == []


def test_opaque_alpha_may_go_into_jpeg(photo: np.ndarray, tmp_path: Path) -> None:
    write_picture(tmp_path / "out.jpg", Picture(photo, alpha=np.full(photo.shape[:2], 255, np.uint8)))

    assert read_picture(tmp_path / "out.jpg").alpha is None


def test_picture_too_long_for_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="16384x1 does not fit into WEBP"):
        write_picture(tmp_path / "out.webp", Picture(np.zeros((1, 16384, 3), np.uint8)))


def test_unknown_suffix_is_refused(photo: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.xyz"):
        write_picture(tmp_path / "out.xyz", Picture(photo))


def test_named_format_wins_over_suffix_and_source(photo: np.ndarray, tmp_path: Path) -> None:
    write_picture(tmp_path / "named.png", Picture(photo), format="tiff")
    write_picture(tmp_path / "suffixed.bmp", Picture(photo, format="tiff"))
    write_picture(tmp_path / "plain", Picture(photo, format="webp"))

    assert read_picture(tmp_path / "named.png").format == "tiff"
    assert read_picture(tmp_path / "suffixed.bmp").format == "bmp"
    assert read_picture(tmp_path / "plain").format == "webp"


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff", "bmp"])
def test_picture_is_written_to_a_stream_that_cannot_seek(photo: np.ndarray, format: str) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as target, os.fdopen(reading, "rb") as source:
        os.set_blocking(reading, True)
        small = Picture(np.ascontiguousarray(photo[:32, :32]), format=format)

        write_picture(target, small)
        target.close()

        assert read_picture(source.read()).format == format


def test_existing_result_is_kept_unless_told(photo: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"precious")

    with pytest.raises(OutputExistsError):
        write_picture(path, Picture(photo))
    assert path.read_bytes() == b"precious"
    write_picture(path, Picture(photo), overwrite=True)
    np.testing.assert_array_equal(read_picture(path).pixels, photo)


def test_interrupted_writing_leaves_nothing(
    photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"precious")

    def interrupt(*_: object, **__: object) -> None:
        assert len(list(tmp_path.iterdir())) == 2
        raise KeyboardInterrupt

    monkeypatch.setattr("emt_cli.media.picture.png._write_image", interrupt)

    with pytest.raises(KeyboardInterrupt):
        write_picture(path, Picture(photo), overwrite=True)

    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("out.png", b"precious")]


def test_slightly_tinted_gray_is_written_as_its_luma(tmp_path: Path) -> None:
    tinted = np.array([[[100, 101, 103], [7, 7, 7]]], np.uint8)

    write_picture(tmp_path / "out.png", Picture(tinted, gray=True))

    assert np.asarray(Image.open(tmp_path / "out.png")).tolist() == [[101, 7]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_transparent_means_any_pixel_below_opaque(dtype: type) -> None:
    alpha = np.full((300, 9000), full_scale(dtype), dtype)
    picture = Picture(np.zeros((300, 9000, 3), dtype), alpha=alpha)

    assert not picture.transparent
    alpha[299, 8999] = 0
    assert picture.transparent


@pytest.mark.slow
@needs_account
def test_writing_a_large_png_needs_little_memory(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import numpy as np
from emt_cli.media.picture.io import Picture, write_picture
from own_peak import own_peak
y, x = np.ogrid[:6000, :8000]
plane = ((x * x // 700 + y * y // 900) % 256).astype(np.uint8)
pixels = np.empty((6000, 8000, 3), np.uint8)
for channel in range(3):
    pixels[..., channel] = plane
del plane
before = own_peak(reset=True)
write_picture(Path(sys.argv[1]), Picture(pixels))
print(own_peak() - before)
"""
    result = run_code(code, str(tmp_path / "out.png"))

    assert int(result.stdout) < 150e6  # for 144 MB of samples

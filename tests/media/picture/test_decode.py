"""Reading pictures of all kinds, against Pillow, OpenCV and tifffile."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from picture_files import (
    by_opencv,
    by_pillow,
    by_tifffile,
    cmyk_profile,
    png_chunk,
    png_file,
    srgb_of_lab,
    three,
)
from PIL import Image, ImageCms, ImageOps

from emt_cli.media.picture.io import Picture, read_picture, write_picture


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_eight_bit_colours_are_read_exactly(photo: np.ndarray, format: str) -> None:
    picture = read_picture(by_pillow(Image.fromarray(photo), format))

    assert picture.pixels.dtype == np.uint8
    assert picture.format == format.lower()
    assert not picture.gray
    assert picture.alpha is None
    np.testing.assert_array_equal(picture.pixels, photo)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_gray_becomes_three_equal_channels_and_is_remembered(photo: np.ndarray, format: str) -> None:
    picture = read_picture(by_pillow(Image.fromarray(photo[..., 0]), format))

    assert picture.gray
    np.testing.assert_array_equal(picture.pixels, three(photo[..., 0]))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_kept_apart_from_colours(photo: np.ndarray, ramp: np.ndarray, format: str) -> None:
    source = Image.fromarray(np.dstack([photo, ramp]))

    picture = read_picture(by_pillow(source, format, lossless=True, exact=True))

    np.testing.assert_array_equal(picture.pixels, photo)
    np.testing.assert_array_equal(picture.alpha, ramp)


def test_palette_with_transparency_becomes_colours_and_alpha() -> None:
    indices = Image.frombytes("P", (3, 2), bytes([0, 1, 2, 2, 1, 0]))
    indices.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])

    picture = read_picture(by_pillow(indices, "PNG", transparency=bytes([0, 128, 255])))

    assert picture.pixels[0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 128, 255], [255, 128, 0]]


def test_palette_of_grays_is_gray_unless_its_profile_is_of_colours() -> None:
    ramp = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    ramp.putpalette([0, 0, 0, 99, 99, 99, 255, 255, 255])
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    assert read_picture(by_pillow(ramp, "PNG")).gray
    tagged = read_picture(by_pillow(ramp, "PNG", icc_profile=profile))
    assert not tagged.gray
    assert tagged.metadata.icc == profile


def test_one_bit_png_becomes_black_and_white() -> None:
    picture = read_picture(by_pillow(Image.fromarray(np.array([[True, False], [False, True]])), "PNG"))

    assert picture.gray
    assert picture.pixels[..., 0].tolist() == [[255, 0], [0, 255]]


@pytest.mark.parametrize("key", [3, 0xF3])
def test_transparent_colour_of_four_bit_gray_png_becomes_alpha(key: int) -> None:
    # Two rows of two 4-bit pixels: 3 and 12, 12 and 3; 3 is the transparent one, in the low bits that count.
    data = png_file(2, 2, 4, 0, bytes([0, 0x3C, 0, 0xC3]), png_chunk(b"tRNS", struct.pack(">H", key)))

    picture = read_picture(data)

    assert picture.pixels[..., 0].tolist() == [[51, 204], [204, 51]]
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 255], [255, 0]]


def test_transparent_colour_of_deep_png_becomes_alpha() -> None:
    lines = b"\0" + struct.pack(">6H", 1, 2, 3, 1, 2, 4)
    data = png_file(2, 1, 16, 2, lines, png_chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)))

    picture = read_picture(data)

    assert picture.pixels.tolist() == [[[1, 2, 3], [1, 2, 4]]]
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 65535]]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bit_png_keeps_its_low_bits(deep: np.ndarray, channels: int) -> None:
    image = deep[..., 0] if channels == 1 else np.dstack([deep, deep[..., 0]])[..., :channels]

    picture = read_picture(by_opencv(image, ".png"))

    assert picture.gray == (channels == 1)
    np.testing.assert_array_equal(picture.pixels, three(image) if channels == 1 else deep)
    if channels == 4:
        np.testing.assert_array_equal(picture.alpha, deep[..., 0])


def test_sixteen_bit_gray_png_keeps_its_alpha() -> None:
    data = png_file(2, 1, 16, 4, b"\0" + struct.pack(">4H", 1000, 2000, 3000, 65535))

    picture = read_picture(data)

    assert picture.gray
    assert picture.pixels[..., 1].tolist() == [[1000, 3000]]
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[2000, 65535]]


@pytest.mark.parametrize("bytes_of_sample", [2, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"compression": "zlib"},
        {"tile": (32, 48), "compression": "zlib"},
        {"rowsperstrip": 7},
    ],
    ids=str,
)
def test_deep_tiff_is_read_exactly(
    deep: np.ndarray, bytes_of_sample: int, options: dict[str, object]
) -> None:
    image = deep if bytes_of_sample == 2 else (deep / 65535).astype(np.float32)

    picture = read_picture(by_tifffile(image, photometric="rgb", **options))

    assert picture.pixels.dtype == image.dtype
    np.testing.assert_array_equal(picture.pixels, image)


@pytest.mark.parametrize(("compression", "predictor"), [(5, 1), (5, 2), (8, 2), (32773, 1)])
def test_compressed_sixteen_bit_tiff_is_read_exactly(
    deep: np.ndarray, compression: int, predictor: int
) -> None:
    options = (cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor)

    picture = read_picture(by_opencv(deep, ".tiff", *options))

    np.testing.assert_array_equal(picture.pixels, deep)


@pytest.mark.parametrize("compression", [5, 8])
def test_float_tiff_with_floating_point_predictor_is_read_exactly(deep: np.ndarray, compression: int) -> None:
    image = (deep / 65535).astype(np.float32)
    options = (cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, 3)

    picture = read_picture(by_opencv(image, ".tiff", *options))

    np.testing.assert_array_equal(picture.pixels, image)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_compressed_eight_bit_tiff_is_read_exactly(
    photo: np.ndarray, ramp: np.ndarray, compression: str
) -> None:
    plain = read_picture(by_pillow(Image.fromarray(photo), "TIFF", compression=compression))
    clear = read_picture(
        by_pillow(Image.fromarray(np.dstack([photo, ramp])), "TIFF", compression=compression)
    )

    np.testing.assert_array_equal(plain.pixels, photo)
    np.testing.assert_array_equal(clear.pixels, photo)
    np.testing.assert_array_equal(clear.alpha, ramp)


def test_planes_of_a_tiff_are_put_together(deep: np.ndarray) -> None:
    planes = np.ascontiguousarray(deep.transpose(2, 0, 1))
    options = {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib", "predictor": True}

    picture = read_picture(by_tifffile(planes, **options))

    np.testing.assert_array_equal(picture.pixels, deep)


def test_white_is_zero_tiff_is_inverted(deep: np.ndarray) -> None:
    picture = read_picture(by_tifffile(deep[..., 0], photometric="miniswhite"))

    np.testing.assert_array_equal(picture.pixels, three(65535 - deep[..., 0]))


def test_multiplied_alpha_of_a_tiff_is_divided_out() -> None:
    colours = np.array([[[0.25, 0.5, 0.1, 0.5], [0, 0, 0, 0]]], np.float32)

    picture = read_picture(by_tifffile(colours, photometric="rgb", extrasamples=["assocalpha"]))

    np.testing.assert_allclose(picture.pixels[0], [[0.5, 1.0, 0.2], [0, 0, 0]], rtol=1e-6)


def test_only_the_first_page_is_read_and_the_others_are_told() -> None:
    pages = np.stack([np.full((4, 5), 10, np.uint8), np.full((4, 5), 20, np.uint8)])

    picture = read_picture(by_tifffile(pages, photometric="minisblack"))

    assert picture.frames == 2
    assert picture.pixels.max() == 10
    assert "only the first" in " ".join(picture.notes)


def test_jpeg_is_decoded_as_pillow_does(photo: np.ndarray) -> None:
    data = by_pillow(Image.fromarray(photo), "JPEG", quality=90)

    picture = read_picture(data)

    np.testing.assert_array_equal(picture.pixels, np.asarray(Image.open(io.BytesIO(data))))


def test_content_decides_the_format_not_the_name(photo: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(by_pillow(Image.fromarray(photo), "BMP"))

    assert read_picture(path).format == "bmp"


def test_names_beyond_ascii_are_read_and_written(photo: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "写真 é ☂.tiff"

    write_picture(path, Picture(photo))

    np.testing.assert_array_equal(read_picture(path).pixels, photo)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20000, 1), (1, 20000)])
def test_extreme_shapes_pass_through(tmp_path: Path, width: int, height: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (height, width, 3)).astype(np.uint16)

    for suffix in (".png", ".tif"):
        write_picture(tmp_path / f"x{suffix}", Picture(pixels))

        np.testing.assert_array_equal(read_picture(tmp_path / f"x{suffix}").pixels, pixels)


def test_cmyk_is_converted_by_its_own_profile() -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))

    picture = read_picture(by_pillow(cyan, "JPEG", quality=100, icc_profile=cmyk_profile()))

    np.testing.assert_allclose(picture.pixels[8, 8], srgb_of_lab(128 / 2.55, 60, 0), atol=2)
    assert picture.metadata.icc is None
    assert "CMYK" in picture.notes[0]


def test_cmyk_without_a_profile_is_not_inverted() -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))

    for format in ("JPEG", "TIFF"):
        picture = read_picture(by_pillow(cyan, format))

        np.testing.assert_allclose(picture.pixels[8, 8], [0, 255, 255], atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_rotated_photo_is_turned_once(photo: np.ndarray, orientation: int, format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = by_pillow(Image.fromarray(photo), format, exif=exif, quality=90)

    picture = read_picture(data)
    again = io.BytesIO()
    write_picture(again, picture)

    np.testing.assert_array_equal(
        picture.pixels, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    )
    difference = np.abs(read_picture(again.getvalue()).pixels.astype(int) - picture.pixels)
    assert difference.max() == 0 if format in ("PNG", "TIFF") else difference.mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_deep_tiff_and_its_alpha_are_turned(deep: np.ndarray, orientation: int) -> None:
    image = np.dstack([deep, deep[..., 0]])
    tags = [(274, "H", 1, orientation, True)]
    eight_bits = by_tifffile((image >> 8).astype(np.uint8), photometric="rgb", extratags=tags)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(eight_bits))))

    picture = read_picture(by_tifffile(image, photometric="rgb", extratags=tags))

    np.testing.assert_array_equal(picture.pixels >> 8, expected[..., :3])
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha >> 8, expected[..., 3])


def test_rotated_tiff_that_pillow_decodes_is_turned_once(photo: np.ndarray, ramp: np.ndarray) -> None:
    source = Image.fromarray(np.dstack([photo, ramp]))
    exif = Image.Exif()
    exif[0x0112] = 6

    picture = read_picture(by_pillow(source, "TIFF", exif=exif, compression="tiff_lzw"))

    np.testing.assert_array_equal(picture.pixels, np.rot90(photo, -1))
    np.testing.assert_array_equal(picture.alpha, np.rot90(ramp, -1))


def test_usual_formats_bring_in_no_package_of_the_others(tmp_path: Path, photo: np.ndarray) -> None:
    for name in ("a.png", "a.jpg", "a.webp", "a.bmp"):
        Image.fromarray(photo).save(tmp_path / name)
    code = """
import sys
from pathlib import Path
from emt_cli.media.picture.head import read_head
from emt_cli.media.picture.io import read_picture, write_picture
for path in sorted(Path(sys.argv[1]).iterdir()):
    read_head(path)
    write_picture(path.with_stem("b"), read_picture(path))
heavy = ("tifffile", "imagecodecs", "pillow_heif", "pylibjxl", "rawpy")
print([name for name in heavy if name in sys.modules])
"""

    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert result.stdout == "[]\n"

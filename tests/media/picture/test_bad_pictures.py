"""Files that are no whole picture end in one clear line and cost nothing."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from own_peak import needs_account, run_code
from picture_files import by_opencv, by_pillow, by_tifffile, png_chunk, png_file
from PIL import Image

from emt_cli.errors import InputError
from emt_cli.media.picture.io import read_bytes, read_picture
from emt_cli.media.video.animation import gif_outline
from emt_cli.media.video.mp4 import is_cut_short


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"This is a letter, not a picture.", "text"),
        (bytes(range(128, 256)), "not a picture"),
        (bytes(100), "zeros"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "holds no picture"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", "holds no picture"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"GIF89a\1\0\1\0", "cut short"),
        (b"qoif", "QOI.*convert"),
        (b"\x89PNG\r\n\x1a\n", "cut short"),
        (b"\xff\xd8\xff\xe0", "cut short"),
        (b"II*\0\x08\0\0\0", "damaged|tags"),
    ],
)
def test_what_is_no_picture_is_named_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)

    with pytest.raises(InputError, match=words) as caught:
        read_picture(path)

    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_file_folder_and_secret_file_are_told_apart(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    secret.chmod(0)

    with pytest.raises(InputError, match="does not exist"):
        read_picture(tmp_path / "absent.png")
    with pytest.raises(InputError, match="folder"):
        read_picture(tmp_path)
    if not os.access(secret, os.R_OK):
        with pytest.raises(InputError, match="permission"):
            read_picture(secret)


@pytest.mark.parametrize("kind", ["png", "png16", "jpeg", "webp", "tiff", "lzw", "lzw16", "tiff16", "bmp"])
def test_cut_file_is_refused_wherever_it_ends(photo: np.ndarray, deep: np.ndarray, kind: str) -> None:
    image = Image.fromarray(photo)
    data = {
        "png": lambda: by_pillow(image, "PNG"),
        "png16": lambda: by_opencv(deep, ".png"),
        "jpeg": lambda: by_pillow(image, "JPEG"),
        "webp": lambda: by_pillow(image, "WEBP"),
        "tiff": lambda: by_pillow(image, "TIFF"),
        "lzw": lambda: by_pillow(image, "TIFF", compression="tiff_lzw"),
        "lzw16": lambda: by_opencv(deep, ".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 5),
        "tiff16": lambda: by_tifffile(deep, photometric="rgb", compression="zlib"),
        "bmp": lambda: by_pillow(image, "BMP"),
    }[kind]()

    for end in (20, 64, len(data) // 4, len(data) // 2, 3 * len(data) // 4, len(data) - 30, len(data) - 10):
        with pytest.raises(InputError):
            read_picture(data[:end])


@pytest.mark.parametrize("bits", [8, 16])
def test_png_with_too_few_rows_is_not_filled_up(bits: int) -> None:
    stride = 1 + 100 * 3 * bits // 8

    with pytest.raises(InputError, match="cut short"):
        read_picture(png_file(100, 100, bits, 2, bytes(50 * stride)))


def test_damaged_pixels_of_a_png_are_refused(photo: np.ndarray) -> None:
    data = bytearray(by_pillow(Image.fromarray(photo), "PNG"))
    data[len(data) // 2] ^= 1

    with pytest.raises(InputError, match="checksum"):
        read_picture(bytes(data))


@needs_account
def test_huge_declared_size_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    bombs = {
        "a.png": png_file(60000, 60000, 8, 2, b""),
        "b.png": png_file(60000, 60000, 16, 6, b""),
        "c.tif": by_tifffile(np.zeros((1, 1, 3), np.uint8), photometric="rgb"),
        "d.bmp": by_pillow(Image.new("RGB", (1, 1)), "BMP"),
        "e.jpg": by_pillow(Image.new("RGB", (1, 1)), "JPEG"),
    }
    tiff = bombs["c.tif"]
    for tag in (256, 257):
        at = tiff.index(struct.pack("<H", tag), 8)
        tiff = tiff[: at + 2] + struct.pack("<HII", 4, 1, 60000) + tiff[at + 12 :]
    bombs["c.tif"] = tiff
    bombs["d.bmp"] = bombs["d.bmp"][:18] + struct.pack("<ii", 60000, 60000) + bombs["d.bmp"][26:]
    start = bombs["e.jpg"].index(b"\xff\xc0")
    bombs["e.jpg"] = (
        bombs["e.jpg"][: start + 5] + struct.pack(">HH", 60000, 60000) + bombs["e.jpg"][start + 9 :]
    )
    for name, data in bombs.items():
        (tmp_path / name).write_bytes(data)
    code = """
import sys
from pathlib import Path
from emt_cli.errors import InputError
from emt_cli.media.picture.io import read_picture
from own_peak import own_peak
before = own_peak(reset=True)
for path in map(Path, sys.argv[1:]):
    try:
        read_picture(path)
    except InputError as error:
        assert "--max-pixels" in str(error), error
    else:
        raise AssertionError(path)
print(own_peak() - before)
"""
    paths = [str(tmp_path / name) for name in bombs]

    result = run_code(code, *paths)

    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert int(result.stdout) < 20e6


def test_the_limit_on_pixels_can_be_moved(photo: np.ndarray) -> None:
    data = by_pillow(Image.fromarray(photo), "PNG")

    with pytest.raises(InputError, match="120x96"):
        read_picture(data, max_pixels=120 * 96 - 1)
    assert read_picture(data, max_pixels=120 * 96).width == 120


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_float_tiff_with_holes_is_refused(value: float) -> None:
    image = np.full((4, 4, 3), 0.5, np.float32)
    image[1, 2, 0] = value

    with pytest.raises(InputError, match="NaN or infinite"):
        read_picture(by_tifffile(image, photometric="rgb"))


def test_preview_of_a_raw_file_is_not_taken_for_the_picture() -> None:
    with pytest.raises(InputError, match="raw"):
        read_picture(by_tifffile(np.zeros((8, 8, 3), np.uint8), photometric="rgb", subfiletype=1))


def test_tiff_whose_pages_go_round_in_a_circle_is_read_once() -> None:
    data = bytearray(by_tifffile(np.zeros((4, 4, 3), np.uint8), photometric="rgb"))
    first = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, first + 2 + 12 * count, first)

    assert read_picture(bytes(data)).frames == 1


@pytest.mark.parametrize("compression", [5, 8])
def test_tiff_with_an_empty_strip_is_not_filled_up(deep: np.ndarray, compression: int) -> None:
    options = (cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 16)
    data = bytearray(by_opencv(deep, ".tiff", *options))
    at = data.index(struct.pack("<HHI", 279, 4, 6)) + 8
    struct.pack_into("<I", data, struct.unpack_from("<I", data, at)[0] + 8, 0)

    with pytest.raises(InputError, match="cut short"):
        read_picture(bytes(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_that_declares_more_than_its_bits_can_hold_is_refused(
    photo: np.ndarray, progressive: bool
) -> None:
    data = bytearray(by_pillow(Image.fromarray(photo), "JPEG", progressive=progressive))
    size = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    data[size : size + 4] = struct.pack(">HH", 20000, 20000)

    with pytest.raises(InputError, match="more pixels than its data hold"):
        read_picture(bytes(data))


@pytest.mark.parametrize("quality", [1, 50, 100])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_emptiest_jpeg_still_holds_what_it_declares(
    quality: int, subsampling: str, progressive: bool, mode: str
) -> None:
    """One colour, optimised codes: no encoder spends fewer bits."""
    options = {"quality": quality, "subsampling": subsampling, "progressive": progressive, "optimize": True}
    data = by_pillow(Image.new(mode, (999, 777)), "JPEG", **options)

    assert read_picture(data).width == 999


def test_jpeg_of_endless_passes_is_refused(photo: np.ndarray) -> None:
    data = by_pillow(Image.fromarray(photo), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    scans = data[:last] + data[last:-2] * 300 + data[-2:]

    with pytest.raises(InputError, match="passes"):
        read_picture(scans)


def test_text_that_would_flood_the_next_reader_does_not_travel_on() -> None:
    flood = zlib.compress(bytes(5_000_000))
    texts = png_chunk(b"zTXt", b"Comment\0\0" + flood) + png_chunk(b"tEXt", b"Long\0" + b"x" * 2_000_000)
    texts += png_chunk(b"iTXt", b"Words\0\1\0\0\0" + flood) + png_chunk(b"tEXt", b"Author\0Me")

    picture = read_picture(png_file(4, 4, 8, 0, bytes(20), texts))

    assert picture.metadata.png == ((b"tEXt", b"Author\0Me"),)


@pytest.mark.parametrize("value", [2e9, -3e38, 1e300])
def test_float_tiff_beyond_what_can_be_computed_is_refused(value: float) -> None:
    image = np.full((4, 4, 3), value, np.float64 if value > 1e38 else np.float32)

    with pytest.raises(InputError, match="beyond 1e\\+09"):
        read_picture(by_tifffile(image, photometric="rgb"))


@pytest.mark.parametrize(
    ("look", "beginning", "rest", "most"),
    [
        (gif_outline, b"GIF89a\1\0\1\0\0\0\0;", bytes(4_000_000), 100_000),
        (is_cut_short, b"\0\0\0\x08ftyp", b"\0\0\0\x08free" * 20_000, 100_000),
        (lambda path: read_bytes(path, "picture"), b"\x89PNG\r\n\x1a\n", bytes(4_000_000), 4_100_000),
    ],
    ids=["gif", "mp4", "png"],
)
def test_files_are_held_in_memory_once_at_most(
    tmp_path: Path, look: Callable[[Path], object], beginning: bytes, rest: bytes, most: int
) -> None:
    path = tmp_path / "large"
    path.write_bytes(beginning + rest)

    tracemalloc.start()
    try:
        look(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < most


def test_a_canvas_far_larger_than_its_pictures_is_refused_before_it_is_made(photo: np.ndarray) -> None:
    frames = [Image.fromarray(photo), Image.fromarray(photo[::-1])]
    data = bytearray(by_pillow(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = b"\xff\x3f\0\xff\x3f\0"
    tracemalloc.start()

    with pytest.raises(InputError, match="16384x16384 around a smaller picture"):
        read_picture(bytes(data))

    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_exif_of_directories_without_end_is_left_out(photo: np.ndarray) -> None:
    pointers = struct.pack("<HHII", 0x8769, 4, 1, 8) * 5000
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 5000) + pointers + bytes(4)

    picture = read_picture(by_pillow(Image.fromarray(photo), "JPEG", exif=exif))

    assert picture.metadata.exif is None
    assert picture.notes == ("damaged EXIF left out",)


def test_chunks_of_a_png_are_limited_in_number() -> None:
    data = png_file(4, 4, 8, 0, bytes(20), png_chunk(b"teSt", b"") * 300_000)

    with pytest.raises(InputError, match="more than 262144 chunks"):
        read_picture(data)

"""BMP files of all layouts, against Pillow, OpenCV and the specification."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import cv2
import numpy as np
import pytest
from picture_files import by_pillow
from PIL import Image, ImageCms

from emt_cli.errors import InputError
from emt_cli.media.picture.io import Picture, read_picture, write_picture
from emt_cli.media.picture.metadata import Metadata

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def bmp_file(
    numbers: np.ndarray,
    bits: int,
    masks: tuple[int, ...] = (),
    *,
    header: int = 40,
    height: int | None = None,
) -> bytes:
    """A BMP whose pixels are these numbers, the lowest row first; masks stand in or behind the header."""
    rows = b""
    for row in numbers:
        packed = b"".join(int(value).to_bytes(bits // 8, "little") for value in row)
        rows += packed + bytes(-len(packed) % 4)
    down = len(numbers) if height is None else height
    info = struct.pack(
        "<IiiHHIIiiII", header, numbers.shape[1], down, 1, bits, 3 if masks else 0, 0, 0, 0, 0, 0
    )
    info += struct.pack(f"<{len(masks)}I", *masks)
    info = info.ljust(header, b"\0")
    return b"BM" + struct.pack("<IHHI", 0, 0x1234, 0x5678, 14 + len(info)) + info + rows


LAYOUTS = [
    (16, ()),
    (16, (0xF800, 0x7E0, 0x1F)),
    (16, (0xF00, 0xF0, 0xF, 0xF000)),
    (24, ()),
    (32, ()),
    (32, (0xFF, 0xFF00, 0xFF0000)),
    (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    (32, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
    (32, (0x7F000000, 0x1F0000, 0x300, 0x1)),
]


@pytest.mark.parametrize(("bits", "masks"), LAYOUTS)
@pytest.mark.parametrize("header", [40, 56, 108, 124])
@pytest.mark.parametrize("downwards", [False, True])
def test_bits_mean_what_the_masks_say(
    bits: int, masks: tuple[int, ...], header: int, downwards: bool
) -> None:
    if header == 40 and len(masks) == 4:
        pytest.skip("such a header has no mask of alpha")
    numbers = np.random.default_rng(1).integers(0, 2**bits, (5, 7), np.uint32)
    usual = {16: (0x7C00, 0x3E0, 0x1F), 24: (0xFF0000, 0xFF00, 0xFF), 32: (0xFF0000, 0xFF00, 0xFF)}

    picture = read_picture(bmp_file(numbers, bits, masks, header=header, height=-5 if downwards else 5))

    shown = numbers if downwards else numbers[::-1]
    full = int(np.iinfo(picture.pixels.dtype).max)
    planes = [picture.pixels[..., c] for c in range(3)] + ([picture.alpha] if len(masks) == 4 else [])
    assert (picture.alpha is not None) == (len(masks) == 4)
    for plane, mask in zip(planes, masks or usual[bits], strict=True):
        low, most = (mask & -mask).bit_length() - 1, 2 ** mask.bit_count() - 1
        values = [
            [int(Fraction(int((n & mask) >> low) * full, most) + Fraction(1, 2)) for n in row]
            for row in shown
        ]
        np.testing.assert_array_equal(plane, np.array(values))


def test_alpha_that_a_program_left_zero_everywhere_is_none() -> None:
    numbers = np.array([[0x102030, 0x405060]], np.uint32)

    picture = read_picture(bmp_file(numbers, 32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), header=56))

    assert picture.alpha is None
    assert picture.pixels.tolist() == [[[0x10, 0x20, 0x30], [0x40, 0x50, 0x60]]]


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_palettes_are_read_as_pillow_reads_them(photo: np.ndarray, mode: str) -> None:
    data = bytearray(by_pillow(Image.fromarray(photo).convert(mode), "BMP", dpi=(300, 150)))
    data[6:10] = b"mine"

    picture = read_picture(bytes(data))

    expected = np.asarray(Image.open(io.BytesIO(bytes(data))).convert("RGB"))
    np.testing.assert_array_equal(picture.pixels, expected)
    assert picture.metadata.dpi == pytest.approx((300, 150), abs=0.1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("header", [12, 16, 40, 64])
def test_indices_of_any_width_are_looked_up(bits: int, header: int) -> None:
    rng = np.random.default_rng(bits)
    indices = rng.integers(0, 2**bits, (3, 11))
    table = rng.integers(0, 256, (2**bits, 3)).astype(np.uint8)
    small = header == 12
    info = struct.pack("<IHHHH" if small else "<IiiHH", header, 11, 3, 1, bits).ljust(header, b"\0")
    palette = b"".join(bytes(entry[::-1]) + (b"" if small else b"\0") for entry in table)
    rows = b""
    for row in indices:
        digits = "".join(f"{index:0{bits}b}" for index in row).ljust(-(-11 * bits // 32) * 32, "0")
        rows += int(digits, 2).to_bytes(len(digits) // 8, "big")
    start = 14 + header + len(palette)

    picture = read_picture(b"BM" + struct.pack("<IHHI", 0, 0, 0, start) + info + palette + rows)

    np.testing.assert_array_equal(picture.pixels, table[indices[::-1]])


@pytest.mark.parametrize("gray", [False, True])
def test_alpha_is_written_so_that_others_see_it(photo: np.ndarray, ramp: np.ndarray, gray: bool) -> None:
    pixels = np.repeat(photo[..., :1], 3, axis=2) if gray else photo
    out = io.BytesIO()

    write_picture(out, Picture(pixels, ramp, gray=gray), format="bmp")

    with Image.open(io.BytesIO(out.getvalue())) as image:
        by_pillow_itself = np.asarray(image.convert("RGBA"))
    by_opencv_itself = cv2.imdecode(np.frombuffer(out.getvalue(), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(by_pillow_itself, np.dstack([pixels, ramp]))
    np.testing.assert_array_equal(by_opencv_itself, np.dstack([pixels[..., ::-1], ramp]))
    np.testing.assert_array_equal(read_picture(out.getvalue()).alpha, ramp)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_without_alpha_are_those_of_pillow(photo: np.ndarray, channels: int) -> None:
    pixels = np.repeat(photo[..., :1], 3, axis=2) if channels == 1 else photo
    out = io.BytesIO()

    write_picture(out, Picture(pixels, gray=channels == 1, metadata=Metadata(dpi=(300, 300))), format="bmp")

    with Image.open(io.BytesIO(out.getvalue())) as image:
        assert image.mode == ("L" if channels == 1 else "RGB")
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels)


def test_a_profile_is_kept_where_the_specification_puts_it(photo: np.ndarray) -> None:
    out = io.BytesIO()

    write_picture(out, Picture(photo, metadata=Metadata(icc=SRGB)), format="bmp")

    data = out.getvalue()
    place, size = struct.unpack_from("<II", data, 14 + 112)
    assert struct.unpack_from("<I", data, 14 + 56)[0] == 0x4D424544  # 'MBED'
    assert data[14 + place : 14 + place + size] == SRGB
    assert read_picture(data).metadata.icc == SRGB
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), photo)


@pytest.mark.parametrize("masks", [(0xFF00FF, 0xFF00, 0xFF), (0xFF0000, 0xFF00, 0x1)])
def test_masks_that_lie_apart_or_beyond_the_pixel_are_refused(masks: tuple[int, ...]) -> None:
    data = bmp_file(np.zeros((2, 2), np.uint32), 32 if masks[2] == 0xFF else 16, masks)

    with pytest.raises(InputError, match="overlap or lie apart"):
        read_picture(data)


def test_pictures_inside_a_bmp_are_named() -> None:
    data = bytearray(bmp_file(np.zeros((2, 2), np.uint32), 24))
    data[30] = 4

    with pytest.raises(InputError, match="compression 4 is not read"):
        read_picture(bytes(data))


def test_pixels_said_to_lie_where_the_palette_does_follow_it(photo: np.ndarray) -> None:
    stream = io.BytesIO()
    Image.fromarray(photo[:20, :30]).quantize(256).save(stream, "BMP")
    data = bytearray(stream.getvalue())
    sound = read_picture(bytes(data)).pixels
    data[10:14] = struct.pack("<I", 14 + 40)  # as some programs write it

    found = read_picture(bytes(data)).pixels

    assert np.array_equal(found, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert np.array_equal(found, sound)

"""TIFF files of all kinds, against tifffile, Pillow and the formulas of the specification."""

from __future__ import annotations

import io
import struct
import time
import zlib
from fractions import Fraction

import imagecodecs
import numpy as np
import pytest
import tifffile
from picture_files import by_pillow, by_tifffile, cmyk_profile, srgb_of_lab, three, tiff_file
from PIL import Image, ImageCms

from emt_cli.errors import InputError
from emt_cli.media.picture.io import read_picture

LOSSLESS = ["lzw", "packbits", "zlib", "zstd", "lzma", "png", "lerc"]
LOSSY = ["jpeg", "webp", "jpeg2000", "jpegxl"]


def by_all_means(data: bytes) -> np.ndarray:
    """What tifffile reads, with samples last."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        array = page.asarray()
        return np.moveaxis(array, 0, -1) if page.planarconfig == 2 and array.ndim == 3 else array


@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 16}, {"tile": (32, 48)}], ids=str)
@pytest.mark.parametrize("compression", LOSSLESS + LOSSY)
def test_every_compression_is_read_as_tifffile_reads_it(
    photo: np.ndarray, compression: str, layout: dict[str, object]
) -> None:
    data = by_tifffile(photo, photometric="rgb", compression=compression, **layout)

    picture = read_picture(data)

    np.testing.assert_array_equal(picture.pixels, by_all_means(data))
    if compression in LOSSLESS:
        np.testing.assert_array_equal(picture.pixels, photo)


@pytest.mark.parametrize("compression", [None, "lzw", "packbits", "jpeg", "zlib"])
def test_white_as_zero_is_inverted_whatever_the_compression(
    photo: np.ndarray, compression: str | None
) -> None:
    data = by_tifffile(photo[..., 0], photometric="miniswhite", compression=compression)

    picture = read_picture(data)

    assert picture.gray
    np.testing.assert_array_equal(picture.pixels, three(255 - by_all_means(data)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_a_compressed_picture_is_turned_once(photo: np.ndarray, orientation: int, kind: str) -> None:
    image = photo.astype(kind)
    tag = [(274, "H", 1, orientation, True)]
    data = by_tifffile(image, photometric="rgb", compression="lzw", extratags=tag)
    turns = {1: image, 2: image[:, ::-1], 3: image[::-1, ::-1], 4: image[::-1]}
    turns |= {5: image.swapaxes(0, 1), 6: np.rot90(image, -1), 8: np.rot90(image)}
    turns[7] = turns[5][::-1, ::-1]

    np.testing.assert_array_equal(read_picture(data).pixels, turns[orientation])


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_gray_with_alpha_keeps_both(
    deep: np.ndarray, kind: str, planar: str, compression: str | None
) -> None:
    pair = (deep[..., :2] if kind == "uint16" else deep[..., :2] >> 8).astype(kind)
    image = pair.transpose(2, 0, 1) if planar == "separate" else pair
    options = {"planarconfig": planar, "compression": compression, "extrasamples": ["unassalpha"]}

    picture = read_picture(by_tifffile(image, photometric="minisblack", rowsperstrip=16, **options))

    np.testing.assert_array_equal(picture.pixels, three(pair[..., 0]))
    np.testing.assert_array_equal(picture.alpha, pair[..., 1])


@pytest.mark.parametrize("compression", ["lzw", "zstd", "jpeg"])
def test_planes_of_any_compression_are_put_together(photo: np.ndarray, compression: str) -> None:
    planes = photo.transpose(2, 0, 1)
    data = by_tifffile(
        planes, photometric="rgb", planarconfig="separate", compression=compression, rowsperstrip=16
    )

    np.testing.assert_array_equal(read_picture(data).pixels, by_all_means(data))


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 7, 10, 12, 14])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_odd_numbers_of_bits_are_stretched_to_full_scale(bits: int, samples: int, order: str) -> None:
    most, kind = 2**bits - 1, np.uint8 if bits <= 8 else np.uint16
    values = np.random.default_rng(bits).integers(0, most + 1, (5, 13 * samples))
    rows = b"".join(imagecodecs.packints_encode(row.astype(kind), bits) for row in values)
    photometric = 1 if samples == 1 else 2
    data = tiff_file(13, 5, rows, bits=bits, samples=samples, photometric=photometric, order=order)

    picture = read_picture(data)

    full = 255 if bits <= 8 else 65535
    expected = [[int(Fraction(int(v) * full, most) + Fraction(1, 2)) for v in row] for row in values]
    assert picture.pixels.max() <= full
    np.testing.assert_array_equal(
        picture.pixels[..., :samples].reshape(5, -1), np.array(expected, picture.pixels.dtype)
    )


def test_more_than_sixteen_bits_are_rounded_and_told() -> None:
    wide = np.array([[0, 65537 * 7, 2**32 - 1, 65537 * 9 + 40000]], np.uint32)
    triples = b"".join(struct.pack(">I", v)[1:] for v in (0, 257 * 5, 2**24 - 1, 257 * 6 + 200))

    full = read_picture(by_tifffile(wide, photometric="minisblack"))
    middle = read_picture(tiff_file(4, 1, triples, bits=24, order=">"))

    assert full.pixels[..., 0].tolist() == [[0, 7, 65535, 10]]
    assert middle.pixels[..., 0].tolist() == [[0, 5, 65535, 7]]
    assert "32-bit samples rounded" in full.notes[0]
    assert "24-bit samples rounded" in middle.notes[0]


def test_bits_in_the_other_order_are_turned() -> None:
    values = np.arange(60, dtype=np.uint8).reshape(4, 15)
    mirrored = bytes(int(f"{value:08b}"[::-1], 2) for value in values.tobytes())

    plain = read_picture(tiff_file(15, 4, mirrored, extra={266: 2}))
    packed = read_picture(
        tiff_file(15, 4, imagecodecs.bitorder_encode(zlib.compress(values.tobytes())), {266: 2, 259: 8})
    )

    np.testing.assert_array_equal(plain.pixels[..., 0], values)
    np.testing.assert_array_equal(packed.pixels[..., 0], values)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_floats_with_their_predictor_are_exact(deep: np.ndarray, kind: str, order: str) -> None:
    image = (deep / 65535).astype(kind)
    options = {"compression": "zlib", "predictor": 3, "byteorder": order, "rowsperstrip": 16}
    data = by_tifffile(image, photometric="rgb", **options)

    picture = read_picture(data)

    assert picture.pixels.dtype == np.float32
    np.testing.assert_array_equal(picture.pixels, image.astype(np.float32))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", [2, 4])
def test_floats_with_the_predictor_of_whole_numbers_are_exact(size: int, order: str) -> None:
    """Each number, taken as a whole one, less its left neighbour, as libtiff writes it."""
    image = np.random.default_rng(0).random((6, 7)).astype(f"f{size}")
    whole = image.view(f"u{size}")
    steps = np.diff(whole, axis=1, prepend=whole.dtype.type(0)).astype(f"{order}u{size}")
    extra = {259: 8, 317: 2, 339: 3}

    picture = read_picture(tiff_file(7, 6, zlib.compress(steps.tobytes()), extra, bits=8 * size, order=order))

    np.testing.assert_array_equal(picture.pixels[..., 0], image.astype(np.float32))


@pytest.mark.parametrize("colours", [2, 16, 256])
def test_palettes_are_looked_up_as_pillow_does(photo: np.ndarray, colours: int) -> None:
    data = by_pillow(Image.fromarray(photo).quantize(colours), "TIFF", compression="tiff_lzw")

    picture = read_picture(data)

    assert picture.pixels.dtype == np.uint8
    np.testing.assert_array_equal(picture.pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_palettes_of_sixteen_bits_keep_them() -> None:
    table = np.arange(768, dtype=np.uint16).reshape(3, 256) * 85
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)

    picture = read_picture(by_tifffile(indices, photometric="palette", colormap=table))

    np.testing.assert_array_equal(picture.pixels, table.T[indices])


def test_three_samples_without_a_stated_space_are_colours(photo: np.ndarray) -> None:
    data = tiff_file(120, 96, photo.tobytes(), samples=3, photometric=None)

    picture = read_picture(data)

    assert not picture.gray
    np.testing.assert_array_equal(picture.pixels, photo)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_deep_cmyk_without_a_profile_is_not_cut_to_eight_bits(planar: str) -> None:
    inks = np.zeros((4, 4, 4), np.uint16)
    inks[..., 0], inks[..., 3] = np.arange(4) * 20001, 30000
    image = inks.transpose(2, 0, 1) if planar == "separate" else inks
    options = {"photometric": "separated", "planarconfig": planar, "compression": "lzw"}

    picture = read_picture(by_tifffile(image, **options))

    light = (65535 - inks[..., :3].astype(float)) * (65535 - 30000) / 65535
    np.testing.assert_allclose(picture.pixels, light, atol=0.51)
    assert "simple rule" in picture.notes[0]


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_cmyk_is_converted_by_its_profile_at_its_own_depth(kind: str) -> None:
    top = np.iinfo(kind).max
    inks = np.zeros((6, 7, 5), kind)
    inks[..., 0], inks[..., 4] = top, top // 5 * 2
    options = {"photometric": "separated", "planarconfig": "contig", "iccprofile": cmyk_profile()}
    options |= {"extrasamples": ["unassalpha"]}

    picture = read_picture(by_tifffile(inks, **options))

    assert picture.pixels.dtype == kind
    np.testing.assert_allclose(picture.pixels[2, 2] / top * 255, srgb_of_lab(128 / 2.55, 60, 0), atol=2)
    np.testing.assert_array_equal(picture.alpha, inks[..., 4])
    assert picture.metadata.icc is None


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("signed", [True, False])
def test_lab_becomes_srgb(bits: int, signed: bool) -> None:
    lightness, a, b = 60, 25, -30
    unit = 1 if bits == 8 else 256
    whole = lightness / 100 * (255 if bits == 8 else 65535 if signed else 65280)
    place = 0 if signed else 128
    numbers = [round(whole), (a + place) * unit % 2**bits, (b + place) * unit % 2**bits]
    rows = np.full((2, 2, 3), numbers, f"<u{bits // 8}").tobytes()

    picture = read_picture(tiff_file(2, 2, rows, bits=bits, samples=3, photometric=8 if signed else 9))

    shown = picture.pixels[1, 1] / (2**bits - 1) * 255
    np.testing.assert_allclose(shown, srgb_of_lab(lightness, a, b), atol=1)
    assert "Lab converted to sRGB" in picture.notes


def test_eight_bit_lab_agrees_with_pillow(photo: np.ndarray) -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    source = Image.fromarray(photo)
    encoded = ImageCms.profileToProfile(source, srgb, lab, outputMode="LAB")
    assert encoded is not None

    picture = read_picture(by_pillow(encoded, "TIFF", compression="tiff_lzw"))

    assert np.abs(picture.pixels.astype(int) - photo).mean() < 1.5


@pytest.mark.parametrize("units", [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_chroma_of_fewer_pixels_is_spread_as_libtiff_does(units: tuple[int, int]) -> None:
    across, down = units
    rng = np.random.default_rng(0)
    width, height = 16, 8
    block = rng.integers(60, 190, (height // down, width // across, across * down + 2)).astype(np.uint8)
    levels = struct.pack("<12I", 0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)
    extra = {530: units, 532: levels}
    data = tiff_file(width, height, block.tobytes(), extra, samples=3, photometric=6)
    with Image.open(io.BytesIO(packed := _as_lzw(data, block.tobytes()))) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)

    for file in (data, packed):
        assert np.abs(read_picture(file).pixels - expected).max() <= 2


def _as_lzw(data: bytes, body: bytes) -> bytes:
    """The same file with its strip compressed by LZW, which Pillow hands on to libtiff."""
    lzw = imagecodecs.lzw_encode(body)
    changed = bytearray(data + lzw)
    at = struct.unpack_from("<I", data, 4)[0] + 2
    while at < len(data) - 12:
        tag = struct.unpack_from("<H", data, at)[0]
        if tag in (259, 273, 279):
            struct.pack_into("<HII", changed, at + 2, 4, 1, {259: 5, 273: len(data), 279: len(lzw)}[tag])
        at += 12
        if tag == 532:
            break
    return bytes(changed)


@pytest.mark.parametrize("compression", LOSSLESS + LOSSY)
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_a_strip_that_is_cut_short_is_not_filled_up(
    photo: np.ndarray, compression: str, share: float
) -> None:
    data = bytearray(by_tifffile(photo, photometric="rgb", compression=compression, rowsperstrip=96))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        tag = file.pages[0].tags[279]
        size, at = tag.value[0], tag.valueoffset
    data[at : at + 4] = struct.pack("<I", int(size * share)) if tag.dtype == 4 else data[at : at + 4]
    if tag.dtype == 3:
        data[at : at + 2] = struct.pack("<H", int(size * share))

    with pytest.raises(InputError, match=r"damaged|cut short"):
        read_picture(bytes(data))


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", "zstd", "lzma"])
def test_a_strip_of_zeros_in_place_of_its_data_is_refused(photo: np.ndarray, compression: str) -> None:
    data = bytearray(by_tifffile(photo, photometric="rgb", compression=compression, rowsperstrip=16))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        page = file.pages[0]
        start, size = page.dataoffsets[3], page.databytecounts[3]
    data[start + size // 2 : start + size] = bytes(size - size // 2)

    with pytest.raises(InputError, match=r"damaged|cut short"):
        read_picture(bytes(data))


@pytest.mark.parametrize("compression", [1, 5])
def test_lengths_of_strips_that_are_nowhere_stated_are_inferred(compression: int) -> None:
    rows = np.arange(50, dtype=np.uint8).reshape(10, 5)
    strips = [part.tobytes() for part in (rows[:4], rows[4:8], rows[8:])]
    if compression == 5:
        strips = [imagecodecs.lzw_encode(strip) for strip in strips]
    offsets = struct.pack("<3I", *(8 + sum(map(len, strips[:n])) for n in range(3)))
    extra = {259: compression, 278: 4, 273: offsets, 279: None}

    picture = read_picture(tiff_file(5, 10, b"".join(strips), extra))

    np.testing.assert_array_equal(picture.pixels[..., 0], rows)


def test_strips_filled_up_to_the_rows_of_the_others_are_read() -> None:
    rows = np.arange(50, dtype=np.uint8).reshape(10, 5)
    strips = [zlib.compress(rows[:8].tobytes()), zlib.compress(rows[8:].tobytes() + bytes(30))]
    offsets = struct.pack("<2I", 8, 8 + len(strips[0]))
    counts = struct.pack("<2I", *map(len, strips))

    picture = read_picture(tiff_file(5, 10, b"".join(strips), {259: 8, 278: 8, 273: offsets, 279: counts}))

    np.testing.assert_array_equal(picture.pixels[..., 0], rows)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({259: 34934}, "compression JPEGXR is not read"),
        ({259: 34676}, "compression SGILOG is not read"),
        ({259: 6}, "compression OJPEG is not read"),
        ({262: 32844}, "LogL is not read"),
        ({262: 4}, "a mask is not read"),
        ({339: 2}, "samples of type int8 is not read"),
        ({277: 40}, "40 samples to a pixel is not read"),
        ({32997: 3}, "volumes is not read"),
    ],
)
def test_sound_files_of_other_kinds_are_refused_by_name(
    extra: dict[int, int], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_picture(tiff_file(4, 4, bytes(640), extra))

    assert "undamaged" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_damaged_files_are_refused_without_a_word_of_the_libraries(
    photo: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    for compression in (*LOSSLESS, *LOSSY):
        data = bytearray(by_tifffile(photo, photometric="rgb", compression=compression))
        data[40:400] = bytes(360)
        try:
            read_picture(bytes(data))
        except InputError:
            continue

    assert capfd.readouterr() == ("", "")


def test_a_million_strips_of_a_row_each_take_no_time() -> None:
    count = 1 << 20
    numbers = np.arange(count, dtype="<u4")
    extra = {278: 1, 273: (numbers + 8).tobytes(), 279: np.ones_like(numbers).tobytes()}
    data = tiff_file(1, count, bytes(count), extra)
    began = time.process_time()

    picture = read_picture(data)

    assert picture.height == count
    assert time.process_time() - began < 5


def test_directories_that_overlap_are_counted_in_no_time() -> None:
    """Tables of 65,535 entries, each beginning a few bytes after the one before, and following it."""
    body = bytearray(by_tifffile(np.zeros((4, 4, 3), np.uint8), photometric="rgb"))
    first = struct.unpack_from("<I", body, 4)[0]
    following = first + 2 + 12 * struct.unpack_from("<H", body, first)[0]
    start = len(body)
    body += b"\xff" * 1_200_000
    struct.pack_into("<I", body, following, start)
    for step in range(30_000):
        at = start + 12 * step
        end = at + 2 + 12 * 65535
        if end + 4 < len(body):
            struct.pack_into("<I", body, end, at + 12)
    began = time.process_time()

    assert read_picture(bytes(body)).width == 4
    assert time.process_time() - began < 5

"""Profile, EXIF, XMP and resolution from file to file, read back by Pillow and tifffile."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from picture_files import by_pillow, by_tifffile, cmyk_profile, png_chunk, png_file, three
from PIL import Image, ImageCms

from emt_cli.media.picture.io import Picture, read_picture, write_picture
from emt_cli.media.picture.metadata import Metadata

XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>'
    b'<rdf:Description tiff:Orientation="6" tiff:ImageWidth="120" exif:PixelXDimension="120">'
    b"<exif:PixelYDimension>96</exif:PixelYDimension><dc:title>Cat</dc:title>"
    b'</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
MAKER_NOTE = bytes(range(40))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EVERY_KIND = [("png", 8), ("png", 16), ("jpeg", 8), ("webp", 8), ("tiff", 8), ("tiff", 16), ("tiff", 32)]


def camera_exif(order: str = "<", *, orientation: int = 1, thumbnail: bytes = b"") -> bytes:
    """EXIF as a camera writes it, with camera and GPS details, maker note and thumbnail."""

    def table(at: int, entries: list[tuple[int, int, int, bytes]], following: int) -> bytes:
        out, values = struct.pack(order + "H", len(entries)), b""
        place = at + 2 + 12 * len(entries) + 4
        for tag, kind, count, value in entries:
            out += struct.pack(order + "HHI", tag, kind, count)
            if len(value) > 4:
                out += struct.pack(order + "I", place + len(values))
                values += value + bytes(len(value) % 2)
            else:
                out += value.ljust(4, b"\0")
        return out + struct.pack(order + "I", following) + values

    def short(value: int) -> bytes:
        return struct.pack(order + "H", value)

    def long(value: int) -> bytes:
        return struct.pack(order + "I", value)

    detail_at, gps_at, second_at = 200, 400, 500
    data = bytearray(600)
    data[:8] = (b"II" if order == "<" else b"MM") + short(42) + long(8)
    first = [
        (0x010F, 2, 6, b"Maker\0"),
        (0x0112, 3, 1, short(orientation)),
        (0x011A, 5, 1, long(300) + long(1)),
        (0x011B, 5, 1, long(300) + long(1)),
        (0x0128, 3, 1, short(2)),
        (0x8298, 2, 10, b"(c) 2024 x"),
        (0x8769, 4, 1, long(detail_at)),
        (0x8825, 4, 1, long(gps_at)),
    ]
    detail = [
        (0x829A, 5, 1, long(1) + long(125)),
        (0x9000, 7, 4, b"0232"),
        (0x927C, 7, len(MAKER_NOTE), MAKER_NOTE),
        (0xA002, 3, 1, short(120)),
        (0xA003, 4, 1, long(96)),
    ]
    gps = [(1, 2, 2, b"N\0"), (2, 5, 3, b"".join(long(n) for n in (47, 1, 22, 1, 30, 1)))]
    second = [(0x0201, 4, 1, long(len(data))), (0x0202, 4, 1, long(len(thumbnail)))]
    parts = [(8, first, second_at if thumbnail else 0), (detail_at, detail, 0), (gps_at, gps, 0)]
    for at, entries, following in [*parts, (second_at, second, 0)]:
        part = table(at, entries, following)
        data[at : at + len(part)] = part
    return bytes(data) + thumbnail


def tags(exif: Image.Exif) -> dict[str, object]:
    """What must survive any change of format."""
    detail, gps = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
    return {
        "make": exif.get(0x010F),
        "copyright": exif.get(0x8298),
        "exposure": float(detail[0x829A]),
        "version": detail[0x9000],
        "maker note": detail[0x927C],
        "latitude": [float(n) for n in gps[2]],
        "hemisphere": gps[1],
    }


def upscaled(picture: Picture, bits: int) -> Picture:
    """The picture twice as large, with samples of so many bits."""
    pixels = picture.pixels.repeat(2, axis=0).repeat(2, axis=1)
    if bits == 16:
        pixels = pixels.astype(np.uint16) * 257
    elif bits == 32:
        pixels = (pixels / 255).astype(np.float32)
    return Picture(pixels, gray=picture.gray, format=picture.format, metadata=picture.metadata)


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize(("format", "bits"), EVERY_KIND)
def test_everything_survives_from_jpeg(
    photo: np.ndarray, tmp_path: Path, format: str, bits: int, order: str
) -> None:
    exif = b"Exif\0\0" + camera_exif(order, orientation=6, thumbnail=b"\xff\xd8thumbnail\xff\xd9")
    data = by_pillow(Image.fromarray(photo), "JPEG", exif=exif, icc_profile=SRGB, xmp=XMP, dpi=(300, 300))
    path = tmp_path / f"out.{format}"

    notes = write_picture(path, upscaled(read_picture(data), bits))

    assert notes == ()
    if format == "tiff":
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            icc, xmp = page.tags[34675].value, page.tags[700].value
            dpi = tuple(n / d for n, d in (page.tags[282].value, page.tags[283].value))
        found = Image.Exif()
        found.load(path.read_bytes())  # a TIFF file is laid out as EXIF is
        assert b"thumbnail" not in path.read_bytes()
    else:
        with Image.open(path) as image:
            image.load()
            icc, xmp, found = image.info["icc_profile"], image.info["xmp"], image.getexif()
            dpi = image.info.get("dpi", (300, 300))
            assert b"thumbnail" not in image.info["exif"]
    assert icc == SRGB
    assert b"<dc:title>Cat</dc:title>" in xmp
    assert tuple(round(d, 1) for d in dpi) == (300, 300)
    original = Image.Exif()
    original.load(exif)
    assert tags(found) == tags(original)
    assert found.get(0x0112, 1) == 1
    assert found.get_ifd(0x8769)[0xA002] == 192
    assert found.get_ifd(0x8769)[0xA003] == 240


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("source", ["PNG", "WEBP", "TIFF"])
def test_everything_survives_between_formats(photo: np.ndarray, source: str, format: str) -> None:
    exif = b"Exif\0\0" + camera_exif()
    options: dict[str, Any] = {"exif": exif, "icc_profile": SRGB, "xmp": XMP, "dpi": (144, 144)}
    if source == "PNG":
        data = png_file(
            *(2, 2, 8, 2, bytes(14)),
            png_chunk(b"iCCP", b"x\0\0" + zlib.compress(SRGB))
            + png_chunk(b"pHYs", struct.pack(">IIB", 5669, 5669, 1))
            + png_chunk(b"eXIf", exif[6:])
            + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        )
    else:
        if source == "TIFF":  # Pillow takes no XMP of its own for TIFF
            options["exif"] = Image.Exif()
            options["exif"].load(exif)
            options["exif"][700] = XMP
        data = by_pillow(Image.fromarray(photo), source, **options)
    out = io.BytesIO()

    write_picture(out, read_picture(data), format=format)

    again = read_picture(out.getvalue())
    with Image.open(io.BytesIO(out.getvalue())) as image:
        image.load()
        expected = Image.Exif()
        expected.load(exif)
        assert tags(image.getexif()) == tags(expected)
    assert again.metadata.icc == SRGB
    assert again.metadata.xmp is not None
    assert b"<dc:title>Cat</dc:title>" in again.metadata.xmp
    if format != "webp" and source != "WEBP":  # WebP itself keeps no resolution
        assert again.metadata.dpi == pytest.approx((144, 144), abs=0.1)


def test_maker_note_and_all_else_stay_in_place(photo: np.ndarray) -> None:
    exif = camera_exif(orientation=3)
    data = by_pillow(Image.fromarray(photo), "JPEG", exif=b"Exif\0\0" + exif)

    kept = read_picture(data).metadata.exif

    assert kept is not None
    changed = [at for at in range(len(exif)) if exif[at] != kept[at]]
    assert len(kept) == len(exif)
    assert changed == [exif.index(struct.pack("<HHIH", 0x0112, 3, 1, 3)) + 8]


def test_thumbnail_of_the_old_picture_is_cut_off(photo: np.ndarray) -> None:
    exif = camera_exif(thumbnail=b"\xff\xd8old picture\xff\xd9")
    data = by_pillow(Image.fromarray(photo), "JPEG", exif=b"Exif\0\0" + exif)

    kept = read_picture(data).metadata.exif

    assert kept is not None
    assert b"old picture" not in kept
    assert len(kept) == 600


def test_sizes_beyond_sixteen_bits_fit_into_exif() -> None:
    wide = Picture(np.zeros((1, 70000, 3), np.uint8), metadata=Metadata(exif=camera_exif()))
    out = io.BytesIO()

    write_picture(out, wide, format="png")

    with Image.open(io.BytesIO(out.getvalue())) as image:
        image.load()
        assert image.getexif().get_ifd(0x8769)[0xA002] == 70000


def test_xmp_is_turned_and_resized_with_the_picture(photo: np.ndarray) -> None:
    exif = b"Exif\0\0" + camera_exif(orientation=6)
    picture = read_picture(by_pillow(Image.fromarray(photo), "JPEG", exif=exif, xmp=XMP))
    out = io.BytesIO()

    write_picture(out, upscaled(picture, 8), format="png")

    xmp = read_picture(out.getvalue()).metadata.xmp
    assert xmp is not None
    assert b'tiff:Orientation="1" tiff:ImageWidth="192" exif:PixelXDimension="192"' in xmp
    assert b"<exif:PixelYDimension>240<" in xmp


def test_resolution_turns_with_the_picture(photo: np.ndarray) -> None:
    exif = b"Exif\0\0" + camera_exif(orientation=8)

    picture = read_picture(by_pillow(Image.fromarray(photo), "JPEG", exif=exif, dpi=(300, 150)))

    assert picture.metadata.dpi == (150, 300)


def test_damaged_exif_is_left_out_and_told(photo: np.ndarray) -> None:
    data = by_pillow(Image.fromarray(photo), "PNG", exif=b"II*\0\xff\xff\0\0 nonsense")

    picture = read_picture(data)

    assert picture.metadata.exif is None
    assert "EXIF" in picture.notes[0]


def test_tiff_keeps_what_describes_the_picture_only(deep: np.ndarray, tmp_path: Path) -> None:
    extra = [(315, "s", 0, "Ansel", True), (33550, "d", 3, (1.0, 1.0, 0.0), True)]
    options = {"photometric": "rgb", "resolution": (200, 100), "extratags": extra, "software": "darkroom"}

    picture = read_picture(by_tifffile(deep, metadata={}, **options))
    write_picture(tmp_path / "out.tif", picture)

    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        kept = {tag.code: tag.value for tag in file.pages[0].tags.values()}
    assert kept[315] == "Ansel"
    assert kept[305] == "darkroom"
    assert kept[282] == (2000000, 10000)
    assert kept[283] == (1000000, 10000)
    assert 33550 not in kept  # ground size of a pixel, which has changed
    assert 270 not in kept  # tifffile's note of the array's shape


def gray_profile() -> bytes:
    """A profile's header that says GRAY; nobody looks further."""
    return (bytes(16) + b"GRAY" + b"XYZ " + bytes(12) + b"acsp").ljust(132, b"\0")


@pytest.mark.parametrize(
    ("gray", "icc", "kept"),
    [
        (False, SRGB, True),
        (False, gray_profile(), False),
        (False, cmyk_profile(), False),
        (False, b"nonsense", False),
        (True, gray_profile(), True),
        (True, SRGB, False),
    ],
)
@pytest.mark.parametrize("format", ["png", "jpeg", "tiff"])
def test_profile_is_written_only_where_it_fits(
    photo: np.ndarray, format: str, gray: bool, icc: bytes, kept: bool
) -> None:
    pixels = three(photo[..., 0]) if gray else photo
    out = io.BytesIO()

    write_picture(out, Picture(pixels, gray=gray, metadata=Metadata(icc=icc)), format=format)

    with Image.open(io.BytesIO(out.getvalue())) as image:
        assert (image.info.get("icc_profile") == icc) == kept
        assert bool(image.info.get("icc_profile")) == kept


def test_profile_that_does_not_fit_its_source_is_told(photo: np.ndarray) -> None:
    picture = read_picture(by_pillow(Image.fromarray(photo[..., 0]), "JPEG", icc_profile=SRGB))

    assert picture.metadata.icc is None
    assert "profile" in picture.notes[0]


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_stripping_leaves_the_profile_only(photo: np.ndarray, format: str) -> None:
    text = ((b"tEXt", b"Comment\0private"), (b"gAMA", struct.pack(">I", 45455)))
    metadata = Metadata(icc=SRGB, exif=camera_exif(), xmp=XMP, dpi=(300, 300), png=text)
    out = io.BytesIO()

    write_picture(out, Picture(photo, metadata=metadata), format=format, strip_metadata=True)

    again = read_picture(out.getvalue()).metadata
    assert again.icc == SRGB
    assert (again.exif, again.xmp, again.dpi) == (None, None, None)
    assert b"private" not in out.getvalue()
    assert b"Maker" not in out.getvalue()


def test_png_text_and_colour_statements_go_on_to_png(photo: np.ndarray) -> None:
    chunks = [(b"cICP", bytes([9, 16, 0, 1])), (b"tEXt", b"parameters\0a cat, 20 steps")]
    data = by_pillow(Image.fromarray(photo), "PNG")
    data = data[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + data[33:]
    out = io.BytesIO()

    write_picture(out, read_picture(data))

    assert all(png_chunk(*chunk) in out.getvalue() for chunk in chunks)


def test_exif_that_older_programs_hide_in_png_text_is_found(photo: np.ndarray) -> None:
    exif = camera_exif(orientation=6)
    text = b"\nexif\n%8d\n%s\n" % (len(exif) + 6, (b"Exif\0\0" + exif).hex().encode())
    chunk = png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    data = by_pillow(Image.fromarray(photo), "PNG")

    picture = read_picture(data[:33] + chunk + data[33:])

    assert (picture.height, picture.width) == (120, 96)


def test_metadata_too_long_for_jpeg_is_told(photo: np.ndarray) -> None:
    metadata = Metadata(iptc=bytes(70000), exif=camera_exif() + bytes(70000))
    out = io.BytesIO()

    notes = write_picture(out, Picture(photo, metadata=metadata), format="jpeg")

    assert [note.split()[0] for note in notes] == ["EXIF", "IPTC"]
    assert read_picture(out.getvalue()).metadata == Metadata()


def test_damaged_text_of_a_png_is_left_out(photo: np.ndarray) -> None:
    chunk = bytearray(png_chunk(b"tEXt", b"Comment\0hello"))
    chunk[-5] ^= 1
    data = by_pillow(Image.fromarray(photo), "PNG")

    assert read_picture(data[:33] + bytes(chunk) + data[33:]).metadata.png == ()


@pytest.mark.parametrize("chunk", [(b"sRGB", b""), (b"gAMA", b"\0\0"), (b"cICP", b"\1")])
def test_colour_statements_of_the_wrong_length_are_left_out(
    photo: np.ndarray, chunk: tuple[bytes, bytes]
) -> None:
    data = by_pillow(Image.fromarray(photo), "PNG")

    assert read_picture(data[:33] + png_chunk(*chunk) + data[33:]).metadata.png == ()

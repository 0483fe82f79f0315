"""What a picture carries beside its pixels: profile, EXIF, XMP, IPTC, resolution, PNG's own chunks."""

from dataclasses import dataclass, replace

from emt_cli.media.picture.ifd import (
    EXIF_POINTER,
    GPS_POINTER,
    LONG,
    SHORT,
    Directory,
    Layout,
    read_directory,
    read_header,
    write_directory,
)
from emt_cli.media.picture.png_colours import profile_of
from emt_cli.media.picture.xmp import with_number

_WIDTH, _LENGTH, _ORIENTATION = 0x0100, 0x0101, 0x0112
_PIXEL_X, _PIXEL_Y = 0xA002, 0xA003
_THUMBNAIL_PLACES = (
    (0x0201, 0x0202),
    (0x0111, 0x0117),
)  # (offset, length) tags: JPEG thumbnail, plain strips

# What describes the picture, not the layout of the file: title, camera, dates, author, rating, Windows.
_DESCRIPTIVE = {270, 271, 272, 274, 285, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)}


@dataclass(frozen=True)
class Metadata:
    """What is kept from one file to the next; None where the source had none."""

    icc: bytes | None = None
    """ICC profile."""
    exif: bytes | None = None
    """EXIF, beginning with its TIFF header; once read, its orientation is 1 and its thumbnail gone."""
    xmp: bytes | None = None
    """XMP packet, an extension of it within."""
    iptc: bytes | None = None
    """IPTC record."""
    dpi: tuple[float, float] | None = None
    """Dots per inch, x and y."""
    png: tuple[tuple[bytes, bytes], ...] = ()
    """PNG chunks that travel from PNG to PNG: text, and colour statements such as gAMA and cICP."""


PNG_COLOUR = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt")


def metadata_for_output(
    metadata: Metadata, *, height: int, width: int, gray: bool, png: bool, strip: bool
) -> tuple[Metadata, tuple[str, ...]]:
    """Return the metadata that fits a picture as it is written, and notes on what does not.

    Sizes in EXIF and XMP are the new ones; a profile whose colour space is not the pixels' is left out; what
    PNG's chunks say of colours becomes a profile unless `png` is written. `strip` leaves only what colours
    need: the profile, and PNG's colour statements.
    """
    icc = metadata.icc if profile_space(metadata.icc) == ("GRAY" if gray else "RGB") else None
    note = ""
    colours = tuple(chunk for chunk in metadata.png if chunk[0] in PNG_COLOUR)
    if icc is None and colours and not png:
        icc, note = profile_of(colours, gray=gray)
    notes = (note,) if note else ()
    if strip:
        return Metadata(icc=icc, png=colours), notes
    exif = _with_size(metadata.exif, height, width) if metadata.exif else None
    xmp = metadata.xmp
    for name, size in ((b"Width", width), (b"Length", height)):
        xmp = xmp and with_number(xmp, b"tiff:Image" + name, size)
    for name, size in ((b"X", width), (b"Y", height)):
        xmp = xmp and with_number(xmp, b"exif:Pixel" + name + b"Dimension", size)
    return replace(metadata, icc=icc, exif=exif, xmp=xmp), notes


def profile_space(icc: bytes | None) -> str | None:
    """Return the colour space an ICC profile describes (RGB, GRAY, CMYK, Lab), None if it is no profile."""
    if icc is None or len(icc) < 128 or icc[36:40] != b"acsp":
        return None
    return icc[16:20].decode("ascii", "replace").strip()


def exif_orientation(exif: bytes) -> int:
    """Return the EXIF orientation, 1 to 8; 1 for none or nonsense. ValueError for damaged EXIF."""
    layout, offset = read_header(exif)
    field = read_directory(exif, offset, layout).fields.get(_ORIENTATION)
    value = int(field.numbers(layout)[0]) if field and field.numbers(layout) else 1
    return value if 1 <= value <= 8 else 1


def upright_exif(exif: bytes) -> bytes:
    """Return EXIF with orientation 1 and no thumbnail, every other byte in its place.

    Maker notes hold offsets into the whole block, so it is patched rather than rebuilt.
    """
    layout, offset = read_header(exif)
    data = bytearray(exif)
    first = read_directory(exif, offset, layout)
    _patch(data, first, _ORIENTATION, 1, layout)
    if first.following:
        data[first.following_at : first.following_at + 4] = bytes(4)
        _erase_thumbnail(data, first.following, layout)
    return bytes(data)


def exif_from_tiff(first: Directory, layout: Layout) -> bytes | None:
    """Return the describing tags of a TIFF file's first directory as EXIF, None when there are none.

    Descriptions in which programs keep the layout of the file's samples are left out: it will change.
    """
    fields = {tag: field for tag, field in first.fields.items() if tag in _DESCRIPTIVE}
    description = bytes(fields[270].raw) if 270 in fields else b""
    if description.startswith((b'{"shape"', b"ImageJ=")) or b"<OME" in description:
        del fields[270]
    children = {tag: child for tag, child in first.children.items() if tag in (EXIF_POINTER, GPS_POINTER)}
    if not children and not fields.keys() - {274}:
        return None
    layout = Layout(layout.order)
    block, at = write_directory(Directory(fields, children), 8, layout)
    return _tiff_start(layout) + layout.pack("I", at) + block


def tiff_from_exif(exif: bytes) -> tuple[Directory, Layout]:
    """Return the directory that carries EXIF in a TIFF file, and the byte order its values are in."""
    layout, offset = read_header(exif)
    first = read_directory(exif, offset, layout)
    fields = {tag: field for tag, field in first.fields.items() if tag in _DESCRIPTIVE}
    return Directory(fields, first.children), layout


def _tiff_start(layout: Layout) -> bytes:
    return (b"II" if layout.order == "<" else b"MM") + layout.pack("H", 42)


def _with_size(exif: bytes, height: int, width: int) -> bytes:
    layout, offset = read_header(exif)
    data = bytearray(exif)
    first = read_directory(exif, offset, layout)
    _patch(data, first, _WIDTH, width, layout)
    _patch(data, first, _LENGTH, height, layout)
    if detail := first.children.get(EXIF_POINTER):
        _patch(data, detail, _PIXEL_X, width, layout)
        _patch(data, detail, _PIXEL_Y, height, layout)
    return bytes(data)


def _patch(data: bytearray, directory: Directory, tag: int, value: int, layout: Layout) -> None:
    """Overwrite the single whole number a tag holds; a 16-bit one becomes 32-bit where it must."""
    field = directory.fields.get(tag)
    if field is None or field.count != 1 or field.kind not in (SHORT, LONG):
        return
    if field.kind == SHORT and value <= 0xFFFF:
        data[field.at : field.at + 2] = layout.pack("H", value)
        return
    data[field.at - 6 : field.at - 4] = layout.pack("H", LONG)
    data[field.at : field.at + 4] = layout.pack("I", value)


def _erase_thumbnail(data: bytearray, offset: int, layout: Layout) -> None:
    """Cut the thumbnail off the end, or blank it where other values follow."""
    try:
        fields = read_directory(bytes(data), offset, layout).fields
    except ValueError:
        return
    for place, length in _THUMBNAIL_PLACES:
        if place not in fields or length not in fields:
            continue
        for start, size in zip(fields[place].numbers(layout), fields[length].numbers(layout), strict=False):
            first, end = int(start), int(start + size)
            if first > offset and end >= len(data):
                del data[first:]
            elif first > offset:
                data[first:end] = bytes(int(size))

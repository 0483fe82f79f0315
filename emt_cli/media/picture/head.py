"""What the beginning of a picture file declares: kind, size, depth; without decoding it."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from emt_cli.media.picture.bmp import read_bmp_head
from emt_cli.media.picture.decode import readable_damage
from emt_cli.media.picture.drawn import worth_looking
from emt_cli.media.picture.formats import (
    PictureFormat,
    SourceFormat,
    check_input,
    format_from_content,
    written_as,
)
from emt_cli.media.picture.heif_head import read_heif_head
from emt_cli.media.picture.io import MAX_PIXELS, readable_absence
from emt_cli.media.picture.jxl_head import read_jxl_head
from emt_cli.media.picture.kind import kind_of, png_kind
from emt_cli.media.picture.metadata import exif_orientation
from emt_cli.media.picture.pillow import open_image
from emt_cli.media.picture.png import read_chunks, read_metadata
from emt_cli.media.picture.raw import read_raw_size
from emt_cli.media.samples import Kind

_BEGINNING = 64
_BMP_HEADERS = 14 + 124 + 16
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


@dataclass(frozen=True)
class Head:
    """A picture as its file declares it; the samples may still turn out damaged."""

    format: PictureFormat
    height: int
    """Rows of the picture shown upright."""
    width: int
    gray: bool
    alpha: bool
    """Whether it may be transparent."""
    itemsize: int
    """Bytes of a decoded sample: 1, 2 or 4."""
    file_bytes: int
    kind: Kind = "plain"
    """What the file tells of the picture without its pixels; read_kind() knows more."""

    @property
    def pixels(self) -> int:
        """Pixels in all."""
        return self.height * self.width

    @property
    def decoded(self) -> int:
        """Bytes of the picture in memory."""
        return self.pixels * (4 if self.alpha else 3) * self.itemsize

    @property
    def reading(self) -> int:
        """Bytes that reading takes at most: twice the file, and a decoder's copy of four samples a pixel."""
        return self.decoded + 2 * self.file_bytes + 4 * self.itemsize * self.pixels


def read_head(path: Path, *, max_pixels: int = MAX_PIXELS) -> Head:
    """Read what a picture file declares; raises InputError for what read_picture would refuse at once."""
    name = str(path)
    with readable_absence(path, name), path.open("rb") as stream:
        beginning = stream.read(_BEGINNING)
        format = format_from_content(beginning, name)
        size = os.fstat(stream.fileno()).st_size
        with readable_damage(name):
            if format == "png":
                head = _png(beginning, stream, size)
            elif format == "tiff":
                head = _tiff(stream, size, name)
            elif format == "raw":
                height, width = read_raw_size(stream, name=name)
                head = Head("tiff", height, width, False, False, 2, size)
            elif format in ("avif", "heic"):
                head = _heif(stream, format, size)
            elif format == "jxl":
                head = _jxl(stream, size)
            elif format == "bmp":
                head = _bmp(stream, size)
            else:
                stream.seek(0)
                head = _pillow(stream, format, size)
        check_input(name, height=head.height, width=head.width, max_pixels=max_pixels)
        return head


def read_kind(path: Path, head: Head) -> Kind:
    """Tell the kind that read_picture would tell, for which pixels of JPEG and lossy WebP may be decoded.

    Raises InputError for a file that is not what its head said any more.
    """
    if head.format not in ("jpeg", "webp") or not worth_looking(head.pixels):
        return head.kind
    name = str(path)
    with (
        readable_absence(path, name),
        path.open("rb") as stream,
        readable_damage(name),
        open_image(stream, head.format) as image,
    ):
        return kind_of(image, stream)


def _png(beginning: bytes, stream: BinaryIO, size: int) -> Head:
    width, height, bits, colour_type = struct.unpack_from(">IIBB", beginning, 16)
    view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    chunks = read_chunks(view, unread=(b"IDAT", b"fdAT"))
    exif = read_metadata(chunks).exif
    if exif and _lies_on_its_side(exif):
        width, height = height, width
    alpha = colour_type >= 4 or any(kind == b"tRNS" for kind, _ in chunks)
    gray = _PNG_CHANNELS[colour_type] < 3
    kind = png_kind(chunks, height * width, colour_type, bits)
    return Head("png", height, width, gray, alpha, 2 if bits == 16 else 1, size, kind)


def _tiff(stream: BinaryIO, size: int, name: str) -> Head:
    from emt_cli.media.picture.tiff import read_tiff_head  # tifffile is imported when a TIFF is met

    stream.seek(0)
    head = read_tiff_head(stream, name=name)
    height, width = (head.width, head.height) if head.orientation >= 5 else (head.height, head.width)
    return Head("tiff", height, width, head.gray, head.alpha, head.itemsize, size)


def _bmp(stream: BinaryIO, size: int) -> Head:
    stream.seek(0)
    head = read_bmp_head(stream.read(_BMP_HEADERS))
    return Head("bmp", head.height, head.width, False, bool(head.masks[3]), 2 if head.deep else 1, size)


def _heif(stream: BinaryIO, format: SourceFormat, size: int) -> Head:
    head = read_heif_head(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), cut=format == "heic")
    itemsize = 1 if head.bits <= 8 else 2
    return Head(written_as(format), head.height, head.width, head.gray, head.alpha, itemsize, size)


def _jxl(stream: BinaryIO, size: int) -> Head:
    head = read_jxl_head(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)))
    itemsize = 4 if head.floats else 1 if head.bits <= 8 else 2
    return Head("jxl", head.height, head.width, head.gray, bool(head.extras), itemsize, size)


def _pillow(stream: BinaryIO, format: SourceFormat, size: int) -> Head:
    with open_image(stream, format) as image:
        width, height = image.size
        exif = image.info.get("exif")
        if exif and _lies_on_its_side(exif.removeprefix(b"Exif\0\0")):
            width, height = height, width
        gray = image.mode in ("1", "L", "LA")
        kind = kind_of(image, stream, look=False)
        return Head(written_as(format), height, width, gray, image.mode.endswith("A"), 1, size, kind)


def _lies_on_its_side(exif: bytes) -> bool:
    """Tell whether the picture is to be turned by a quarter; damaged EXIF is left out and says nothing."""
    try:
        return exif_orientation(exif) >= 5
    except ValueError:
        return False

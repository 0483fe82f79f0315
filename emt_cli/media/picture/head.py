"""What the beginning of a picture file declares: kind, size, depth; without decoding it."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from emt_cli.errors import InputError
from emt_cli.media.picture import tiff
from emt_cli.media.picture.decode import readable_damage
from emt_cli.media.picture.formats import PictureFormat, check_input, format_from_content
from emt_cli.media.picture.io import MAX_PIXELS, readable_absence
from emt_cli.media.picture.metadata import exif_orientation

_BEGINNING = 64
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

    @property
    def pixels(self) -> int:
        """Pixels in all."""
        return self.height * self.width


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
            else:
                stream.seek(0)
                head = _pillow(stream, format, size)
        check_input(name, height=head.height, width=head.width, max_pixels=max_pixels)
        return head


def _png(beginning: bytes, stream: BinaryIO, size: int) -> Head:
    width, height, bits, colour_type = struct.unpack_from(">IIBB", beginning, 16)
    alpha = colour_type >= 4
    at = 33
    while at < size:
        stream.seek(at)
        length, kind = struct.unpack(">I4s", stream.read(8))
        if kind in (b"IDAT", b"IEND"):
            break
        alpha = alpha or kind == b"tRNS"
        if kind == b"eXIf" and _lies_on_its_side(stream.read(length)):
            width, height = height, width
        at += length + 12
    gray = _PNG_CHANNELS[colour_type] < 3
    return Head("png", height, width, gray, alpha, 2 if bits == 16 else 1, size)


def _tiff(stream: BinaryIO, size: int, name: str) -> Head:
    view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    head = tiff.read_head(view)
    if head.is_reduced:
        raise InputError(f"{name}: camera raw or a preview only; develop it to an ordinary TIFF or PNG first")
    gray = head.photometric in (0, 1)
    height, width = head.height, head.width
    if head.number(274, 1) in (5, 6, 7, 8):
        height, width = width, height
    itemsize = 4 if head.bits > 16 else 2 if head.bits > 8 else 1
    return Head("tiff", height, width, gray, head.channels > (1 if gray else 3), itemsize, size)


def _pillow(stream: BinaryIO, format: PictureFormat, size: int) -> Head:
    with Image.open(stream, formats=(format,)) as image:
        width, height = image.size
        exif = image.info.get("exif")
        if exif and _lies_on_its_side(exif.removeprefix(b"Exif\0\0")):
            width, height = height, width
        gray = image.mode in ("1", "L", "LA")
        return Head(format, height, width, gray, image.mode.endswith("A"), 1, size)


def _lies_on_its_side(exif: bytes) -> bool:
    """Tell whether the picture is to be turned by a quarter; damaged EXIF is left out and says nothing."""
    try:
        return exif_orientation(exif) >= 5
    except ValueError:
        return False

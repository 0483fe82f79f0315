"""Pictures in and out of files: pixels, alpha and metadata together."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from emt_cli.errors import InputError, OutputError, UsageError
from emt_cli.media.files import new_file
from emt_cli.media.picture.decode import decode
from emt_cli.media.picture.encode import encode as encode_samples
from emt_cli.media.picture.encode import stored_type
from emt_cli.media.picture.formats import (
    PictureFormat,
    check_output,
    format_from_content,
    format_from_name,
    written_as,
)
from emt_cli.media.picture.metadata import (
    Metadata,
    exif_orientation,
    metadata_for_output,
    profile_space,
    upright_exif,
)
from emt_cli.media.picture.xmp import upright
from emt_cli.media.samples import BAND, Kind, Pixels, Samples, Sized, full_scale

MAX_PIXELS = 500_000_000
_HEAD_BYTES = 64
_ADDRESS = re.compile(r"(https?|ftp|s3|gs|file|data):", re.IGNORECASE)
_SPOOL = 1 << 26


@dataclass(frozen=True, eq=False)
class Picture(Sized):
    """One upright picture with all that is kept of its file."""

    pixels: Pixels
    """RGB (h, w, 3): uint8, uint16, or float32 as stored with 0..1 as its nominal range."""
    alpha: Pixels | None = None
    """Opacity (h, w) of the same type, not multiplied into the colours; None for a picture without."""
    gray: bool = False
    """Whether the source was gray: the three channels are equal, and it is written gray again."""
    format: PictureFormat = "png"
    """The kind of file it came from, or else the one that holds it best: it is written as this."""
    metadata: Metadata = field(default_factory=Metadata)
    frames: int = 1
    """Pictures or pages in the file; only the first is here."""
    notes: tuple[str, ...] = ()
    """What the person may want to know about the reading, a phrase each."""
    kind: Kind = "plain"
    """What its file tells of it."""

    @property
    def transparent(self) -> bool:
        """Whether any pixel is less than opaque."""
        if self.alpha is None:
            return False
        step = max(1, BAND // self.width)
        top = full_scale(self.alpha.dtype)
        return any(bool((self.alpha[y : y + step] < top).any()) for y in range(0, self.height, step))


def read_picture(source: Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture from a file or its bytes; the content decides of which format, not the name.

    The EXIF orientation is applied and reset, CMYK and Lab become sRGB, palettes RGB; 16 bits and float stay.
    Of several frames the first is read. Raises InputError, with `name` in front, for whatever is no whole
    picture of at most `max_pixels` pixels; a larger declared size is refused before any memory is taken.
    """
    name = name or (str(source) if isinstance(source, Path) else "picture")
    data = source if isinstance(source, bytes) else read_bytes(source, name)
    format = format_from_content(data[:_HEAD_BYTES], name)
    decoded = decode(data, format, name=name, max_pixels=max_pixels)
    metadata, notes, orientation = decoded.metadata, list(decoded.notes), decoded.orientation
    if metadata.exif is not None:
        try:
            if orientation is None:
                orientation = exif_orientation(metadata.exif)
            metadata = replace(metadata, exif=upright_exif(metadata.exif))
        except ValueError:
            metadata = replace(metadata, exif=None)
            notes.append("damaged EXIF left out")
    orientation = orientation or 1
    if orientation != 1:
        dpi = metadata.dpi and (metadata.dpi[1], metadata.dpi[0]) if orientation >= 5 else metadata.dpi
        metadata = replace(metadata, dpi=dpi, xmp=metadata.xmp and upright(metadata.xmp))
    if metadata.icc is not None and profile_space(metadata.icc) != ("GRAY" if decoded.gray else "RGB"):
        metadata = replace(metadata, icc=None)
        notes.append("colour profile that does not fit its pixels left out")
    if decoded.frames > 1:
        notes.append(f"{decoded.frames} frames: only the first is read")
    return Picture(
        pixels=_turned(decoded.pixels, orientation),
        alpha=None if decoded.alpha is None else _turned(decoded.alpha, orientation),
        gray=decoded.gray,
        format=written_as(format),
        metadata=metadata,
        frames=decoded.frames,
        notes=tuple(notes),
        kind=decoded.kind,
    )


def write_picture(
    target: Path | BinaryIO,
    picture: Picture,
    *,
    format: PictureFormat | None = None,
    quality: int = 95,
    overwrite: bool = False,
    strip_metadata: bool = False,
) -> tuple[str, ...]:
    """Write a picture whole or not at all; return notes on metadata that the format cannot hold.

    The format is the one asked for, else the one of the target's suffix, else the picture's own. TIFF keeps
    every sample type; PNG keeps 8 and 16 bits and takes float as 16; HEIC then has 10 and AVIF 12; the others
    get 8, rounded once. `quality` (1 to 100) is for all but PNG, TIFF and BMP: from 90 on the full colour
    resolution (4:4:4) is kept; WebP and JPEG XL are lossless at 100.
    `strip_metadata` leaves nothing but the colour profile, without which colours would shift.
    Raises UsageError for what the format cannot hold, OutputExistsError, OutputError.
    """
    name = str(target) if isinstance(target, Path) else "standard output"
    if format is None:
        suffix = target.suffix if isinstance(target, Path) else ""
        format = format_from_name(target) if isinstance(target, Path) and suffix else picture.format
    encode = partial(
        encode_picture,
        picture=picture,
        format=format,
        quality=quality,
        strip_metadata=strip_metadata,
        name=name,
    )
    if isinstance(target, Path):
        with new_file(target, overwrite=overwrite) as stream:
            return encode(stream)
    with tempfile.SpooledTemporaryFile(_SPOOL) as spool:
        notes = encode(spool)
        spool.seek(0)
        try:
            while piece := spool.read(1 << 20):
                target.write(piece)
            target.flush()
        except OSError as error:
            raise OutputError(
                f"{name}: could not be written ({error.strerror or error}); name a file with -o"
            ) from error
    return notes


def encode_picture(
    stream: IO[bytes],
    picture: Picture,
    *,
    format: PictureFormat,
    quality: int = 95,
    strip_metadata: bool = False,
    name: str,
) -> tuple[str, ...]:
    """Write a picture to a stream that can seek, as write_picture does to a file; name is for errors."""
    if not 1 <= quality <= 100:
        raise UsageError(f"quality {quality}: must lie between 1 and 100")
    transparent = picture.transparent
    check_output(format, height=picture.height, width=picture.width, transparent=transparent, name=name)
    samples = Samples(
        pixels=picture.pixels,
        alpha=picture.alpha if transparent or format not in ("jpeg", "bmp", "heic", "avif", "jxl") else None,
        gray=picture.gray,
        dtype=stored_type(format, picture.pixels.dtype),
    )
    metadata, notes = metadata_for_output(
        picture.metadata,
        height=picture.height,
        width=picture.width,
        gray=picture.gray,
        png=format == "png",
        strip=strip_metadata,
    )
    if picture.pixels.dtype.itemsize > samples.dtype.itemsize and format == "jxl":
        notes += ("JPEG XL is written with 8 bits; PNG and TIFF keep all",)
    return notes + encode_samples(stream, format, samples, metadata, quality=quality)


def read_bytes(path: Path, name: str) -> bytes:
    """Read a file whose beginning looks like a picture; InputError with name in front."""
    # With a buffer in between, the whole would be there twice for a while.
    with readable_absence(path, name), path.open("rb", buffering=0) as stream:
        head = stream.read(_HEAD_BYTES)
        if not stream.seekable():
            while len(head) < _HEAD_BYTES and (more := stream.read(_HEAD_BYTES - len(head))):
                head += more  # a pipe gives what it has
            format_from_content(head, name)
            return head + stream.readall()
        format_from_content(head, name)
        stream.seek(0)
        return stream.readall()


@contextlib.contextmanager
def readable_absence(path: Path, name: str) -> Iterator[None]:
    """Turn what opening and reading a file raises into InputError."""
    try:
        if path.is_dir():
            raise InputError(f"{name}: is a folder; name a picture in it")
        yield
    except FileNotFoundError as error:
        if _ADDRESS.match(name):
            raise InputError(f"{name}: is an address, not a file; download it first") from error
        raise InputError(f"{name}: does not exist; check the path") from error
    except PermissionError as error:
        raise InputError(f"{name}: no permission to read it; change that, or take a copy") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error}); check the disk") from error
    except MemoryError as error:
        raise InputError(f"{name}: needs more memory than there is; close other programs") from error


def _turned(plane: Pixels, orientation: int) -> Pixels:
    """Return the picture as EXIF orientation 1 to 8 wants it shown."""
    if orientation in (5, 6, 7, 8):
        plane = plane.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        plane = plane[:, ::-1]
    if orientation in (3, 4, 7, 8):
        plane = plane[::-1]
    return np.ascontiguousarray(plane)

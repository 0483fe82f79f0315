"""The kinds of picture files: how they are told apart, named, and what each can hold."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from emt_cli.errors import InputError, UsageError

PictureFormat: TypeAlias = Literal["png", "jpeg", "webp", "tiff", "bmp", "avif", "heic", "jxl"]
"""Kinds of picture files that are read and written."""

SourceFormat: TypeAlias = PictureFormat | Literal["gif", "raw"]
"""Kinds that are read."""

SUFFIXES: dict[str, PictureFormat] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".bmp": "bmp",
    ".avif": "avif",
    ".heic": "heic",
    ".heif": "heic",
    ".hif": "heic",
    ".jxl": "jxl",
}
"""File name suffixes, and the format they stand for; the first of each format is its usual one."""

MAX_SIDE = 1 << 20
"""Longest side that is read, in pixels: a header that says more is an attack or an accident."""

_LONGEST: dict[PictureFormat, int] = {
    "png": 2**31 - 1,
    "jpeg": 65500,  # libjpeg's own limit; the format's is 65535
    "webp": 16383,
    "tiff": 2**32 - 1,
    "bmp": 2**31 - 1,
    "avif": 65536,
    "heic": 16384,
    "jxl": 2**30,
}
_PACKAGES: dict[PictureFormat, tuple[str, str]] = {
    "heic": ("pillow_heif", "heif"),
    "jxl": ("pylibjxl", "jxl"),
}
"""What some formats need beyond the usual packages, and the extra that brings it."""
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
_RAW = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0", b"MMOR")
_CONVERT = "convert it to PNG, JPEG or TIFF first"


class UnsupportedError(Exception):
    """A sound picture of a kind that is not read; says which, in a phrase."""


def written_as(format: SourceFormat) -> PictureFormat:
    """Return the kind a source is written as unless another is asked for; camera raw has 16 bits."""
    if format == "gif":
        return "png"
    return "tiff" if format == "raw" else format


def format_from_name(path: Path) -> PictureFormat:
    """Return the format a file name asks for; UsageError when it names none that can be written."""
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        known = ", ".join(SUFFIXES)
        raise UsageError(f"{path}: unknown kind of picture {path.suffix!r}; use one of {known}") from None


def missing_extra(format: PictureFormat) -> str | None:
    """Return the extra that a format needs to be written and that is not installed, None for none."""
    package, extra = _PACKAGES.get(format, (None, None))
    return extra if package is not None and find_spec(package) is None else None


def check_output(format: PictureFormat, *, height: int, width: int, transparent: bool, name: str) -> None:
    """Raise UsageError when a format cannot hold such a picture, or its package is not installed."""
    if extra := missing_extra(format):
        raise UsageError(f'{name}: writing {format.upper()} needs pip install "emt-cli[{extra}]"')
    if max(height, width) > _LONGEST[format] or (format == "bmp" and height * (width * 4 + 3) >= 2**32):
        raise UsageError(
            f"{name}: {width}x{height} does not fit into {format.upper()}"
            f" (at most {_LONGEST[format]} pixels a side); choose PNG or TIFF"
        )
    if transparent and format == "jpeg":
        raise UsageError(f"{name}: {format.upper()} cannot hold transparency; choose PNG, WebP or TIFF")


def check_input(name: str, *, height: int, width: int, max_pixels: int) -> None:
    """Raise InputError when the size a header declares is beyond the limit, before anything is decoded."""
    if height < 1 or width < 1:
        raise InputError(f"{name}: declares a size of {width}x{height}; get an undamaged copy")
    if max(height, width) > MAX_SIDE:
        raise InputError(
            f"{name}: {width}x{height} is longer than {MAX_SIDE} pixels a side; cut it into parts"
        )
    if height * width > max_pixels:
        raise InputError(
            f"{name}: {width}x{height} is {height * width:,} pixels, over the limit of {max_pixels:,};"
            " if you trust it, raise --max-pixels (of upscale, batch and explain)"
        )


def format_from_content(head: bytes, name: str) -> SourceFormat:
    """Return the format the first bytes of a file (64 are enough) show; InputError for any other content."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") and head[8:10] != b"CR":
        return "tiff"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith((b"\0\0\0\x0cJXL ", b"\xff\x0a")):
        return "jxl"
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    brands = [head[at : at + 4] for at in range(8, min(len(head), int.from_bytes(head[:4], "big")) - 3, 4)]
    if brand and (b"avif" in brands or b"avis" in brands):
        return "avif"
    if brand[:3] in (b"hei", b"hev", b"mif", b"msf"):
        return "heic"
    if brand == b"crx " or head.startswith(_RAW) or (head[:4] == b"II*\0" and head[8:10] == b"CR"):
        return "raw"
    if not head:
        raise InputError(f"{name}: is empty; get an undamaged copy")
    raise InputError(f"{name}: {_foreign(head)}")


def _foreign(head: bytes) -> str:
    """Say what content that is not read is, and what to do."""
    brand = head[4:8] == b"ftyp"
    if brand or head.startswith((b"\x1aE\xdf\xa3", b"FLV", b"\0\0\x01\xba")) or head[8:12] == b"AVI ":
        return "is a video, not a picture; see `emt video`"
    for start, kind in _KNOWN.items():
        if head.startswith(start):
            return f"{kind} is not read; {_CONVERT}"
    if not head.strip(b"\0"):
        return "holds only zeros; get an undamaged copy"
    if re.fullmatch(rb"[\t\n\f\r\x1b\x20-\x7e\x80-\xff]+", head) and _begins_text(head):
        return "holds text, not a picture; check the name"
    return "not a picture that can be read; PNG, JPEG, WebP, TIFF, HEIC, AVIF and others are"


def _begins_text(head: bytes) -> bool:
    """Tell whether bytes are UTF-8; the last character may be cut."""
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return len(head) - error.start < 4 and error.reason == "unexpected end of data"
    return True


_KNOWN = {
    b"DDS ": "DDS",
    b"icns": "ICNS",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"SIMPLE  =": "FITS",
    b"\x01\xda": "SGI",
    b"/* XPM */": "XPM",
    b"#define ": "XBM",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "Photoshop's PSD",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"\0\0\x01\0": "ICO",
    b"qoif": "QOI",
    b"P4": "PBM",
    b"P5": "PGM",
    b"P6": "PPM",
    b"PF": "PFM",
    b"Pf": "PFM",
}

"""TIFF files to pictures: the first page's samples, upright order and metadata left to the caller."""

import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import tifffile

from emt_cli.errors import InputError
from emt_cli.media.picture.alpha import divided_by_alpha
from emt_cli.media.picture.formats import check_input
from emt_cli.media.picture.ifd import Layout, count_pictures, read_directory
from emt_cli.media.picture.iptc import read_resources
from emt_cli.media.picture.metadata import Metadata, exif_from_tiff
from emt_cli.media.picture.raw import read_raw, read_raw_size
from emt_cli.media.picture.tiff_colours import conversion, is_plain, read_space, stored_size
from emt_cli.media.picture.tiff_segments import check_kind, read_samples
from emt_cli.media.samples import BAND, Decoded, Pixels, widened
from emt_cli.media.samples import convert as to_type

# What tifffile thinks of a file's tags is no business of stderr; a program's own handlers still get it.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

LARGEST = 1e9
"""Greatest value of a float picture; far beyond it, single precision overflows in the network."""

_XMP, _IPTC, _PHOTOSHOP, _ICC, _LAYERS, _DNG_VERSION = 700, 33723, 34377, 34675, 37724, 50706
_SENSOR = (32803, 34892)
_INCHES = {2: 1.0, 3: 2.54}


@dataclass(frozen=True)
class TiffHead:
    """What the first page declares."""

    height: int
    """Rows as stored."""
    width: int
    orientation: int
    """1 to 8, as in EXIF."""
    gray: bool
    alpha: bool
    itemsize: int
    """Bytes of a decoded sample: 1, 2 or 4."""


def read_tiff_head(stream: BinaryIO, *, name: str) -> TiffHead:
    """Return what the first page declares; InputError, UnsupportedError, ValueError for what is not read."""
    page = _first_page(stream)
    if _is_raw(page):
        height, width = read_raw_size(stream, name=name)
        return TiffHead(height, width, 1, False, False, 2)
    check_kind(page)
    space = read_space(page)
    gray, alpha = space.gray, space.alpha is not None
    return TiffHead(
        page.imagelength, page.imagewidth, _orientation(page), gray, alpha, stored_size(page, space)
    )


def read_tiff(data: bytes, *, name: str, max_pixels: int) -> Decoded:
    """Decode the first page; InputError, UnsupportedError, ValueError for what is not read."""
    page = _first_page(io.BytesIO(data))
    if _is_raw(page):
        return read_raw(data, name=name, max_pixels=max_pixels)
    check_kind(page)
    check_input(name, height=page.imagelength, width=page.imagewidth, max_pixels=max_pixels)
    space = read_space(page)
    metadata = _metadata(data, page)
    convert, note = conversion(page, space, metadata.icc)
    wanted = [*range(space.colours), *(() if space.alpha is None else (space.alpha,))]
    samples = read_samples(data, page, wanted)
    if samples.dtype.kind == "f":
        _check_values(samples, name)
    pixels, alpha = samples, None
    if not is_plain(page, space):
        kind = convert(samples[:1, :1, : space.colours]).dtype
        pixels = np.empty((*samples.shape[:2], 3), kind)
        alpha = np.empty(samples.shape[:2], kind) if space.alpha is not None else None
        for band in _bands(*samples.shape[:2]):
            pixels[band] = convert(samples[band][..., : space.colours])
            if alpha is not None:
                alpha[band] = to_type(widened(samples[band][..., -1], page.bitspersample), kind)
                if space.multiplied:
                    pixels[band] = divided_by_alpha(pixels[band], alpha[band])
    return Decoded(
        pixels,
        alpha,
        space.gray,
        metadata,
        orientation=_orientation(page),
        frames=count_pictures(data),
        notes=(*((note,) if note else ()), *_left_out(page)),
    )


def _first_page(stream: BinaryIO) -> tifffile.TiffPage:
    """Read the tags of the first page, and refuse what is none or of a kind that is not read."""
    # Files of microscopes and slide scanners are taken as the plain TIFF they are, without their own tables.
    file = tifffile.TiffFile(stream, is_lsm=False, is_scanimage=False, is_ndpi=False, _multifile=False)
    page = file.pages.first
    if not isinstance(page, tifffile.TiffPage) or not page.tags:
        raise ValueError("it holds no picture")
    if page.imagewidth < 1 or page.imagelength < 1:
        raise ValueError("its tags do not describe a picture")
    return page


def _is_raw(page: tifffile.TiffPage) -> bool:
    """Tell whether a page is a camera's own, or a preview as camera raw has it in front."""
    return page.is_reduced or _DNG_VERSION in page.tags or int(page.photometric) in _SENSOR


def _layout(page: tifffile.TiffPage) -> Layout:
    tiff = page.parent.tiff
    return Layout(tiff.byteorder, big=tiff.is_bigtiff)


def _metadata(data: bytes, page: tifffile.TiffPage) -> Metadata:
    """Return profile, XMP, resolution and EXIF of a page."""
    layout = _layout(page)
    directory = read_directory(data, page.offset, layout)
    fields = directory.fields
    record = bytes(fields[_IPTC].raw) if _IPTC in fields else None
    if record is None and _PHOTOSHOP in fields:
        record = read_resources(bytes(fields[_PHOTOSHOP].raw))[0]
    return Metadata(
        iptc=record,
        icc=bytes(fields[_ICC].raw) if _ICC in fields else None,
        exif=exif_from_tiff(directory, layout),
        xmp=bytes(fields[_XMP].raw) if _XMP in fields else None,
        dpi=_resolution(page),
    )


def _left_out(page: tifffile.TiffPage) -> list[str]:
    """Say what of a page does not go on."""
    notes = []
    if _LAYERS in page.tags:
        notes.append("Photoshop's layers left out")
    if page.tags.get(330) is not None:
        notes.append("further pictures within the page left out")
    return notes


def _resolution(page: tifffile.TiffPage) -> tuple[float, float] | None:
    inches = _INCHES.get(int(page.tags.valueof(296, 2)))
    values = [page.tags.valueof(tag) for tag in (282, 283)]
    if inches is None or not all(
        isinstance(value, tuple) and len(value) == 2 and value[1] for value in values
    ):
        return None
    x, y = (value[0] / value[1] * inches for value in values)
    return (x, y) if x > 0 and y > 0 else None


def _orientation(page: tifffile.TiffPage) -> int:
    value = page.tags.valueof(274, 1)
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def _bands(height: int, width: int) -> Iterator[slice]:
    step = max(1, BAND // width)
    yield from (slice(start, start + step) for start in range(0, height, step))


def _check_values(samples: Pixels, name: str) -> None:
    for band in _bands(*samples.shape[:2]):
        least, most = (float(edge) for edge in (samples[band].min(), samples[band].max()))
        if not np.isfinite([least, most]).all():
            raise InputError(f"{name}: holds NaN or infinite values; replace them first")
        if max(-least, most) > LARGEST:
            raise InputError(f"{name}: holds values beyond {LARGEST:g}, where white is 1; scale them first")

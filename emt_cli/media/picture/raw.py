"""Camera raw, developed by LibRaw with the camera's white balance to 16-bit sRGB."""

import contextlib
import io
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, BinaryIO

import numpy as np

from emt_cli.errors import InputError
from emt_cli.media.picture.formats import check_input
from emt_cli.media.picture.ifd import read_directory, read_header
from emt_cli.media.picture.metadata import Metadata, exif_from_tiff
from emt_cli.media.picture.pillow import open_image
from emt_cli.media.samples import Decoded

_SRGB_CURVE = (2.4, 12.92)
_ON_ITS_SIDE = 4
"""Bit of LibRaw's turns that swaps width and height."""


def read_raw_size(stream: BinaryIO, *, name: str) -> tuple[int, int]:
    """Return height and width of the developed picture."""
    stream.seek(0)
    with _opened(stream, name) as raw:
        return _size(raw)


def read_raw(data: bytes, *, name: str, max_pixels: int) -> Decoded:
    """Develop a raw file; InputError where LibRaw is not there or does not know it."""
    with _opened(io.BytesIO(data), name) as raw:
        height, width = _size(raw)
        check_input(name, height=height, width=width, max_pixels=max_pixels)
        pixels = raw.postprocess(use_camera_wb=True, output_bps=16, gamma=_SRGB_CURVE)
        exif = _exif(data, raw)
    notes = ("camera raw developed by LibRaw: camera's white balance, sRGB",)
    return Decoded(np.ascontiguousarray(pixels), None, False, Metadata(exif=exif), orientation=1, notes=notes)


@contextlib.contextmanager
def _opened(stream: BinaryIO, name: str) -> Iterator[Any]:
    if find_spec("rawpy") is None:
        raise InputError(
            f'{name}: camera raw or a preview only; pip install "emt-cli[raw]", or develop it to TIFF or PNG'
        )
    import rawpy

    try:
        with rawpy.imread(stream) as raw:
            yield raw
    except rawpy.LibRawError as error:
        reason = error.args[0].decode("ascii", "replace") if isinstance(error.args[0], bytes) else error
        raise InputError(
            f"{name}: no camera raw that can be developed ({reason}); develop it to TIFF or PNG"
        ) from error


def _size(raw: Any) -> tuple[int, int]:
    sizes = raw.sizes
    height, width = int(sizes.iheight), int(sizes.iwidth)
    return (width, height) if sizes.flip & _ON_ITS_SIDE else (height, width)


def _exif(data: bytes, raw: Any) -> bytes | None:
    """Return the EXIF of a file laid out as TIFF, else that of its preview."""
    import rawpy

    with contextlib.suppress(ValueError):
        layout, offset = read_header(data)
        return exif_from_tiff(read_directory(data, offset, layout), layout)
    with contextlib.suppress(rawpy.LibRawError, OSError):
        preview = raw.extract_thumb()
        if preview.format == rawpy.ThumbFormat.JPEG:
            with open_image(io.BytesIO(preview.data), "jpeg") as image:
                block = image.info.get("exif")
                return block.removeprefix(b"Exif\0\0") if block else None
    return None

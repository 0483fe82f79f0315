"""Samples to the bytes of a picture file: Pillow for WebP and AVIF; others have files of their own."""

import io
from typing import IO, Any

import numpy as np
from PIL import Image

from emt_cli.media.picture.avif_write import write_deep_avif
from emt_cli.media.picture.bmp import write_bmp
from emt_cli.media.picture.formats import PictureFormat
from emt_cli.media.picture.heif import write_heic
from emt_cli.media.picture.jpeg_write import FULL_COLOUR, write_jpeg
from emt_cli.media.picture.jxl import write_jxl
from emt_cli.media.picture.metadata import Metadata
from emt_cli.media.picture.png import write_png
from emt_cli.media.picture.tiff_write import write_tiff
from emt_cli.media.samples import BAND, Samples, bands_ahead

ENCODER_BYTES: dict[PictureFormat, int] = {"webp": 26, "avif": 46, "heic": 64, "jxl": 64}
"""Most bytes a pixel that encoders take beside the picture, measured; the others take some bands of rows."""
_BAND_BYTES = 7
"""Most bytes that a sample's byte takes in a band on its way, measured."""
_DEEP = ("png", "heic", "avif")


def stored_type(format: PictureFormat, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the sample type a format takes for one in memory: TIFF any, _DEEP to 16 bits, others 8."""
    if format == "tiff" or (format in _DEEP and dtype.itemsize <= 2):
        return dtype
    return np.dtype(np.uint16 if format in _DEEP else np.uint8)


def encoder_bytes(format: PictureFormat, pixels: int, itemsize: int) -> int:
    """Return the most bytes that writing a picture takes beside it; itemsize: of a sample in memory."""
    if format in ENCODER_BYTES:
        return ENCODER_BYTES[format] * pixels
    samples = min((bands_ahead() + 1) * BAND, 4 * pixels)
    return samples * _BAND_BYTES * min(itemsize, 2)


def encode(
    stream: IO[bytes], format: PictureFormat, samples: Samples, metadata: Metadata, *, quality: int
) -> tuple[str, ...]:
    """Write a whole file to a stream that can seek; return notes on metadata that the format cannot hold."""
    if format == "png":
        write_png(stream, samples, metadata)
        return ()
    if format == "jpeg":
        return write_jpeg(stream, samples, metadata, quality=quality)
    if format == "tiff":
        write_tiff(stream, samples, metadata)
        return ()
    if format == "bmp":
        write_bmp(stream, samples, metadata)
        left = [kind for kind in ("exif", "xmp", "iptc") if getattr(metadata, kind)]
        return (f"BMP holds no {', '.join(left).upper()}: left out",) if left else ()
    if format == "heic":
        write_heic(stream, samples, metadata, quality=quality)
        return ("HEIC holds no IPTC: left out",) if metadata.iptc else ()
    if format == "jxl":
        return write_jxl(stream, samples, metadata, quality=quality)
    if format == "avif" and samples.dtype.itemsize > 1:
        write_deep_avif(stream, samples, metadata, quality=quality)
        return ("AVIF holds no IPTC: left out",) if metadata.iptc else ()
    image = _pillow_image(samples)
    options, notes = _options(format, metadata, quality)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    stream.write(buffer.getbuffer())
    return notes


def _options(
    format: PictureFormat, metadata: Metadata, quality: int
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return Pillow's options for WebP and AVIF, and notes."""
    options: dict[str, Any] = {"quality": quality}
    if format == "avif":
        options["subsampling"] = "4:4:4" if quality >= FULL_COLOUR else "4:2:0"
    else:
        options |= {"lossless": quality == 100, "exact": quality == 100}
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    if metadata.exif:
        options["exif"] = b"Exif\0\0" + metadata.exif
    if metadata.xmp:
        options["xmp"] = metadata.xmp
    return options, (f"{format.upper()} holds no IPTC: left out",) if metadata.iptc else ()


def _pillow_image(samples: Samples) -> Image.Image:
    """Build Pillow's own copy band by band; it takes four bytes a pixel for colours."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[samples.channels]
    image = Image.new(mode, (samples.width, samples.height))
    for start, stop in samples.bands():
        rows = samples.rows(start, stop)
        image.paste(Image.fromarray(rows[..., 0] if samples.channels == 1 else rows), (0, start))
    return image

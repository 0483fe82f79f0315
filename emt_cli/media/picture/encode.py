"""Samples to the bytes of a picture file: Pillow for JPEG, WebP and AVIF; others have files of their own."""

import io
from typing import IO, Any

import numpy as np
from PIL import Image

from emt_cli.media.picture.avif_write import write_deep_avif
from emt_cli.media.picture.bmp import write_bmp
from emt_cli.media.picture.formats import PictureFormat
from emt_cli.media.picture.heif import write_heic
from emt_cli.media.picture.jpeg import extra_segments
from emt_cli.media.picture.jxl import write_jxl
from emt_cli.media.picture.metadata import Metadata
from emt_cli.media.picture.png import write_png
from emt_cli.media.picture.tiff_write import write_tiff
from emt_cli.media.picture.xmp import parted
from emt_cli.media.samples import Samples

# A JPEG segment holds 65533 bytes; EXIF and IPTC need a name in front and must fit into one.
_JPEG_EXIF = 65533 - 6
_JPEG_IPTC = 65533 - 40
_FULL_COLOUR = 90
ENCODER_BYTES: dict[PictureFormat, int] = {"jpeg": 7, "webp": 26, "avif": 46, "heic": 64, "jxl": 64}
"""Most bytes a pixel that encoders take beside the picture, measured; those not named here, about 4."""
_DEEP = ("png", "heic", "avif")


def stored_type(format: PictureFormat, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the sample type a format takes for one in memory: TIFF any, _DEEP to 16 bits, others 8."""
    if format == "tiff" or (format in _DEEP and dtype.itemsize <= 2):
        return dtype
    return np.dtype(np.uint16 if format in _DEEP else np.uint8)


def encode(
    stream: IO[bytes], format: PictureFormat, samples: Samples, metadata: Metadata, *, quality: int
) -> tuple[str, ...]:
    """Write a whole file to a stream that can seek; return notes on metadata that the format cannot hold."""
    if format == "png":
        write_png(stream, samples, metadata)
        return ()
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
    exif, xmp = metadata.exif, metadata.xmp
    notes: list[str] = []
    options: dict[str, Any] = {"quality": quality}
    if format == "jpeg":
        options["subsampling"] = "4:4:4" if quality >= _FULL_COLOUR else "4:2:0"
        if metadata.dpi:
            options["dpi"] = metadata.dpi
        if exif and len(exif) > _JPEG_EXIF:
            notes.append(f"EXIF of {len(exif)} bytes does not fit into JPEG: left out")
            exif = None
        xmp, extensions = parted(xmp) if xmp else (None, [])
        iptc = metadata.iptc
        if iptc and len(iptc) > _JPEG_IPTC:
            notes.append(f"IPTC of {len(iptc)} bytes does not fit into JPEG: left out")
            iptc = None
        options["extra"] = extra_segments(iptc, extensions)
    else:
        if metadata.iptc:
            notes.append(f"{format.upper()} holds no IPTC: left out")
        if format == "avif":
            options["subsampling"] = "4:4:4" if quality >= _FULL_COLOUR else "4:2:0"
        else:
            options |= {"lossless": quality == 100, "exact": quality == 100}
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    if exif:
        options["exif"] = b"Exif\0\0" + exif
    if xmp:
        options["xmp"] = xmp
    return options, tuple(notes)


def _pillow_image(samples: Samples) -> Image.Image:
    """Build Pillow's own copy band by band; it takes four bytes a pixel for colours."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[samples.channels]
    image = Image.new(mode, (samples.width, samples.height))
    for start, stop in samples.bands():
        rows = samples.rows(start, stop)
        image.paste(Image.fromarray(rows[..., 0] if samples.channels == 1 else rows), (0, start))
    return image

"""JPEG files out: strips of rows, compressed by libjpeg on several threads and joined at restart markers.

Strips hold whole blocks and begin anew where a restart marker stands (ITU-T T.81, E.1.4), so the samples are
those of a file written at once; but no second copy of the picture is needed.
"""

import io
from typing import IO, Any

from PIL import Image

from emt_cli.media.picture.jpeg import extra_segments
from emt_cli.media.picture.metadata import Metadata
from emt_cli.media.picture.xmp import parted
from emt_cli.media.samples import BAND, Pixels, Samples, in_order

FULL_COLOUR = 90
"""The least quality with full colour resolution."""
# A segment holds 65533 bytes; EXIF and IPTC need a name in front and must fit into one.
_EXIF, _IPTC = 65533 - 6, 65533 - 40
_FRAMES, _START_OF_SCAN, _END = (0xC0, 0xC1), 0xDA, b"\xff\xd9"
_RESTARTS, _LAST_RESTART = 8, b"\xff\xd7"
"""Markers count rows of blocks from 0 to 7: strips of a multiple of 8 are joined by the last of these."""


def write_jpeg(stream: IO[bytes], samples: Samples, metadata: Metadata, *, quality: int) -> tuple[str, ...]:
    """Write 8-bit gray or RGB; return notes on metadata that do not fit."""
    options: dict[str, Any] = {
        "quality": quality,
        "subsampling": "4:4:4" if quality >= FULL_COLOUR else "4:2:0",
    }
    first, notes = _metadata(metadata)
    block = 8 if quality >= FULL_COLOUR or samples.channels == 1 else 16
    unit = _RESTARTS * block
    step = unit * max(1, BAND // (samples.width * samples.channels * unit))
    strips = [(top, min(top + step, samples.height)) for top in range(0, samples.height, step)]
    if len(strips) > 1:
        options["restart_marker_rows"] = 1

    def compress(strip: tuple[int, int]) -> bytes:
        rows = samples.rows(*strip)
        if strip[0] > 0:
            return _compressed(rows, quality, across=-(-samples.width // block))
        buffer = io.BytesIO()
        image = Image.fromarray(rows[..., 0] if samples.channels == 1 else rows)
        image.save(buffer, "jpeg", **options, **first)
        return buffer.getvalue()

    for index, data in enumerate(in_order(compress, strips)):
        height_at, coded_at = _places(data)
        if index == 0:
            stream.write(data[:height_at] + samples.height.to_bytes(2, "big"))
            stream.write(data[height_at + 2 : coded_at])
        else:
            stream.write(_LAST_RESTART)
        stream.write(data[coded_at : -len(_END)])
    stream.write(_END)
    return notes


def _compressed(rows: Pixels, quality: int, *, across: int) -> bytes:
    """Return what Pillow makes of rows, without metadata, made by OpenCV: other threads may run meanwhile."""
    import cv2

    colours = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    if quality >= FULL_COLOUR:
        colours = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, quality),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, colours),
        *(cv2.IMWRITE_JPEG_RST_INTERVAL, across),
    ]
    picture = rows[..., 0] if rows.shape[2] == 1 else cv2.cvtColor(rows, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", picture, options)
    return data.tobytes()


def _places(data: bytes) -> tuple[int, int]:
    """Return where the frame's height and the coded data begin."""
    at, height_at = 2, 0
    while data[at + 1] != _START_OF_SCAN:
        if data[at + 1] in _FRAMES:
            height_at = at + 5
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return height_at, at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _metadata(metadata: Metadata) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return Pillow's options for what is kept, and notes on what is not."""
    exif, iptc, notes = metadata.exif, metadata.iptc, []
    if exif and len(exif) > _EXIF:
        notes.append(f"EXIF of {len(exif)} bytes does not fit into JPEG: left out")
        exif = None
    if iptc and len(iptc) > _IPTC:
        notes.append(f"IPTC of {len(iptc)} bytes does not fit into JPEG: left out")
        iptc = None
    xmp, extensions = parted(metadata.xmp) if metadata.xmp else (None, [])
    options: dict[str, Any] = {"extra": extra_segments(iptc, extensions)}
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    if exif:
        options["exif"] = b"Exif\0\0" + exif
    if xmp:
        options["xmp"] = xmp
    return options, tuple(notes)

"""TIFF files out: deflated strips, with all metadata; BigTIFF above 4 GB."""

import zlib
from typing import IO

import numpy as np

from emt_cli.media.picture.ifd import (
    LONG,
    LONG8,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Directory,
    Field,
    Layout,
    write_directory,
)
from emt_cli.media.picture.metadata import Metadata, tiff_from_exif
from emt_cli.media.samples import Samples, in_order

_CLASSIC_LIMIT = 4_000_000_000
"""Samples of more bytes than this go into BigTIFF, whose offsets have 8 bytes."""
_XMP, _IPTC, _ICC = 700, 33723, 34675
_DEFLATE = 8


def write_tiff(stream: IO[bytes], samples: Samples, metadata: Metadata) -> None:
    """Write 8-bit, 16-bit or float32 samples as deflated TIFF (BigTIFF above 4 GB) with their metadata."""
    directory, layout = tiff_from_exif(metadata.exif) if metadata.exif else (Directory(), Layout())
    bits = samples.dtype.itemsize * 8
    layout = Layout(
        layout.order, samples.height * samples.width * samples.channels * bits // 8 > _CLASSIC_LIMIT
    )
    bands = samples.bands()
    start = stream.tell()
    stream.write(bytes(16))
    offsets, counts = [], []
    for packed in in_order(lambda band: _deflated(samples, band, layout), bands):
        offsets.append(stream.tell() - start)
        counts.append(len(packed))
        stream.write(packed + b"\0" * (len(packed) % 2))
    fields = directory.fields
    long = LONG8 if layout.big else LONG

    def put(tag: int, kind: int, *values: int) -> None:
        code = {SHORT: "H", LONG: "I", LONG8: "Q", RATIONAL: "I"}[kind]
        count = len(values) // 2 if kind == RATIONAL else len(values)
        fields[tag] = Field(kind, count, layout.pack(f"{len(values)}{code}", *values))

    put(256, LONG, samples.width)
    put(257, LONG, samples.height)
    put(258, SHORT, *[bits] * samples.channels)
    put(259, SHORT, _DEFLATE)
    put(262, SHORT, 1 if samples.gray else 2)
    put(273, long, *offsets)
    put(274, SHORT, 1)
    put(277, SHORT, samples.channels)
    put(278, LONG, bands[0][1])
    put(279, long, *counts)
    for tag, dots in zip((282, 283), metadata.dpi or (), strict=False):
        put(tag, RATIONAL, round(dots * 10000), 10000)
    put(296, SHORT, 2 if metadata.dpi else 1)
    put(317, SHORT, 1 if samples.dtype.kind == "f" else 2)
    put(339, SHORT, *[3 if samples.dtype.kind == "f" else 1] * samples.channels)
    if samples.alpha is not None:
        put(338, SHORT, 2)
    if metadata.xmp:
        fields[_XMP] = Field(1, len(metadata.xmp), metadata.xmp)
    if metadata.iptc:
        fields[_IPTC] = Field(UNDEFINED, len(metadata.iptc), metadata.iptc)
    if metadata.icc:
        fields[_ICC] = Field(UNDEFINED, len(metadata.icc), metadata.icc)
    end = stream.tell()
    block, table = write_directory(directory, end - start, layout)
    stream.write(block)
    stream.seek(start)
    stream.write(b"II" if layout.order == "<" else b"MM")
    stream.write(layout.pack("HHHQ", 43, 8, 0, table) if layout.big else layout.pack("HI", 42, table))
    stream.seek(0, 2)


def _deflated(samples: Samples, band: tuple[int, int], layout: Layout) -> bytes:
    rows = samples.rows(*band)
    if samples.dtype.kind == "u":
        # Predictor 2: each sample less its left neighbour.
        rows = np.concatenate([rows[:, :1], rows[:, 1:] - rows[:, :-1]], axis=1)
    return zlib.compress(rows.astype(rows.dtype.newbyteorder(layout.order)).tobytes(), 3)

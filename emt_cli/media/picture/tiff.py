"""TIFF files: a reader for what Pillow cannot give whole (16 bits, float, tags), and a writer.

Plain and deflated samples are decoded here, in strips or tiles, together or by plane. Other compressions are
left to OpenCV and, for 8 bits and fewer with alpha or in other colour spaces, to Pillow; both bring libtiff.
"""

import itertools
import math
import zlib
from dataclasses import dataclass
from typing import IO, Any

import cv2
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
    chain,
    read_header,
    write_directory,
)
from emt_cli.media.picture.metadata import Metadata, exif_from_tiff, tiff_from_exif
from emt_cli.media.samples import Pixels, Samples, in_order

_CLASSIC_LIMIT = 4_000_000_000
"""Samples of more bytes than this go into BigTIFF, whose offsets have 8 bytes."""
_XMP, _ICC = 700, 34675
_PLAIN, _DEFLATE = 1, (8, 32946)
_KIND = {1: "u", 2: "i", 3: "f"}


@dataclass(frozen=True)
class TiffHead:
    """The tags of a TIFF file's first picture that say how its samples lie in the file."""

    layout: Layout
    directory: Directory
    frames: int

    def number(self, tag: int, default: int) -> int:
        """Return the first number of a tag."""
        return (self.numbers(tag) or (default,))[0]

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return all numbers of a tag as whole ones, none when it is absent."""
        field = self.directory.fields.get(tag)
        return tuple(int(n) for n in field.numbers(self.layout)) if field else ()

    @property
    def width(self) -> int:
        """Columns."""
        return self.number(256, 0)

    @property
    def height(self) -> int:
        """Rows."""
        return self.number(257, 0)

    @property
    def channels(self) -> int:
        """Samples of a pixel, extra ones with them."""
        return self.number(277, 1)

    @property
    def bits(self) -> int:
        """Bits of the deepest sample."""
        return max(self.numbers(258) or (1,))

    @property
    def photometric(self) -> int:
        """0 gray with white as zero, 1 gray, 2 RGB; others are colour spaces of their own."""
        return self.number(262, 1)

    @property
    def is_reduced(self) -> bool:
        """Whether the first picture is only a preview of another one, as in camera raw files."""
        return bool(self.number(254, 0) & 1) or 50706 in self.directory.fields

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The type of the samples, None when they are not whole numpy numbers or not all alike."""
        kinds, bits = set(self.numbers(339) or (1,)), set(self.numbers(258) or (1,))
        if len(kinds) != 1 or len(bits) != 1 or self.bits not in (8, 16, 32, 64):
            return None
        kind = _KIND.get(kinds.pop())
        if kind is None or (kind == "f" and self.bits == 8):
            return None
        return np.dtype(f"{self.layout.order}{kind}{self.bits // 8}")


def read_head(data: bytes | memoryview) -> TiffHead:
    """Return the tags of the first picture; ValueError for damaged or cut files."""
    layout, _ = read_header(data)
    directories = list(chain(data))
    if not directories:
        raise ValueError("it holds no picture")
    head = TiffHead(layout, directories[0], sum(not _is_preview(d, layout) for d in directories) or 1)
    _check_segments(head, len(data))
    return head


def read_metadata(head: TiffHead) -> Metadata:
    """Return profile, XMP, resolution and EXIF of the first picture."""
    fields = head.directory.fields
    return Metadata(
        icc=bytes(fields[_ICC].raw) if _ICC in fields else None,
        exif=exif_from_tiff(head.directory, head.layout),
        xmp=bytes(fields[_XMP].raw) if _XMP in fields else None,
        dpi=_resolution(head),
    )


def read_samples(data: bytes, head: TiffHead) -> Pixels | None:
    """Return gray or RGB samples, extra ones with them, as (h, w, channels) in the type of the file.

    None when they are neither: palettes, CMYK and the like, or less than a byte to a sample. ValueError for
    damaged data, and for kinds of compression that are not known.
    """
    if head.dtype is None or head.photometric not in (0, 1, 2):
        return None
    compression, predictor = head.number(259, 1), head.number(317, 1)
    if compression != _PLAIN and (compression not in _DEFLATE or predictor not in (1, 2, 3)):
        # OpenCV multiplies 8-bit colours by alpha; where it serves, it is quieter about damage than Pillow.
        return None if head.bits == 8 and head.channels not in (1, 3) else _read_with_libtiff(data, head)
    tiled = 322 in head.directory.fields
    down = head.number(323, 0) if tiled else min(head.number(278, head.height), head.height)
    across = head.number(322, 0) if tiled else head.width
    together = head.channels if head.number(284, 1) == 1 else 1
    if not (0 < down <= 1 << 20 and 0 < across <= 1 << 20):
        raise ValueError("its strips or tiles have no size")
    image = np.empty((head.height, head.width, head.channels), head.dtype.newbyteorder("="))
    offsets, counts = head.numbers(324 if tiled else 273), head.numbers(325 if tiled else 279)
    steps = range(0, head.channels, together), range(0, head.height, down), range(0, head.width, across)
    if math.prod(map(len, steps)) > min(len(offsets), len(counts)):
        raise ValueError("some of its strips or tiles are missing")
    for (plane, y, x), offset, count in zip(itertools.product(*steps), offsets, counts, strict=False):
        rows = down if tiled else min(down, head.height - y)
        segment = memoryview(data)[offset : offset + count]
        block = _decode_segment(segment, (rows, across, together), head, predictor)
        target = image[y : y + rows, x : x + across, plane : plane + together]
        target[...] = block[: target.shape[0], : target.shape[1]]
    return image


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
    put(259, SHORT, _DEFLATE[0])
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
    if metadata.icc:
        fields[_ICC] = Field(UNDEFINED, len(metadata.icc), metadata.icc)
    end = stream.tell()
    block, table = write_directory(directory, end - start, layout)
    stream.write(block)
    stream.seek(start)
    stream.write(b"II" if layout.order == "<" else b"MM")
    stream.write(layout.pack("HHHQ", 43, 8, 0, table) if layout.big else layout.pack("HI", 42, table))
    stream.seek(0, 2)


def _is_preview(directory: Directory, layout: Layout) -> bool:
    field = directory.fields.get(254)
    return bool(field and int(field.numbers(layout)[0]) & 1)


def _check_segments(head: TiffHead, size: int) -> None:
    """Raise ValueError when a strip or tile lies outside the file or is empty."""
    offsets = head.numbers(324) or head.numbers(273)
    counts = head.numbers(325) or head.numbers(279)
    if head.width < 1 or head.height < 1 or not offsets or (counts and len(counts) != len(offsets)):
        raise ValueError("its tags do not describe a picture")
    if any(offset + count > size or count == 0 for offset, count in zip(offsets, counts, strict=False)):
        raise ValueError("the file is cut short")


def _resolution(head: TiffHead) -> tuple[float, float] | None:
    fields, inches = head.directory.fields, {2: 1.0, 3: 2.54}.get(head.number(296, 2))
    if inches is None or 282 not in fields or 283 not in fields:
        return None
    x, y = (fields[tag].numbers(head.layout)[0] * inches for tag in (282, 283))
    return (x, y) if x > 0 and y > 0 else None


def _decode_segment(
    packed: memoryview, shape: tuple[int, int, int], head: TiffHead, predictor: int
) -> Pixels:
    """Return one strip or tile as (rows, columns, samples); at most its own size is ever inflated."""
    dtype = head.dtype
    assert dtype is not None
    size = math.prod(shape) * dtype.itemsize
    raw: bytes | memoryview = packed[:size]
    if head.number(259, 1) != _PLAIN:
        raw = zlib.decompressobj().decompress(packed, size)
    if len(raw) < size:
        raise ValueError("one of its strips or tiles is cut short")
    if predictor == 3 and dtype.kind == "f":
        # Rows of all first bytes, then all second ones and so on, each byte less the one a pixel before.
        lines = np.frombuffer(raw, np.uint8).reshape(shape[0], -1, shape[2])
        planes = np.add.accumulate(lines, axis=1, dtype=np.uint8).reshape(shape[0], dtype.itemsize, -1)
        values: Pixels = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(dtype.newbyteorder(">"))
        return values.reshape(shape)
    block = np.frombuffer(raw, dtype).reshape(shape)
    if predictor == 2:
        native = block.astype(dtype.newbyteorder("="), copy=False)
        return np.add.accumulate(native, axis=1, dtype=native.dtype)
    return block


def _read_with_libtiff(data: bytes, head: TiffHead) -> Pixels:
    if head.channels == 2 or head.channels > 4 or head.number(284, 1) != 1:
        raise ValueError("this arrangement of samples is only read plain or deflated; save it again so")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.shape[:2] != (head.height, head.width):
        raise ValueError("its compression is unknown or its data are damaged; save it again with deflate")
    if image.ndim == 2:
        return np.asarray(image[..., None])
    return np.asarray(image[..., [2, 1, 0, 3][: image.shape[2]]])


def _deflated(samples: Samples, band: tuple[int, int], layout: Layout) -> bytes:
    rows = samples.rows(*band)
    if samples.dtype.kind == "u":
        # Predictor 2: each sample less its left neighbour.
        rows = np.concatenate([rows[:, :1], rows[:, 1:] - rows[:, :-1]], axis=1)
    return zlib.compress(rows.astype(rows.dtype.newbyteorder(layout.order)).tobytes(), 3)

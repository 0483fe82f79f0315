"""Strips and tiles of a TIFF file to samples: each whole and in its place, or the file is refused.

tifffile reads the tags and imagecodecs decodes; what both would fill up or pass over is checked here.
"""

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from emt_cli.media.picture.formats import UnsupportedError
from emt_cli.media.picture.jpeg import check_part
from emt_cli.media.picture.jxl_head import jxl_size
from emt_cli.media.picture.webp import webp_size
from emt_cli.media.samples import BAND, Pixels, in_order

YCBCR = 6
JPEG = (7, 33007, 34892)
_PLAIN = 1
_FAX = (2, 3, 4)
_BYTES = (5, 8, 32946, 50013, 32773, 34925, 34926, 50000)
"""LZW, deflate, PackBits, LZMA, Zstandard: compressions of bytes, whatever they mean."""
_IMAGES = {
    33004: "j2k",
    33005: "j2k",
    34712: "j2k",
    34887: "lerc",
    34933: "png",
    34927: "webp",
    50001: "webp",
}
_IMAGES |= {50002: "jxl", 52546: "jxl"}
_COUNTS = (279, 325, 514)
_SPARE = 64
"""Rows and columns that a picture in a strip or tile may have more than its place: its blocks are whole."""
_MOST_SEGMENTS = 1 << 17
_MOST_SAMPLES = 16
_LARGE_TILE = 1 << 24
"""Pixels that a tile may have whatever the size of the picture."""
_OVERLAP, _SLACK = 4, 1 << 26
"""Segments may add up to so many times the file, and some more: programs store equal tiles once."""


def check_kind(page: tifffile.TiffPage) -> None:
    """Raise UnsupportedError for arrangements and compressions that are not read."""
    known = (_PLAIN, *_FAX, *_BYTES, *JPEG, *_IMAGES)
    if page.compression not in known:
        name = getattr(page.compression, "name", f"number {int(page.compression)}").replace("_", " ")
        raise UnsupportedError(f"TIFF with compression {name} is not read")
    if page.compression in JPEG and page.photometric == YCBCR and page.planarconfig != 1:
        raise UnsupportedError("TIFF with JPEG in planes of YCbCr is not read")
    if page.imagedepth > 1:
        raise UnsupportedError("TIFF with volumes is not read")
    if page.samplesperpixel > _MOST_SAMPLES:
        raise UnsupportedError(f"TIFF with {page.samplesperpixel} samples to a pixel is not read")
    if not isinstance(page.bitspersample, int) or page.dtype is None or page.dtype.kind not in "bufi":
        raise UnsupportedError(f"TIFF with samples of {page.bitspersample} bits of its kind is not read")
    if page.predictor not in (1, 2, 3) and page.compression in _BYTES:
        raise UnsupportedError(f"TIFF with predictor {int(page.predictor)} is not read")
    if page.bitspersample not in (8, 16, 32, 64) and page.predictor != 1:
        raise UnsupportedError(f"TIFF with a predictor for {page.bitspersample} bits is not read")
    # Of 24 bits, programs disagree about the order of bytes where the file's is not that of the bits.
    clear = page.bitspersample == 24 and page.parent.byteorder == ">"
    if page.dtype.kind == "u" and 16 < page.bitspersample < 32 and not clear:
        raise UnsupportedError(f"TIFF with samples of {page.bitspersample} bits is not read")


@dataclass(frozen=True)
class _Grid:
    """How a page is cut: rows and columns of its strips or tiles, and the samples of a pixel in each."""

    down: int
    across: int
    together: int
    places: tuple[range, range, range]
    """Of the segments in the order of the file: first sample, top row, left column."""

    @property
    def count(self) -> int:
        return math.prod(map(len, self.places))


def read_samples(data: bytes | memoryview, page: tifffile.TiffPage, wanted: Sequence[int]) -> Pixels:
    """Return the wanted samples of each pixel, (h, w, n), in the type that the file's unpack to.

    ValueError for what is damaged, cut short or missing.
    """
    grid, view = _grid(page), memoryview(data)
    offsets, counts = _places(page, grid, len(view))
    out = np.empty((page.imagelength, page.imagewidth, len(wanted)), page.dtype)
    if (whole := _uncut(page, grid, offsets, counts)) is not None:
        offsets, counts, grid = whole
    decode = _decoder(page, grid)
    tables = tuple(product(*grid.places))

    def place(indices: Sequence[int]) -> None:
        for index in indices:
            sample, y, x = tables[index]
            if grid.together == 1 and sample not in wanted and page.samplesperpixel > 1:
                continue
            rows, columns = min(grid.down, page.imagelength - y), min(grid.across, page.imagewidth - x)
            packed = view[int(offsets[index]) : int(offsets[index] + counts[index])]
            block = decode(packed, index, grid.down if page.is_tiled else rows)
            if block.shape[0] < rows or block.shape[1] < columns or block.dtype != out.dtype:
                raise ValueError("one of its strips or tiles is cut short")
            target = out[y : y + rows, x : x + columns]
            if grid.together == 1:
                target[..., wanted.index(sample)] = block[:rows, :columns, 0]
            elif block.shape[2] < page.samplesperpixel:
                raise ValueError("one of its strips or tiles has too few samples")
            else:
                for at, channel in enumerate(wanted):
                    target[..., at] = block[:rows, :columns, channel]

    group = max(1, BAND // (grid.down * grid.across * grid.together))
    for _ in in_order(place, _groups(grid.count, group)):
        pass
    return out


def _groups(count: int, size: int) -> Iterator[range]:
    yield from (range(start, min(start + size, count)) for start in range(0, count, size))


def _grid(page: tifffile.TiffPage) -> _Grid:
    tiled = page.is_tiled
    down = page.tilelength if tiled else min(page.rowsperstrip, page.imagelength)
    across = page.tilewidth if tiled else page.imagewidth
    if not (0 < down <= 1 << 20 and 0 < across <= 1 << 20):
        raise ValueError("its strips or tiles have no size")
    if tiled and down * across > max(_LARGE_TILE, 4 * page.imagelength * page.imagewidth):
        raise ValueError("its tiles are far larger than the picture")
    together = page.samplesperpixel if page.planarconfig == 1 else 1
    steps = (range(0, page.samplesperpixel, together), range(0, page.imagelength, down))
    return _Grid(down, across, together, (*steps, range(0, page.imagewidth, across)))


def _places(page: tifffile.TiffPage, grid: _Grid, size: int) -> tuple[Any, Any]:
    """Return offsets and byte counts of all segments, each within the file and none empty."""
    stated = any(tag in page.tags for tag in _COUNTS)
    if len(page.dataoffsets) < grid.count or (stated and len(page.databytecounts) < grid.count):
        raise ValueError("some of its strips or tiles are missing")
    offsets, counts = (
        np.fromiter(islice(numbers, grid.count), np.uint64, grid.count)
        for numbers in (page.dataoffsets, page.databytecounts if stated else page.dataoffsets)
    )
    if not stated:  # old programs leave it to be seen where the next one begins
        edges = np.append(np.unique(offsets), np.uint64(size))
        counts = np.maximum(edges[np.searchsorted(edges[:-1], offsets, "right")], offsets) - offsets
    ends = offsets + counts
    if (counts == 0).any() or (offsets == 0).any() or (ends > size).any() or (ends < offsets).any():
        raise ValueError("the file is cut short")
    if int(counts.sum()) > _OVERLAP * size + _SLACK:
        raise ValueError("its strips or tiles overlap without end")
    return offsets, counts


def _uncut(page: tifffile.TiffPage, grid: _Grid, offsets: Any, counts: Any) -> tuple[Any, Any, _Grid] | None:
    """Return plain strips that follow each other as one; many programs write one for each row."""
    if page.compression != _PLAIN or page.is_tiled or len(grid.places[0]) > 1 or _units(page) is not None:
        if grid.count > _MOST_SEGMENTS:
            raise UnsupportedError(f"TIFF in {grid.count} strips or tiles is not read")
        return None
    row = (page.imagewidth * grid.together * page.bitspersample + 7) // 8
    exact = counts[:-1] == row * grid.down
    if not exact.all() or not (offsets[1:] == offsets[:-1] + counts[:-1]).all():
        if grid.count > _MOST_SEGMENTS:
            raise UnsupportedError(f"TIFF in {grid.count} strips or tiles is not read")
        return None
    places = (grid.places[0], range(0, page.imagelength, page.imagelength), grid.places[2])
    one = _Grid(page.imagelength, grid.across, grid.together, places)
    return offsets[:1], np.array([counts.sum()], np.uint64), one


def _units(page: tifffile.TiffPage) -> tuple[int, int] | None:
    """Return columns and rows of pixels that share their chroma where they are stored together, else None."""
    if page.photometric != YCBCR or page.compression in JPEG or page.planarconfig != 1:
        return None
    across, down = page.subsampling or (2, 2)
    return None if (across, down) == (1, 1) else (int(across), int(down))


def _decoder(page: tifffile.TiffPage, grid: _Grid) -> Callable[[memoryview, int, int], Pixels]:
    """Return what makes (rows, columns, samples) of a segment's bytes, its number and its rows."""
    by_tifffile = page.decode if page.compression in (*JPEG, *_FAX) else None  # made here, not on a thread

    def decode(packed: memoryview, index: int, rows: int) -> Pixels:
        if by_tifffile and page.compression in JPEG:
            check_part(packed, grid.down + _SPARE, grid.across + _SPARE)
            block = by_tifffile(bytes(packed), index, jpegtables=page.jpegtables)[0]
        elif by_tifffile:
            block = by_tifffile(bytes(packed), index)[0]
        elif page.compression in _IMAGES:
            return _image(page, packed, grid)
        else:
            return _bytes(page, packed, (rows, grid.across, grid.together), grid.down)
        if block is None:
            raise ValueError("one of its strips or tiles is empty")
        return np.asarray(block[0].astype(page.dtype, copy=False))

    return decode


def _image(page: tifffile.TiffPage, packed: memoryview, grid: _Grid) -> Pixels:
    """Decode a segment that is a picture file by itself, if it is about as large as its place."""
    kind = _IMAGES[page.compression]
    height, width = _declared(kind, packed)
    if height > grid.down + _SPARE or width > grid.across + _SPARE:
        raise ValueError("one of its strips or tiles declares another size")
    if kind == "webp":
        block = imagecodecs.webp_decode(bytes(packed), hasalpha=page.samplesperpixel == 4)
    else:
        block = tifffile.TIFF.DECOMPRESSORS[page.compression](packed)
    return np.atleast_3d(np.asarray(block))


def _declared(kind: str, packed: memoryview) -> tuple[int, int]:
    """Return height and width of a picture in a segment, from its first bytes."""
    head = bytes(packed[:256])
    if kind == "png":
        width, height = struct.unpack_from(">II", head, 16)
    elif kind == "j2k":
        at = head.index(b"\xff\x4f\xff\x51")
        right, bottom, left, top = struct.unpack_from(">4I", head, at + 8)
        width, height = right - left, bottom - top
    elif kind == "lerc":
        version = struct.unpack_from("<i", head, 6)[0]
        height, width = struct.unpack_from("<ii", head, 14 if version >= 3 else 10)
    elif kind == "webp":
        height, width = webp_size(head)
    else:
        height, width = jxl_size(packed)
    return height, width


def _bytes(
    page: tifffile.TiffPage, packed: memoryview, shape: tuple[int, int, int], most_rows: int
) -> Pixels:
    """Decode a segment of bytes; some programs fill the last strip up to the rows of the others."""
    rows, across, samples = shape
    units = _units(page)
    row = (across * samples * page.bitspersample + 7) // 8
    if units is not None:
        row = -(-across // units[0]) * (units[0] * units[1] + 2)
        rows, most_rows = -(-rows // units[1]), -(-most_rows // units[1])
    raw: Any = packed
    if page.fillorder == 2:
        raw = imagecodecs.bitorder_decode(bytes(raw))
    if page.compression != _PLAIN:
        raw = tifffile.TIFF.DECOMPRESSORS[page.compression](raw, out=row * most_rows + 1024)
    if len(raw) < row * rows:
        raise ValueError("one of its strips or tiles is cut short")
    raw = memoryview(raw)[: row * rows]
    if units is not None:
        return _spread(np.frombuffer(raw, np.uint8).reshape(rows, -1, units[0] * units[1] + 2), units, across)
    return _unpacked(page, raw, shape)


def _unpacked(page: tifffile.TiffPage, raw: memoryview, shape: tuple[int, int, int]) -> Pixels:
    """Return the numbers that bytes stand for, and undo the predictor."""
    bits, dtype = page.bitspersample, page.dtype
    assert dtype is not None
    order = page.parent.byteorder
    predictor = page.predictor
    if bits == 24 and dtype.kind == "f":
        block = imagecodecs.float24_decode(bytes(raw), byteorder=order).reshape(shape)
    elif bits not in (8, 16, 32, 64):
        block = imagecodecs.packints_decode(bytes(raw), dtype, bits, runlen=shape[1] * shape[2])
        block = block.reshape(shape)
    elif predictor == 3:
        if dtype.kind != "f":
            raise ValueError("its predictor is one for floats")
        block = imagecodecs.floatpred_decode(np.frombuffer(raw, dtype).reshape(shape), axis=-2)
    else:
        block = np.frombuffer(raw, dtype.newbyteorder(order)).reshape(shape)
        block = block.astype(dtype, copy=False)
        if predictor == 2:
            block = imagecodecs.delta_decode(block, axis=-2)
    return np.asarray(block)


def _spread(blocks: Pixels, units: tuple[int, int], across: int) -> Pixels:
    """Return (rows, columns, 3) of blocks (rows, columns, n): a block's luma by rows, then its Cb and Cr."""
    wide, high = units
    down, count = blocks.shape[:2]
    out = np.empty((down * high, count * wide, 3), np.uint8)
    luma = blocks[..., : wide * high].reshape(down, count, high, wide)
    out[..., 0] = luma.transpose(0, 2, 1, 3).reshape(down * high, count * wide)
    out[..., 1:] = blocks[..., -2:].repeat(high, axis=0).repeat(wide, axis=1)
    return out[:, :across]

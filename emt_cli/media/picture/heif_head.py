"""What HEIC and AVIF files declare of their main picture, read from the boxes (ISO/IEC 23008-12)."""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

_MOST_BOXES = 100_000
_SWAPPED = (1, 3)
"""Quarter turns that swap width and height."""


@dataclass(frozen=True)
class HeifHead:
    """What is declared of the main picture."""

    height: int
    """Rows as shown, after turns."""
    width: int
    bits: int
    gray: bool
    alpha: bool
    colours: tuple[int, int] | None
    """Primaries and transfer by their numbers in ITU-T H.273, where they are stated."""
    gain_map: bool
    coded: tuple[int, int]
    """Width and height of what is decoded, before anything is cut off."""


@dataclass
class _Properties:
    """What belongs to one item."""

    size: tuple[int, int] | None = None
    bits: int = 8
    channels: int = 3
    turns: int = 0
    cut: tuple[int, int] | None = None
    colours: tuple[int, int] | None = None
    kind: bytes = b""


@dataclass
class _Meta:
    """The tables of a file."""

    primary: int = 0
    properties: list[tuple[bytes, memoryview]] = field(default_factory=list)
    owners: dict[int, list[int]] = field(default_factory=dict)
    auxiliary: list[int] = field(default_factory=list)
    kinds: dict[int, bytes] = field(default_factory=dict)


def read_heif_head(data: bytes | memoryview | mmap.mmap, *, cut: bool) -> HeifHead:
    """Read the main picture's properties; ValueError for damaged ones.

    cut: whether the part that a file says is to be shown counts (libheif does so, libavif leaves it).
    """
    view = memoryview(data)
    meta = next((body for kind, body in _boxes(view) if kind == b"meta"), None)
    if meta is None:
        raise ValueError("it holds no picture")
    tables = _tables(meta[4:])
    main = _described(tables, tables.primary)
    if main.size is None:
        raise ValueError("its size is nowhere stated")
    width, height = (cut and main.cut) or main.size
    if main.turns in _SWAPPED:
        width, height = height, width
    auxiliary = [_described(tables, item).kind for item in tables.auxiliary]
    alpha = any(kind.endswith((b":auxid:1", b":alpha")) for kind in auxiliary)
    gain_map = any(b"hdrgainmap" in kind.lower() for kind in auxiliary) or b"tmap" in tables.kinds.values()
    return HeifHead(height, width, main.bits, main.channels == 1, alpha, main.colours, gain_map, main.size)


def _boxes(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield name and content of each box."""
    at = 0
    for _ in range(_MOST_BOXES):
        if at + 8 > len(view):
            return
        size, kind = struct.unpack_from(">I4s", view, at)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", view, at + 8)[0], 16
        end = len(view) if size == 0 else at + size
        if end < at + head or end > len(view):
            raise ValueError("the file is cut short")
        yield kind, view[at + head : end]
        at = end


def _tables(meta: memoryview) -> _Meta:
    tables = _Meta()
    for kind, body in _boxes(meta):
        if kind == b"pitm":
            tables.primary = struct.unpack_from(">I" if body[0] else ">H", body, 4)[0]
        elif kind == b"iref":
            _read_references(body, tables)
        elif kind == b"iinf":
            _read_kinds(body, tables)
        elif kind == b"iprp":
            for part, content in _boxes(body):
                if part == b"ipco":
                    tables.properties += _boxes(content)
                elif part == b"ipma":
                    _read_owners(content, tables)
    return tables


def _read_kinds(body: memoryview, tables: _Meta) -> None:
    for kind, entry in _boxes(body[8 if body[0] else 6 :]):
        if kind == b"infe" and entry[0] >= 2:
            wide = entry[0] > 2
            item = struct.unpack_from(">I" if wide else ">H", entry, 4)[0]
            tables.kinds[item] = bytes(entry[10:14] if wide else entry[8:12])


def _read_references(body: memoryview, tables: _Meta) -> None:
    code = ">I" if body[0] else ">H"
    for kind, content in _boxes(body[4:]):
        source = struct.unpack_from(code, content)[0]
        size = struct.calcsize(code)
        count = struct.unpack_from(">H", content, size)[0]
        targets = [struct.unpack_from(code, content, size + 2 + size * n)[0] for n in range(count)]
        if kind == b"auxl" and tables.primary in targets:
            tables.auxiliary.append(source)


def _read_owners(body: memoryview, tables: _Meta) -> None:
    wide_item, wide_index = body[0] > 0, body[3] & 1
    count, at = struct.unpack_from(">I", body, 4)[0], 8
    for _ in range(min(count, len(body))):
        item = struct.unpack_from(">I" if wide_item else ">H", body, at)[0]
        at += 4 if wide_item else 2
        number = body[at]
        at += 1
        step = 2 if wide_index else 1
        indices = [int.from_bytes(body[at + step * n : at + step * n + step], "big") for n in range(number)]
        at += step * number
        tables.owners[item] = [index & (0x7FFF if wide_index else 0x7F) for index in indices]


def _described(tables: _Meta, item: int) -> _Properties:
    found = _Properties()
    own = [tables.properties[n - 1] for n in tables.owners.get(item, []) if 0 < n <= len(tables.properties)]
    for kind, body in sorted(own, key=lambda part: part[0] == b"pixi"):
        if kind == b"ispe":
            found.size = struct.unpack_from(">II", body, 4)
        elif kind == b"pixi":
            found.channels, found.bits = body[4], max(body[5 : 5 + body[4]], default=8)
        elif kind == b"av1C":  # pixi may be missing
            high, twelve, gray = body[2] >> 6 & 1, body[2] >> 5 & 1, body[2] >> 4 & 1
            found.bits, found.channels = 8 + 2 * high + 2 * twelve, 1 if gray else 3
        elif kind == b"hvcC":
            found.bits, found.channels = 8 + (body[17] & 7), 3 if body[16] & 3 else 1
        elif kind == b"irot":
            found.turns = body[0] & 3
        elif kind == b"clap":
            wide, low_wide, high, low_high = struct.unpack_from(">4I", body)
            found.cut = (wide // max(low_wide, 1), high // max(low_high, 1))
        elif kind == b"colr" and bytes(body[:4]) == b"nclx":
            found.colours = struct.unpack_from(">HH", body, 4)
        elif kind == b"auxC":
            found.kind = bytes(body[4:]).split(b"\0")[0]
    return found

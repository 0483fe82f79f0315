"""Image file directories, the tables of tags in TIFF files and EXIF blocks (TIFF 6.0, section 2)."""

import struct
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

EXIF_POINTER = 0x8769
GPS_POINTER = 0x8825
INTEROP_POINTER = 0xA005
_POINTERS = (EXIF_POINTER, GPS_POINTER, INTEROP_POINTER)

MOST_PICTURES = 100_000
"""Directories of a TIFF file that are counted."""
_OVERLAP, _SLACK = 2, 1 << 16
"""Tables and values may add up to so many times the data, and some more: values are shared now and then."""
_SUBFILE_TYPE = 254

ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 2, 3, 4, 5, 7, 16
_SIZE = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_CODE = {1: "B", 3: "H", 4: "I", 5: "I", 6: "b", 7: "B", 8: "h", 9: "i", 10: "i"}
_CODE |= {11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"}


@dataclass(frozen=True)
class Layout:
    """How numbers are stored: the byte order and, for BigTIFF, 8-byte offsets."""

    order: Literal["<", ">"] = "<"
    big: bool = False

    def pack(self, code: str, *numbers: float) -> bytes:
        """Pack numbers of one struct code each in this byte order."""
        return struct.pack(f"{self.order}{code}", *numbers)

    def unpack(self, code: str, data: bytes | memoryview, at: int = 0) -> tuple[int, ...]:
        """Unpack numbers in this byte order; ValueError when they lie outside the data."""
        try:
            return struct.unpack_from(f"{self.order}{code}", data, at)
        except struct.error as error:
            raise ValueError("its tags point outside the data") from error


@dataclass(frozen=True)
class Field:
    """One tag's value as stored, and where it stood in the data it was read from."""

    kind: int
    count: int
    raw: bytes | memoryview
    at: int = 0

    def numbers(self, layout: Layout) -> tuple[float, ...]:
        """Return the value as numbers; a rational becomes its quotient, x/0 becomes 0."""
        code = _CODE.get(self.kind)
        if code is None:
            return ()
        rational = self.kind in (5, 10)
        flat = layout.unpack(f"{self.count * (2 if rational else 1)}{code}", self.raw)
        return tuple(n / d if d else 0.0 for n, d in zip(*[iter(flat)] * 2)) if rational else flat  # noqa: B905


@dataclass
class Directory:
    """The fields of one directory and the directories its pointer tags (EXIF, GPS, Interop) lead to."""

    fields: dict[int, Field] = field(default_factory=dict)
    children: dict[int, "Directory"] = field(default_factory=dict)
    following: int = 0
    """Offset of the next directory in the chain, 0 for none."""
    following_at: int = 0
    """Where that offset itself is stored."""


def read_header(data: bytes | memoryview) -> tuple[Layout, int]:
    """Return the layout and the offset of the first directory; ValueError for anything but (Big)TIFF."""
    order: Literal["<", ">"] = "<" if bytes(data[:2]) == b"II" else ">"
    layout = Layout(order)
    magic = layout.unpack("H", data, 2)[0]
    if bytes(data[:2]) not in (b"II", b"MM") or magic not in (42, 43):
        raise ValueError("it does not begin like TIFF")
    if magic == 42:
        return layout, layout.unpack("I", data, 4)[0]
    return Layout(order, big=True), layout.unpack("Q", data, 8)[0]


def read_directory(data: bytes | memoryview, offset: int, layout: Layout) -> Directory:
    """Read the directory at an offset, its EXIF, GPS and Interop directories with it.

    A single field that points outside the data is left out; ValueError when the table itself does, and when
    tables and values overlap so much that they would add up to far more than the data.
    """
    return _read(memoryview(data), offset, layout, _Budget(_OVERLAP * len(data) + _SLACK), depth=0)


@dataclass
class _Budget:
    """Bytes of tables and values that may still be read."""

    left: int

    def spend(self, size: int) -> None:
        """Take some; ValueError when there are no more."""
        self.left -= size
        if self.left < 0:
            raise ValueError("its tags overlap without end")


def _read(view: memoryview, offset: int, layout: Layout, budget: _Budget, *, depth: int) -> Directory:
    directory = Directory()
    counter, code, step, inline = ("Q", "HHQ", 20, 8) if layout.big else ("H", "HHI", 12, 4)
    count = layout.unpack(counter, view, offset)[0]
    start = offset + struct.calcsize("<" + counter)
    directory.following_at = start + count * step
    directory.following = layout.unpack("Q" if layout.big else "I", view, directory.following_at)[0]
    budget.spend(count * step)
    for at in range(start, directory.following_at, step):
        tag, kind, length = layout.unpack(code, view, at)
        size = _SIZE.get(kind, 0) * length
        value_at = at + step - inline
        if size > inline:
            value_at = layout.unpack("Q" if layout.big else "I", view, value_at)[0]
        if size == 0 or value_at + size > len(view):
            continue
        budget.spend(size)
        value = Field(kind, length, view[value_at : value_at + size], value_at)
        directory.fields[tag] = value
        if tag in _POINTERS and depth < 2 and length == 1:
            target = int(value.numbers(layout)[0])
            try:
                directory.children[tag] = _read(view, target, layout, budget, depth=depth + 1)
            except ValueError:
                if budget.left < 0:
                    raise
                del directory.fields[tag]
    return directory


def count_pictures(data: bytes | memoryview) -> int:
    """Count the pictures in a TIFF file's chain of directories that are no previews of others.

    Each directory counts once, even if the chain bites its tail; a chain whose directories overlap, or one of
    more than MOST_PICTURES, is counted no further.
    """
    layout, offset = read_header(data)
    counter, step, width = ("Q", 20, 8) if layout.big else ("H", 12, 4)
    order, kind = layout.order, "u8" if layout.big else "u4"
    entry = np.dtype(
        [("tag", f"{order}u2"), ("kind", f"{order}u2"), ("count", f"{order}{kind}"), ("value", f"V{width}")]
    )
    view, seen, pictures, budget = memoryview(data), set[int](), 0, _Budget(len(data))
    while offset and offset not in seen and len(seen) < MOST_PICTURES:
        seen.add(offset)
        try:
            count = layout.unpack(counter, view, offset)[0]
            start = offset + struct.calcsize("<" + counter)
            offset = layout.unpack("Q" if layout.big else "I", view, start + count * step)[0]
            budget.spend(count * step)
        except ValueError:
            break
        table = np.frombuffer(view, entry, count, start)
        subfile = table["value"][table["tag"] == _SUBFILE_TYPE]
        flags = layout.unpack("I", subfile[0].tobytes())[0] if len(subfile) else 0
        pictures += not flags & 1
    return pictures or 1


def write_directory(directory: Directory, at: int, layout: Layout) -> tuple[bytes, int]:
    """Return the bytes of a directory and its children for a place in a file, and the offset of its table."""
    block = bytearray()
    fields = {tag: value for tag, value in directory.fields.items() if tag not in _POINTERS}
    for tag, child in directory.children.items():
        part, where = write_directory(child, at + len(block), layout)
        block += part
        fields[tag] = Field(LONG8 if layout.big else LONG, 1, layout.pack("Q" if layout.big else "I", where))
    counter, code, inline = ("Q", "HHQ", 8) if layout.big else ("H", "HHI", 4)
    table = bytearray(layout.pack(counter, len(fields)))
    for tag, value in sorted(fields.items()):
        raw = bytes(value.raw)
        table += layout.pack(code, tag, value.kind, value.count)
        if len(raw) > inline:
            table += layout.pack("Q" if layout.big else "I", at + len(block))
            block += raw + b"\0" * (len(raw) % 2)
        else:
            table += raw.ljust(inline, b"\0")
    table += b"\0" * inline
    return bytes(block + table), at + len(block)

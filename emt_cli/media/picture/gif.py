"""GIF files block by block, without a pixel decoded (GIF89a specification)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_SCREEN = 6
"""Bytes before what the file says of the whole picture."""


@dataclass(frozen=True)
class Outline:
    """What a GIF's blocks tell of its pictures."""

    height: int
    width: int
    """Of the screen, widened to hold all pictures: a place and a size of 16 bits can say anything."""
    ends: bool
    """Whether it has its end mark; without one nothing tells how many more pictures there were."""


def read_outline(stream: BinaryIO) -> Outline:
    """Return what all blocks of a GIF tell; struct.error for a file cut short before them."""
    stream.seek(_SCREEN)
    width, height = struct.unpack("<HH", stream.read(4))
    ends = False
    for kind, body, _ in _blocks(stream):
        ends = kind == b";"
        if kind == b",":
            left, top, w, h = struct.unpack_from("<HHHH", body)
            width, height = max(width, left + w), max(height, top + h)
    return Outline(height, width, ends)


def first_image_bytes(stream: BinaryIO) -> int:
    """Return how many bytes the first picture's compressed pixels take; of a cut file, those that are there.

    struct.error for a file cut short before its blocks.
    """
    return next((size for kind, _, size in _blocks(stream) if kind == b","), 0)


def _blocks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield blocks up to the end mark: kind (, picture, ! extension, ; end), fixed part, bytes of data."""
    stream.seek(_SCREEN)
    _pass_colours(stream, struct.unpack_from("B", stream.read(7), 4)[0])
    while kind := stream.read(1):
        if kind == b";":
            yield kind, b"", 0
            return
        if kind == b",":
            body = stream.read(9)
            if len(body) < 9:
                return
            _pass_colours(stream, body[8])
            stream.seek(1, 1)  # how many bits a code has
            yield kind, body, _pass_data(stream)
        elif kind == b"!":
            yield kind, stream.read(1), _pass_data(stream)


def _pass_colours(stream: BinaryIO, flags: int) -> None:
    stream.seek(3 << (flags & 7) + 1 if flags & 0x80 else 0, 1)


def _pass_data(stream: BinaryIO) -> int:
    """Pass over parts up to the empty one; return their bytes."""
    total = 0
    while (size := stream.read(1)) not in (b"\0", b""):
        stream.seek(size[0], 1)
        total += size[0]
    return total

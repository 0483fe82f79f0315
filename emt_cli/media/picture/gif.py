"""GIF files block by block, up to the end of their first picture."""

import struct
from typing import BinaryIO

_HEAD = 13


def first_image_bytes(stream: BinaryIO) -> int:
    """Return how many bytes the first picture's compressed pixels take; of a cut file, those that are there.

    struct.error for a file cut short before them.
    """
    stream.seek(0)
    (flags,) = struct.unpack_from("B", stream.read(_HEAD), 10)
    stream.seek(colour_bytes(flags), 1)
    while (kind := stream.read(1)) not in (b";", b""):
        if kind == b",":
            (flags,) = struct.unpack_from("B", stream.read(9), 8)
            stream.seek(colour_bytes(flags) + 1, 1)  # the table, and how many bits a code has
            return _blocks(stream)
        if kind == b"!":
            stream.seek(1, 1)
            _blocks(stream)
    return 0


def colour_bytes(flags: int) -> int:
    """Return the bytes of the table of colours that flags tell of."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks(stream: BinaryIO) -> int:
    """Pass over blocks up to the empty one; return their bytes."""
    total = 0
    while (size := stream.read(1)) not in (b"\0", b""):
        stream.seek(size[0], 1)
        total += size[0]
    return total

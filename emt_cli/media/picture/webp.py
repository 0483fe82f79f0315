"""WebP files chunk by chunk: what they declare, before anything is decoded (RFC 9649)."""

import struct
from collections.abc import Iterator

_MOST_CHUNKS = 100_000
_LARGEST_CANVAS = 64
"""Times the area of the largest frame; decoders take memory for the whole canvas."""
_ANIMATED = 2


def webp_size(data: bytes | memoryview) -> tuple[int, int]:
    """Return height and width that a WebP file declares; struct.error for a cut one."""
    kind = bytes(data[12:16])
    if kind == b"VP8X":
        return _three_bytes(data, 27), _three_bytes(data, 24)
    return _frame_size(kind, data, 20)


def check_webp(data: bytes) -> None:
    """Raise ValueError for a file that is cut short, or whose canvas is not that of its pictures."""
    if len(data) < struct.unpack_from("<I", data, 4)[0] + 8:
        raise ValueError("the file is cut short")
    if data[12:16] != b"VP8X":
        return
    height, width = webp_size(data)
    animated = data[20] & _ANIMATED
    largest = 0
    for kind, at in _chunks(data):
        if animated and kind == b"ANMF":
            largest = max(largest, _three_bytes(data, at + 6) * _three_bytes(data, at + 9))
        elif not animated and kind in (b"VP8 ", b"VP8L"):
            largest = height * width if _frame_size(kind, data, at) == (height, width) else 0
            break
    if largest == 0 or height * width > _LARGEST_CANVAS * largest:
        raise ValueError(f"it declares {width}x{height} around a smaller picture")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield name and place of what each chunk holds."""
    at = 12
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            return
        kind, size = struct.unpack_from("<4sI", data, at)
        yield kind, at + 8
        at += 8 + size + size % 2


def _three_bytes(data: bytes | memoryview, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little") + 1


def _frame_size(kind: bytes, data: bytes | memoryview, at: int) -> tuple[int, int]:
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, at + 1)[0]
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, at + 6)
    return height & 0x3FFF, width & 0x3FFF

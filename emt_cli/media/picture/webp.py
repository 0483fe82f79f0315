"""The size of a WebP picture, of its canvas and of what lies on it."""

import struct


def webp_size(data: bytes | memoryview) -> tuple[int, int]:
    """Return height and width that a WebP file declares (RFC 9649); struct.error for a cut one."""
    kind = bytes(data[12:16])
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return height, width
    return _frame_size(kind, data, 20)


def _frame_size(kind: bytes, data: bytes | memoryview, at: int) -> tuple[int, int]:
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, at + 1)[0]
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, at + 6)
    return height & 0x3FFF, width & 0x3FFF

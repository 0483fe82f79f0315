"""How coarsely a lossy WebP was quantised, told by the head of its VP8 frame (RFC 6386, 9 and 19.2)."""

from __future__ import annotations

from typing import BinaryIO

_HEAD = 4096
"""Bytes of a frame in which its head ends, by far."""
_PLACE = 16
_TAG = 10
"""Bytes before the head: of the frame, start code and size."""


def webp_quantizer(stream: BinaryIO, size: int) -> float | None:
    """Return the quantiser index of an average block, 0 (fine) to 127; None for a damaged or lossless frame.

    The stream stands at a frame of size bytes, as first_frame() leaves it. Blocks belong to up to four
    segments of an index each; how often they do is told by their probabilities.
    """
    frame = stream.read(min(size, _HEAD))
    if len(frame) <= _TAG or frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a":
        return None
    bits = _Bits(frame[_TAG:])
    bits.number(2)  # colour space, clamping
    absolute, indices, shares = False, [0] * 4, [1.0, 0.0, 0.0, 0.0]
    segmented = bits.flag()
    if segmented:
        mapped = bits.flag()
        if bits.flag():
            absolute = bits.flag()
            indices = [bits.signed(7) for _ in range(4)]
            for _ in range(4):
                bits.signed(6)  # strength of the loop filter
        if mapped:
            first, left, right = ((bits.number(8) if bits.flag() else 255) / 255 for _ in range(3))
            shares = [first * left, first * (1 - left), (1 - first) * right, (1 - first) * (1 - right)]
    bits.number(1 + 6 + 3)  # loop filter: kind, strength, sharpness
    if bits.flag() and bits.flag():
        for _ in range(8):
            bits.signed(6)  # its changes by reference and mode
    bits.number(2)  # partitions
    base = bits.number(7) * (not absolute)
    return sum(share * min(127, max(0, base + index)) for share, index in zip(shares, indices, strict=True))


def first_frame(stream: BinaryIO) -> tuple[bytes, int]:
    """Go to a WebP's first frame; return its kind, VP8 (lossy) or VP8L, and its bytes; or b"" and 0."""
    stream.seek(12)
    while len(head := stream.read(8)) == 8:
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name, size
        # A moving picture's frames lie in chunks of their own, behind place and duration.
        stream.seek(_PLACE if name == b"ANMF" else size + size % 2, 1)
    return b"", 0


class _Bits:
    """The boolean decoder of RFC 6386, 7; zeros follow the end."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)
        self._value = next(self._data, 0) << 8 | next(self._data, 0)
        self._range, self._shifted = 255, 0

    def flag(self, probability: int = 128) -> bool:
        split = 1 + ((self._range - 1) * probability >> 8)
        found = self._value >= split << 8
        if found:
            self._range -= split
            self._value -= split << 8
        else:
            self._range = split
        while self._range < 128:
            self._value <<= 1
            self._range <<= 1
            self._shifted += 1
            if self._shifted == 8:
                self._shifted = 0
                self._value |= next(self._data, 0)
        return found

    def number(self, bits: int) -> int:
        value = 0
        for _ in range(bits):
            value = value << 1 | self.flag()
        return value

    def signed(self, bits: int) -> int:
        """Read a number that may be left out, then its sign."""
        if not self.flag():
            return 0
        value = self.number(bits)
        return -value if self.flag() else value

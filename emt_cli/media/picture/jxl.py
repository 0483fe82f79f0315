"""JPEG XL: what the head of a file says (ISO/IEC 18181-1, annex D)."""

from dataclasses import dataclass

_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def jxl_size(codestream: bytes | memoryview) -> tuple[int, int]:
    """Return height and width that a codestream declares; ValueError for anything else."""
    if bytes(codestream[:2]) != b"\xff\x0a":
        raise ValueError("it does not begin like JPEG XL")
    bits = _Bits(int.from_bytes(codestream[2:16], "little"))
    small = bits.take(1)
    height = _side(bits, small)
    ratio = bits.take(3)
    if ratio:
        upper, lower = _RATIOS[ratio]
        return height, height * upper // lower
    return height, _side(bits, small)


@dataclass
class _Bits:
    """Numbers of some bits each, the lowest first."""

    left: int

    def take(self, count: int) -> int:
        value = self.left & ((1 << count) - 1)
        self.left >>= count
        return value


def _side(bits: _Bits, small: int) -> int:
    if small:
        return (bits.take(5) + 1) * 8
    return bits.take((9, 13, 18, 30)[bits.take(2)]) + 1

"""What the head of a JPEG XL file says (ISO/IEC 18181-1, annexes D and E), and its boxes (18181-2)."""

import struct
from dataclasses import dataclass

CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_MOST_BOXES = 100_000
_SIDE = ((9, 1), (13, 1), (18, 1), (30, 1))
_ENUM = ((0, 0), (0, 1), (4, 2), (6, 18))
_WHOLE_BITS, _FLOAT_BITS = ((0, 8), (0, 10), (0, 12), (6, 1)), ((0, 32), (0, 16), (0, 24), (6, 1))
_COORDINATE = ((19, 0), (19, 524288), (20, 1048576), (21, 2097152))
_GRAY, _XYB = 1, 2
_CUSTOM, _D65 = 2, 1
_WHITES = {1: (0.3127, 0.329), 10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}
_PRIMARIES = {
    1: [0.64, 0.33, 0.3, 0.6, 0.15, 0.06],
    9: [0.708, 0.292, 0.17, 0.797, 0.131, 0.046],
    11: [0.68, 0.32, 0.265, 0.69, 0.15, 0.06],
}
_CODES = {1: 1, 9: 9, 11: 12}
"""Primaries that have a number in ITU-T H.273 too."""
_LINEAR, _SRGB = 8, 13
_ALPHA, _SPOT, _SENSOR = 0, 2, 5
_HEAD = 4096


@dataclass(frozen=True)
class JxlHead:
    """What is declared of a picture."""

    height: int
    """Rows as shown, after turns."""
    width: int
    bits: int = 8
    floats: bool = False
    gray: bool = False
    extras: tuple[int, ...] = ()
    """Kinds of the channels beside the colours; 0 is alpha."""
    multiplied: bool = False
    """Whether colours are multiplied by alpha."""
    lossy: bool = True
    """Whether it is coded in the colours of the eye, which decoders turn into any others."""
    profile: bool = False
    """Whether an ICC profile says what its colours are."""
    colours: tuple[tuple[bytes, bytes], ...] | None = ()
    """Else what they are, as chunks of PNG state it, none for sRGB; None for what these cannot say."""
    moving: bool = False


@dataclass
class _Bits:
    """Numbers of some bits each, the lowest first."""

    left: int

    def take(self, count: int) -> int:
        value = self.left & ((1 << count) - 1)
        self.left >>= count
        return value

    def choose(self, ways: tuple[tuple[int, int], ...]) -> int:
        """Take two bits that say how many more there are, and what is added to them."""
        bits, start = ways[self.take(2)]
        return start + self.take(bits)


def jxl_boxes(data: bytes | memoryview) -> list[tuple[bytes, memoryview]]:
    """Return name and content of a container's boxes; of a bare codestream one, jxlc."""
    view = memoryview(data)
    if bytes(view[:2]) == b"\xff\x0a":
        return [(b"jxlc", view)]
    boxes: list[tuple[bytes, memoryview]] = []
    at = 0
    while at + 8 <= len(view) and len(boxes) < _MOST_BOXES:
        size, kind = struct.unpack_from(">I4s", view, at)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", view, at + 8)[0], 16
        end = len(view) if size == 0 else at + size
        if end < at + head or end > len(view):
            raise ValueError("the file is cut short")
        boxes.append((kind, view[at + head : end]))
        at = end
    return boxes


def jxl_size(data: bytes | memoryview) -> tuple[int, int]:
    """Return height and width that a file declares; ValueError for anything else."""
    head = read_jxl_head(data)
    return head.height, head.width


def read_jxl_head(data: bytes | memoryview) -> JxlHead:
    """Read the head of the codestream; ValueError for anything else."""
    start = b""
    for kind, body in jxl_boxes(data):
        if kind in (b"jxlc", b"jxlp"):
            start += bytes(body[4 if kind == b"jxlp" else 0 :][:_HEAD])
        if len(start) > 64:
            break
    if start[:2] != b"\xff\x0a":
        raise ValueError("it does not begin like JPEG XL")
    bits = _Bits(int.from_bytes(start[2:_HEAD], "little"))
    height, width = _size(bits)
    if bits.take(1):
        return JxlHead(height, width)
    return _described(bits, height, width)


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)
    height = (bits.take(5) + 1) * 8 if small else bits.choose(_SIDE)
    ratio = bits.take(3)
    if ratio:
        upper, lower = _RATIOS[ratio]
        return height, height * upper // lower
    return height, (bits.take(5) + 1) * 8 if small else bits.choose(_SIDE)


def _described(bits: _Bits, height: int, width: int) -> JxlHead:
    turned, moving = 1, False
    if bits.take(1):
        turned = 1 + bits.take(3)
        if bits.take(1):
            _size(bits)
        if bits.take(1):
            _skip_preview(bits)
        if moving := bool(bits.take(1)):
            _skip_animation(bits)
    depth, floats = _depth(bits)
    bits.take(1)
    count = bits.choose(((0, 0), (0, 1), (4, 2), (12, 1)))
    channels = [_extra(bits) for _ in range(min(count, 256))]
    lossy = bool(bits.take(1))
    gray, profile, colours = _colours(bits)
    if turned >= 5:
        height, width = width, height
    extras = tuple(kind for kind, _ in channels)
    multiplied = any(multiplied for _, multiplied in channels)
    return JxlHead(height, width, depth, floats, gray, extras, multiplied, lossy, profile, colours, moving)


def _skip_preview(bits: _Bits) -> None:
    small = bits.take(1)
    ways = ((0, 16), (0, 32), (5, 1), (9, 33)) if small else ((6, 1), (8, 65), (10, 321), (12, 1345))
    bits.choose(ways)
    if not bits.take(3):
        bits.choose(ways)


def _skip_animation(bits: _Bits) -> None:
    bits.choose(((0, 100), (0, 1000), (10, 1), (30, 1)))
    bits.choose(((0, 1), (0, 1001), (8, 1), (10, 1)))
    bits.choose(((0, 0), (3, 0), (16, 0), (32, 0)))
    bits.take(1)


def _depth(bits: _Bits) -> tuple[int, bool]:
    if bits.take(1):
        depth = bits.choose(_FLOAT_BITS)
        bits.take(4)
        return depth, True
    return bits.choose(_WHOLE_BITS), False


def _extra(bits: _Bits) -> tuple[int, bool]:
    """Read what a channel beside the colours is, and whether it is alpha that colours are multiplied by."""
    if bits.take(1):
        return _ALPHA, False
    kind = bits.choose(_ENUM)
    _depth(bits)
    bits.choose(((0, 0), (0, 3), (0, 4), (3, 1)))
    bits.take(8 * bits.choose(((0, 0), (4, 0), (5, 16), (10, 48))))
    if kind == _ALPHA:
        return kind, bool(bits.take(1))
    if kind == _SPOT:
        bits.take(64)
    if kind == _SENSOR:
        bits.choose(((0, 1), (2, 0), (4, 3), (8, 19)))
    return kind, False


def _colours(bits: _Bits) -> tuple[bool, bool, tuple[tuple[bytes, bytes], ...] | None]:
    """Return whether there is gray only, whether a profile follows, and else what the colours are."""
    if bits.take(1):
        return False, False, ()
    profile, space = bool(bits.take(1)), bits.choose(_ENUM)
    gray = space == _GRAY
    if profile or space >= _XYB:
        return gray, profile, None
    kind = bits.choose(_ENUM)
    white = _place(bits) if kind == _CUSTOM else _WHITES.get(kind)
    number, primaries = 1, _PRIMARIES[1]
    if not gray:
        number = bits.choose(_ENUM)
        custom = [_place(bits) for _ in range(3)] if number == _CUSTOM else []
        primaries = [side for place in custom for side in place] or _PRIMARIES.get(number, [])
    gamma = bits.take(24) / 1e7 if bits.take(1) else None
    transfer = 0 if gamma is not None else bits.choose(_ENUM)
    return gray, False, _stated(white, kind == _D65 and number in _CODES, number, primaries, transfer, gamma)


def _stated(
    white: tuple[float, float] | None,
    usual: bool,
    number: int,
    primaries: list[float],
    transfer: int,
    gamma: float | None,
) -> tuple[tuple[bytes, bytes], ...] | None:
    """Return colours as PNG states them: by their numbers where they have some, else by measure."""
    if usual and gamma is None:
        code = _CODES[number]
        return () if (code, transfer) in ((1, 1), (1, 13)) else ((b"cICP", bytes((code, transfer, 0, 1))),)
    if white is None or not primaries or (gamma is None and transfer not in (_LINEAR, _SRGB)):
        return None
    places = [round(side * 100_000) for side in (*white, *primaries)]
    chunks = [(b"cHRM", struct.pack(">8I", *(max(0, place) for place in places)))]
    if gamma is not None or transfer == _LINEAR:
        chunks.append((b"gAMA", struct.pack(">I", round((gamma or 1.0) * 100_000))))
    return tuple(chunks)


def _place(bits: _Bits) -> tuple[float, float]:
    """Read x and y of a colour, in millionths, the sign in the lowest bit."""
    x, y = (bits.choose(_COORDINATE) for _ in range(2))
    return _signed(x) / 1e6, _signed(y) / 1e6


def _signed(value: int) -> int:
    return -((value + 1) // 2) if value & 1 else value // 2

"""What a PNG's colour chunks say, as an ICC profile: other formats hold no gAMA, cHRM or cICP."""

import struct
from collections.abc import Sequence

import numpy as np

_SRGB_GAMMA, _TOLERANCE = 0.45455, 0.05
"""PNG's gAMA of sRGB, and by what share another may differ and still be it (libpng's threshold)."""
_WHITE = (0.3127, 0.329)
_PRIMARIES = {
    1: (0.64, 0.33, 0.3, 0.6, 0.15, 0.06),
    9: (0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    12: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
"""By their numbers in ITU-T H.273: those of sRGB, BT.2020, Display P3."""
_LINEAR, _SRGB_CURVE = 8, 13


def profile_of(chunks: Sequence[tuple[bytes, bytes]], *, gray: bool) -> tuple[bytes | None, str]:
    """Return the profile that the chunks of a PNG without one amount to, and a note on what it cannot say.

    None where they say sRGB, or nothing. cICP goes before sRGB, and that before gAMA and cHRM (PNG, 4.3).
    """
    found = dict(chunks)
    if (code := found.get(b"cICP")) is not None:
        primaries, transfer = code[0], code[1]
        if primaries in _PRIMARIES and transfer == _LINEAR:
            return _profile(_WHITE, None if gray else _PRIMARIES[primaries], 1.0), ""
        if primaries not in _PRIMARIES or transfer != _SRGB_CURVE:
            return None, "PNG's statement of its colours (cICP) left out: only PNG holds it"
        return (None if gray or primaries == 1 else _profile(_WHITE, _PRIMARIES[primaries], None)), ""
    if b"sRGB" in found:
        return None, ""
    gamma = struct.unpack(">I", found[b"gAMA"])[0] / 100_000 if b"gAMA" in found else 0.0
    places = [n / 100_000 for n in struct.unpack(">8I", found.get(b"cHRM", bytes(32)))]
    stated = (
        places if all(0 < place < 1 for place in (*places[:2], *places[2::2])) else [*_WHITE, *_PRIMARIES[1]]
    )
    usual = np.allclose(stated, [*_WHITE, *_PRIMARIES[1]], atol=0.002)
    plain = gamma <= 0.01 or abs(gamma / _SRGB_GAMMA - 1) < _TOLERANCE
    if plain and (usual or gray):
        return None, ""
    exponent = None if plain else 1 / gamma
    return _profile((stated[0], stated[1]), None if gray else stated[2:], exponent), ""


def _profile(white: tuple[float, float], primaries: Sequence[float] | None, exponent: float | None) -> bytes:
    """Make a profile, of grays without primaries; with the curve of sRGB without an exponent."""
    import imagecodecs  # heavy, and rarely needed

    steps = np.linspace(0, 1, 1024)
    curve = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    shape = {"gamma": exponent} if exponent else {"transferfunction": curve.astype(np.float32)}
    if primaries is None:
        return bytes(imagecodecs.cms_profile("gray", whitepoint=(*white, 1.0), **shape))
    points = [value for x, y in zip(primaries[::2], primaries[1::2], strict=True) for value in (x, y, 1.0)]
    return bytes(imagecodecs.cms_profile("rgb", whitepoint=(*white, 1.0), primaries=points, **shape))

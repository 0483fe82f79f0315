"""What decoded frames bring along beside their pixels: orientation, HDR metadata, and what no result has."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av.video.frame
from av.sidedata.sidedata import Type as SideData

_ALPHA_ASIDE = "alpha_mode"
"""Tag of VP8 and VP9 whose transparency is a video of its own, which only libvpx decodes."""
_LEFT_OUT = {
    "closed captions inside the picture stream": (SideData.A53_CC,),
    "Dolby Vision": (SideData.DOVI_RPU_BUFFER, SideData.DOVI_METADATA),
    "HDR10+": (SideData.DYNAMIC_HDR_PLUS,),
    "HDR Vivid": (SideData.DYNAMIC_HDR_VIVID,),
    "the mark of a 360° video": (SideData.SPHERICAL,),
    "the mark of a 3D video": (SideData.STEREO3D,),
}
"""What frames may bring along that no encoder here can be given."""


@dataclass(frozen=True)
class Hdr:
    """Static HDR metadata: mastering display (SMPTE ST 2086) and content light levels (CTA-861.3)."""

    primaries: tuple[tuple[Fraction, Fraction], ...] | None = None
    """CIE xy of red, green, blue and white."""
    luminance: tuple[Fraction, Fraction] | None = None
    """Least and greatest, in cd/m²."""
    light_level: tuple[int, int] | None = None
    """MaxCLL and MaxFALL, in cd/m²."""


def _nameless(kinds: type[SideData], number: object) -> SideData:
    """Stand in for kinds that PyAV cannot name and would fail at: EXIF in MJPEG, the views of MV-HEVC."""
    kind = object.__new__(kinds)
    kind._name_, kind._value_ = f"NUMBER_{number}", cast(Any, number)
    return kind


setattr(SideData, "_missing_", classmethod(_nameless))  # noqa: B010  # which its stub does not know


def _side_data(frame: av.video.frame.VideoFrame, kind: SideData) -> bytes | None:
    every = cast(Any, frame.side_data)  # PyAV's annotations take it for a mapping of names
    return next((bytes(data) for data in every if data.type == kind), None)


def left_out(stream: Any, frames: list[av.video.frame.VideoFrame], *, dolby: bool) -> tuple[str, ...]:
    """Name what a stream and its first frames bring along that a result will lack, for people.

    dolby: the container says that it is Dolby Vision.
    """
    kinds = {data.type for frame in frames for data in cast(Any, frame.side_data)}
    if dolby:
        kinds.add(SideData.DOVI_METADATA)
    names = [name for name, those in _LEFT_OUT.items() if kinds.intersection(those)]
    seen = any(part.is_alpha for part in frames[0].format.components)
    if has_alpha_aside(stream) and not seen:
        names.append("its transparency")
    return tuple(names)


def has_alpha_aside(stream: Any) -> bool:
    """Whether a stream has transparency that is a video of its own, as in WebM."""
    return any(tag.lower() == _ALPHA_ASIDE and value == "1" for tag, value in stream.metadata.items())


def orientation(frame: av.video.frame.VideoFrame) -> tuple[int, bool]:
    """Return the turn clockwise in degrees, and the mirroring after it, of a frame's display matrix."""
    data = _side_data(frame, SideData.DISPLAYMATRIX)
    if data is None:
        return 0, False
    a, b, _, c, d, *_ = struct.unpack("=9i", data)
    # ISO 14496-12, 6.2.2: x' = a x + c y, y' = b x + d y, with y downwards.
    if abs(b) > abs(a):
        return (90, c > 0) if b > 0 else (270, c < 0)
    return (0, a < 0) if d >= 0 else (180, a > 0)


def hdr(frame: av.video.frame.VideoFrame) -> Hdr | None:
    """Return a frame's static HDR metadata, or None where it has none."""
    mastering = _side_data(frame, SideData.MASTERING_DISPLAY_METADATA)
    level = _side_data(frame, SideData.CONTENT_LIGHT_LEVEL)
    if mastering is None and level is None:
        return None
    primaries = luminance = light_level = None
    if mastering is not None:
        *numbers, has_primaries, has_luminance = struct.unpack_from("=22i", mastering)
        values = [Fraction(a, b or 1) for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
        if has_primaries:
            primaries = tuple((values[i], values[i + 1]) for i in range(0, 8, 2))
        if has_luminance:
            luminance = (values[8], values[9])
    if level is not None:
        light_level = cast("tuple[int, int]", struct.unpack_from("=2I", level))
    return Hdr(primaries, luminance, light_level)

"""Packets that show no picture: hidden reference frames of VP9, parameters or messages alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def shows_picture(packet: Any, codec: str) -> bool:
    """Whether a decoder gives a frame for a packet of an undamaged file; True where that is not known.

    packet: of a video stream. codec: ffmpeg's name.
    """
    if codec == "vp9":
        return _vp9_shows(bytes(packet))
    if codec in ("h264", "hevc"):
        extradata = bytes(packet.stream.codec_context.extradata or b"")
        return _has_slice(bytes(packet), extradata, codec)
    return True


def _vp9_shows(data: bytes) -> bool:
    """Read show_existing_frame and show_frame (VP9 specification, 6.2); superframes always show one."""
    if not data or data[-1] & 0xE0 == 0xC0:  # the marker of a superframe's index (annex B)
        return True
    # frame_marker of two bits, profile_low_bit, profile_high_bit, and reserved_zero in profile 3 alone.
    first = 5 if data[0] & 0x30 == 0x30 else 4
    head = int.from_bytes(data[:2].ljust(2, b"\0"), "big")
    show_existing, show = head >> (15 - first) & 1, head >> (15 - first - 2) & 1
    return data[0] >> 6 != 2 or bool(show_existing or show)


def _has_slice(data: bytes, extradata: bytes, codec: str) -> bool:
    """Look for a coded slice among units as MP4 and MKV keep them, each after its length."""
    at = 4 if codec == "h264" else 21
    if len(extradata) <= at or extradata[0] != 1:  # a stream of start codes
        return True
    # Damage must not pass for a message: of these alone, and to the last byte.
    messages = range(6, 13) if codec == "h264" else range(32, 41)
    kinds = [unit & 0x9F if codec == "h264" else unit >> 1 for unit in _units(data, extradata[at])]
    return not kinds or any(kind not in messages for kind in kinds)


def _units(data: bytes, sizes: int) -> Iterator[int]:
    """Yield the first byte of each unit, and 0 if they do not fill the packet.

    sizes: its lowest bits say of how many bytes the lengths are.
    """
    width, at = (sizes & 3) + 1, 0
    while at + width < len(data):
        start = at + width
        yield data[start]
        at = start + int.from_bytes(data[at:start], "big")
    if at != len(data):
        yield 0

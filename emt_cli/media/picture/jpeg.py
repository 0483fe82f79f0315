"""A look at a JPEG's segments: whether its data can hold the size it declares, at a price worth paying."""

import re
from dataclasses import dataclass

MOST_SCANS = 200
"""Passes over the picture that a file may take; programs write 10 or so, attackers thousands."""

# What follows 0xFF in coded data: nothing (00), a restart (D0 to D7) or filling (FF); all else is a marker.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_ALONE, _START_OF_SCAN, _END = (0x01, 0xD8), 0xDA, 0xD9
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_LEAST_BITS = {0xC0: 2, 0xC1: 2, 0xC2: 1}
"""Of a block of 8x8 samples: a Huffman code for its mean and, unless progressive, one for its end."""


def check_jpeg(data: bytes | memoryview) -> None:
    """Raise ValueError for a file that declares more pixels than its bits can code, or too many scans.

    libjpeg fills up what is missing and goes over the picture for each scan, however small the file is.
    """
    _check(_outline(data), len(data))


def check_part(data: bytes | memoryview, height: int, width: int) -> None:
    """Raise ValueError for a JPEG inside another file that is cut short, or much larger than its place."""
    outline = _outline(data)
    _check(outline, len(data))
    if not outline.ended or len(outline.frame) < 6:
        raise ValueError("one of its strips or tiles is cut short")
    if _number(outline.frame, 1) > height or _number(outline.frame, 3) > width:
        raise ValueError("one of its strips or tiles declares another size")


@dataclass(frozen=True)
class _Outline:
    """What the markers of a JPEG say."""

    kind: int
    """Of the frame: baseline, progressive and so on."""
    frame: bytes
    """Its header; empty for none."""
    scans: int
    ended: bool


def _outline(data: bytes | memoryview) -> _Outline:
    at, scans, kind, frame, ended = 2, 0, 0, b"", False
    while found := _MARKER.search(data, at):
        marker, at = data[found.end() - 1], found.end()
        if marker == _END:
            ended = True
            break
        if marker in _ALONE:
            continue
        size = int.from_bytes(data[at : at + 2], "big")
        scans += marker == _START_OF_SCAN
        if marker in _FRAMES and not frame:
            kind, frame = marker, bytes(data[at + 2 : at + size])
        at += max(size, 2)
    return _Outline(kind, frame, scans, ended)


def _check(outline: _Outline, size: int) -> None:
    if outline.scans > MOST_SCANS:
        raise ValueError(f"it takes {outline.scans} passes")
    if _blocks(outline.frame) * _LEAST_BITS.get(outline.kind, 0) > 8 * size:
        raise ValueError("it declares more pixels than its data hold")


def _blocks(frame: bytes) -> int:
    """Count the blocks of a frame header: precision, height, width, then three bytes for each component."""
    if len(frame) < 6:
        return 0
    height, width = _number(frame, 1), _number(frame, 3)
    parts = [(value >> 4, value & 15) for value in frame[7 : 6 + 3 * frame[5] : 3]]
    across, down = max((x for x, _ in parts), default=0), max((y for _, y in parts), default=0)
    if not across or not down:
        return 0
    return sum(-(-width * x // (8 * across)) * -(-height * y // (8 * down)) for x, y in parts)


def _number(frame: bytes, at: int) -> int:
    return int.from_bytes(frame[at : at + 2], "big")

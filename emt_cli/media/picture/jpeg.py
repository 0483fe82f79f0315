"""A look at a JPEG's segments: whether its data can hold the size it declares, at a price worth paying."""

import re

MOST_SCANS = 200
"""Passes over the picture that a file may take; programs write 10 or so, attackers thousands."""

# What follows 0xFF in coded data: nothing (00), a restart (D0 to D7) or filling (FF); all else is a marker.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_ALONE, _START_OF_SCAN, _END = (0x01, 0xD8), 0xDA, 0xD9
_LEAST_BITS = {0xC0: 2, 0xC1: 2, 0xC2: 1}
"""Of a block of 8x8 samples: a Huffman code for its mean and, unless progressive, one for its end."""


def check_jpeg(data: bytes) -> None:
    """Raise ValueError for a file that declares more pixels than its bits can code, or too many scans.

    libjpeg fills up what is missing and goes over the picture for each scan, however small the file is.
    """
    at, scans, frame = 2, 0, None
    while found := _MARKER.search(data, at):
        kind, at = data[found.end() - 1], found.end()
        if kind == _END:
            break
        if kind in _ALONE:
            continue
        body = data[at + 2 : at + int.from_bytes(data[at : at + 2], "big")]
        at += 2 + len(body)
        scans += kind == _START_OF_SCAN
        if kind in _LEAST_BITS and frame is None:
            frame = kind, body
    if scans > MOST_SCANS:
        raise ValueError(f"it takes {scans} passes")
    if frame is not None and _blocks(frame[1]) * _LEAST_BITS[frame[0]] > 8 * len(data):
        raise ValueError("it declares more pixels than its data hold")


def _blocks(frame: bytes) -> int:
    """Count the blocks of a frame header: precision, height, width, then three bytes for each component."""
    if len(frame) < 6:
        return 0
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    parts = [(value >> 4, value & 15) for value in frame[7 : 6 + 3 * frame[5] : 3]]
    across, down = max((x for x, _ in parts), default=0), max((y for _, y in parts), default=0)
    if not across or not down:
        return 0
    return sum(-(-width * x // (8 * across)) * -(-height * y // (8 * down)) for x, y in parts)

"""JPEG segment by segment: whether the data can hold the size they declare; metadata Pillow leaves alone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from emt_cli.media.picture import iptc, xmp
from emt_cli.media.picture.ifd import read_directory, read_header

MOST_SCANS = 200
"""Passes over the picture that a file may take; programs write 10 or so, attackers thousands."""

# What follows 0xFF in coded data: nothing (00), a restart (D0 to D7) or filling (FF); all else is a marker.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_ALONE, _START_OF_SCAN, _END = (0x01, 0xD8), 0xDA, 0xD9
_APP1, _APP2, _APP13, _MPF_COUNT = 0xE1, 0xE2, 0xED, 0xB001
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
class Extras:
    """What stands in a JPEG's segments beside EXIF, profile and the first part of XMP."""

    xmp: bytes | None
    """The packet, its extension within, without promises of further pictures."""
    iptc: bytes | None
    notes: tuple[str, ...]


def read_extras(data: bytes, packet: bytes | None) -> Extras:
    """Read IPTC and the extension of an XMP packet; say what stays behind."""
    blocks, extensions, notes, further = b"", [], [], 0
    for marker, body in _segments(data):
        if marker == _APP1 and body.startswith(xmp.JPEG_EXTENSION):
            extensions.append(body[len(xmp.JPEG_EXTENSION) :])
        elif marker == _APP13 and body.startswith(iptc.JPEG_NAME):
            blocks += body[len(iptc.JPEG_NAME) :]
        elif marker == _APP2 and body.startswith(b"MPF\0"):
            further = _pictures(body[4:]) - 1
    record, others = iptc.read_resources(blocks)
    promised = False
    if packet is not None:
        packet, whole = xmp.joined(packet, extensions)
        if not whole:
            notes.append("damaged extension of XMP left out")
        gain_map = b"hdrgm:" in packet or b"HDRGainMap" in packet
        packet, promised = xmp.without_promises(packet)
        if gain_map:
            notes.append("HDR gain map left out: the result is the picture as ordinary screens show it")
            further -= 1
    if further > 0:
        notes.append(f"further pictures in the file left out: {further}")
    elif promised and not notes:
        notes.append("film or picture behind the photo left out")
    if others:
        notes.append("Photoshop's own settings (paths, guides, print) left out")
    return Extras(packet, record, tuple(notes))


def extra_segments(record: bytes | None, extensions: list[bytes]) -> bytes:
    """Return the segments of an IPTC record and of XMP extensions."""
    segments = [(_APP1, body) for body in extensions]
    if record:
        segments.append((_APP13, iptc.JPEG_NAME + iptc.resources(record)))
    return b"".join(
        bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body for marker, body in segments
    )


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of each segment before the picture's own data."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _START_OF_SCAN:
            return
        if marker in (_APP1, _APP2, _APP13):
            yield marker, data[at + 4 : at + 2 + size]
        at += 1 if marker == 0xFF else 2 + max(size, 2)


def _pictures(block: bytes) -> int:
    """Return how many pictures a multi-picture block (CIPA DC-007) tells of, 1 for a damaged one."""
    try:
        layout, offset = read_header(block)
        field = read_directory(block, offset, layout).fields.get(_MPF_COUNT)
        return int(field.numbers(layout)[0]) if field else 1
    except (ValueError, IndexError):
        return 1


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

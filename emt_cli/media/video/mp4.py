"""What only the boxes of an MP4 or MOV tell: tracks' lengths and codecs, a missing end, the place."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

_LONGEST = 1 << 20
"""Bytes of a description that are looked at."""


def track_durations(path: Path) -> dict[int, Fraction]:
    """Return how many seconds each track is shown, by its number: its edit list's length (ISO 14496-12).

    path: an MP4 or MOV file. Tracks that do not say it are left out. Raises OSError.
    """
    found: dict[int, Fraction] = {}
    scale = 0
    with path.open("rb") as stream:
        for end in _find(stream, path.stat().st_size, b"moov"):
            for inner, inner_end in _boxes(stream, end):
                if inner == b"mvhd":
                    # Version 1 has times of 64 bits: created, changed, scale, duration.
                    version = stream.read(4)[0]
                    scale = struct.unpack(">QQI" if version else ">III", stream.read(20 if version else 12))[
                        2
                    ]
                elif inner == b"trak":
                    for header, _ in _boxes(stream, inner_end):
                        if header == b"tkhd" and scale:
                            track, ticks = _track(stream)
                            found[track] = Fraction(ticks, scale)
    return {track: seconds for track, seconds in found.items() if seconds}


def sample_descriptions(path: Path) -> dict[int, bytes]:
    """Return how each track's samples are described, its stsd box, by the track's number; raises OSError."""
    found: dict[int, bytes] = {}
    with path.open("rb") as stream:
        for end in _find(stream, path.stat().st_size, b"moov", b"trak"):
            begin = stream.tell()
            track = next((_track(stream)[0] for _ in _find(stream, end, b"tkhd")), 0)
            stream.seek(begin)
            for last in _find(stream, end, b"mdia", b"minf", b"stbl", b"stsd"):
                found[track] = stream.read(min(last - stream.tell(), _LONGEST))
    return found


def sample_entries(path: Path) -> dict[int, str]:
    """Return the four characters that name each track's codec, by the track's number; raises OSError."""
    # Version and flags, the number of entries, the first one's size, its name.
    return {track: data[12:16].decode("latin-1") for track, data in sample_descriptions(path).items()}


def is_cut_short(path: Path) -> bool:
    """Say whether a file is an MP4 or MOV without its index, which may stand at the end; raises OSError."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        boxes = _boxes(stream, size)
        first, _ = next(boxes, (b"", 0))
        return first == b"ftyp" and not any(kind in (b"moov", b"moof") and end <= size for kind, end in boxes)


def add_location(path: Path, place: str, language: str) -> None:
    """Write a place (ISO 6709) into a finished MP4 or MOV whose index is its last box, as phones do.

    ffmpeg would write it as fixed-point numbers (3GPP's loci), which are not quite the same when read again.
    language: three letters. Raises OSError, ValueError if another box is last.
    """
    code = 0
    for letter in language:
        code = code << 5 | ord(letter) - 0x60
    text = place.encode()
    size = path.stat().st_size
    with path.open("r+b") as stream:
        found = [(kind, stream.tell() - 8) for kind, _ in _boxes(stream, size)]
        if not found or found[-1][0] != b"moov":
            raise ValueError("the index is not at the end")
        moov = found[-1][1]
        stream.seek(moov + 8)
        inner = [(kind, stream.tell() - 8) for kind, _ in _boxes(stream, size)]
        box = struct.pack(">I4sHH", 12 + len(text), b"\xa9xyz", len(text), code) + text
        grown = [moov]
        if inner[-1][0] == b"udta":
            grown.append(inner[-1][1])
        else:
            box = struct.pack(">I4s", 8 + len(box), b"udta") + box
        stream.seek(size)
        stream.write(box)
        for at in grown:
            stream.seek(at)
            stream.write(struct.pack(">I", size + len(box) - at))


def _track(stream: BinaryIO) -> tuple[int, int]:
    """Read a track's number and duration at the beginning of its header."""
    if stream.read(4)[0]:
        _, _, track, _, ticks = struct.unpack(">QQIIQ", stream.read(32))
    else:
        _, _, track, _, ticks = struct.unpack(">IIIII", stream.read(20))
    return track, ticks


def _find(stream: BinaryIO, end: int, *kinds: bytes) -> Iterator[int]:
    """Yield the end of each box that lies in others of such kinds, with the stream at its content."""
    for kind, inner_end in _boxes(stream, end):
        if kind != kinds[0]:
            continue
        if kinds[1:]:
            yield from _find(stream, inner_end, *kinds[1:])
        else:
            yield inner_end


def _boxes(stream: BinaryIO, end: int) -> Iterator[tuple[bytes, int]]:
    """Yield kind and end of each box from here to end, with the stream at its content."""
    at = stream.tell()
    while at + 8 <= end:
        stream.seek(at)
        length, kind = struct.unpack(">I4s", stream.read(8))
        if length == 1 and at + 16 <= end:
            (length,) = struct.unpack(">Q", stream.read(8))
        after = at + length if length else end
        if after <= at:
            return
        yield kind, after
        at = after

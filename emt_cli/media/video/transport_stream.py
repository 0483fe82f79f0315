"""What an MPEG transport stream says of its streams in its program maps (ISO/IEC 13818-1, 2.4.4)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_SYNC = 0x47
_PACKET = 188
_STRIDES = (188, 192, 204)
"""Bytes from packet to packet: plain, with a time stamp in front (M2TS), with parity behind."""
_HEAD = 1 << 20
"""Bytes at the beginning in which the maps are looked for; they come every tenth of a second."""
_MAP = 2
"""Table number of a program map."""


def stream_descriptors(path: Path) -> dict[int, bytes]:
    """Return the descriptors of each elementary stream, by its PID, from the first maps; raises OSError."""
    with path.open("rb") as stream:
        data = stream.read(_HEAD)
    found: dict[int, bytes] = {}
    maps: set[int] = set()
    for pid, section in _sections(data):
        if pid == 0:  # the list of programs: number, PID of its map
            maps |= {_pid(section, at + 2) for at in range(8, len(section) - 4 - 3, 4)}
        elif pid in maps and section[0] == _MAP and len(section) > 12:
            at = 12 + _length(section, 10)
            while at + 5 <= len(section) - 4:
                end = at + 5 + _length(section, at + 3)
                found.setdefault(_pid(section, at + 1), section[at + 5 : end])
                at = end
    return found


def descriptor(descriptors: bytes, tag: int) -> bytes | None:
    """Return the body of the first descriptor with a tag."""
    at = 0
    while at + 2 <= len(descriptors):
        end = at + 2 + descriptors[at + 1]
        if descriptors[at] == tag:
            return descriptors[at + 2 : end]
        at = end
    return None


def _sections(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the PID and the bytes of each section that is whole, of those that a packet begins with."""
    begun: dict[int, bytes] = {}
    for packet in _packets(data):
        pid, adapted = _pid(packet, 1), packet[3] >> 4
        if not adapted & 1:  # no payload
            continue
        payload = packet[5 + packet[4] :] if adapted & 2 else packet[4:]
        if packet[1] & 0x40 and payload:  # a section begins behind what is left of the last
            begun[pid] = payload[1 + payload[0] :]
        elif pid in begun:
            begun[pid] += payload
        else:
            continue
        section = begun[pid]
        if len(section) >= 3 and len(section) >= 3 + _length(section, 1):
            yield pid, section[: 3 + _length(section, 1)]
            del begun[pid]


def _packets(data: bytes) -> Iterator[bytes]:
    for stride in _STRIDES:
        for start in range(stride):
            if set(data[start : start + 5 * stride : stride]) == {_SYNC}:
                places = range(start, len(data) - _PACKET + 1, stride)
                yield from (data[at : at + _PACKET] for at in places if data[at] == _SYNC)
                return


def _pid(data: bytes, at: int) -> int:
    return (data[at] & 0x1F) << 8 | data[at + 1]


def _length(data: bytes, at: int) -> int:
    return (data[at] & 0x0F) << 8 | data[at + 1]

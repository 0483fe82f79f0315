"""The packets of a file's streams, what is in them and when they are due: to tell a copy from its source."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import av.error
import av.logging

from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.probe import open_container

_HASH = 8
"""Bytes of a packet's hash."""


@dataclass
class Packets:
    """The packets of one stream, in the order of the file."""

    tick: Fraction
    """Unit of the times, in seconds."""
    hashes: bytearray = field(default_factory=bytearray)
    times: array[int] = field(default_factory=lambda: array("q"))
    durations: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.times)

    def last_duration(self) -> Fraction:
        """Return how long the last frame is shown, in seconds; 0 where the file does not say."""
        last = max(range(len(self.times)), key=self.times.__getitem__, default=None)
        return Fraction(0) if last is None else self.durations[last] * self.tick


def read_packets(info: VideoInfo) -> tuple[dict[int, Packets], list[str]]:
    """Read the packets of a file, by stream; return them and what its demuxer complains of.

    There are none of animations.
    """
    if info.animation:
        return {}, []
    ended: list[str] = []
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    # The same complaint of another file is none that was heard already.
    skips = av.logging.get_skip_repeated()
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as log, open_container(info.path) as container:
            name = container.format.name
            found = {stream.index: Packets(stream.time_base or Fraction(1)) for stream in container.streams}
            log.clear()
            for packet in _demuxed(container, ended):
                stream = packet.stream
                # Discarded sound is what decoders start on, and is copied; such frames are never shown.
                if not packet.size or (packet.is_discard and stream.type == "video"):
                    continue
                if packet.stream_index not in found:  # a stream that begins late is not copied
                    continue
                content = _without_adts(bytes(packet)) if _is_aac(stream) else bytes(packet)
                packets = found[packet.stream_index]
                packets.hashes += hashlib.blake2b(content, digest_size=_HASH).digest()
                packets.times.append(packet.pts if packet.pts is not None else packet.dts or 0)
                packets.durations.append(packet.duration or 0)
    finally:
        av.logging.set_skip_repeated(skips)
        av.logging.set_level(level)
    return found, [text.strip() for _, source, text in log if source == name] + ended


def _demuxed(container: Any, ended: list[str]) -> Iterator[Any]:
    """Yield packets as far as the file can be read; where damage ends it before, say so."""
    try:
        yield from container.demux()
    except av.error.FFmpegError as error:
        ended.append(f"reading ended early ({error.strerror})")


def _is_aac(stream: Any) -> bool:
    return stream.codec_context is not None and stream.codec_context.name == "aac"


def _without_adts(packet: bytes) -> bytes:
    """Return an AAC packet without the header that only streams such as MPEG-TS have before each packet."""
    if len(packet) < 9 or packet[0] != 0xFF or packet[1] & 0xF6 != 0xF0:
        return packet
    length = (packet[3] & 3) << 11 | packet[4] << 3 | packet[5] >> 5
    return packet[7 if packet[1] & 1 else 9 :] if length == len(packet) else packet


def find_place(sent: Packets, arrived: Packets, *, whole: bool) -> int | None:
    """Return which packet of the source the result's first one is; None when they are other packets."""
    if whole:
        return 0 if sent.hashes == arrived.hashes else None
    at = sent.hashes.find(arrived.hashes)
    while at > 0 and at % _HASH:
        at = sent.hashes.find(arrived.hashes, at + 1)
    return None if at < 0 else at // _HASH


def greatest_delay(sent: Packets, arrived: Packets, place: int, shift: Fraction) -> Fraction:
    """Return by how much, in seconds, the worst packet is off; 0 within what the clocks can tell apart."""
    allowed = (sent.tick + arrived.tick) / 2 + Fraction(1, 1000)
    worst = max(
        (
            abs(before * sent.tick - shift - after * arrived.tick)
            for before, after in zip(sent.times[place:], arrived.times, strict=False)
        ),
        default=Fraction(0),
    )
    return worst if worst > allowed else Fraction(0)

"""The packets of encoded segments as one video, with decoding times made anew."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av

from emt_cli.errors import OutputError
from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.probe import open_container


@dataclass(frozen=True)
class StreamOrder:
    """How the packets of all segments follow on each other."""

    segments: Sequence[Path]
    times: tuple[int, ...]
    """PTS of all frames in the result, sorted, in ticks of the segments."""
    delay: int
    """Greatest number of places by which a packet comes later than its turn to be shown."""
    tick: Fraction
    """In seconds."""
    shift: int
    """Ticks by which frames come earlier in the result than in the segments."""
    step: int
    """Usual ticks from frame to frame, whole ones of the source."""

    @property
    def dts_offset(self) -> int:
        """Ticks by which the first packet is decoded before time 0."""
        return -self.decoded(0)

    def decoded(self, place: int) -> int:
        """Return the DTS of the packet at a place of the file: the PTS `delay` places before it in order.

        That is never after its own PTS, and always rising, whatever the encoder invented at the start of each
        segment.
        """
        late = place - self.delay
        if late >= len(self.times):
            return self.times[-1] + self.step
        if late >= 0:
            return self.times[late]
        # Decoding takes as long as showing: players know how long an MP4 is from its decoding times alone.
        early = self.times[-1] - self.times[-1 - self.delay]
        return self.times[0] - early * -late // self.delay

    def last_duration(self, info: VideoInfo, end: int | None) -> Fraction:
        """Return how many seconds the last frame is shown: to a cut, else to the source's known end.

        end: PTS of the source where it was cut off; None where it was not.
        """
        last = info.seconds(info.origin) + (self.times[-1] + self.shift) * self.tick
        if end is not None:
            return info.seconds(end) - last
        return info.last_duration(last, 1 / info.rate if info.rate else self.step * self.tick)


def put_in_order(segments: Sequence[Path], info: VideoInfo, origin: int) -> StreamOrder:
    """Read when all frames of the segments are shown; origin, a PTS of the source, becomes time 0.

    The PTS of segments count from the source's own origin, since no segment's may be negative.
    """
    ordered: list[int] = []
    delay, tick = 0, Fraction(1)
    for segment in segments:
        times = []
        for packet in _packets(segment):
            times.append(packet.pts)
            tick = packet.time_base
        rank = {pts: place for place, pts in enumerate(sorted(times))}
        delay = max([delay, *(place - rank[pts] for place, pts in enumerate(times))])
        ordered += sorted(times)
    shift = round(info.seconds(origin - info.origin) / tick)
    fine = max(1, round(info.time_base / tick))
    usual = (ordered[-1] - ordered[0]) // max(1, len(ordered) - 1)
    step = max(fine, usual // fine * fine)
    return StreamOrder(segments, tuple(pts - shift for pts in ordered), delay, tick, shift, step)


def pipe_format(codec: str) -> str:
    """Return ffmpeg's name of the format for feed(): MOV or MP4 in fragments, with exact decoding times.

    They do not hold FFV1, but all its packets are decoded in the order they are shown, and NUT keeps that.
    """
    return {"ffv1": "nut", "av1": "mp4"}.get(codec, "mov")


def feed(order: StreamOrder, pipe: IO[bytes], codec: str) -> None:
    """Write the segments' packets to a stream as one video, `order.dts_offset` ticks later than they are."""
    format = pipe_format(codec)
    options = {}
    if format != "nut":
        options["movflags"] = "frag_every_frame+empty_moov+default_base_moof"
        options["video_track_timescale"] = str(order.tick.denominator)
    opening = _packets(order.segments[0])
    first = next(opening)
    # The first segment stays open, since the stream made after its model looks into it.
    with (
        contextlib.closing(opening),
        av.open(pipe, "w", format=format, options=options) as output,
    ):
        stream: Any = output.add_stream_from_template(first.stream, opaque=True)
        stream.time_base = first.time_base
        head, place = _head(first), 0
        for segment in order.segments:
            for packet in _packets(segment):
                if _head(packet) != head:
                    raise OutputError(f"{segment}: made by another encoder; start afresh with -y")
                packet.pts += order.dts_offset - order.shift
                packet.dts = order.decoded(place) + order.dts_offset
                packet.duration = order.decoded(place + 1) - order.decoded(place)
                packet.stream = stream
                output.mux(packet)
                place += 1


def _head(packet: Any) -> bytes:
    """Return what a decoder must know before the first packet."""
    return bytes(packet.stream.codec_context.extradata or b"")


def _packets(segment: Path) -> Generator[Any, None, None]:
    with open_container(segment) as source:
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                yield packet

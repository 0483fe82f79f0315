"""Put encoded segments together, and beside them every other stream of the source."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import IO, Any

import av
import av.error
import imageio_ffmpeg

from emt_cli.errors import OutputError
from emt_cli.media.carry import Carried, carry
from emt_cli.media.colour import Colour
from emt_cli.media.files import new_file
from emt_cli.media.video import VideoInfo, probe
from emt_cli.media.video_write import FORMATS

_STALE = ("BPS", "DURATION", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS", "ENCODER", "ROTATE")
"""Tags of a stream that are no longer true once it is encoded again, or once it is cut."""
_PLAIN_TAGS = {
    "title",
    "artist",
    "album",
    "album_artist",
    "comment",
    "genre",
    "date",
    "composer",
    "copyright",
}
_PLAIN_TAGS |= {
    "description",
    "synopsis",
    "show",
    "episode_id",
    "network",
    "lyrics",
    "track",
    "disc",
    "grouping",
}
_PLAIN_TAGS |= {"encoder", "creation_time", "major_brand", "minor_version", "compatible_brands", "timecode"}
"""Tags that MP4 keeps under names every player knows."""


def result_time_base(target: Path, info: VideoInfo) -> Fraction:
    """Return the unit of PTS in a result: the source's, or the next finer one that the container can hold.

    MKV and WebM count milliseconds; everything else counts whole parts of a second.
    """
    if FORMATS[target.suffix.lower()] in ("matroska", "webm"):
        return Fraction(1, 1000)
    return Fraction(1, info.time_base.denominator)


def join(
    segments: Sequence[Path],
    info: VideoInfo,
    target: Path,
    *,
    start: int | None = None,
    end: int | None = None,
) -> list[str]:
    """Write target: the segments one after the other, and the source's other streams, all by stream copy.

    segments: files of VideoWriter of one encoding, in order, with the source's PTS. info: of the source.
    target: as container_for() names it; replaced when it is there. start, end: PTS of a cut; the other
    streams are cut there as well, and the result's time 0 is start. Returns notes for people. OutputError
    when it cannot be written, or the segments do not fit together.
    """
    plan = carry(info, target)
    with new_file(target, overwrite=True) as file, contextlib.ExitStack() as stack:
        temporary = Path(file.name)
        video, order = probe(segments[0]), _order(segments, info.seconds(start or 0))
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-copyts"]
        if video.codec == "prores":  # which NUT does not hold: written whole, in between
            whole = temporary.with_suffix(".mov")
            stack.callback(whole.unlink, missing_ok=True)
            with whole.open("wb") as stream:
                _feed(order, stream, "mov")
            command += ["-nostdin", "-f", "mov", "-protocol_whitelist", "file", "-i", f"file:{whole}"]
        else:
            command += ["-f", "nut", "-i", "pipe:0"]
        command += _source(info, start, end)
        command += _streams(plan, info, video, start, end)
        command += _container(target, info, video)
        last = order.last_duration(info) if end is None else order.step * order.tick
        command += ["-bsf:V:0", f"setts=pts=PTS:dts=DTS:duration=round({float(last):.9f}/TB)"]
        _run([*command, f"file:{temporary}"], order, target)
    return plan.notes


def _source(info: VideoInfo, start: int | None, end: int | None) -> list[str]:
    """Return ffmpeg's arguments that open the source, and no other file.

    With a start its times are moved to begin there, and reading begins a little before.
    """
    arguments = []
    if start is not None:
        seconds = info.seconds(start)
        arguments = ["-itsoffset", f"{float(-seconds):.6f}"]
        if seconds > 20:
            arguments += ["-seek_timestamp", "1", "-ss", str(floor(seconds) - 10)]
    arguments += ["-protocol_whitelist", "file", "-f", info.container.split(",")[0], "-i", _url(info.path)]
    if end is not None:
        arguments += ["-t", f"{float(info.seconds(end - (start or 0))):.6f}"]
    return arguments


def _streams(
    plan: Carried, info: VideoInfo, video: VideoInfo, start: int | None, end: int | None
) -> list[str]:
    """Return ffmpeg's arguments that choose the streams, in the source's order, and describe them."""
    arguments = ["-c", "copy", "-map_metadata:g", "1:g", "-map_chapters", "1"]
    place = 0
    for stream in info.streams:
        own = stream.index == info.stream
        if not own and stream.index not in plan.streams:
            continue
        arguments += ["-map", "0:v:0" if own else f"1:{stream.index}"]
        arguments += [f"-map_metadata:s:{place}", f"1:s:{stream.index}"]
        arguments += [f"-disposition:{place}", "+".join(stream.disposition) or "0"]
        if own or start is not None or end is not None:
            for tag in stream.tags:
                if tag.upper().startswith(_STALE):
                    arguments += [f"-metadata:s:{place}", f"{tag}="]
        if own:
            arguments += _colour(place, video.colour)
        elif start is not None and stream.kind != "video":
            arguments += [f"-copypriorss:{place}", "0"]  # nothing from before the start
        if stream.index in plan.as_text:
            arguments += [f"-c:{place}", "srt"]
        place += 1
    return arguments


def _colour(place: int, colour: Colour) -> list[str]:
    """Return ffmpeg's arguments that tag a stream; some codecs (FFV1) do not say it themselves."""
    matrix = "rgb" if colour.matrix == "gbr" else colour.matrix
    values = {"colorspace": matrix, "color_range": colour.range}
    values |= {"color_primaries": colour.primaries, "color_trc": colour.transfer}
    names = {"bt470m": "gamma22", "bt470bg": "gamma28"}
    values["color_trc"] = names.get(colour.transfer, colour.transfer)
    return [part for name, value in values.items() for part in (f"-{name}:{place}", value)]


def _container(target: Path, info: VideoInfo, video: VideoInfo) -> list[str]:
    muxer = FORMATS[target.suffix.lower()]
    # What MP4 says of itself is no tag of the video.
    brands = [tag for tag in info.tags if tag in ("major_brand", "minor_version", "compatible_brands")]
    arguments = [part for tag in brands for part in ("-metadata", f"{tag}=")]
    arguments += ["-f", muxer, "-max_interleave_delta", "0", "-avoid_negative_ts", "disabled"]
    if muxer in ("mp4", "mov"):
        scale = info.time_base.denominator
        # Edit lists, which hold a late start, count in the unit of the whole movie: of it, a multiple, so fine
        # that sound starts at its exact sample.
        movie = scale * max(1, ceil(Fraction(1_000_000, scale)))
        arguments += ["-video_track_timescale", str(scale), "-movie_timescale", str(movie)]
        if not {tag.lower() for tag in info.tags} <= _PLAIN_TAGS:
            arguments += ["-movflags", "use_metadata_tags"]
        if video.codec == "hevc":
            arguments += ["-tag:v:0", "hvc1"]  # Apple's players know no other
    return arguments


def _url(path: Path) -> str:
    return f"file:{path.resolve()}"


def _run(command: list[str], order: _Order, target: Path) -> None:
    """Run ffmpeg, feeding it the segments unless it reads them from a file."""
    fed = "pipe:0" in command
    with subprocess.Popen(
        command, stdin=subprocess.PIPE if fed else None, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        said: list[bytes] = []
        listener = threading.Thread(target=lambda pipe: said.append(pipe.read()), args=(process.stderr,))
        listener.start()
        try:
            if process.stdin is not None:
                # A pipe that closes early means that ffmpeg has failed and says why.
                with contextlib.suppress(BrokenPipeError, av.error.BrokenPipeError), process.stdin as pipe:
                    _feed(order, pipe, "nut")
        except BaseException:
            process.kill()
            raise
        finally:
            listener.join()
    if process.returncode:
        words = b"".join(said).decode(errors="replace").strip().splitlines()
        raise OutputError(f"{target}: could not be put together ({words[-1] if words else 'ffmpeg failed'})")


@dataclass(frozen=True)
class _Order:
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

    @property
    def step(self) -> int:
        """Usual ticks from frame to frame."""
        return max(1, (self.times[-1] - self.times[0]) // max(1, len(self.times) - 1))

    def last_duration(self, info: VideoInfo) -> Fraction:
        """Return how many seconds the last frame is shown: to the source's end where that is known."""
        usual = 1 / info.rate if info.rate else self.step * self.tick
        if info.duration is None or not info.declares_end:
            return usual
        begin = info.seconds(info.start_pts or 0) if info.container.startswith("mov") else 0
        rest = begin + info.duration - (self.times[-1] + self.shift) * self.tick
        return rest if 0 < rest <= max(usual * 10, Fraction(1)) else usual


def _order(segments: Sequence[Path], start: Fraction) -> _Order:
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
    shift = round(start / tick)
    return _Order(segments, tuple(pts - shift for pts in ordered), delay, tick, shift)


def _feed(order: _Order, pipe: IO[bytes], format: str) -> None:
    """Write the segments' packets to a stream as one video, with new decoding times.

    A packet's DTS is the PTS that lies `delay` places before it in sorted order: never after its own PTS, and
    always rising, whatever the encoder invented at the start of each segment.
    """
    before = [order.times[0] - order.step * (order.delay - place) for place in range(order.delay)]
    options = {"avoid_negative_ts": "disabled"}
    if format == "mov":
        scale = str(order.tick.denominator)
        options |= {"video_track_timescale": scale, "movie_timescale": scale}
    opening = _packets(order.segments[0])
    first = next(opening)
    # The first segment stays open, since the stream made after its model looks into it.
    with contextlib.closing(opening), av.open(pipe, "w", format=format, options=options) as output:
        stream: Any = output.add_stream_from_template(first.stream, opaque=True)
        stream.time_base = first.time_base
        head, place = _head(first), 0
        for segment in order.segments:
            for packet in _packets(segment):
                if _head(packet) != head:
                    raise OutputError(f"{segment}: made by another encoder; start afresh with -y")
                late = place - order.delay
                packet.pts -= order.shift
                packet.dts = before[place] if late < 0 else order.times[late]
                packet.stream = stream
                output.mux(packet)
                place += 1


def _head(packet: Any) -> bytes:
    """Return what a decoder must know before the first packet."""
    return bytes(packet.stream.codec_context.extradata or b"")


def _packets(segment: Path) -> Generator[Any, None, None]:
    with av.open(str(segment)) as source:
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                yield packet

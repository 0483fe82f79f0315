"""Put encoded segments together, and beside them every other stream of the source."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Generator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg

from emt_cli.errors import OutputError
from emt_cli.media.video import VideoInfo

SEGMENT_SUFFIX = ".nut"
"""Of segment files: NUT keeps any time base exactly."""


def container_for(target: Path, info: VideoInfo) -> tuple[Path, list[str]]:
    """Return the file to write and notes: MKV in place of a container that cannot hold a stream."""
    if target.suffix.lower() in (".mp4", ".m4v", ".mov", ".mkv", ".webm"):
        return target, []
    return target.with_suffix(".mkv"), [f"{target.suffix or target.name} is not written: MKV instead"]


def join(
    segments: Sequence[Path],
    info: VideoInfo,
    target: Path,
    *,
    start: int | None = None,
    end: int | None = None,
) -> list[str]:
    """Write target from the segments and the source's other streams; returns notes for people."""
    temporary = target.with_name(f".{target.stem}.part{target.suffix}")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-copyts", "-f", "nut", "-i", "pipe:0"]
    command += ["-protocol_whitelist", "file", "-i", f"file:{info.path.resolve()}", "-map", "0:v:0"]
    for other in info.streams:
        if other.index != info.stream:
            command += ["-map", f"1:{other.index}"]
    command += ["-map_metadata", "1", "-c", "copy", "-video_track_timescale", str(info.time_base.denominator)]
    try:
        with subprocess.Popen(
            [*command, f"file:{temporary.resolve()}"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stderr is not None
            said: list[bytes] = []
            listener = threading.Thread(target=lambda pipe: said.append(pipe.read()), args=(process.stderr,))
            listener.start()
            try:
                with process.stdin:
                    _feed(segments, info, process.stdin)
            except BrokenPipeError:
                pass  # ffmpeg's own words say why
            listener.join()
        if process.returncode:
            words = b"".join(said).decode(errors="replace").strip().splitlines()
            raise OutputError(f"{target}: could not be put together ({words[-1] if words else 'ffmpeg'})")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return []


def result_time_base(target: Path, info: VideoInfo) -> Fraction:
    """Return the unit of PTS in a result: the source's where the container allows it, 1 ms in MKV."""
    return Fraction(1, 1000) if target.suffix.lower() in (".mkv", ".webm") else info.time_base


def _feed(segments: Sequence[Path], info: VideoInfo, pipe: Any) -> None:
    """Write the segments' packets to a pipe as one NUT stream, with new decoding times.

    A packet's DTS is the PTS that lies `delay` places before it in sorted order: never after its own PTS,
    and always rising, whatever the encoder invented at the start of each segment.
    """
    opening = _packets(segments[0])
    first = next(opening)
    ordered: list[int] = []
    delay = 0
    for segment in segments:
        times = [packet.pts for packet in _packets(segment)]
        rank = {pts: place for place, pts in enumerate(sorted(times))}
        delay = max([delay, *(place - rank[pts] for place, pts in enumerate(times))])
        ordered += sorted(times)
    step = max(1, int((ordered[-1] - ordered[0]) / max(1, len(ordered) - 1)))
    before = [ordered[0] - step * (delay - place) for place in range(delay)]
    # The first segment stays open, since the stream made after its model looks into it.
    with (
        contextlib.closing(opening),
        av.open(pipe, "w", format="nut", options={"avoid_negative_ts": "disabled"}) as output,
    ):
        stream: Any = output.add_stream_from_template(first.stream)
        stream.time_base = first.time_base
        place = 0
        for segment in segments:
            for packet in _packets(segment):
                packet.dts = before[place] if place < delay else ordered[place - delay]
                packet.stream = stream
                output.mux(packet)
                place += 1


def _packets(segment: Path) -> Generator[Any, None, None]:
    with av.open(str(segment)) as source:
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                yield packet

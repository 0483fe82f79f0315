"""The time stamp of every frame: the file's own; made where it has none, or has one twice.

By its packets alone where those tell it for certain, else by decoding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import av.error
import av.video.frame

from emt_cli.errors import InputError
from emt_cli.media.video.damage import Losses, has_index
from emt_cli.media.video.hidden import shows_picture
from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.probe import open_container, open_decoder


@dataclass(frozen=True, eq=False)
class Timed:
    """A decoded frame, not yet converted, and its time stamp."""

    frame: av.video.frame.VideoFrame
    pts: int
    """When it is shown, in the file's time base; above that of the frame before."""
    duration: int | None
    """How long, where the file says."""


def packet_times(info: VideoInfo, silent: set[int]) -> list[int] | None:
    """Return the PTS of all frames by the packets alone, or None where those do not tell them for certain.

    Streams that have a packet are removed from silent.
    """
    times, ended = [], False
    first_key: int | None = None
    last_key: int | None = None
    with contextlib.suppress(av.error.FFmpegError), open_container(info.path) as container:
        for packet in _packets(container, _video(container, info), silent):
            if not packet.size or packet.is_discard or not shows_picture(packet, info.codec):
                continue
            if packet.pts is None or packet.is_corrupt:
                return None
            if first_key is None:
                if not packet.is_keyframe:
                    return None
                first_key = packet.pts
            if packet.is_keyframe:
                if last_key is not None and packet.pts < last_key:
                    return None
                last_key = packet.pts
            times.append(packet.pts)
        ended = True
    times.sort()
    unique = len(set(times)) == len(times)
    return times if ended and times and unique and times[0] == first_key else None


def _packets(container: Any, stream: Any, silent: set[int]) -> Iterator[Any]:
    """Yield a stream's packets; every other stream that has one is removed from silent on the way."""
    for packet in container.demux() if silent else container.demux(stream):
        if packet.stream is stream:
            yield packet
        elif packet.size:
            silent.discard(packet.stream_index)


def timed_frames(
    info: VideoInfo,
    start: int | None,
    losses: Losses,
    keyframes: int = 2,
    silent: set[int] | None = None,
) -> Generator[Timed, None, None]:
    """Yield decoded frames with rising PTS, beginning that many keyframes before start.

    silent: as _packets takes it. InputError where the clock starts anew in the middle of the file.
    """
    with open_container(info.path) as container:
        stream = _video(container, info)
        key = _keyframe(info, start, keyframes)
        if key is not None:
            container.seek(key, stream=stream)
        first: int | None = None
        last: int | None = None
        for frame in _decode(container, stream, losses, silent or set()):
            duration = frame.duration or None
            usual = duration or (max(1, round(1 / info.rate / info.time_base)) if info.rate else 1)
            pts = frame.pts if frame.pts is not None else frame.dts
            pts = pts if pts is not None else 0 if last is None else last + usual
            first = pts if first is None else first
            if last is not None and pts <= last:
                if info.seconds(last - pts) > 1:
                    after = float(info.seconds(last - first))
                    raise InputError(
                        f"{info.path}: its clock starts anew {after:.3f} s after its first picture, as where"
                        " recordings were joined; `ffmpeg -i FILE -c copy NEW.mkv` fixes it: enlarge that"
                    )
                pts = last + 1  # two frames of one time
            last = pts
            yield Timed(frame, pts, duration)


def _video(container: Any, info: VideoInfo) -> Any:
    """Return the video stream, set to decode the same way on every machine and at every try."""
    stream = container.streams[info.stream]
    # Threads that decode several frames at once would repair damage differently each time.
    stream.thread_type = "SLICE"
    return stream


def _keyframe(info: VideoInfo, start: int | None, count: int) -> int | None:
    """Return the PTS of the count-th keyframe at or before start, or None to begin at the beginning.

    One is not enough: a frame behind a keyframe may still look back past it (open GOPs, gradual refresh).
    """
    if start is None or not has_index(info):
        return None
    found = start + 1
    for _ in range(count):
        with open_container(info.path) as container:
            stream = _video(container, info)
            step = max(1, round(1 / info.time_base))
            target = found - 1
            for _ in range(8):
                try:
                    container.seek(target, stream=stream)
                    packet = next((p for p in container.demux(stream) if p.size), None)
                except av.error.FFmpegError:
                    return None
                if packet is None or packet.pts is None:
                    return None
                if packet.is_keyframe and packet.pts < found:
                    break
                target, step = target - step, step * 2
            else:
                return None
            found = packet.pts
    return found


def _decode(container: Any, stream: Any, losses: Losses, silent: set[int]) -> Generator[Any, None, None]:
    packets, decoder = _packets(container, stream, silent), open_decoder(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            losses.say(None, f"reading ended early ({error.strerror})")
            packet = None
        if packet is None:
            break
        losses.sent(packet)
        try:
            frames = decoder.decode(packet)
        except av.error.FFmpegError:
            continue
        for frame in frames:
            _settle_time(frame, container)
            losses.shown(frame)
            yield frame
    # demux() ends with an empty packet that flushes the decoder, unless reading failed.
    try:
        for frame in decoder.decode(None):
            _settle_time(frame, container)
            losses.shown(frame)
            yield frame
    except (av.error.FFmpegError, EOFError):
        pass
    losses.end()


def _settle_time(frame: Any, container: Any) -> None:
    """Give a frame of an AVI its time: AVI only has the order of decoding, and PTS made of it jump about."""
    if container.format.name == "avi":
        frame.pts = frame.dts

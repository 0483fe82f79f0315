"""Decode a video to upright RGB frames, each with its exact time."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import av.error

from emt_cli.errors import InputError
from emt_cli.media.samples import Pixels
from emt_cli.media.video.animation import read_animation
from emt_cli.media.video.damage import Losses, has_index, one_to_one
from emt_cli.media.video.filters import Converter, Timed, deinterlaced
from emt_cli.media.video.hidden import shows_picture
from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.probe import open_container, open_decoder

_FAR = 10
"""Seconds ahead from which a seek beats decoding on."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video."""

    pixels: Pixels
    """RGB (h, w, 3), upright: uint8 of 8-bit videos, uint16 with full scale 65535 of deeper ones."""
    pts: int
    """When it is shown, in the file's time base."""
    duration: int | None
    """How long, where the file says."""
    alpha: Pixels | None = None
    """(h, w) in the type of the pixels, where it was asked for and the frame is transparent somewhere."""


class VideoReader:
    """The frames of a video file, in the order they are shown; one segment after the other without seeking.

    info: as probe() tells it. deinterlace: turn two fields into one frame (bwdif), so counts stay. alpha:
    give the transparency of videos as well; animations always have theirs. Memory holds a few frames,
    however long the file is.
    """

    def __init__(self, info: VideoInfo, *, deinterlace: bool = False, alpha: bool = False) -> None:
        self.info = info
        self.alpha = alpha and info.alpha
        self.deinterlace = deinterlace
        self.damage: list[str] = []
        """What was lost or had to be repaired in what was read so far, in words with times; it only grows."""
        self._losses: Losses | None = None
        self._source: Generator[Timed, None, None] | None = None
        self._ahead: Timed | None = None
        """The first frame that nobody has asked for yet; only it may be asked for without a new start."""
        self._behind: int | None = None
        """PTS of the frame before it."""

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def frames(self, start: int | None = None, end: int | None = None) -> Iterator[Frame]:
        """Yield the decodable frames with start <= pts < end, in the file's time base.

        Their pixels are the same whatever start is: decoding begins two keyframes earlier, or at the file's
        beginning. A frame of another size than the info's is given as it is. InputError when the file has
        become unreadable.
        """
        if self.info.animation:
            yield from _animation_frames(self.info, start, end)
            if self.info.broken and end is None:
                self.damage.append(self.info.broken)
            return
        if not self._goes_on(start):
            self._stop()
            self._losses = Losses(self.info, start, self.damage)
            # bwdif looks at frames before the first one asked for, and those must be right as well.
            keyframes = 3 if self.deinterlace else 2
            self._source = _timed(self.info, start, self._losses, keyframes)
            if self.deinterlace:
                self._source = deinterlaced(self._source, self.info)
        elif self._losses is not None:
            self._losses.start = start
        assert self._source is not None
        converter = Converter(self.info, alpha=self.alpha)
        while True:
            timed = self._ahead or next(self._source, None)
            self._ahead = timed
            if timed is None or (end is not None and timed.pts >= end):
                if self._losses is not None:
                    self._losses.tell()
                return
            self._ahead, self._behind = None, timed.pts
            if start is None or timed.pts >= start:
                pixels, alpha = converter.pixels(timed.frame)
                yield Frame(pixels, timed.pts, timed.duration, alpha)

    def _goes_on(self, start: int | None) -> bool:
        if self._source is None or self._behind is None or start is None or start <= self._behind:
            return False
        return self.info.seconds(start - self._behind) < _FAR or not has_index(self.info)

    def _stop(self) -> None:
        if self._source is not None:
            self._source.close()
        self._source = self._ahead = self._behind = None


@dataclass(frozen=True)
class Survey:
    """What only reading a file to its end tells."""

    times: list[int]
    """PTS of every frame that can be decoded, in order, in the file's time base."""
    empty: frozenset[int] = frozenset()
    """Streams of sound, text and data without a packet."""


def survey(info: VideoInfo) -> Survey:
    """Read all packets of a video once; InputError where the clock starts anew in the middle of the file.

    Packets tell the times where every packet is a frame that is shown; else all frames are decoded.
    """
    if info.animation:
        return Survey([picture.pts for picture in read_animation(info)])
    silent = {one.index for one in info.streams if one.kind in ("audio", "subtitle", "data")}
    times = _packet_times(info, silent) if one_to_one(info) else None
    if times is None:
        losses = Losses(info, None, [])
        times = [timed.pts for timed in _timed(info, None, losses, silent=silent)]
    return Survey(times, frozenset(silent))


def _animation_frames(info: VideoInfo, start: int | None, end: int | None) -> Iterator[Frame]:
    for picture in read_animation(info):
        if end is not None and picture.pts >= end:
            return
        if start is None or picture.pts >= start:
            yield Frame(picture.pixels, picture.pts, picture.duration, picture.alpha)


def _packet_times(info: VideoInfo, silent: set[int]) -> list[int] | None:
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


def _timed(
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

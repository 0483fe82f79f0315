"""Decode a video to upright RGB frames, each with its exact time."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from types import TracebackType

from emt_cli.media.samples import Pixels
from emt_cli.media.video.animation import read_animation
from emt_cli.media.video.damage import Losses, has_index, one_to_one
from emt_cli.media.video.filters import Converter, deinterlaced
from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.timestamps import Timed, packet_times, timed_frames

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
            self._source = timed_frames(self.info, start, self._losses, keyframes)
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
    times = packet_times(info, silent) if one_to_one(info) else None
    if times is None:
        losses = Losses(info, None, [])
        times = [timed.pts for timed in timed_frames(info, None, losses, silent=silent)]
    return Survey(times, frozenset(silent))


def _animation_frames(info: VideoInfo, start: int | None, end: int | None) -> Iterator[Frame]:
    for picture in read_animation(info):
        if end is not None and picture.pts >= end:
            return
        if start is None or picture.pts >= start:
            yield Frame(picture.pixels, picture.pts, picture.duration, picture.alpha)

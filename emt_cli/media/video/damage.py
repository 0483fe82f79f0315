"""What a video lost by damage, in words: packets that gave no frame, repaired frames, gaps beside them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from emt_cli.media.video.hidden import shows_picture
from emt_cli.media.video.info import VideoInfo

_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
_WHOLE = ("h264", "hevc", "vp9", "av1", "prores", "mjpeg", "ffv1", "dnxhd")
_NEAR = Fraction(1, 2)
"""Seconds within which damages, damage and a gap, or an end and the declared one belong together."""


def has_index(info: VideoInfo) -> bool:
    """Whether a seek to a keyframe is exact: in containers with an index, of codecs with whole packets.

    Everything else is decoded from its beginning, which costs little beside a network.
    """
    return info.container in _INDEXED and info.codec in _WHOLE


def one_to_one(info: VideoInfo) -> bool:
    """Whether every packet is one frame, shown at its time; fields may come in packets of their own."""
    return has_index(info) and not info.interlaced


class Losses:
    """Watches packets go into a decoder and frames come out; adds to damage what goes wrong after start."""

    def __init__(self, info: VideoInfo, start: int | None, damage: list[str]) -> None:
        self._info, self._damage = info, damage
        self.start = start
        """What is damaged before this is left out; None counts everything."""
        self._exact = one_to_one(info)
        self._waiting: set[int] = set()
        self._last: int | None = None
        """PTS of the last frame."""
        self._stays = 0
        """How long it is shown, where the file says."""
        self._lost: list[int] = []
        self._repaired: list[int] = []
        self._gap: tuple[int, int] | None = None
        """The last one, between two frames."""

    def say(self, pts: int | None, words: str) -> None:
        """Note anything else, as of the start."""
        if pts is None or self.start is None or pts >= self.start:
            self._damage.append(words if pts is None else f"{self._time(pts)}: {words}")

    def sent(self, packet: Any) -> None:
        """Note a packet that goes into the decoder."""
        if packet.size and packet.pts is not None and not packet.is_discard:
            if not self._exact or shows_picture(packet, self._info.codec):
                self._waiting.add(packet.pts)
            if packet.is_corrupt:
                self._repaired.append(packet.pts)

    def shown(self, frame: Any) -> None:
        """Note a frame that comes out of it."""
        if frame.pts is None:
            return
        late = sorted(pts for pts in self._waiting if pts < frame.pts)
        self._waiting.difference_update(late, (frame.pts,))
        if self._last is not None:
            newest = max([*self._lost[-1:], *self._repaired[-1:]], default=frame.pts)
            if self._info.seconds(frame.pts - newest) > _NEAR:
                self.tell()
            if self._exact:
                self._lost += late
            usual = 1 / self._info.rate if self._info.rate else None
            if usual and self._info.seconds(frame.pts - self._last) > usual * 3 / 2:
                self._gap = (self._last, frame.pts)
        self._last, self._stays = frame.pts, frame.duration or 0
        if frame.is_corrupt and frame.pts not in self._repaired:
            self._repaired.append(frame.pts)

    def end(self) -> None:
        """Note that the file has ended."""
        if self._exact:
            self._lost += sorted(self._waiting)
        length, end = self._info.duration, self._info.end
        self.tell()
        if length is None or end is None or self._last is None:
            return
        if self._info.seconds(self._last) + max(_NEAR, 2 * self._info.seconds(self._stays)) < end:
            self.say(self._last, f"the file ends here, though {float(length):.3f} s long by its own account")

    def tell(self) -> None:
        """Put into words what has gathered."""
        start = self.start
        lost, repaired = (
            sorted(pts for pts in times if start is None or pts >= start)
            for times in (self._lost, self._repaired)
        )
        if self._gap is not None and repaired and not lost:
            # Many undamaged videos have gaps; one beside damage is a part of it.
            before, after = self._gap
            near = round(_NEAR / self._info.time_base)
            if any(before - near <= pts <= after + near for pts in repaired):
                self._damage.append(
                    f"{self._time(before)} to {self._time(after)}: nothing readable in between"
                )
        for times, what in ((lost, "lost"), (repaired, "damaged, repaired by the decoder")):
            if len(times) == 1:
                self._damage.append(f"{self._time(times[0])}: 1 frame {what}")
            elif times:
                span = f"{self._time(times[0])} to {self._time(times[-1])}"
                self._damage.append(f"{span}: {len(times)} frames {what}")
        self._lost, self._repaired, self._gap = [], [], None

    def _time(self, pts: int) -> str:
        return f"{float(self._info.seconds(pts)):.3f} s"

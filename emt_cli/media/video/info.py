"""Facts about a video: what streams it has, and how its frames lie in time, space and colour."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from emt_cli.media.samples import Kind
from emt_cli.media.video.colour import Colour
from emt_cli.media.video.side_data import Hdr

StreamKind = Literal["video", "audio", "subtitle", "attachment", "data"]


@dataclass(frozen=True)
class Stream:
    """One stream of a file."""

    index: int
    kind: StreamKind
    codec: str
    """ffmpeg's name; empty where it knows none."""
    language: str | None = None
    disposition: tuple[str, ...] = ()
    """ffmpeg's names: default, forced, attached_pic, ..."""
    tags: dict[str, str] = field(default_factory=dict)
    codec_tag: str = ""
    """The container's own name of the codec, four characters."""
    muxers: tuple[str, ...] = ()
    """Those of ffmpeg's muxers in codecs.FORMATS that take a copy of it from PyAV."""


@dataclass(frozen=True)
class VideoInfo:
    """A video file and the one video stream of it that counts."""

    path: Path
    container: str
    """ffmpeg's name of the demuxer."""
    stream: int
    """Index of the best video stream that is not an attached picture."""
    track: int
    """The container's own number of that stream."""
    codec: str
    width: int
    """Pixels of the upright picture, before the sample aspect ratio is applied."""
    height: int
    sar: Fraction
    """Width of a pixel over its height, upright."""
    rotation: int
    """Degrees clockwise that turn the stored picture upright: 0, 90, 180 or 270."""
    mirrored: bool
    """Whether it is mirrored left to right after it is turned."""
    time_base: Fraction
    """Unit of PTS, in seconds."""
    start_pts: int | None
    rate: Fraction | None
    """Average frames per second."""
    frames: int | None
    """How many the container declares."""
    duration: Fraction | None
    """Of the video stream, in seconds, or of the whole file where that is all that is known."""
    declares_end: bool
    """Whether the duration is the video stream's own, so that a shorter one means a part is missing."""
    bits: int
    """Of a sample: 8, 10, 12 or 16."""
    pixel_format: str
    colour: Colour
    interlaced: bool
    hdr: Hdr | None
    alpha: bool
    streams: tuple[Stream, ...]
    chapters: int
    tags: dict[str, str] = field(default_factory=dict)
    """Of the whole file."""
    origin: int = 0
    """PTS that is time 0 of a result, where no other start is asked for: see _origin()."""
    animation: bool = False
    loop: int | None = None
    """Of an animation: how often it is played, 0 for ever, None once."""
    broken: str = ""
    """Of an animation that is damaged: what is missing at its end, for people."""
    left_out: tuple[str, ...] = ()
    """What its frames bring along that no result has, for people."""
    kind: Kind = "plain"
    """As far as a model is chosen by it."""

    @property
    def dtype(self) -> Literal["uint8", "uint16"]:
        """Type of the pixels that VideoReader gives."""
        return "uint8" if self.bits == 8 else "uint16"

    def seconds(self, pts: int) -> Fraction:
        """Return a PTS of this file in seconds."""
        return pts * self.time_base

    def last_duration(self, last: Fraction, usual: Fraction) -> Fraction:
        """Return how long the last frame, shown at `last`, stays: to the end that the file declares.

        All in seconds. Where it declares none, or one that is out of reason, that is the usual duration.
        """
        rest = usual if self.end is None else self.end - last
        return rest if 0 < rest <= max(usual * 10, Fraction(1)) else usual

    @property
    def end(self) -> Fraction | None:
        """When the video is over, in seconds, if the file declares that."""
        if self.duration is None or not self.declares_end:
            return None
        # MKV tells the time of its end, others how long they are.
        begin = 0 if self.container.startswith("matroska") else self.start_pts or 0
        return self.seconds(begin) + self.duration

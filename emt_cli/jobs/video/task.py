"""What is asked for of a video, and what is known of the work before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from emt_cli.assets.model_choice import FoundModel
from emt_cli.errors import InputError, UsageError
from emt_cli.jobs.journal import FileState, content_hash, file_state
from emt_cli.jobs.networks import EnlargeSettings
from emt_cli.jobs.picture.plan import Plan
from emt_cli.jobs.video.segments import Segment
from emt_cli.media.video.animation import SUFFIXES as ANIMATIONS
from emt_cli.media.video.codecs import ANIMATION, Encoding
from emt_cli.media.video.containers import StreamMapping
from emt_cli.media.video.info import VideoInfo


@dataclass(frozen=True)
class Settings(EnlargeSettings):
    """How a video is enlarged and written."""

    codec: str | None = None
    """None is h264, and hevc for more than 8 bits."""
    crf: int | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    start: Fraction | None = None
    """Seconds after the first frame; None is the beginning."""
    end: Fraction | None = None
    preview: Fraction | None = None
    """Only so many seconds, from start or around the middle."""
    deinterlace: bool = False
    compare: bool = False
    """Write a second video: bicubic and EMT side by side."""
    tolerant: bool = False
    """Take a result that lacks what was damaged in the source for good."""
    overwrite: bool = False
    segment: int | None = None
    """Frames of a segment; None is about a minute of work."""

    def __post_init__(self) -> None:
        if self.start is not None and self.start < 0:
            raise UsageError("--start must not be negative")
        if self.end is not None and self.end <= (self.start or 0):
            raise UsageError("--end must lie after --start")
        if self.preview is not None and self.preview <= 0:
            raise UsageError("--preview takes the seconds to show, such as 5")
        if self.preview is not None and self.end is not None:
            raise UsageError("give --end or --preview, not both")
        if self.segment is not None and self.segment < 1:
            raise UsageError("--segment takes a number of frames, at least 1")


@dataclass(frozen=True, eq=False)
class VideoTask:
    """A video that has been looked at, planned and found possible."""

    name: str
    """The source for people."""
    info: VideoInfo
    plan: Plan
    encoding: Encoding
    mapping: StreamMapping
    models: tuple[FoundModel, ...]
    """Of each pass."""
    sharpness: float | None
    """Of the models; None where they have none to choose."""
    times: tuple[int, ...]
    """PTS of the frames to make, in the source's time base."""
    start: int | None
    """First PTS wanted; None takes the source from its beginning."""
    end: int | None
    """First PTS not wanted any more."""
    segments: tuple[Segment, ...]
    tile: int
    """Side of the tiles of the last pass, in its input pixels: the same for a job from start to end."""
    tiles: int
    """Of each frame, all passes together."""
    places: tuple[int, ...]
    """Of the devices in networks.devices, once for each frame that a device works on at the same time."""
    memory: int
    """Bytes it will need at most, estimated."""
    disk: int
    """Bytes the work and its result will take at most, estimated."""
    notes: tuple[str, ...]
    source: FileState
    """Of the file when it was looked at."""

    def check_source(self, sha256: str) -> None:
        """Raise InputError when the file is not the one any more that was looked at, of this hash."""
        there = file_state(self.info.path)
        if there == self.source or (there is not None and content_hash(self.info.path) == sha256):
            return
        raise InputError(
            f"{self.name}: was changed or removed while it was being enlarged;"
            " put it back and give the same command, or begin again with -y"
        )

    @property
    def target(self) -> Path:
        """The file of the result."""
        return self.mapping.target

    @property
    def whole(self) -> bool:
        """Whether nothing is cut off."""
        return self.start is None and self.end is None

    @property
    def origin(self) -> int:
        """PTS of the source that is time 0 of the result."""
        return self.info.origin if self.start is None else self.start

    @property
    def codec(self) -> str:
        """The codec for people."""
        if self.encoding is ANIMATION:
            return ANIMATIONS[self.target.suffix.lower()].lower()
        return self.encoding.name(self.info.bits)

    @property
    def bits(self) -> int:
        """Of the samples written."""
        return 8 if self.encoding is ANIMATION else self.info.bits

    @property
    def transparent(self) -> bool:
        """Whether the result holds transparency."""
        format = av.VideoFormat(self.encoding.pix_fmt or "yuv420p")
        return any(component.is_alpha for component in format.components)

    @property
    def compare_path(self) -> Path:
        """Where the side-by-side video goes."""
        return self.target.with_name(f"{self.target.stem}_compare{self.target.suffix}")

    def facts(self) -> dict[str, Any]:
        """Describe the task in JSON values."""
        return {
            "input": self.name,
            "output": str(self.target),
            "width": self.plan.width,
            "height": self.plan.height,
            "out_width": self.plan.out_width,
            "out_height": self.plan.out_height,
            "frames": len(self.times),
            "rate": None if self.info.rate is None else str(self.info.rate),
            "duration": round(float(self.info.seconds(self.times[-1] - self.times[0])), 6),
            "codec": self.codec,
            "bits": self.bits,
            "model": self.models[0].name,
            "sharpness": self.sharpness,
            "passes": list(self.plan.passes),
            "resized": self.plan.resized,
            "tiles": self.tiles,
            "segments": len(self.segments),
            "memory": self.memory,
            "disk": self.disk,
        }

"""What is asked for of pictures, and what is known of one before it is enlarged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from emt_cli.assets.model_choice import FoundModel
from emt_cli.jobs.networks import EnlargeSettings, Networks
from emt_cli.jobs.picture.cost import Cost
from emt_cli.jobs.picture.plan import Plan
from emt_cli.media.picture.formats import PictureFormat
from emt_cli.media.picture.io import MAX_PIXELS, Picture

STDIN, STDOUT = "standard input", "standard output"
_KEPT = 100 << 20
"""Engines keep the memory of pictures up to about this size for the next one."""


@dataclass(frozen=True)
class Settings(EnlargeSettings):
    """How pictures are enlarged and written; the same for all pictures of a run."""

    format: PictureFormat | None = None
    """Kind of file to write; None keeps the input's, or takes the one of the output's name."""
    quality: int = 95
    """For formats that lose detail, 1 to 100."""
    suffix: str | None = None
    """Put after a result's name; None is _x4 and so on."""
    overwrite: bool = False
    strip_metadata: bool = False
    keep_dates: bool = False
    """Give results the times of their sources."""
    compare: bool = False
    """Write a labelled before/after picture beside the result."""
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, eq=False)
class Task:
    """A picture that has been read, planned and found possible."""

    name: str
    picture: Picture
    plan: Plan
    target: Path | BinaryIO
    format: PictureFormat
    models: tuple[FoundModel, ...]
    """Of each pass."""
    cost: Cost
    networks: Networks
    source: Path | None = None
    """The file it came from, if it did."""

    @property
    def held(self) -> int:
        """Bytes it takes already."""
        return self.picture.pixels.nbytes * (1 + self.picture.transparent)

    @property
    def memory(self) -> int:
        """Bytes it will need in all, estimated."""
        kept = min(self.cost.network, _KEPT)
        return self.held + max(self.cost.enlarging + self.cost.network, self.cost.writing + kept)

    @property
    def target_name(self) -> str:
        """The target for people."""
        return str(self.target) if isinstance(self.target, Path) else STDOUT

    @property
    def compare_path(self) -> Path | None:
        """Where the before/after picture goes; None when the result goes to standard output."""
        return compare_path(self.target) if isinstance(self.target, Path) else None

    def facts(self) -> dict[str, Any]:
        """Describe the task in JSON values."""
        return {
            "input": self.name,
            "output": self.target_name,
            "width": self.plan.width,
            "height": self.plan.height,
            "out_width": self.plan.out_width,
            "out_height": self.plan.out_height,
            "format": self.format,
            "model": self.models[0].name,
            "sharpness": self.networks.weights(self.plan.passes[0]).sharpness,
            "passes": list(self.plan.passes),
            "resized": self.plan.resized,
            "tiles": self.cost.tiles,
            "memory": self.memory,
        }


@dataclass(frozen=True, eq=False)
class File:
    """A picture to write."""

    target: Path | BinaryIO
    picture: Picture
    format: PictureFormat


def compare_path(target: Path) -> Path:
    """Return where the before/after picture of a result goes."""
    return target.with_name(f"{target.stem}_compare.png")

"""Plan a picture: the size and passes of its result, and its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

from emt_cli.errors import UsageError
from emt_cli.jobs.target import Target
from emt_cli.media.picture.formats import SUFFIXES, PictureFormat

LARGEST = 16
"""Largest enlargement: two passes of 4."""


@dataclass(frozen=True)
class Plan:
    """What will be done with a picture; sizes in pixels."""

    height: int
    width: int
    out_height: int
    out_width: int
    passes: tuple[int, ...]
    """Scales of the networks to run, one after the other."""

    @property
    def resized(self) -> bool:
        """Whether the last pass gives more than was asked for, and is resized down to it."""
        factor = prod(self.passes)
        return (self.height * factor, self.width * factor) != (self.out_height, self.out_width)


def plan_picture(height: int, width: int, target: Target, scales: Sequence[int], *, name: str) -> Plan:
    """Choose the passes: the smallest product of one or two of the model's scales that covers the target.

    A scale of 1 keeps the size: the answer is reduced to it, for models that clean. Raises UsageError, with
    name in front, when the target is no enlargement otherwise, or beyond 16 times.
    """
    out_height, out_width = target.size(height, width)
    unchanged = (out_height, out_width) == (height, width) and 1 not in scales and target.scale != 1
    if out_height < height or out_width < width or unchanged:
        raise UsageError(f"{name}: {width}x{height} would become {out_width}x{out_height}; emt only enlarges")
    ways = [(scale,) for scale in scales] + [pair for pair in product(scales, scales) if pair[0] <= pair[1]]
    fitting = [way for way in ways if height * prod(way) >= out_height and width * prod(way) >= out_width]
    if not fitting or max(out_height / height, out_width / width) > LARGEST:
        most = min(LARGEST, max(scales) ** 2)
        raise UsageError(f"{name}: {width}x{height} to {out_width}x{out_height} is beyond {most} times")
    passes = min(fitting, key=lambda way: (prod(way), len(way)))
    return Plan(height, width, out_height, out_width, passes)


def result_path(
    source: Path | None, output: Path | None, *, suffix: str, format: PictureFormat, folder: bool
) -> Path:
    """Where a result goes: beside its source, into a folder, or to the file named.

    suffix comes after the source's name; source is None for standard input. folder: output names a folder.
    """
    if output is not None and not folder:
        return output
    stem = source.stem if source is not None else "stdin"
    place = output if output is not None else (source.parent if source is not None else Path())
    return place / f"{stem}{suffix}{name_ending(source, format)}"


def name_ending(source: Path | None, format: PictureFormat) -> str:
    """Return what a result's name ends with, such as .png: the source's own spelling where it fits."""
    if source is not None and SUFFIXES.get(source.suffix.lower()) == format:
        return source.suffix
    return next(ending for ending, known in SUFFIXES.items() if known == format)

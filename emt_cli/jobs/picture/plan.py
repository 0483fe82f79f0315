"""One picture in, one picture out: plan its size and passes, enlarge colours and alpha, name the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from emt_cli.engine.upscaler import Upscaler
from emt_cli.errors import UsageError
from emt_cli.media.picture.alpha import bleed_alpha, keep_extremes
from emt_cli.media.picture.formats import SUFFIXES, PictureFormat
from emt_cli.media.picture.io import Picture
from emt_cli.media.resize import resize
from emt_cli.media.samples import Pixels, convert, full_scale
from emt_cli.steps import Steps, part

LARGEST = 16
"""Largest enlargement: two passes of 4."""


@dataclass(frozen=True)
class Target:
    """The size wanted: a scale, or one side; the other side follows."""

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    long_side: int | None = None

    def __post_init__(self) -> None:
        sides = (self.scale, self.width, self.height, self.long_side)
        given = [value for value in sides if value is not None]
        if len(given) != 1:
            raise UsageError("give one of --scale, --width, --height and --long-side; the shape is kept")
        if not 0 < given[0] <= 1 << 20:
            raise UsageError(f"{given[0]:g} is no size; give a scale such as 2.7, or a side in pixels")

    @classmethod
    def asked(
        cls, scale: float | None, width: int | None, height: int | None, long_side: int | None
    ) -> Target:
        """Return the size that options ask for: four times where there are none."""
        nothing = scale is width is height is long_side is None
        return cls(4.0 if nothing else scale, width, height, long_side)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result for a picture of this size, in whole pixels."""
        if self.width:
            factor = self.width / width
        elif self.height:
            factor = self.height / height
        elif self.long_side:
            factor = self.long_side / max(height, width)
        else:
            factor = self.scale or 1.0
        return max(1, round(height * factor)), max(1, round(width * factor))

    def suffix(self, out_height: int, out_width: int) -> str:
        """Return what a result's name has more than its source's: _x4, or the size of the result."""
        return f"_x{self.scale:g}" if self.scale else f"_{out_width}x{out_height}"


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
        factor = int(np.prod(self.passes))
        return (self.height * factor, self.width * factor) != (self.out_height, self.out_width)


def plan_picture(height: int, width: int, target: Target, scales: Sequence[int], *, name: str) -> Plan:
    """Choose the passes: the smallest product of one or two of the model's scales that covers the target.

    Raises UsageError, with name in front, when the target is no enlargement or beyond 16 times.
    """
    out_height, out_width = target.size(height, width)
    if out_height < height or out_width < width or (out_height, out_width) == (height, width):
        raise UsageError(f"{name}: {width}x{height} would become {out_width}x{out_height}; emt only enlarges")
    ways = [(scale,) for scale in scales] + [pair for pair in product(scales, scales) if pair[0] <= pair[1]]
    fitting = [
        way
        for way in ways
        if height * int(np.prod(way)) >= out_height and width * int(np.prod(way)) >= out_width
    ]
    if not fitting or max(out_height / height, out_width / width) > LARGEST:
        most = min(LARGEST, max(scales) ** 2)
        raise UsageError(f"{name}: {width}x{height} to {out_width}x{out_height} is beyond {most} times")
    passes = min(fitting, key=lambda way: (int(np.prod(way)), len(way)))
    return Plan(height, width, out_height, out_width, passes)


def enlarge(picture: Picture, plan: Plan, upscaler: Callable[[int], Upscaler]) -> Steps[Picture]:
    """Enlarge a picture as planned, yielding the share done; returns the picture, of the same sample type.

    Where alpha is below opaque, colours are spread under it first, and it is enlarged as a gray picture.
    """
    transparent = picture.transparent
    colours_end = 0.5 if transparent else 1.0
    colours: Pixels = picture.pixels
    if picture.alpha is not None and transparent:
        colours = bleed_alpha(colours, picture.alpha)
    if picture.gray:
        colours = colours[..., 0]
    notes: set[str] = set()
    pixels = yield from part(_enlarge(colours, plan, upscaler, notes), 0.0, colours_end)
    if picture.gray:
        pixels = np.broadcast_to(pixels[..., None], (*pixels.shape, 3))
    alpha: Pixels | None = None
    if picture.alpha is not None and transparent:
        alpha = yield from part(_enlarge(picture.alpha, plan, upscaler, notes), colours_end, 1.0)
        keep_extremes(alpha, picture.alpha)
    else:
        alpha = _opaque(picture, pixels)
    return replace(picture, pixels=pixels, alpha=alpha, notes=(*picture.notes, *sorted(notes)))


def enlarge_together(pictures: Sequence[Picture], plan: Plan, upscaler: Upscaler) -> list[Picture]:
    """Enlarge opaque pictures of one size and kind in one batch, by a plan of one pass."""
    colours = [picture.pixels[..., 0] if picture.gray else picture.pixels for picture in pictures]
    kind = colours[0].dtype
    enlarged = []
    planes = upscaler.upscale_batch(colours, dtype=np.float32 if plan.resized else kind)
    for picture, plane in zip(pictures, planes, strict=True):
        pixels = _fitted(plane, plan, kind)
        if picture.gray:
            pixels = np.broadcast_to(pixels[..., None], (*pixels.shape, 3))
        enlarged.append(replace(picture, pixels=pixels, alpha=_opaque(picture, pixels)))
    return enlarged


def _opaque(picture: Picture, pixels: Pixels) -> Pixels | None:
    """Return the alpha of an enlarged opaque picture: none, or all opaque."""
    if picture.alpha is None:
        return None
    top = full_scale(picture.alpha.dtype)
    return np.broadcast_to(np.array(top, picture.alpha.dtype), pixels.shape[:2])


def _enlarge(
    plane: Pixels, plan: Plan, upscaler: Callable[[int], Upscaler], notes: set[str]
) -> Steps[Pixels]:
    """Run the passes on RGB (h, w, 3) or one plane (h, w); floats between them, one rounding at the end.

    Yields the share done; the result is of the same sample type. notes gets what there is to say.
    """
    kind = plane.dtype
    work = np.cumsum([0.0, *(np.prod(plan.passes[:index]) ** 2.0 for index in range(len(plan.passes)))])
    shares = work / work[-1]
    for index, scale in enumerate(plan.passes):
        last = index == len(plan.passes) - 1
        steps = upscaler(scale).steps(
            plane, dtype=kind if last and not plan.resized else np.float32, notes=notes
        )
        plane = yield from part(steps, float(shares[index]), float(shares[index + 1]))
    return _fitted(plane, plan, kind)


def _fitted(plane: Pixels, plan: Plan, kind: DTypeLike) -> Pixels:
    """Bring an enlarged plane of floats to the plan's size and a sample type; unchanged if it has them."""
    return convert(resize(plane, plan.out_height, plan.out_width), kind) if plan.resized else plane


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

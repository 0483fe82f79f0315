"""Enlarge the samples of a picture as planned: colours and alpha, pass after pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from emt_cli.engine.upscaler import Upscaler
from emt_cli.jobs.picture.plan import Plan
from emt_cli.media.picture.alpha import bleed_alpha, keep_extremes
from emt_cli.media.picture.io import Picture
from emt_cli.media.resize import resize
from emt_cli.media.samples import Pixels, convert, full_scale
from emt_cli.steps import Steps, part

_BAND = 1 << 22
"""About how many samples are resized at a time."""


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
    if not plan.resized:
        return plane
    height, width = plan.out_height, plan.out_width
    fitted: Pixels = np.empty((height, width, *plane.shape[2:]), kind)
    step = max(1, _BAND // fitted[0].size)
    for top in range(0, height, step):  # floats of the whole are there once only
        rows = slice(top, min(top + step, height))
        fitted[rows] = convert(resize(plane, height, width, window=(rows, slice(None))), kind)
    return fitted

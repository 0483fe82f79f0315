"""What a network looks at when it enlarges the surroundings of a point: attention weights, and LAM.

The local attribution map (Gu and Dong 2021, arXiv 2011.11036) integrates gradients along a path from a
blurred picture to the picture itself: how much each input pixel changed the edges drawn at the point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emt_cli.evaluation.methods import Bytes
from emt_cli.model.attention import SWSA
from emt_cli.model.emt import EMT, Layer

PATCH = 4
"""Side, in input pixels, of the place whose edges LAM explains."""
AREA, GRID = 64, 32
"""Side in pixels of what is looked at, and what its place is a multiple of."""
BLUR = 1.2
"""Sigma of the path's first picture, as in the paper."""

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Attention:
    """Where one global layer looks from a point, in windows of one shape."""

    layer: int
    """Counted from 1 through all layers."""
    window: tuple[int, int]
    """(height, width) in pixels."""
    shifted: bool
    inside: NDArray[np.bool_]
    """(h, w): the pixels of the point's window."""
    weights: Map
    """(h, w), mean of the heads; sums to 1, but for weights on the padding."""


@dataclass(frozen=True)
class Attribution:
    """A local attribution map."""

    map: Map
    """(h, w), at least 0: how much each input pixel matters."""
    diffusion: float
    """Diffusion index, 0 to 100: (1 - Gini coefficient) * 100; large where many pixels matter.

    It is taken over AREA x AREA pixels: those outside of the picture do not matter.
    """


def surroundings(image: Bytes, y: int, x: int) -> tuple[Bytes, int, int]:
    """Cut AREA pixels a side around a point, fewer at a border; return the crop and its top and left.

    It is the same for all models, and begins at a multiple of GRID, so that windows whose sides divide it,
    as those of the published and bundled models do, are those of the whole picture.
    """
    top, left = (max(0, (place - GRID // 2) // GRID * GRID) for place in (y, x))
    return image[top : top + AREA, left : left + AREA], top, left


@torch.no_grad()
def attention_at(network: EMT, image: Bytes, y: int, x: int) -> list[Attention]:
    """Return for each global layer and window shape where it looks from (y, x) of RGB (h, w, 3)."""
    maps: list[Tensor] = []
    planes = network.pad_small(_planes(image))
    network.eval()(planes, maps)
    h, w = planes.shape[-2:]
    found = []
    mixers = [(n, layer.mixer) for n, layer in enumerate(network.body, 1) if isinstance(layer, Layer)]
    for number, mixer in mixers:
        if not isinstance(mixer, SWSA):
            continue
        for window, offset in zip(mixer.windows, mixer.shifts, strict=True):
            order = window_pixels(h, w, window, offset)
            index, token = (int(place[0]) for place in torch.nonzero(order == y * w + x, as_tuple=True))
            weights = maps.pop(0)[index].mean(0)[token]
            real = order[index] >= 0
            flat, inside = torch.zeros(h * w), torch.zeros(h * w, dtype=torch.bool)
            flat[order[index][real]] = weights[real]
            inside[order[index][real]] = True
            cut = (slice(image.shape[0]), slice(image.shape[1]))
            found.append(
                Attention(
                    number,
                    window,
                    any(offset),
                    inside.view(h, w)[cut].numpy(),
                    flat.view(h, w)[cut].numpy(),
                )
            )
    return found


def window_pixels(h: int, w: int, window: tuple[int, int], offset: tuple[int, int]) -> Tensor:
    """Return the pixel, y * w + x, of each token, (windows, tokens); -1 where it is padding."""
    padded = torch.full((h + -h % window[0], w + -w % window[1]), -1)
    padded[:h, :w] = torch.arange(h * w).view(h, w)
    rolled = padded.roll(offset, (0, 1))
    tiled = rolled.view(padded.shape[0] // window[0], window[0], padded.shape[1] // window[1], window[1])
    return tiled.permute(0, 2, 1, 3).reshape(-1, window[0] * window[1])


def local_attribution(
    network: EMT, image: Bytes, y: int, x: int, *, steps: int = 20
) -> Iterator[float | Attribution]:
    """Attribute the edges drawn at (y, x) to the pixels of RGB (h, w, 3).

    Yields the share done, then the map.
    """
    torch.set_flush_denormal(True)  # far from the point gradients are denormal, and slow
    scale = network.config.scale
    network.eval().requires_grad_(False)
    path = [_blurred(image, BLUR * (1 - step / steps)) for step in range(steps + 1)]
    side = PATCH * scale // 2
    rows = slice(max(0, y * scale + scale // 2 - side), y * scale + scale // 2 + side)
    columns = slice(max(0, x * scale + scale // 2 - side), x * scale + scale // 2 + side)
    total = torch.zeros_like(path[0])
    for step in range(steps):
        middle = ((path[step] + path[step + 1]) / 2).requires_grad_(True)
        patch = network(middle)[0, :, rows, columns].mean(0)
        edges = patch.diff(dim=0).abs().sum() + patch.diff(dim=1).abs().sum()
        (gradient,) = torch.autograd.grad(edges, middle)
        total += gradient * (path[step + 1] - path[step])
        yield (step + 1) / steps
    found = total[0].sum(0).abs().numpy()
    area = np.zeros(max(AREA * AREA, found.size), np.float32)
    area[: found.size] = found.ravel()
    yield Attribution(found, 100 * (1 - gini(area)))


def gini(values: NDArray[np.floating]) -> float:
    """Return the Gini coefficient of values of at least 0: 0 where all are equal, near 1 for one of many."""
    ordered = np.sort(values.ravel().astype(np.float64))
    count, total = len(ordered), ordered.sum()
    if total == 0:
        return 0.0
    return float(2 * np.sum(np.arange(1, count + 1) * ordered) / (count * total) - (count + 1) / count)


def _planes(image: Bytes) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()


def _blurred(image: Bytes, sigma: float) -> Tensor:
    if sigma == 0:
        return _planes(image)
    blurred = cv2.GaussianBlur(image.astype(np.float32), (9, 9), sigma, borderType=cv2.BORDER_REFLECT_101)
    return torch.from_numpy(blurred).permute(2, 0, 1)[None]

"""How natural a picture looks, without its original: NIQE (Mittal et al. 2013); less is better.

The model of natural pictures is that of the authors' release, as BasicSR ships it: the figures compare with
those of papers, Real-ESRGAN's among them.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from emt_cli.media.metrics import luma
from emt_cli.media.resize import resize

Plane = npt.NDArray[np.float64]

BLOCK = 96
"""Side of the blocks whose statistics are taken, in pixels."""
WINDOW, SIGMA = 7, 7 / 6
"""The Gaussian that local means and deviations are taken with."""
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Which neighbours are multiplied: right, below, and along both diagonals."""


def niqe(rgb: npt.NDArray[Any]) -> float:
    """Return the NIQE of RGB (h, w, 3), 0..255; not a number for less than two blocks of 96x96."""
    plane = np.rint(luma(rgb))
    rows, columns = (side // BLOCK for side in plane.shape)
    if rows * columns < 2:
        return math.nan
    plane = plane[: rows * BLOCK, : columns * BLOCK]
    half = resize(plane.astype(np.float32), len(plane) // 2, plane.shape[1] // 2).astype(np.float64)
    features = np.concatenate([_features(plane, BLOCK), _features(half, BLOCK // 2)], axis=1)
    mean, covariance = _natural()
    known = features[~np.isnan(features).any(axis=1)]  # flat blocks have no statistics
    if len(known) < 2:
        return math.nan
    distance = mean - np.nanmean(features, axis=0)
    inverse = np.linalg.pinv((covariance + np.cov(known, rowvar=False)) / 2)
    return math.sqrt(max(0.0, float(distance @ inverse @ distance)))


@functools.cache
def _natural() -> tuple[Plane, Plane]:
    """Return mean (36,) and covariance (36, 36) of the features of natural pictures."""
    with np.load(Path(__file__).with_name("niqe.npz"), allow_pickle=False) as values:
        return values["mean"], values["covariance"]


def _features(plane: Plane, side: int) -> Plane:
    """Return 18 features of each block, (blocks, 18)."""
    kernel = cv2.getGaussianKernel(WINDOW, SIGMA)
    mean, square = (
        cv2.sepFilter2D(part, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
        for part in (plane, plane**2)
    )
    normal = (plane - mean) / (np.sqrt(np.abs(square - mean**2)) + 1)
    rows, columns = (size // side for size in plane.shape)
    blocks = normal.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)
    return np.array([_block_features(block) for block in blocks])


def _block_features(block: Plane) -> list[float]:
    shape, left, right = _asymmetric_gaussian(block)
    features = [shape, (left + right) / 2]
    for shift in SHIFTS:
        shape, left, right = _asymmetric_gaussian(block * np.roll(block, shift, axis=(0, 1)))
        mean = (right - left) * _gamma(2 / shape) / _gamma(1 / shape)  # equation 8
        features += [shape, mean, left, right]
    return features


def _asymmetric_gaussian(values: Plane) -> tuple[float, float, float]:
    """Fit an asymmetric generalised Gaussian by its moments: shape, left and right scale (equation 7)."""
    below, above = values[values < 0], values[values > 0]
    if not len(below) or not len(above):
        return math.nan, math.nan, math.nan
    left, right = (math.sqrt(float(np.mean(side**2))) for side in (below, above))
    ratio = left / right
    moment = float(np.mean(np.abs(values))) ** 2 / float(np.mean(values**2))
    wanted = moment * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, moments = _moments()
    shape = float(shapes[np.argmin((moments - wanted) ** 2)])
    scale = math.sqrt(_gamma(1 / shape) / _gamma(3 / shape))
    return shape, left * scale, right * scale


@functools.cache
def _moments() -> tuple[Plane, Plane]:
    """Return shapes of generalised Gaussians, and of each the square of the mean over the mean square."""
    shapes = np.arange(0.2, 10.001, 0.001)
    moments = [_gamma(2 / shape) ** 2 / (_gamma(1 / shape) * _gamma(3 / shape)) for shape in shapes.tolist()]
    return shapes, np.array(moments)


def _gamma(x: float) -> float:
    return math.gamma(x) if x == x else math.nan

"""Kernels of the blurs that pictures suffer, as Real-ESRGAN draws them (arXiv 2107.10833, 3.1 and 3.3)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Kernel = npt.NDArray[np.float32]
"""(2 radius + 1, 2 radius + 1), symmetric about its centre, with the sum 1."""

_ANGLES = (np.arange(64) + 0.5) * (math.pi / 64)


def bell(
    radius: int, deviations: tuple[float, float], angle: float, *, shape: float = 1.0, plateau: bool = False
) -> Kernel:
    """Return a Gaussian (shape 1), a generalised Gaussian, or a plateau of some shape.

    deviations: standard deviations in pixels along both axes, the first of which is turned by angle.
    """
    places = np.arange(-radius, radius + 1)
    x, y = np.meshgrid(places, places)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    distance = ((along / deviations[0]) ** 2 + (across / deviations[1]) ** 2) ** shape
    return _normal(1 / (distance + 1) if plateau else np.exp(-distance / 2))


def sinc(radius: int, cutoff: float) -> Kernel:
    """Return the filter that lets through frequencies up to cutoff, 0..pi, in all directions: it rings."""
    places = np.arange(-radius, radius + 1)
    distance = np.hypot(*np.meshgrid(places, places))
    safe = np.where(distance == 0, 1, distance)
    values = cutoff * bessel(cutoff * safe) / (2 * math.pi * safe)
    return _normal(np.where(distance == 0, cutoff**2 / (4 * math.pi), values))


def bessel(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the Bessel function of the first kind and first order, by its integral; exact for x of 0..60."""
    mean: npt.NDArray[np.float64] = np.cos(_ANGLES - x[..., None] * np.sin(_ANGLES)).mean(axis=-1)
    return mean


def _normal(values: npt.NDArray[np.float64]) -> Kernel:
    kernel: Kernel = (values / values.sum()).astype(np.float32)
    return kernel

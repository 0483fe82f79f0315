"""Real-ESRGAN's damages (arXiv 2107.10833, 3): blur, resizing, noise, JPEG, twice; ringing in the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from emt_cli.training.blur_kernels import Kernel, bell, sinc
from emt_cli.training.dataset import Pixels
from emt_cli.training.degradation import Random, saved
from emt_cli.training.tables import Range, RealConfig

Picture = npt.NDArray[Any]
"""RGB (h, w, 3), 0..255."""

RESIZES = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
LEVELS = 256.0
"""Photons at full brightness for Poisson noise of strength 1."""
BLOCK = 8
"""Side of a JPEG block."""


@dataclass(frozen=True)
class RealDegradation:
    """Damages an HR patch with a margin all around, which the blurs and the start of the JPEG blocks use up.

    Every step maps the whole patch onto the whole patch, so that nothing is shifted.
    """

    scale: int
    config: RealConfig = field(default_factory=RealConfig)
    margin: int = 16
    """LR pixels around the patch."""

    def __call__(self, wide: Pixels, random: Random) -> Pixels:
        """Make an LR patch (side, side, 3) of an HR patch (side + 2 margin, ...) * scale, RGB uint8."""
        config = self.config
        side = len(wide) // self.scale
        x = cv2.filter2D(
            wide.astype(np.float32), -1, self._blur(random, config.blur), borderType=cv2.BORDER_REFLECT
        )
        x = _resized(x, len(wide) * _factor(random, config.resizes, config.resize), random)
        x = self._noisy(x, random, config.gaussian, config.poisson)
        x = saved(_bytes(x), random, config.quality).astype(np.float32)
        if random.random() < config.second_blur_share:
            x = cv2.filter2D(x, -1, self._blur(random, config.second_blur), borderType=cv2.BORDER_REFLECT)
        x = _resized(x, side * _factor(random, config.second_resizes, config.second_resize), random)
        x = self._noisy(x, random, config.second_gaussian, config.second_poisson)
        top = left = 0
        if random.random() < 0.5:
            x = self._ringing(_resized(x, side, random), random)
            top, left = (int(place) for place in random.integers(0, BLOCK, 2))  # where blocks start
            lr = saved(_bytes(x[top:, left:]), random, config.second_quality)
        else:
            x = saved(_bytes(x), random, config.second_quality).astype(np.float32)
            lr = _bytes(self._ringing(_resized(x, side, random), random))
        y, x0, inner = self.margin - top, self.margin - left, side - 2 * self.margin
        return np.ascontiguousarray(lr[y : y + inner, x0 : x0 + inner])

    def _blur(self, random: Random, deviations: Range) -> Kernel:
        """Draw a kernel of any kind."""
        config = self.config
        radius = int(random.integers(config.radius[0], config.radius[1] + 1))
        if random.random() < config.sinc_share:
            return sinc(radius, random.uniform(math.pi / (3 if radius < 6 else 5), math.pi))
        kind = int(random.choice(len(config.kernels), p=config.kernels))
        along, across = (random.uniform(*deviations) for _ in range(2))
        angle = random.uniform(-math.pi, math.pi)
        if kind % 2 == 0:
            across = along
        shape = 1.0
        if kind >= 2:
            least, most = config.generalised if kind < 4 else config.plateau
            shape = random.uniform(least, 1) if random.random() < 0.5 else random.uniform(1, most)
        return bell(radius, (along, across), angle, shape=shape, plateau=kind >= 4)

    def _ringing(self, x: Picture, random: Random) -> Picture:
        if random.random() >= self.config.final_sinc_share:
            return x
        radius = int(random.integers(self.config.radius[0], self.config.radius[1] + 1))
        kernel = sinc(radius, random.uniform(math.pi / 3, math.pi))
        ringing: Picture = cv2.filter2D(x, -1, kernel, borderType=cv2.BORDER_REFLECT)
        return ringing

    def _noisy(self, x: Picture, random: Random, gaussian: Range, poisson: Range) -> Picture:
        """Add Gaussian noise, or Poisson's as a Gaussian of its variance; in each colour, or in all alike."""
        gray = random.random() < self.config.gray_share
        own = np.random.default_rng(int(random.integers(1 << 62)))  # sizes must not change what is drawn next
        noise = own.standard_normal((*x.shape[:2], 1 if gray else 3), dtype=np.float32)
        if random.random() < self.config.gaussian_share:
            noise *= random.uniform(*gaussian)
        else:
            light = x.mean(axis=2, keepdims=True) if gray else x
            noise *= np.sqrt(np.maximum(light, 0) * (255 / LEVELS)) * random.uniform(*poisson)
        return np.clip(x + noise, 0, 255)


def _factor(random: Random, shares: tuple[float, float, float], bounds: Range) -> float:
    """Draw how much a picture is enlarged, reduced or kept."""
    way = int(random.choice(3, p=shares))
    if way == 2:
        return 1.0
    return random.uniform(1, max(1, bounds[1])) if way == 0 else random.uniform(min(1, bounds[0]), 1)


def _resized(x: Picture, side: float, random: Random) -> Picture:
    """Resize a square by any of the common kernels."""
    size = max(1, round(side))
    if size == len(x):
        return x
    resized: Picture = cv2.resize(x, (size, size), interpolation=RESIZES[int(random.integers(len(RESIZES)))])
    return resized


def _bytes(x: Picture) -> Pixels:
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)

"""What happens to a picture between the scene and the web: blur, resizing, noise, JPEG, at random."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from emt_cli.media.resize import bicubic_downscale
from emt_cli.training.dataset import Pixels
from emt_cli.training.tables import PhotoConfig

Random = np.random.Generator

KERNELS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


@dataclass(frozen=True)
class PhotoDegradation:
    """Damages in the order of Real-ESRGAN (arXiv 2107.10833), in milder amounts.

    Part of the patches stays free of each kind of damage, so that clean pictures remain in the mix.
    """

    scale: int
    config: PhotoConfig = field(default_factory=PhotoConfig)
    margin: int = 8
    """LR pixels around the patch; the side of a JPEG block."""

    def __call__(self, wide: Pixels, random: Random) -> Pixels:
        """Make an LR patch (side, side, 3) of an HR patch with the margin around, RGB uint8."""
        config = self.config
        clean = random.random() < config.bicubic_share
        lr = bicubic_downscale(wide, self.scale) if clean else self._shrunk(wide, random)
        if random.random() < config.noise_share:
            lr = _noisy(lr, random, config.noise)
        side = len(lr) - 2 * self.margin
        top = left = self.margin
        for _ in range(int(random.choice(3, p=config.saves))):
            # Blocks start anywhere; two pixels of the margin are kept, where the resizing met the border.
            y, x = (int(random.integers(0, min(7, free - 2) + 1)) for free in (top, left))
            lr = saved(lr[y:, x:], random, config.quality)
            top, left = top - y, left - x
        return np.ascontiguousarray(lr[top : top + side, left : left + side])

    def _shrunk(self, wide: Pixels, random: Random) -> Pixels:
        """Blur, then resize by any of the common kernels."""
        deviation = random.uniform(*self.config.blur) * self.scale
        blurred = cv2.GaussianBlur(wide, (0, 0), max(deviation, 0.1), borderType=cv2.BORDER_REFLECT)
        side = len(wide) // self.scale
        kernel = KERNELS[int(random.integers(len(KERNELS)))]
        return cv2.resize(blurred, (side, side), interpolation=kernel).astype(np.uint8, copy=False)


def _noisy(lr: Pixels, random: Random, deviations: tuple[float, float]) -> Pixels:
    """Add noise of the sensor's kind, stronger where it is bright, in each colour or in all alike."""
    deviation = random.uniform(*deviations)
    channels = 3 if random.random() < 0.6 else 1
    noise = random.standard_normal((*lr.shape[:2], channels)).astype(np.float32)
    if random.random() < 0.5:
        noise *= np.sqrt((lr.mean(axis=2, keepdims=True) + 16) / 128).astype(np.float32)
    return np.clip(np.round(lr + deviation * noise), 0, 255).astype(np.uint8)


def saved(lr: Pixels, random: Random, qualities: tuple[int, int]) -> Pixels:
    """Save RGB (h, w, 3) as JPEG of some quality and read it again."""
    quality = int(random.integers(qualities[0], qualities[1] + 1))
    bgr = cv2.cvtColor(np.ascontiguousarray(lr), cv2.COLOR_RGB2BGR)
    whole, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not whole:
        raise RuntimeError("JPEG encoder failed")
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.asarray(decoded, dtype=np.uint8)[..., ::-1]

"""Which damage a patch gets: each degradation has its share of them, and some stay clean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emt_cli.media.resize import bicubic_downscale
from emt_cli.training.config import TrainConfig
from emt_cli.training.dataset import Degrade, Pixels
from emt_cli.training.degradation import PhotoDegradation
from emt_cli.training.degradation_real import RealDegradation


@dataclass(frozen=True)
class Clean:
    """The papers' bicubic."""

    scale: int
    margin: int

    def __call__(self, wide: Pixels, random: np.random.Generator) -> Pixels:
        """Make an LR patch (side, side, 3) of an HR patch with the margin around, RGB uint8."""
        inner = slice(self.margin, -self.margin)
        return np.ascontiguousarray(bicubic_downscale(wide, self.scale)[inner, inner])


@dataclass(frozen=True)
class Mixture:
    """Two degradations of the same margin."""

    share: float
    """The first one's share of patches."""
    first: Degrade
    second: Degrade

    @property
    def margin(self) -> int:
        """LR pixels around the patch."""
        return self.second.margin

    def __call__(self, wide: Pixels, random: np.random.Generator) -> Pixels:
        """Make an LR patch (side, side, 3) of an HR patch with the margin around, RGB uint8."""
        chosen = self.first if random.random() < self.share else self.second
        return chosen(wide, random)


def make_degradation(config: TrainConfig) -> Degrade | None:
    """Return what makes a run's LR patches; None where they are cut ready-made."""
    if config.degradation == "bicubic":
        return None
    damage: Degrade = PhotoDegradation(config.scale, config.photo)
    if config.degradation == "real":
        damage = RealDegradation(config.scale, config.real)
        if config.real.photo_share:
            photo = PhotoDegradation(config.scale, config.photo, damage.margin)
            damage = Mixture(config.real.photo_share, photo, damage)
    if config.clean_share:
        damage = Mixture(config.clean_share, Clean(config.scale, damage.margin), damage)
    return damage

"""The network as inference computes it: batch normalisation folded into what lies beside it; arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emt_cli.engine.tiling import Floats
from emt_cli.engine.weights import Weights
from emt_cli.model.config import MEAN_RGB, MIX_OFFSETS, EMTConfig, Pair

EPSILON = np.float32(1e-5)
"""Added to variances; torch's default, which the network is trained with."""

Affine = tuple[Floats, Floats]
"""Weight (outputs, inputs, ...) and bias (outputs)."""


@dataclass(frozen=True)
class FoldedMixer:
    """x + BatchNorm(PixelMix(x) - x), as a sum over five pixels."""

    taps: Floats
    """Factors of x and of its MIX_OFFSETS neighbours, (5, dim)."""
    bias: Floats


@dataclass(frozen=True)
class FoldedAttention:
    """SWSA with its normalisation in the projection."""

    windows: tuple[Pair, ...]
    shifts: tuple[Pair, ...]
    qv: list[Affine]
    """For each window shape, queries first: (2 dim / shapes, dim)."""
    proj: Affine


@dataclass(frozen=True)
class FoldedLayer:
    """A layer of the body."""

    mixer: FoldedMixer | FoldedAttention
    fc1: Affine
    fc2: Affine


@dataclass(frozen=True)
class FoldedNetwork:
    """All of a network, float32."""

    config: EMTConfig
    mean: Floats
    """(3,), 0..255."""
    head: Affine
    layers: list[FoldedLayer]
    tail: Affine


def fold(weights: Weights) -> FoldedNetwork:
    """Fold the normalisations of a model."""
    tensors, config = weights.tensors, weights.config

    def affine(name: str) -> Affine:
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    layers = []
    for index, kind in enumerate(config.mixers):
        name = f"body.{index}"
        gain, offset = _norm_as_affine(tensors, f"{name}.mixer.norm")
        mixer: FoldedMixer | FoldedAttention
        if kind == "local":
            mixer = FoldedMixer(_taps(gain), offset)
        else:
            weight, bias = affine(f"{name}.mixer.qv")
            parts = len(config.windows)
            qv = zip(
                np.split(weight * gain[:, None], parts), np.split(bias * gain + offset, parts), strict=True
            )
            rolls = config.shifts if kind == "shifted" else ((0, 0),) * parts
            mixer = FoldedAttention(config.windows, rolls, list(qv), affine(f"{name}.mixer.proj"))
        layers.append(FoldedLayer(mixer, affine(f"{name}.mlp.fc1"), affine(f"{name}.mlp.fc2")))
    mean = np.array(MEAN_RGB, np.float32)
    return FoldedNetwork(config, mean, affine("head"), layers, affine("tail"))


def _norm_as_affine(tensors: dict[str, Floats], name: str) -> tuple[Floats, Floats]:
    """Return gain and bias of a batch normalisation in evaluation mode."""
    gain = tensors[f"{name}.weight"] / np.sqrt(tensors[f"{name}.running_var"] + EPSILON)
    return gain, tensors[f"{name}.bias"] - tensors[f"{name}.running_mean"] * gain


def _taps(gain: Floats) -> Floats:
    """Return the factors of x + gain * (PixelMix(x) - x): of x, and of its neighbours."""
    taps = np.zeros((1 + len(MIX_OFFSETS), len(gain)), np.float32)
    taps[0] = 1
    for group in range(len(MIX_OFFSETS)):
        taps[0, group::5] -= gain[group::5]
        taps[1 + group, group::5] = gain[group::5]
    return taps

"""Scores on held-out pictures while a network trains."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from emt_cli.model.emt import EMT
from emt_cli.model.inference import InferenceEMT
from emt_cli.training.dataset import Pixels

LUMA = (65.481, 128.553, 24.966)
"""ITU-R BT.601 to studio range, for RGB of 0..1."""


def luma_psnr(
    network: EMT, pairs: Iterable[tuple[Pixels, Pixels]], *, device: torch.device | str = "cpu"
) -> list[float]:
    """Return the luma PSNR in dB, `scale` border pixels left out, of each (LR, HR) pair.

    LR: RGB (h, w, 3); HR: RGB (h * scale, w * scale, 3). The answer is rounded to bytes first.
    """
    scale = network.config.scale
    fast = InferenceEMT(network.eval(), device=device)
    scores = []
    for lr, hr in pairs:
        answer = fast(_planes(lr)[None])[0].cpu().clamp(0, 255).round()
        error = (_luma(answer) - _luma(_planes(hr)))[scale:-scale, scale:-scale]
        scores.append(10 * float(torch.log10(255**2 / error.double().square().mean())))
    return scores


def enlarged(network: EMT, lr: Pixels, device: torch.device | str = "cpu") -> Pixels:
    """Enlarge RGB (h, w, 3) and round."""
    answer = InferenceEMT(network.eval(), device=device)(_planes(lr)[None])[0]
    rounded: Pixels = answer.clamp(0, 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return rounded


def _planes(pixels: Pixels) -> Tensor:
    return torch.tensor(pixels).permute(2, 0, 1).float()


def _luma(rgb: Tensor) -> Tensor:
    return torch.einsum("chw,c->hw", rgb, torch.tensor(LUMA) / 255) + 16

"""Scores on held-out pictures while a network trains."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from emt_cli.media.metrics import luma, psnr
from emt_cli.model.emt import EMT
from emt_cli.model.inference import InferenceEMT
from emt_cli.training.dataset import Pixels


def luma_psnr(
    network: EMT, pairs: Iterable[tuple[Pixels, Pixels]], *, device: torch.device | str = "cpu"
) -> list[float]:
    """Return the luma PSNR in dB, `scale` border pixels left out, of each (LR, HR) pair.

    LR: RGB (h, w, 3); HR: RGB (h * scale, w * scale, 3). The answer is rounded to bytes first.
    """
    border = network.config.scale
    return [psnr(luma(enlarged(network, lr, device)), luma(hr), border=border) for lr, hr in pairs]


def enlarged(network: EMT, lr: Pixels, device: torch.device | str = "cpu") -> Pixels:
    """Enlarge RGB (h, w, 3) and round."""
    answer = InferenceEMT(network.eval(), device=device)(_planes(lr)[None])[0]
    rounded: Pixels = answer.clamp(0, 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return rounded


def _planes(pixels: Pixels) -> Tensor:
    return torch.tensor(pixels).permute(2, 0, 1).float()

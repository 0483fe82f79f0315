"""Scores on held-out pictures while a network trains."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from emt_cli.engine.folded import fold
from emt_cli.engine.torch.inference import InferenceEMT
from emt_cli.engine.torch.network import weights_of
from emt_cli.media.metrics import WINDOW, luma, psnr, ssim
from emt_cli.media.niqe import niqe
from emt_cli.model.emt import EMT
from emt_cli.training.dataset import Pixels

SCORES = ("psnr", "ssim", "niqe")
"""Luma PSNR in dB and SSIM, `scale` border pixels left out, and NIQE."""


def score_pictures(
    network: EMT, pairs: Iterable[tuple[Pixels, Pixels]], *, device: torch.device | str = "cpu"
) -> list[tuple[float, ...]]:
    """Return SCORES of each (LR, HR) pair; not a number for a picture that is too small for one of them.

    LR: RGB (h, w, 3); HR: RGB (h * scale, w * scale, 3). The answer is rounded to bytes first.
    """
    border = network.config.scale
    scores: list[tuple[float, ...]] = []
    for lr, hr in pairs:
        answer = enlarged(network, lr, device)
        y, wanted = luma(answer), luma(hr)
        alike = ssim(y, wanted, border=border) if has_score("ssim", hr, border) else math.nan
        scores.append((psnr(y, wanted, border=border), alike, niqe(answer)))
    return scores


def has_score(name: str, hr: Pixels, scale: int) -> bool:
    """Tell whether a picture (h, w, 3) is large enough for a score; NIQE needs some texture too."""
    if name == "niqe":
        return not math.isnan(niqe(hr))
    return name != "ssim" or min(hr.shape[:2]) - 2 * scale >= WINDOW


def enlarged(network: EMT, lr: Pixels, device: torch.device | str = "cpu") -> Pixels:
    """Enlarge RGB (h, w, 3) and round."""
    answer = InferenceEMT(fold(weights_of(network)), device=device)(_planes(lr)[None])[0]
    rounded: Pixels = answer.clamp(0, 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return rounded


def _planes(pixels: Pixels) -> Tensor:
    return torch.tensor(pixels).permute(2, 0, 1).float()

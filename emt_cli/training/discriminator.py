"""The discriminator: a U-Net with spectral normalisation, which judges each pixel (arXiv 2107.10833, 3.4).

Beside the picture it is given the picture's high frequencies, amplified: from the picture alone it learns in
thousands of steps, not in a hundred, that grids of small dots are no photographs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

CONTRAST, DETAIL, BLUR = 64, 8, 5
"""Divisors of colours and of high frequencies; side of the box whose mean is taken off for the latter."""


class Discriminator(nn.Module):
    """Says for each pixel how likely it is a photograph's, as logits."""

    def __init__(self, width: int) -> None:
        """width: channels of the first layer; two, four and eight times as many follow."""
        super().__init__()
        self.head = nn.Conv2d(6, width, 3, padding=1)
        self.down = nn.ModuleList(_halving(width << level) for level in range(3))
        self.up = nn.ModuleList(_plain(width << level + 1, width << level) for level in (2, 1, 0))
        self.body = nn.ModuleList(_plain(width, width) for _ in range(2))
        self.tail = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Judge RGB (b, 3, h, w), 0..255; return (b, 1, h, w)."""
        smooth = F.avg_pool2d(F.pad(x, (BLUR // 2,) * 4, mode="replicate"), BLUR, 1)
        x = _activated(self.head(torch.cat([(x - 127.5) / CONTRAST, (x - smooth) / DETAIL], dim=1)))
        skips = []
        for layer in self.down:
            skips.append(x)
            x = _activated(layer(x))
        for layer in self.up:
            skip = skips.pop()
            x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
            x = _activated(layer(x)) + skip
        for layer in self.body:
            x = _activated(layer(x))
        logits: Tensor = self.tail(x)
        return logits


def _halving(width: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False))


def _plain(width: int, out: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(width, out, 3, padding=1, bias=False))


def _activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)

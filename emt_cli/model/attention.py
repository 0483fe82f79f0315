"""Striped-window self-attention (SWSA), the token mixer of a global layer."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, cat, nn, roll
from torch.nn import functional as F

from emt_cli.model.config import EMTConfig
from emt_cli.model.layers import ChannelNorm


class SWSA(nn.Module):
    """Self-attention in striped windows, softmax(q q^T) v with k = q and no scaling.

    Paper section 3.3. The channels are split into one part for each window shape; a shifted layer rolls each
    part by half a window first and back afterwards, without a mask.
    """

    def __init__(self, config: EMTConfig, *, shifted: bool) -> None:
        super().__init__()
        self.windows = config.windows
        self.shifts = config.shifts if shifted else ((0, 0),) * len(config.windows)
        self.heads = config.heads
        self.qv = nn.Linear(config.dim, 2 * config.dim)
        self.norm = ChannelNorm(2 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within (b, h, w, dim); h and w above half the largest window side."""
        parts = self.norm(self.qv(x)).chunk(len(self.windows), dim=-1)
        attended = [
            attend(part, window, offset, self.heads)
            for part, window, offset in zip(parts, self.windows, self.shifts, strict=True)
        ]
        y: Tensor = self.proj(cat(attended, dim=-1))
        return y


def attend(part: Tensor, window: tuple[int, int], offset: tuple[int, int], heads: int) -> Tensor:
    """Attend in windows of one shape: (b, h, w, 2c), laid out (q|v, head, head_dim), to (b, h, w, c)."""
    h, w = part.shape[1:3]
    pad_h, pad_w = -h % window[0], -w % window[1]
    if pad_h or pad_w:
        channels_first = part.permute(0, 3, 1, 2)
        part = F.pad(channels_first, (0, pad_w, 0, pad_h), mode="reflect").permute(0, 2, 3, 1)
    if any(offset):
        part = roll(part, offset, (1, 2))
    tokens = rearrange(
        part,
        "b (y wh) (x ww) (qv n d) -> qv (b y x) n (wh ww) d",
        wh=window[0],
        ww=window[1],
        qv=2,
        n=heads,
    )
    q, v = tokens[0], tokens[1]
    out = rearrange(
        mix_values(q, v),
        "(b y x) n (wh ww) d -> b (y wh) (x ww) (n d)",
        y=(h + pad_h) // window[0],
        x=(w + pad_w) // window[1],
        wh=window[0],
    )
    if any(offset):
        out = roll(out, (-offset[0], -offset[1]), (1, 2))
    return out[:, :h, :w]


def mix_values(q: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q q^T) v for (n, heads, tokens, d)."""
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":
        # PyTorch's fused kernel is 7 times slower here, forward and backward together.
        return (q @ q.mT).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, q, v, scale=1.0)

"""Striped-window self-attention (SWSA), the token mixer of a global layer."""

from __future__ import annotations

from typing import Any

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

    def forward(self, x: Tensor, maps: list[Tensor] | None = None) -> Tensor:
        """Attend within (b, h, w, dim); h and w above half the largest window side.

        maps: gets the attention weights of each window shape, as `attend` says.
        """
        parts = self.norm(self.qv(x)).chunk(len(self.windows), dim=-1)
        attended = [
            attend(part, window, offset, self.heads, maps)
            for part, window, offset in zip(parts, self.windows, self.shifts, strict=True)
        ]
        y: Tensor = self.proj(cat(attended, dim=-1))
        return y


def attend(
    part: Tensor,
    window: tuple[int, int],
    offset: tuple[int, int],
    heads: int,
    maps: list[Tensor] | None = None,
) -> Tensor:
    """Attend in windows of one shape: (b, h, w, 2c), laid out (q|v, head, head_dim), to (b, h, w, c).

    maps: gets the weights, (b * windows, heads, tokens, tokens), windows and tokens row by row.
    """
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
    if maps is not None:
        maps.append((q @ q.mT).softmax(-1))
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
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):  # normalisation gave float32
        kind = torch.get_autocast_dtype("cpu")
        q, v = q.to(kind), v.to(kind)
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        flat: Tensor = _MixValues.apply(q.flatten(0, 1), v.flatten(0, 1))  # type: ignore[no-untyped-call]
        return flat.view_as(v)
    if q.device.type == "cpu" and q.requires_grad and q.shape[-1] % 16:
        # Zeros change nothing, and the kernel's backward pass is a third faster on whole vectors.
        padding = (0, -q.shape[-1] % 16)
        q, mixed = F.pad(q, padding), F.pad(v, padding)
        return F.scaled_dot_product_attention(q, q, mixed, scale=1.0)[..., : v.shape[-1]]
    return F.scaled_dot_product_attention(q, q, v, scale=1.0)


class _MixValues(torch.autograd.Function):
    """softmax(q q^T) v of (n, tokens, d), some windows at a time, so that their matrices stay in the cache.

    In bf16 on a CPU, where PyTorch's fused kernel is slow: several times as fast, forward and backward. The
    matrices are computed again in the backward pass.
    """

    CACHED = 1 << 20
    """Elements of the matrices at work."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(v)
        for part in _MixValues.parts(q):
            weights = torch.bmm(q[part], q[part].mT).softmax(-1)
            torch.bmm(weights, v[part], out=out[part])
        ctx.save_for_backward(q, v, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        q, v, out = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_q, grad_v = torch.empty_like(q), torch.empty_like(v)
        means = (grad * out).sum(-1, keepdim=True)  # the mean gradient of a token's weights
        for part in _MixValues.parts(q):
            weights = torch.bmm(q[part], q[part].mT).softmax(-1)
            torch.bmm(weights.mT, grad[part], out=grad_v[part])
            logits = torch.bmm(grad[part], v[part].mT).sub_(means[part]).mul_(weights)
            torch.bmm(logits, q[part], out=grad_q[part])
            grad_q[part].baddbmm_(logits.mT, q[part])
        return grad_q, grad_v

    @staticmethod
    def parts(q: Tensor) -> list[slice]:
        size = max(1, _MixValues.CACHED // q.shape[1] ** 2)
        return [slice(start, start + size) for start in range(0, len(q), size)]

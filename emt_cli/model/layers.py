"""Local layers: pixel mixer and shifted MLP, on (b, h, w, c) tensors.

Channels lie last in memory, so that the 1x1 convolutions are plain matrix products and the shifts are slices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emt_cli.model.config import MIX_OFFSETS, SHIFT_OFFSETS


def _shift_into(out: Tensor, x: Tensor, dy: int, dx: int, *, circular: bool) -> None:
    """Write x moved by (dy, dx), one of them ±1 and the other 0, into out, both (b, h, w, c)."""
    axis, step = (1, dy) if dy else (2, dx)
    length = x.shape[axis]
    source, target = (1, 0) if step > 0 else (0, 1)
    out.narrow(axis, target, length - 1).copy_(x.narrow(axis, source, length - 1))
    edge = out.narrow(axis, length - 1 if step > 0 else 0, 1)
    if circular:
        edge.copy_(x.narrow(axis, 0 if step > 0 else length - 1, 1))
    else:
        edge.zero_()


def _mix(x: Tensor, sign: int) -> Tensor:
    out = torch.empty_like(x)
    for group, (dy, dx) in enumerate(MIX_OFFSETS):
        _shift_into(out[..., group::5], x[..., group::5], sign * dy, sign * dx, circular=True)
    out[..., 4::5] = x[..., 4::5]
    return out


def _shift(x: Tensor, sign: int) -> Tensor:
    out = torch.empty_like(x)
    size = x.shape[-1] // 5
    for group, (dy, dx) in enumerate(SHIFT_OFFSETS):
        part = slice(group * size, (group + 1) * size)
        _shift_into(out[..., part], x[..., part], sign * dy, sign * dx, circular=False)
    out[..., 4 * size :] = x[..., 4 * size :]
    return out


GATHERED = 1 << 20
"""Most values of a picture that a GPU moves by one table of places, instead of by slices."""


def _moved(x: Tensor, sign: int, move: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Move groups of channels, as move does: _mix or _shift."""
    if x.device.type == "cpu" or x[0].numel() > GATHERED:
        return move(x, sign)
    return _gathered(x, sign, move)


def _gathered(x: Tensor, sign: int, move: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Do so by two kernels instead of thirty, which take a GPU longer to start than to run on patches."""
    places, outside = _places(tuple(x.shape[1:]), sign, move, x.device)
    moved = x.flatten(1).index_select(1, places)
    return (moved if outside is None else moved.masked_fill_(outside, 0)).view(x.shape)


@functools.lru_cache(maxsize=32)
def _places(
    shape: tuple[int, ...], sign: int, move: Callable[[Tensor, int], Tensor], device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Return from where in (h, w, c) each value comes, and which of them come from outside, if any do."""
    count = torch.Size(shape).numel()
    numbers = move(torch.arange(1, count + 1, dtype=torch.int32).view(1, *shape), sign).flatten()
    outside = numbers == 0
    places = (numbers - 1).clamp(min=0).to(device)
    return places, outside.to(device) if outside.any() else None


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _moved(x, 1, _mix)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _moved(grads[0], -1, _mix)


class _Shift(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _moved(x, 1, _shift)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _moved(grads[0], -1, _shift)


def pixel_mix(x: Tensor) -> Tensor:
    """Move channels c % 5 = 0..3 one pixel left, right, up, down; borders are circular.

    x: (b, h, w, c); paper section 3.2. The backward pass is written by hand: the opposite moves.
    """
    mixed: Tensor = _Mix.apply(x)  # type: ignore[no-untyped-call]
    return mixed


def shift(x: Tensor) -> Tensor:
    """Move five contiguous channel groups left, right, up, down, not; zeros come in at the borders.

    x: (b, h, w, c). Where c is no multiple of 5 the last group takes the rest.
    """
    shifted: Tensor = _Shift.apply(x)  # type: ignore[no-untyped-call]
    return shifted


class ChannelNorm(nn.BatchNorm1d):
    """Batch normalisation of the last axis of (b, h, w, c)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (b, h, w, c)."""
        return super().forward(x.reshape(-1, x.shape[-1])).view(x.shape)


class PixelMixer(nn.Module):
    """BatchNorm(PixelMix(x) - x), the token mixer of a local layer (paper section 3.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (b, h, w, dim) with its four neighbours."""
        y: Tensor = self.norm(pixel_mix(x) - x)
        return y


class MLP(nn.Module):
    """Shift, 1x1 conv, SiLU, shift, 1x1 conv (paper section 3.1)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, dim) to the same shape."""
        y: Tensor = self.fc2(shift(F.silu(self.fc1(shift(to_product_type(x))))))
        return y


def to_product_type(x: Tensor) -> Tensor:
    """Round x to the type of mixed-precision products, if on, so that what follows moves half the bytes."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x

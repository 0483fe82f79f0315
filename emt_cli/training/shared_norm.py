"""Batch normalisation over the batches of all processes, whatever their number, or by kept statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

from emt_cli.model.layers import ChannelNorm


def share_statistics(network: nn.Module) -> None:
    """Make every ChannelNorm in network take its statistics over all processes; names of tensors stay."""
    for module in network.modules():
        if type(module) is ChannelNorm:
            module.__class__ = SharedNorm


def freeze_statistics(network: nn.Module) -> None:
    """Make every ChannelNorm in network normalise by its running statistics, and leave them as they are."""
    for module in network.modules():
        if isinstance(module, ChannelNorm):
            module.eval()


class SharedNorm(ChannelNorm):
    """ChannelNorm over the batches of all processes, each of the same size."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (b, h, w, c)."""
        if not self.training:
            return super().forward(x)
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            raise ValueError("shared batch normalisation keeps running statistics")
        # Sums of values close to zero lose the least.
        centred = x.float() - self.running_mean
        y, mean, variance = _SharedNorm.apply(centred, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            count = x.numel() // x.shape[-1] * distributed.get_world_size()
            momentum = 0.0 if self.momentum is None else self.momentum
            self.running_mean += momentum * mean
            self.running_var.lerp_(variance * (count / (count - 1)), momentum)
            self.num_batches_tracked += 1
        normal: Tensor = y.to(x.dtype)
        return normal


class _SharedNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        flat = x.reshape(-1, x.shape[-1])
        sums = torch.stack([flat.sum(0), torch.linalg.vecdot(flat, flat, dim=0)])
        distributed.all_reduce(sums)
        mean, square = sums / (len(flat) * distributed.get_world_size())
        variance = square - mean * mean
        inverse = torch.rsqrt(variance + eps)
        gain = weight * inverse
        ctx.save_for_backward(x, mean, inverse, weight)
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(bias - mean * gain, x, gain), mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, mean, inverse, weight = ctx.saved_tensors
        grad = grads[0]
        flat, flat_grad = x.reshape(-1, x.shape[-1]), grad.reshape(-1, x.shape[-1])
        grad_bias = flat_grad.sum(0)
        # sum of grad * (x - mean) * inverse
        grad_weight = (torch.linalg.vecdot(flat, flat_grad, dim=0) - mean * grad_bias) * inverse
        sums = torch.stack([grad_bias, grad_weight])
        distributed.all_reduce(sums)
        sums /= len(flat) * distributed.get_world_size()
        # weight * inverse * (grad - sums[0] - normal * sums[1]), as one affine map of grad and of x
        gain = weight * inverse
        slope = -gain * inverse * sums[1]
        grad_x = torch.addcmul(-gain * sums[0] - slope * mean, x, slope).addcmul_(grad, gain)
        return grad_x, grad_weight, grad_bias, None

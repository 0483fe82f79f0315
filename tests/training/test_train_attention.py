"""Attention's training paths compute what the plain formula does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from emt_cli.model import attention
from emt_cli.model.attention import mix_values


def plain(q: Tensor, v: Tensor) -> Tensor:
    return (q @ q.transpose(-1, -2)).softmax(-1) @ v


def gradients(function: object, q: Tensor, v: Tensor) -> list[Tensor]:
    q, v = q.clone().requires_grad_(), v.clone().requires_grad_()
    out = function(q, v)  # type: ignore[operator]
    torch.manual_seed(1)
    (out.float() * torch.randn(out.shape)).sum().backward()
    assert q.grad is not None
    assert v.grad is not None
    return [out.detach(), q.grad, v.grad]


@pytest.mark.parametrize("d", [10, 16])
def test_padded_heads_give_the_same_answers_and_gradients(d: int):
    torch.manual_seed(0)
    q, v = torch.randn(3, 2, 32, d), torch.randn(3, 2, 32, d)

    for ours, theirs in zip(gradients(mix_values, q, v), gradients(plain, q, v), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_chunks_in_bf16_agree_with_single_precision(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attention._MixValues, "CACHED", 2 * 32 * 32)
    torch.manual_seed(0)
    q, v = (0.5 * torch.randn(5, 3, 32, 10)).bfloat16(), torch.randn(5, 3, 32, 10).bfloat16()

    pairs = zip(gradients(mix_values, q, v), gradients(plain, q.float(), v.float()), strict=True)

    for ours, theirs in pairs:
        error = (ours.float() - theirs).norm() / theirs.norm()
        assert error < 0.02


def test_mixed_precision_takes_the_chunks_whatever_the_normalisation_gave(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(functional, "scaled_dot_product_attention", None)  # slow in bf16 on a CPU
    torch.manual_seed(0)
    q, v = 0.5 * torch.randn(5, 3, 32, 10), torch.randn(5, 3, 32, 10)

    with torch.autocast("cpu", torch.bfloat16):
        ours = gradients(mix_values, q, v)

    for mixed, exact in zip(ours, gradients(plain, q, v), strict=True):
        assert (mixed.float() - exact).norm() / exact.norm() < 0.02

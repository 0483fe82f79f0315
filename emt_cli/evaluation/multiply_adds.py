"""How much work a network is: multiply-adds, counted operation by operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT

FRAME = (720, 1280)
"""Output (height, width) that papers count multiply-adds for."""
PAPER_MULTIPLY_ADDS = 60e9
"""For a FRAME at x4, about, in arXiv 2305.11403."""


def count_multiply_adds(config: EMTConfig, height: int, width: int) -> float:
    """Count the multiply-adds of the network for an input of this size, padding inside included.

    Convolutions and matrix products are counted as torch meets them, on tensors without content.
    """
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FakeTensorMode(), torch.no_grad():
        network = EMT(config).eval()
        counter = FlopCounterMode(display=False, custom_mapping={attention: _attention_flops})
        with counter:
            network(torch.empty(1, 3, height, width))
    return counter.get_total_flops() / 2


def _attention_flops(q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: Any, **__: Any) -> int:
    """Count q k^T and its product with v, of shapes (b, heads, tokens, channels): torch leaves them out."""
    windows, heads, tokens, channels = q
    return 2 * windows * heads * tokens * k[2] * (channels + v[3])

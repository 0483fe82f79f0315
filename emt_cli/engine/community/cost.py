"""What a network costs, found without computing: memory and multiply-adds, on tensors without numbers."""

from __future__ import annotations

import warnings
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

from emt_cli.engine.community.network import Facts

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

SIDES = (96, 192)
"""Sides of the two pictures that are compared: what grows with the picture, and what does not."""
REAL_SIDES = (48, 96)
"""The same for networks that need numbers to find their way."""


def describe(network: ImageModelDescriptor[Any]) -> Facts:
    """Return what is to be known of a network before it runs."""
    requirements = network.size_requirements
    parts = list(network.model.parameters()) + list(network.model.buffers())
    (small, small_bytes, _), (large, large_bytes, flops) = _measured(network)
    per_pixel = max(1, -(-(large_bytes - small_bytes) // (large - small)))
    return Facts(
        architecture=network.architecture.name,
        tags=tuple(network.tags),
        purpose=network.purpose,
        scale=network.scale,
        channels=network.input_channels,
        minimum=requirements.minimum,
        multiple=requirements.multiple_of,
        square=requirements.square,
        half=network.supports_half,
        bf16=network.supports_bfloat16,
        parameters=sum(part.numel() for part in network.model.parameters()),
        multiply_adds=flops // 2 // large * (3 if network.input_channels == 1 else 1),
        bytes_per_pixel=per_pixel,
        fixed_bytes=sum(part.nbytes for part in parts) + max(0, small_bytes - per_pixel * small),
    )


def _measured(network: ImageModelDescriptor[Any]) -> list[tuple[int, int, int]]:
    """Return pixels, most bytes in use at once and floating-point operations, for two sizes."""
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            return [_run(network, side) for side in SIDES]
    except Exception:  # whatever a tensor without numbers leads to
        return [_run(network, side) for side in REAL_SIDES]


def _run(network: ImageModelDescriptor[Any], side: int) -> tuple[int, int, int]:
    requirements = network.size_requirements
    right, below = requirements.get_padding(side, side)
    watch, flops = _Watch(), FlopCounterMode(display=False)
    x = torch.zeros(1, network.input_channels, side + below, side + right)
    with warnings.catch_warnings(), torch.no_grad(), flops, watch:
        warnings.simplefilter("ignore")
        network._call_fn(network.model, x)
    return (side + below) * (side + right), watch.most + x.nbytes, flops.get_total_flops()


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Add up the tensors that operations make, as long as they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        old = {id(a.untyped_storage()) for a in tree_iter((args, kwargs)) if isinstance(a, Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage not in self._seen and id(storage) not in old:
                    self._seen.add(storage)
                    size = storage.nbytes()
                    self.now += size
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._gone, size)
        return made

    def _gone(self, size: int) -> None:
        self.now -= size

"""A teacher that answers damaged patches, one step after the other."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from emt_cli.engine.community.network import CommunityNetwork
from emt_cli.engine.torch.network import build_network
from emt_cli.training.teacher import load_teacher

BOX = 17
"""Side in pixels of the squares over which answers get the originals' colours."""


class LiveTeacher:
    """A network on this process's device whose answers share the originals' colours."""

    def __init__(self, model: str, scale: int, fabric: Fabric) -> None:
        """Load a known model or its file; raises ModelError, UsageError."""
        self.fabric = fabric
        self._enlarge = _network(model, scale, fabric.device)

    @torch.no_grad()
    def answer(self, lr: Tensor, original: Tensor) -> Tensor:
        """Enlarge LR patches (b, 3, h, w); return (b, 3, h * scale, w * scale), 0..255 as all of these."""
        with self.fabric.autocast():
            answer = self._enlarge(lr.contiguous(memory_format=torch.channels_last)).float()
        return (answer + _blurred(original - answer)).clamp(0, 255)


def _network(model: str, scale: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    teacher = load_teacher(model, scale, rgb=True)
    if not isinstance(teacher, CommunityNetwork):
        return build_network(teacher).to(device)
    network = teacher.descriptor
    network.to(device).model.to(memory_format=torch.channels_last)
    return functools.partial(_of_255, network)


def _of_255(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return network(x / 255) * 255


def _blurred(x: Tensor) -> Tensor:
    side = min(BOX, *(size - (size + 1) % 2 for size in x.shape[2:]))
    columns = F.avg_pool2d(F.pad(x, (side // 2,) * 4, mode="replicate"), (side, 1), 1)
    return F.avg_pool2d(columns, (1, side), 1)

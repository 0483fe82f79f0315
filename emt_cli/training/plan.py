"""What a run would be: sizes, memory and time, measured on one small step."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from emt_cli.model.emt import EMT
from emt_cli.training.config import TrainConfig
from emt_cli.training.discriminator import Discriminator
from emt_cli.training.losses import Losses


@dataclass(frozen=True)
class Plan:
    """Figures of a run that has not begun."""

    parameters: int
    multiply_adds: int
    """For one LR pixel, forward."""
    memory: int
    """Bytes a step takes on one device, about."""
    seconds_per_step: float
    """Estimated on this machine's CPU."""
    steps: int


def make_plan(config: TrainConfig, *, processes: int = 1) -> Plan:
    """Take two steps on one patch and reckon from them."""
    network = EMT(config.network).train()
    losses = Losses(config.losses, torch.device("cpu"), scale=config.scale)
    discriminator = Discriminator(config.discriminator.width) if config.discriminator.weight else None
    share = max(1, config.batch // processes)
    x = torch.rand(1, 3, config.patch, config.patch) * 255
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    seconds = 0.0
    for _ in range(2):  # the first warms up
        kept.clear()  # what it kept is free again, maybe for the second
        began = time.perf_counter()
        low = config.precision != "fp32"
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                answer = network(x)
            target = torch.zeros_like(answer)
            loss = torch.stack(list(losses.terms(answer.float(), target.float()).values())).sum()
            if discriminator is not None:
                both = torch.cat([answer.detach(), target])  # what it learns from
                with torch.autocast("cpu", torch.bfloat16, enabled=low):
                    loss = loss + discriminator(answer).mean() + discriminator(both).mean()
        torch.autograd.backward(loss)
        seconds = time.perf_counter() - began
    own = sum(p.numel() for p in discriminator.parameters()) if discriminator is not None else 0
    parameters = sum(p.numel() for p in network.parameters())
    state = 4 * (parameters * 5 + own * 4)  # weights, gradients, two moments, average
    return Plan(
        parameters,
        config.network.multiply_adds,
        state + sum(kept.values()) * share,
        seconds * share,
        config.steps,
    )

"""Optimizers, the learning rate over time, and the averaged weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from emt_cli.errors import UsageError
from emt_cli.model.emt import EMT
from emt_cli.training.config import TrainConfig


def make_optimizers(network: EMT, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Make Adam for everything, or Muon for the matrices of the body and Adam for the rest.

    Each group keeps its largest learning rate as "peak". Raises UsageError where PyTorch has no Muon.
    """
    matrices = [p for p in network.body.parameters() if p.ndim == 2] if config.optimizer == "muon" else []
    chosen = {id(p) for p in matrices}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Adam(rest, lr=config.learning_rate, betas=config.betas)
    ]
    if matrices:
        if not hasattr(torch.optim, "Muon"):
            raise UsageError("optimizer muon needs PyTorch 2.9 or newer; set optimizer=adam")
        rate = config.muon_learning_rate
        optimizers.append(
            torch.optim.Muon(matrices, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def restore_state(optimizer: Any, state: dict[str, Any]) -> None:
    """Go on from such a state, with the optimizer's own settings; raises some exception for a damaged one."""
    own = [{key: group[key] for key in ("peak", "betas") if key in group} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)
    check_state(optimizer)


def check_state(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError for a restored state that is not finite, or not of its parameters' shapes."""
    names = {frozenset(state) for state in optimizer.state.values()}
    parameters = sum(len(group["params"]) for group in optimizer.param_groups)
    if len(names) > 1 or len(optimizer.state) not in (0, parameters):
        raise ValueError("some parameters have no state, or another kind of it")
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if name != "step" and value.shape != parameter.shape:
                raise ValueError(f"{name} is of shape {tuple(value.shape)}, not {tuple(parameter.shape)}")
            if not torch.as_tensor(value).isfinite().all():
                raise ValueError(f"{name} is not finite")


def learning_rate_share(step: int, config: TrainConfig) -> float:
    """Return the share of the largest learning rate with which step, counted from 0, is taken."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    start = config.warmup
    if config.decay_steps:
        start = max(start, config.steps - config.decay_steps)
    if step < start:
        return 1.0
    progress = min(1.0, (step - start) / max(1, config.steps - start))
    return config.final_share + (1 - config.final_share) * (1 + math.cos(math.pi * progress)) / 2


@torch.no_grad()
def start_as_identity(network: EMT) -> None:
    """Make the first answers a plain enlargement: three head channels carry R, G and B to the tail.

    The tail's other weights and the last layer of each residual branch start at a tenth.
    """
    head, tail = network.head, network.tail
    head.weight[:3] = 0
    head.weight[[0, 1, 2], [0, 1, 2], 1, 1] = 1
    tail.weight.mul_(0.1)[:, :3] = 0
    squares = network.config.scale**2
    for colour in range(3):
        # The long skip doubles these channels, hence a half.
        tail.weight[colour * squares : (colour + 1) * squares, colour, 1, 1] = 0.5
    for bias in (None if head.bias is None else head.bias[:3], tail.bias):
        if bias is not None:
            bias.zero_()
    for name, parameter in network.body.named_parameters():
        in_attention = hasattr(network.get_submodule(f"body.{name.split('.')[0]}.mixer"), "proj")
        if ".fc2." in name or ".proj." in name or (name.endswith("mixer.norm.weight") and not in_attention):
            parameter.mul_(0.1)


class Average:
    """Exponential moving average of a network's state, batch statistics included."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the network after step, counted from 0; the first steps are forgotten faster."""
        decay = min(self.decay, (1 + step) / (10 + step))
        state = network.state_dict()
        changing = [name for name, value in state.items() if value.is_floating_point()]
        mine = [self.tensors[name] for name in changing]
        torch._foreach_lerp_(mine, [state[name] for name in changing], 1 - decay)  # one kernel on a GPU
        for name in state.keys() - changing:
            self.tensors[name].copy_(state[name])

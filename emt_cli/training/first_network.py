"""The network of step 0: at random, near an identity, or of a model file that fits or is made to fit."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from emt_cli.assets.model_choice import find_model
from emt_cli.engine.weights import load_weights
from emt_cli.errors import UsageError
from emt_cli.model.emt import EMT
from emt_cli.training.config import TrainConfig
from emt_cli.training.optimizer import start_as_identity


def first_network(config: TrainConfig) -> EMT:
    """Build the network of step 0: at random, near an identity, or of the model config.init."""
    torch.manual_seed(config.seed)
    network = EMT(config.network)
    if config.identity_start:
        start_as_identity(network)
    if config.init:
        _take_weights(network, find_model(config.init, config.scale).path)
    return network


def _take_weights(network: EMT, path: Path) -> None:
    """Put a model file's weights into network.

    A tail of another scale is resampled to this one's; of wider MLPs the strongest hidden channels are taken.
    """
    weights = load_weights(path)
    theirs, ours = vars(weights.config), vars(network.config)
    pairs = list(zip(_groups(network.config.hidden), _groups(weights.config.hidden), strict=True))
    fits = all(few <= many for few, many in pairs)
    same = ["scale", "mlp_ratio"] if fits else ["scale"]
    other = [name for name in ours if name not in same and theirs[name] != ours[name]]
    if other:
        name = other[0]
        raise UsageError(
            f"{path}: network.{name} is {theirs[name]} there and {ours[name]} in this run;"
            f" make them the same with another --preset, or --set network.{name}"
        )
    tensors = {key: torch.tensor(value) for key, value in weights.tensors.items()}
    for name in ("tail.weight", "tail.bias"):
        tensors[name] = _resampled(tensors[name], weights.config.scale, network.config.scale)
    if network.config.hidden < weights.config.hidden:
        tensors = _narrowed(tensors, network.config.hidden)
    network.load_state_dict(tensors)


def _narrowed(tensors: dict[str, Tensor], hidden: int) -> dict[str, Tensor]:
    """Keep so many hidden channels of each MLP: of each shift group those with the largest weights.

    A channel's weight is the product of the norms of what goes into it and of what comes out of it.
    """
    tensors = dict(tensors)
    for name in [name for name in tensors if name.endswith("fc1.weight")]:
        mlp = name.removesuffix("fc1.weight")
        strength = tensors[name].norm(dim=1) * tensors[f"{mlp}fc2.weight"].norm(dim=0)
        kept, first = [], 0
        for few, many in zip(_groups(hidden), _groups(len(strength)), strict=True):
            best = strength[first : first + many].topk(few).indices
            kept.append(first + best.sort().values)
            first += many
        channels = torch.cat(kept)
        for part in ("fc1.weight", "fc1.bias"):
            tensors[mlp + part] = tensors[mlp + part][channels]
        tensors[f"{mlp}fc2.weight"] = tensors[f"{mlp}fc2.weight"][:, channels]
    return tensors


def _groups(channels: int) -> list[int]:
    """Return how many channels each group of the shift has."""
    return [channels // 5] * 4 + [channels - 4 * (channels // 5)]


def _resampled(tail: Tensor, scale: int, new_scale: int) -> Tensor:
    """Resample the grid of sub-pixels of a tail's weight or bias, (3 * scale**2, ...), by area.

    The first answers at the new scale are then the old ones, shrunk or enlarged without interpolation.
    """
    grid = tail.view(3, scale, scale, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(new_scale, new_scale), mode="area")
    return grid.permute(0, 2, 3, 1).reshape(3 * new_scale**2, *tail.shape[1:])

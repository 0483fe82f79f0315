"""The networks of step 0: at random, near an identity, or of a file that fits or is made to fit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from emt_cli.assets.model_choice import find_model
from emt_cli.engine.community.network import CommunityNetwork
from emt_cli.engine.models import load_model
from emt_cli.errors import InputError, UsageError
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT
from emt_cli.training.checkpoint import Checkpoint, load_checkpoint
from emt_cli.training.config import TrainConfig
from emt_cli.training.discriminator import Discriminator
from emt_cli.training.optimizer import start_as_identity
from emt_cli.training.tables import DiscriminatorConfig

_DEPTH = ("blocks", "layers", "attention_layers")


def first_network(config: TrainConfig, *, resumed: bool = False) -> EMT:
    """Build the network of step 0: at random, near an identity, or of the model config.init.

    resumed: whether a checkpoint's weights will take its place; config.init is then read, and has to be
    there, only for a discriminator's run, whose models keep it for --sharpness.
    """
    torch.manual_seed(config.seed)
    network = EMT(config.network)
    if resumed and not config.discriminator.weight:
        return network
    if config.identity_start:
        start_as_identity(network)
    if config.init:
        _take_weights(network, find_model(config.init, config.scale).path, config.init_layers)
    elif config.init_layers:
        raise UsageError("init_layers chooses layers of init: name that model with --init")
    return network


def _take_weights(network: EMT, path: Path, layers: Sequence[int]) -> None:
    """Put a model file's weights into network.

    A tail of another scale is resampled to this one's; of wider MLPs the strongest hidden channels are taken;
    windows may have other sizes, on which no weight depends. layers: those of its body to keep, all if none
    is named.
    """
    weights = load_model(path)
    if isinstance(weights, CommunityNetwork):
        raise weights.unfit_for("train --init")
    theirs, ours = vars(weights.config), vars(network.config)
    pairs = list(zip(_groups(network.config.hidden), _groups(weights.config.hidden), strict=True))
    fits = all(few <= many for few, many in pairs)
    same = ["scale", *(["mlp_ratio"] if fits else []), *(_DEPTH if layers else [])]
    if len(theirs["windows"]) == len(ours["windows"]):
        same += ["windows", "shifts"]
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
    if layers:
        tensors = _kept_layers(tensors, layers, weights.config, network, path)
    network.load_state_dict(tensors)


def _kept_layers(
    tensors: dict[str, Tensor], layers: Sequence[int], theirs: EMTConfig, network: EMT, path: Path
) -> dict[str, Tensor]:
    """Take some layers of a deeper body, in this order; a mixer that becomes local adds nothing at first."""
    ours = network.config.mixers
    rising = all(before < after for before, after in pairwise(layers))
    if len(layers) != len(ours) or not rising or not 0 <= layers[0] <= layers[-1] < len(theirs.mixers):
        listed = ", ".join(map(str, layers))
        raise UsageError(
            f"{path}: init_layers names {listed}; this network takes {len(ours)},"
            f" of 0 to {len(theirs.mixers) - 1}, each once and in order"
        )
    kept = {name: value for name, value in tensors.items() if not name.startswith("body.")}
    fresh = network.state_dict()
    for new, (old, mixer) in enumerate(zip(layers, ours, strict=True)):
        was_local, local = theirs.mixers[old] == "local", mixer == "local"
        if was_local and not local:
            raise UsageError(f"{path}: layer {old} is local, and {new} of this network is global")
        for name in [name for name in fresh if name.startswith(f"body.{new}.")]:
            if local and not was_local and ".mixer." in name:
                kept[name] = fresh[name] * (not name.endswith("norm.weight"))
            else:
                kept[name] = tensors[name.replace(f"body.{new}.", f"body.{old}.", 1)]
    return kept


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


def begins_with_another(config: DiscriminatorConfig, checkpoint: Checkpoint | None) -> bool:
    """Tell whether a run that begins, or goes on without a discriminator, takes another run's."""
    return bool(config.weight and config.init) and (checkpoint is None or checkpoint.discriminator is None)


def first_discriminator(config: DiscriminatorConfig) -> dict[str, Tensor]:
    """Return the weights of config.init's discriminator.

    Raises InputError for a damaged checkpoint, UsageError for one that has none, or one of another width.
    """
    path = Path(config.init)
    checkpoint = load_checkpoint(path)
    if checkpoint.discriminator is None:
        raise UsageError(f"discriminator.init {path}: that run has no discriminator; leave it out")
    width = checkpoint.config.get("discriminator.width", config.width)
    if width != config.width:
        raise UsageError(f"discriminator.init {path}: has a width of {width}; set discriminator.width to it")
    try:
        weights: dict[str, Tensor] = checkpoint.discriminator["network"]
        Discriminator(config.width).load_state_dict(weights)
        if not all(value.isfinite().all() for value in weights.values()):
            raise ValueError("not finite")
    except Exception as error:  # torch raises whatever the damage leads to
        raise InputError(f"{path}: its discriminator is damaged; name another checkpoint") from error
    return weights

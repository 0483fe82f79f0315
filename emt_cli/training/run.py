"""One process's part of a run: network, optimizers, averaged weights; one step, one validation."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from emt_cli.assets.catalog import find_model
from emt_cli.atomic import write_atomically
from emt_cli.engine.weights import load_weights, save_weights
from emt_cli.errors import InputError, UsageError
from emt_cli.model.emt import EMT
from emt_cli.training.checkpoint import GO_BACK, Checkpoint
from emt_cli.training.config import TrainConfig, settings_of
from emt_cli.training.dataset import Patches, PictureStore, Pixels
from emt_cli.training.optimizer import (
    Average,
    check_state,
    learning_rate_share,
    make_optimizers,
    start_as_identity,
)
from emt_cli.training.shared_norm import share_statistics
from emt_cli.training.validation import enlarged, luma_psnr

BAD_STEPS = 20
"""Steps in a row without a finite loss that end a run."""


class Run:
    """The state of a run on this process's device."""

    def __init__(self, config: TrainConfig, fabric: Fabric, out: Path) -> None:
        self.config, self.fabric, self.out = config, fabric, out
        self.step = 0
        """Steps done."""
        self.best = -math.inf
        """Best validation PSNR in dB."""
        self.seconds = 0.0
        self.bad_steps = 0
        self.network = first_network(config).to(fabric.device)
        if fabric.world_size > 1:
            share_statistics(self.network)
        self.average = Average(self.network, config.ema)
        self.wrapped: nn.Module
        self.optimizers: list[Any]
        self.wrapped, *self.optimizers = fabric.setup(self.network, *make_optimizers(self.network, config))

    def restore(self, checkpoint: Checkpoint, path: Path) -> None:
        """Go on from a checkpoint, read from path; learning rates and their end are the config's.

        Raises InputError where the optimizers cannot go on from what it holds for them.
        """
        self.network.load_state_dict(checkpoint.network)
        for name, value in checkpoint.average.items():
            self.average.tensors[name].copy_(value)
        try:
            for optimizer, state in zip(self.optimizers, checkpoint.optimizers, strict=True):
                peaks = [group["peak"] for group in optimizer.param_groups]
                optimizer.load_state_dict(state)
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["peak"] = peak
                check_state(optimizer)
        except Exception as error:  # torch raises whatever the damage leads to
            raise InputError(f"{path}: its optimizer's state is damaged; {GO_BACK}") from error
        self.step, self.best, self.seconds = checkpoint.step, checkpoint.best, checkpoint.seconds

    def checkpoint(self) -> Checkpoint:
        """Return the state after the last step."""
        return Checkpoint(
            self.step,
            settings_of(self.config),
            self.network.state_dict(),
            self.average.tensors,
            [optimizer.state_dict() for optimizer in self.optimizers],
            self.best,
            self.seconds,
        )

    @property
    def learning_rate_share(self) -> float:
        """Share of the largest learning rate for the step to come."""
        return learning_rate_share(self.step, self.config)

    def take_step(self, patches: Patches, *, stop: bool = False) -> tuple[float, bool]:
        """Do one step; return the loss over all processes, and whether any of them was asked to stop.

        A step whose loss or gradient is not finite changes nothing; its batch is kept for inspection. Raises
        UsageError after BAD_STEPS of them in a row.
        """
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * self.learning_rate_share
            optimizer.zero_grad()
        statistics = [buffer.clone() for buffer in self.network.buffers()]
        loss = self._loss(patches)
        total, stopping = self._agreed(loss, stop)
        norm = math.inf
        if math.isfinite(total):
            self.fabric.backward(loss)
            limit = self.config.clip or math.inf
            norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), limit))
        if math.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
            self.average.update(self.network, self.step)
            self.bad_steps = 0
        else:
            total = math.nan
            for buffer, before in zip(self.network.buffers(), statistics, strict=True):
                buffer.copy_(before)
            self._keep_bad(patches)
        self.step += 1
        return total, stopping

    def _loss(self, patches: Patches) -> Tensor:
        answer = self.wrapped(self._placed(patches.lr))
        share = self.config.teacher_share if patches.teacher is not None else 0.0
        loss = torch.zeros((), device=self.fabric.device)
        if share < 1:
            loss = loss + (1 - share) * F.l1_loss(answer, self._placed(patches.hr))
        if share > 0 and patches.teacher is not None:
            loss = loss + share * F.l1_loss(answer, self._placed(patches.teacher))
        return loss

    def _placed(self, pixels: Pixels) -> Tensor:
        return torch.from_numpy(pixels).to(self.fabric.device).permute(0, 3, 1, 2).float()

    def _agreed(self, loss: Tensor, stop: bool) -> tuple[float, bool]:
        values = torch.tensor([float(loss.detach()), float(stop)], device=self.fabric.device)
        if self.fabric.world_size > 1:
            distributed.all_reduce(values)
            values /= self.fabric.world_size
        return float(values[0]), bool(values[1] > 0)

    def _keep_bad(self, patches: Patches) -> None:
        path = self.out / f"bad-step-{self.step:08d}-{self.fabric.global_rank}.npz"
        arrays: dict[str, Any] = {name: value for name, value in vars(patches).items() if value is not None}
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        write_atomically(path, stream.getvalue())
        self.bad_steps += 1
        if self.bad_steps >= BAD_STEPS:
            raise UsageError(
                f"{path}: {BAD_STEPS} steps in a row without a finite loss, their batches are kept; remove"
                " the newest checkpoint, and --resume auto goes on from the one before: with a smaller"
                " learning_rate, or --precision fp32"
            )

    def validate(self, store: PictureStore) -> float:
        """Return the mean luma PSNR in dB of the averaged weights; every process takes some pictures."""
        mine = range(self.fabric.global_rank, len(store), self.fabric.world_size)
        scores = luma_psnr(
            self._averaged(), ((store.lr(i), store.hr(i)) for i in mine), device=self.fabric.device
        )
        total = torch.tensor(math.fsum(scores), device=self.fabric.device)
        if self.fabric.world_size > 1:
            distributed.all_reduce(total)
        return float(total) / len(store)

    def answer(self, lr: Pixels) -> Pixels:
        """Enlarge one picture (h, w, 3) with the averaged weights."""
        return enlarged(self._averaged(), lr, self.fabric.device)

    def _averaged(self) -> EMT:
        network = EMT(self.config.network)
        network.load_state_dict(self.average.tensors)
        return network

    def save_model(self, path: Path, psnr: float | None) -> None:
        """Write the averaged weights as a model, with the recipe in its header."""
        settings = {key: value for key, value in settings_of(self.config).items() if "." not in key}
        for key in ("data", "lr_data", "val", "init", "teacher"):
            settings[key] = Path(settings[key]).name  # nobody else's business where they lie
        metadata = {
            "name": path.parent.resolve().name,
            "steps": self.step,
            "hours": round(self.seconds / 3600, 2),
            "processes": self.fabric.world_size,
            "scores": {} if psnr is None else {"validation": {"psnr": round(psnr, 3)}},
            "training": settings,
        }
        save_weights(
            path,
            self.config.network,
            {name: value.cpu() for name, value in self.average.tensors.items()},
            metadata,
        )


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

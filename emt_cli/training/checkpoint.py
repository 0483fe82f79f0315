"""The state of a run on disk: checkpoints that are whole or absent, and the lock on its folder."""

from __future__ import annotations

import io
import math
import re
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emt_cli.atomic import write_atomically
from emt_cli.engine.torch.released import check_archive
from emt_cli.errors import InputError, OutputError
from emt_cli.lock import lock
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT

FORMAT = 1
NAME = re.compile(r"step-(\d{8})\.pt")


def go_back(path: Path) -> str:
    """Say what to try where a checkpoint is damaged."""
    if any(other.name < path.name for other in checkpoints(path.parent)):
        return "remove it and go on from the one before, with --resume auto or its name"
    return "there is none before it: begin again in another --out"


@dataclass
class Checkpoint:
    """Everything a run needs to go on exactly; what is drawn at random follows from seed and step alone."""

    step: int
    """Steps done."""
    config: dict[str, Any]
    """The run's TrainConfig as JSON values."""
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizers: list[dict[str, Any]]
    best: float
    """Best validation score so far, the greater the better; -inf before the first."""
    seconds: float
    """Time spent so far."""
    discriminator: dict[str, Any] | None = None
    """Its weights and its optimizer's state; None where the run has none."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int) -> None:
    """Write step-<step>.pt into folder and remove all but the newest `keep`; raises OutputError."""
    path = folder / f"step-{checkpoint.step:08d}.pt"
    stream = io.BytesIO()
    torch.save({"format": FORMAT, **vars(checkpoint)}, stream)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, stream.getvalue())
        for old in checkpoints(folder)[:-keep]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path}: not saved: {error.strerror}; make room, then go on with --resume auto"
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without executing anything in it; raises InputError for a damaged or foreign one."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such checkpoint; check the path") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); check path and permissions"
        ) from error
    try:
        check_archive(data, path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if values.pop("format") != FORMAT:
            raise ValueError("another format")
        checkpoint = Checkpoint(**values)
        _check(checkpoint)
        return checkpoint
    except Exception as error:  # torch raises whatever the damage leads to
        raise InputError(f"{path}: not a whole checkpoint of emt train; {go_back(path)}") from error


def _check(checkpoint: Checkpoint) -> None:
    """Raise some exception for a checkpoint whose parts are not of their kinds, or not of its own network."""
    network = {
        key.partition(".")[2]: value for key, value in checkpoint.config.items() if key.startswith("network.")
    }
    with torch.device("meta"):
        expected = EMT(EMTConfig(**network)).state_dict()
    for tensors in (checkpoint.network, checkpoint.average):
        for name in expected.keys() | tensors.keys():
            value, wanted = tensors[name], expected[name]
            if value.shape != wanted.shape or value.dtype != wanted.dtype or not value.isfinite().all():
                raise ValueError(name)
    numbers = checkpoint.step, checkpoint.best, checkpoint.seconds
    if not all(type(number) in (int, float) for number in numbers) or checkpoint.step < 0:
        raise TypeError("numbers")
    if not isinstance(checkpoint.step, int) or math.isnan(checkpoint.best + checkpoint.seconds):
        raise ValueError("numbers")


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))


def locked(folder: Path) -> AbstractContextManager[None]:
    """Hold a run's folder; the system lets go when the process ends, however it ends.

    Raises UsageError if another process holds it.
    """
    return lock(
        folder / ".lock", busy=f"{folder}: another run is at work in this folder; choose another --out"
    )


def waiting_for(folder: Path) -> AbstractContextManager[None]:
    """Hold a folder that several processes fill, after whoever holds it now."""
    return lock(folder / ".lock", busy=f"{folder}: in use", wait=True)

"""What comes before the first step: the checkpoint to go on from, the data, the processes."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from lightning_fabric import Fabric

from emt_cli.assets.datasets import picture_folders
from emt_cli.assets.features import feature_file
from emt_cli.engine.device import choose_device
from emt_cli.errors import DeviceError, InputError, OutputExistsError, UsageError
from emt_cli.training.checkpoint import Checkpoint, checkpoints, load_checkpoint, waiting_for
from emt_cli.training.config import TrainConfig
from emt_cli.training.dataset import PictureMix, PictureStore
from emt_cli.training.degradation_mix import make_degradation
from emt_cli.training.features import load_perceptual
from emt_cli.training.first_network import begins_with_another, first_discriminator, first_network
from emt_cli.training.prepare import Report, Source, list_pictures, needed_bytes, prepare
from emt_cli.training.recipe import settings_of
from emt_cli.training.teacher import add_answers, is_folder, load_teacher
from emt_cli.training.validation import has_score

ACCELERATORS = ("auto", "cpu", "cuda", "mps")
CHECKPOINTS, BEST, LAST, PICTURES = "checkpoints", "best.safetensors", "last.safetensors", "pictures"
"""What a run's folder holds."""


@dataclass(frozen=True)
class Place:
    """Where a run happens; nothing of it changes the recipe."""

    out: Path
    """The run's folder."""
    cache: Path | None = None
    """Folder of decoded pictures, which runs may share; None: inside out."""
    resume: str = ""
    """auto: the newest checkpoint in out, if there is one; a checkpoint's path; empty: out must be new."""
    fetch: bool = False
    """Whether data sets known by name are downloaded."""
    skip_bad: bool = False
    """Whether pictures that cannot be used are left out and listed, instead of refused."""
    save_samples: bool = False
    """Whether the first batch is written as a picture before the first step."""
    accelerator: str = "cpu"
    """One of ACCELERATORS."""
    devices: int = 1
    """Processes on each machine."""
    nodes: int = 1
    """Machines."""
    workers: int | None = None
    """Processes that cut the patches of each device; None: none beside a CPU, up to eight beside a GPU."""

    @property
    def processes(self) -> int:
        """Processes of the whole run."""
        return self.devices * self.nodes


def find_start(config: TrainConfig, place: Place) -> tuple[Checkpoint, Path] | None:
    """Return the checkpoint to go on from and its file, None for a new run.

    With resume "auto" it may be the last step's: the run is done, but may have been killed before its end.
    Raises EmtError where a run can neither begin nor go on.
    """
    choose_accelerator(place)
    if config.batch % place.processes:
        raise UsageError(
            f"batch {config.batch} is no multiple of the {place.processes} processes;"
            " set batch to a multiple, or change --devices"
        )
    there = checkpoints(place.out / CHECKPOINTS)
    if not place.resume:
        if there or (place.out / BEST).exists():
            raise OutputExistsError(
                f"{place.out}: holds a run already; --resume auto goes on with it, or choose another --out"
            )
        return None
    if place.resume == "auto" and not there:
        return None
    path = there[-1] if place.resume == "auto" else Path(place.resume)
    if there and path.resolve() != there[-1].resolve():
        raise OutputExistsError(f"{place.out}: holds a run that is further than {path}; choose another --out")
    checkpoint = load_checkpoint(path)
    fixed = ["optimizer", "init_layers", *(["discriminator.width"] if checkpoint.discriminator else [])]
    unused = not config.discriminator.weight  # nothing is read of init any more
    foreign = [
        f"{key} is {said(theirs)} there and {said(ours)} in this run"
        for key, (theirs, ours) in changes(checkpoint.config, config).items()
        if key.startswith("network.")
        or key in fixed
        or (key == "init" and unused and Path(theirs).name != Path(ours).name)  # it may have been moved
    ]
    if foreign:
        raise UsageError(f"{path}: {', '.join(foreign)}; leave that out, or choose another --out")
    done = checkpoint.step == config.steps and place.resume == "auto"
    if checkpoint.step >= config.steps and not done:
        raise UsageError(f"{path}: has its {checkpoint.step} steps already; ask for more with --steps")
    return checkpoint, path


def resumed_settings(place: Place) -> dict[str, Any] | None:
    """Return the recipe of the run to go on with, as its checkpoint holds it; None for a new run."""
    there = checkpoints(place.out / CHECKPOINTS)
    if not place.resume or (place.resume == "auto" and not there):
        return None
    return load_checkpoint(there[-1] if place.resume == "auto" else Path(place.resume)).config


def changes(before: dict[str, Any], config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Return the settings that are others than before, with their values before and now.

    What a checkpoint does not name is newer than it, and was as it is by default.
    """
    known = settings_of(TrainConfig()) | before
    return {key: (known[key], value) for key, value in settings_of(config).items() if known[key] != value}


def said(value: Any) -> Any:
    """Return a setting's value for people."""
    return "none" if value in ("", ()) else value


def choose_accelerator(place: Place) -> torch.device:
    """Return the device that place.accelerator stands for.

    Raises UsageError for an unknown word, DeviceError where this machine has none such, or too few.
    """
    name = place.accelerator
    if name not in ACCELERATORS:
        raise UsageError(f"--accelerator {name}: use {', '.join(ACCELERATORS[:-1])} or {ACCELERATORS[-1]}")
    here = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if here.get(name) == 0:
        raise DeviceError(f"--accelerator {name}: no such device is usable here; try --accelerator cpu")
    device = torch.device(choose_device(name))
    if place.devices > here.get(device.type, place.devices):
        raise DeviceError(
            f"--devices {place.devices}: {here[device.type]} of {device.type} are usable here;"
            " ask for as many, or try --accelerator cpu"
        )
    return device


def check_sources(
    config: TrainConfig, place: Place, report: Report | None = None, start: Checkpoint | None = None
) -> None:
    """Raise EmtError for models or validation pictures that a run could not use, before its long work.

    start: what the run goes on from.
    """
    if config.init or config.init_layers:
        first_network(config, resumed=start is not None)
    elif config.freeze_norm and start is None:
        raise UsageError("freeze_norm keeps the statistics of init: name that model with --init")
    if begins_with_another(config.discriminator, start):
        first_discriminator(config.discriminator)
    if config.teacher and not is_folder(config.teacher):
        load_teacher(config.teacher, config.scale, rgb=not config.answers_beforehand)
    elif config.teacher and not config.answers_beforehand:
        raise UsageError(f"teacher {config.teacher}: a folder cannot answer damaged patches; name a model")
    if config.losses.perceptual:
        feature_file(
            config.losses.perceptual, config.losses.perceptual_file, fetch=place.fetch, report=report
        )
        load_perceptual(config.losses.perceptual, config.losses.perceptual_file)
    for folder in (*config.lr_data, config.val_lr):
        if folder and not Path(folder).is_dir():
            raise InputError(f"{folder}: no such folder of LR pictures; check the path")
    if config.val:
        list_pictures(picture_folders(config.val, fetch=place.fetch, report=report))


@dataclass(frozen=True)
class Data:
    """The pictures of a run."""

    training: PictureMix
    validation: PictureStore | None
    skipped: list[str]
    """What was wrong with the training pictures that were left out."""


def prepare_data(config: TrainConfig, place: Place, report: Report | None = None) -> Data:
    """Check and decode training and validation pictures, and have the teacher answer, where not done yet.

    One process of a machine works, the others wait for it.
    """
    cache = place.cache or place.out / PICTURES
    stores, skipped = [], []
    sources = _sources(config, place, report)
    with waiting_for(cache):
        for source in sources:
            store = prepare(source, cache, report)
            skipped += store.skipped
            if config.answers_beforehand:
                store = add_answers(store, config.teacher, device=choose_accelerator(place), report=report)
            stores.append(store)
        validation = prepare(_validation_source(config, place, report), cache, report) if config.val else None
    if validation is not None and not any(
        has_score(config.best, validation.hr(i), config.scale) for i in range(len(validation))
    ):
        raise InputError(
            f"{config.val}: no picture is large enough for best = {config.best}; add larger ones"
        )
    try:
        mix = PictureMix(stores, config.data_weights, smallest=sources[0].smallest)
    except ValueError as error:
        raise InputError(
            f"{', '.join(config.data)}: no picture is left to train on; name another --data"
        ) from error
    return Data(mix, validation, skipped)


def _sources(config: TrainConfig, place: Place, report: Report | None = None) -> list[Source]:
    degrade = make_degradation(config)
    return [
        Source(
            picture_folders(name, fetch=place.fetch, report=report),
            config.scale,
            lr=Path(config.lr_data[number]) if config.lr_data and config.lr_data[number] else None,
            halve_above=config.halve_above,
            smallest=config.patch + (2 * degrade.margin if degrade else 0),
            skip_bad=place.skip_bad,
        )
        for number, name in enumerate(config.data)
    ]


def _validation_source(config: TrainConfig, place: Place, report: Report | None = None) -> Source:
    folders = picture_folders(config.val, fetch=place.fetch, report=report)
    lr = Path(config.val_lr) if config.val_lr else None
    return Source(folders, config.scale, lr=lr, smallest=2 * config.scale + 1, validates=True)


def disk_needed(config: TrainConfig, place: Place) -> int:
    """Return the bytes of decoded pictures and a teacher's answers that a run has yet to write."""
    cache = place.cache or place.out / PICTURES
    needed = [needed_bytes(source, cache) for source in _sources(config, place)]
    if config.answers_beforehand:
        needed = [2 * size for size in needed]
    if config.val:
        needed.append(needed_bytes(_validation_source(config, place), cache))
    return sum(needed)


def count_pictures(config: TrainConfig, place: Place) -> int:
    """Return how many training pictures there are, without opening them; raises InputError."""
    return sum(len(list_pictures(picture_folders(name, fetch=place.fetch))) for name in config.data)


def process_rank() -> int:
    """Return this process's number in the run, as torchrun, SLURM or Fabric tell it; 0 where there is one."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):  # processes of Fabric inherit the last
        if name in os.environ:
            return int(os.environ[name])
    return 0


def _wait_for_last_words(record: logging.LogRecord) -> bool:
    """Hold Fabric's observer, which kills all processes when one has ended, until they have said so.

    It logs before it kills, and looks every 5 seconds: without this the error of those left may not be seen.
    """
    if "terminated with code" in record.getMessage():
        time.sleep(_LAST_WORDS)
    return False


_LAST_WORDS = 30
"""Seconds after which a process that hangs is killed."""


def launched(config: TrainConfig, place: Place) -> Fabric:
    """Start the other processes, if they are not there yet, and join them."""
    precisions: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed"}
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    observer = logging.getLogger("lightning_fabric.strategies.launchers.subprocess_script")
    observer.setLevel(logging.INFO)
    observer.addFilter(_wait_for_last_words)
    fabric = Fabric(
        accelerator=place.accelerator,
        devices=place.devices,
        num_nodes=place.nodes,
        strategy="ddp" if place.processes > 1 else "auto",
        precision=precisions[config.precision],
    )
    fabric.launch()
    # Denormal numbers cost a hundred times as much, and batches are cut by threads of our own.
    torch.set_flush_denormal(True)
    cv2.setNumThreads(0)
    return fabric

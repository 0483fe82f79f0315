"""A training run from its data to its last model, on one process or many."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from lightning_fabric import Fabric

from emt_cli.assets.datasets import picture_folders
from emt_cli.errors import OutputExistsError, UsageError
from emt_cli.training.checkpoint import (
    Checkpoint,
    checkpoints,
    load_checkpoint,
    locked,
    save_checkpoint,
    waiting_for,
)
from emt_cli.training.config import TrainConfig, settings_of
from emt_cli.training.dataset import MARGIN, Degrade, Patches, PictureStore
from emt_cli.training.degradation import PhotoDegradation
from emt_cli.training.prepare import Report, Source, list_pictures, prepare
from emt_cli.training.record import Record, save_comparison, save_patches
from emt_cli.training.run import Run
from emt_cli.training.teacher import add_answers

CHECKPOINTS, BEST, LAST = "checkpoints", "best.safetensors", "last.safetensors"
LOG_EVERY = 50
"""Steps that a line of the log is about."""


@dataclass(frozen=True)
class TrainStep:
    """What one step came to."""

    step: int
    """Steps done."""
    loss: float
    """Mean absolute error over all processes, 0..255; not a number for a step left out."""
    seconds: float
    """Time of the step, without validation and saving."""
    waited: float
    """Part of it spent waiting for data."""
    psnr: float | None = None
    """Luma PSNR of the averaged weights on the validation pictures in dB, after steps that were validated."""


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
    save_samples: bool = False
    """Whether the first batch is written as a picture before the first step."""
    accelerator: str = "cpu"
    """auto, cpu, cuda or mps."""
    devices: int = 1
    """Processes on each machine."""
    nodes: int = 1
    """Machines."""


def train(config: TrainConfig, place: Place, report: Report | None = None) -> Iterator[TrainStep]:
    """Train, and yield after each step.

    In place.out come to lie log.jsonl, curves.png, checkpoints, best.safetensors (by validation, else the
    newest) and last.safetensors. Ctrl-C and SIGTERM end the run after the step at hand with a checkpoint.
    Raises EmtError before any step for bad data, a foreign checkpoint, a folder in use.
    """
    with ExitStack() as stack:
        if process_rank() == 0:
            stack.enter_context(locked(place.out))
        start = find_start(config, place)
        store, validation = prepare_data(config, place, report if process_rank() == 0 else None)
        fabric = _launched(config, place)
        run = Run(config, fabric, place.out)
        if start is not None:
            run.restore(start)
        record = None
        if fabric.is_global_zero:
            record = Record(place.out, steps_done=run.step)
            stack.callback(record.close)
            record.note(run.step, "start", processes=fabric.world_size, settings=settings_of(config))
        stop = stack.enter_context(_stop_signals())
        batches = stack.enter_context(_batches(run, store))
        if place.save_samples and fabric.is_global_zero:
            save_patches(place.out / "samples" / "patches.png", batches.draw(run.step))
        yield from _steps(run, batches, validation, stop, record)


def _steps(
    run: Run, batches: _Batches, validation: PictureStore | None, stop: threading.Event, record: Record | None
) -> Iterator[TrainStep]:
    config, recent = run.config, _Recent()
    stopping = False
    while run.step < config.steps and not stopping:
        rate = config.learning_rate * run.learning_rate_share
        began = time.perf_counter()
        patches = batches.take(run.step)
        waited = time.perf_counter() - began
        loss, stopping = run.take_step(patches, stop=stop.is_set())
        seconds = time.perf_counter() - began
        run.seconds += seconds
        recent.add(loss, seconds, waited)
        last = run.step == config.steps
        psnr = None
        if validation is not None and (last or run.step % config.validate_every == 0):
            psnr = run.validate(validation)
        if record is not None:
            if last or stopping or psnr is not None or run.step % LOG_EVERY == 0:
                record.add(run.step, **recent.taken(), learning_rate=rate, psnr=psnr or float("nan"))
            _save(run, psnr, validation, ended=last or stopping)
        yield TrainStep(run.step, loss, seconds, waited, psnr)


def _save(run: Run, psnr: float | None, validation: PictureStore | None, *, ended: bool) -> None:
    """Save what is due after a step, on the first process."""
    due = ended or run.step % run.config.checkpoint_every == 0
    if (psnr is not None and psnr > run.best) or (validation is None and due):
        run.best = run.best if psnr is None else psnr
        run.save_model(run.out / BEST, psnr)
    if psnr is not None and validation is not None:
        path = run.out / "samples" / f"step-{run.step:08d}.png"
        save_comparison(path, validation.lr(0), run.answer(validation.lr(0)), validation.hr(0))
    if due:
        save_checkpoint(run.out / CHECKPOINTS, run.checkpoint(), keep=run.config.keep)
    if run.step == run.config.steps:
        run.save_model(run.out / LAST, psnr)


def find_start(config: TrainConfig, place: Place) -> Checkpoint | None:
    """Return the checkpoint to go on from, None for a new run; raises EmtError where neither is right."""
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
    for key, ours in settings_of(config).items():
        if key.startswith("network.") or key == "optimizer":
            theirs = checkpoint.config.get(key)
            if theirs != ours:
                raise UsageError(
                    f"{path}: {key} is {theirs} there and {ours} in this run; choose another --out"
                )
    if checkpoint.step >= config.steps:
        raise UsageError(f"{path}: has its {checkpoint.step} steps already; ask for more with --steps")
    return checkpoint


def prepare_data(
    config: TrainConfig, place: Place, report: Report | None = None
) -> tuple[PictureStore, PictureStore | None]:
    """Check and decode training and validation pictures, and have the teacher answer, where not done yet.

    One process of a machine works, the others wait for it.
    """
    cache = place.cache or place.out / "pictures"
    margin = 2 * MARGIN if config.degradation == "photo" else 0
    source = Source(
        picture_folders(config.data, fetch=place.fetch, report=report),
        config.scale,
        lr=Path(config.lr_data) if config.lr_data else None,
        halve_above=config.halve_above,
        smallest=config.patch + margin,
    )
    with waiting_for(cache):
        store = prepare(source, cache / f"train-x{config.scale}", report)
        if config.teacher:
            store = add_answers(store, cache / f"train-x{config.scale}", config.teacher, report=report)
        if not config.val:
            return store, None
        folders = picture_folders(config.val, fetch=place.fetch, report=report)
        val = Source(folders, config.scale, smallest=2 * config.scale + 1)
        return store, prepare(val, cache / f"val-x{config.scale}", report)


def count_pictures(config: TrainConfig, place: Place) -> int:
    """Return how many training pictures there are, without opening them; raises InputError."""
    return len(list_pictures(picture_folders(config.data, fetch=place.fetch)))


def process_rank() -> int:
    """Return this process's number in the run, as torchrun, SLURM or Fabric tell it; 0 where there is one."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def _launched(config: TrainConfig, place: Place) -> Fabric:
    """Start the other processes, if they are not there yet, and join them."""
    precisions: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
    processes = place.devices * place.nodes
    if config.batch % processes:
        raise UsageError(f"batch {config.batch} is no multiple of the {processes} processes")
    fabric = Fabric(
        accelerator=place.accelerator,
        devices=place.devices,
        num_nodes=place.nodes,
        strategy="ddp" if processes > 1 else "auto",
        precision=precisions[config.precision],
    )
    fabric.launch()
    # Denormal numbers cost a hundred times as much, and batches are cut by threads of our own.
    torch.set_flush_denormal(True)
    cv2.setNumThreads(0)
    return fabric


class _Recent:
    """Means over the steps since the last line of the log."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.seconds = self.waited = 0.0

    def add(self, loss: float, seconds: float, waited: float) -> None:
        self.losses.append(loss)
        self.seconds += seconds
        self.waited += waited

    def taken(self) -> dict[str, float]:
        """Return the means and begin anew."""
        finite = [loss for loss in self.losses if loss == loss]
        values = {
            "loss": sum(finite) / len(finite) if finite else float("nan"),
            "seconds_per_step": self.seconds / len(self.losses),
            "data_wait_share": self.waited / self.seconds,
        }
        self.__init__()  # type: ignore[misc]
        return values


class _Batches:
    """One process's part of each batch, cut ahead by a thread."""

    AHEAD = 4

    def __init__(self, run: Run, store: PictureStore, pool: ThreadPoolExecutor) -> None:
        self.run, self.store, self.pool = run, store, pool
        photo = run.config.degradation == "photo"
        self.degrade: Degrade | None = PhotoDegradation(run.config.scale) if photo else None
        self.waiting: dict[int, Future[Patches]] = {}

    def take(self, step: int) -> Patches:
        for ahead in range(step, min(step + self.AHEAD, self.run.config.steps)):
            if ahead not in self.waiting:
                self.waiting[ahead] = self.pool.submit(self.draw, ahead)
        return self.waiting.pop(step).result()

    def draw(self, step: int) -> Patches:
        config, fabric = self.run.config, self.run.fabric
        share = config.batch // fabric.world_size
        part = slice(fabric.global_rank * share, (fabric.global_rank + 1) * share)
        return self.store.draw(
            config.seed, step, batch=config.batch, side=config.patch, part=part, degrade=self.degrade
        )


@contextmanager
def _batches(run: Run, store: PictureStore) -> Iterator[_Batches]:
    pool = ThreadPoolExecutor(1)
    try:
        yield _Batches(run, store, pool)
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Turn SIGTERM and Ctrl-C into an event, so that the step at hand is finished."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: event.set()) for number in numbers}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

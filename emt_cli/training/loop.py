"""A training run from its data to its last model, on one process or many."""

from __future__ import annotations

import errno
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from emt_cli.errors import DeviceError, OutputError
from emt_cli.stop import stop_signals
from emt_cli.training.batches import WORKER_LOST, Cut, cut_ahead, workers_for
from emt_cli.training.checkpoint import locked, save_checkpoint
from emt_cli.training.config import TrainConfig
from emt_cli.training.dataset import Patches, PictureStore, Pixels
from emt_cli.training.prepare import Report, named
from emt_cli.training.recipe import settings_of
from emt_cli.training.record import SAMPLES, Record, save_patches, shown_pictures
from emt_cli.training.run import Run
from emt_cli.training.start import (
    BEST,
    CHECKPOINTS,
    LAST,
    Place,
    check_sources,
    find_start,
    launched,
    prepare_data,
    process_rank,
)

_NO_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)

_LOST = (
    "Connection closed by peer",
    "Connection reset",
    "Broken pipe",
    "Connection refused",
    "NCCL",
    "timed out",
)
"""What Gloo and NCCL say when a process they talk to is gone."""

LOG_EVERY = 50
"""Steps that a line of the log is about."""


@dataclass(frozen=True)
class TrainStep:
    """What one step came to."""

    step: int
    """Steps done."""
    loss: float
    """Over all processes; as a rule the mean absolute error, 0..255; not a number for a step left out."""
    seconds: float
    """Time of the step, without validation and saving."""
    waited: float
    """Part of it spent waiting for data."""
    losses: dict[str, float] = field(default_factory=dict)
    """The loss's terms, and the discriminator's own loss."""
    scores: dict[str, float] | None = None
    """Luma PSNR in dB, SSIM and NIQE of the averaged weights, after steps that were validated."""

    @property
    def psnr(self) -> float | None:
        """The luma PSNR in dB, after steps that were validated."""
        return None if self.scores is None else self.scores["psnr"]


Say = Callable[[str], None]
"""Told in one line what a person should know."""


def train(
    config: TrainConfig, place: Place, report: Report | None = None, say: Say | None = None
) -> Iterator[TrainStep]:
    """Train, and yield after each step.

    In place.out come to lie log.jsonl, curves.png, checkpoints, best.safetensors (by validation, else the
    newest) and last.safetensors. Ctrl-C and SIGTERM end the run after the step at hand with a checkpoint.
    Raises EmtError before any step for bad data, a foreign checkpoint, a folder in use; OutputError when the
    disk is full.
    """
    try:
        yield from _train(config, place, report, say)
    except RuntimeError as error:
        if WORKER_LOST.search(str(error)):
            raise DeviceError(
                f"{place.out}: a process that cuts patches has ended; see what ended it (memory?), then go on"
                " with --resume auto and fewer --workers"
            ) from error
        if place.processes < 2 or not any(words in str(error) for words in _LOST):
            raise
        raise DeviceError(
            f"{place.out}: another process of the run has ended; see what ended it (memory?), then go on with"
            " --resume auto"
        ) from error
    except OSError as error:
        if error.errno not in _NO_WRITING:
            raise
        raise OutputError(
            f"{place.out}: cannot be written to ({error.strerror}); make room, then go on with --resume auto"
        ) from error


def _train(config: TrainConfig, place: Place, report: Report | None, say: Say | None) -> Iterator[TrainStep]:
    with ExitStack() as stack:
        if process_rank() == 0:
            stack.enter_context(locked(place.out))
        start = find_start(config, place)
        report = report if process_rank() == 0 else None
        check_sources(config, place, report, start and start[0])
        data = prepare_data(config, place, report)
        fabric = launched(config, place)
        run = Run(config, fabric, place.out, start)
        if not (place.out / BEST).exists():  # it was another folder's
            run.best = -math.inf
        record = None
        if fabric.is_global_zero:
            record = Record(place.out, steps_done=run.step)
            stack.callback(record.close)
            record.note(run.step, "start", processes=fabric.world_size, settings=settings_of(config))
            if data.skipped:
                record.note(run.step, "skipped", pictures=data.skipped)
                if say is not None:
                    say(f"left out: {len(data.skipped)} pictures: {named(data.skipped)}")
        stop = stack.enter_context(stop_signals())
        cut = Cut(config, data.training, fabric.global_rank, fabric.world_size)
        if place.save_samples and fabric.is_global_zero:
            save_patches(place.out / SAMPLES / "patches.png", cut[run.step])
        batches = stack.enter_context(cut_ahead(cut, run.step, workers=workers_for(place, fabric.device)))
        yield from _steps(run, batches, data.validation, stop, record)
        if fabric.is_global_zero and not (place.out / BEST).exists():  # stopped before the first validation
            run.save_model(place.out / BEST, None)


def _steps(
    run: Run,
    batches: Iterator[Patches],
    validation: PictureStore | None,
    stop: threading.Event,
    record: Record | None,
) -> Iterator[TrainStep]:
    config, recent = run.config, _Recent()
    stopping = False
    while run.step < config.steps and not stopping:
        rate = config.learning_rate * run.learning_rate_share
        began = time.perf_counter()
        patches = next(batches)
        waited = time.perf_counter() - began
        losses, stopping = run.take_step(patches, stop=stop.is_set())
        seconds = time.perf_counter() - began
        run.seconds += seconds
        recent.add(losses, seconds, waited)
        last = run.step == config.steps
        scores = None
        if validation is not None and (last or run.step % config.validate_every == 0):
            scores = run.validate(validation)
        if record is not None:
            if last or stopping or scores is not None or run.step % LOG_EVERY == 0:
                record.add(run.step, **recent.taken(), learning_rate=rate, **(scores or {}))
            if validation is not None and scores is not None:
                record.add_pictures(run.step, _shown(run, validation))
            _save(run, scores, validated=validation is not None, ended=last or stopping)
        yield TrainStep(run.step, losses.pop("loss"), seconds, waited, losses, scores)


def _shown(run: Run, validation: PictureStore) -> list[tuple[Pixels, Pixels, Pixels]]:
    """Return LR, answer and original of some validation pictures."""
    chosen = shown_pictures(len(validation))
    return [(validation.lr(i), run.answer(validation.lr(i)), validation.hr(i)) for i in chosen]


def _save(run: Run, scores: dict[str, float] | None, *, validated: bool, ended: bool) -> None:
    """Save what is due after a step, on the first process."""
    due = ended or run.step % run.config.checkpoint_every == 0
    if run.is_best(scores) or (not validated and due):
        run.save_model(run.out / BEST, scores)
    if run.step == run.config.steps:  # before the checkpoint, after which a run is done
        run.save_model(run.out / LAST, scores)
    if due:
        save_checkpoint(run.out / CHECKPOINTS, run.checkpoint(), keep=run.config.keep)


class _Recent:
    """The steps since the last line of the log."""

    def __init__(self) -> None:
        self.steps: list[tuple[dict[str, float], float, float]] = []

    def add(self, losses: dict[str, float], seconds: float, waited: float) -> None:
        self.steps.append((dict(losses), seconds, waited))

    def taken(self) -> dict[str, float]:
        """Return the means and begin anew."""
        losses, seconds, waited = zip(*self.steps, strict=True)
        values = {
            "seconds_per_step": sum(seconds) / len(seconds),
            "data_wait_share": sum(waited) / sum(seconds),
        }
        for name in dict.fromkeys(name for step in losses for name in step):
            finite = [step[name] for step in losses if math.isfinite(step.get(name, math.nan))]
            key = name if name == "loss" else f"loss_{name}"
            values[key] = sum(finite) / len(finite) if finite else math.nan
        self.steps.clear()
        return values

"""The teacher's answers on the training pictures, made once and kept beside them."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import torch

from emt_cli.assets.catalog import find_model
from emt_cli.atomic import write_atomically
from emt_cli.engine.upscaler import Upscaler
from emt_cli.engine.weights import Weights, load_weights
from emt_cli.errors import OutputError, UsageError
from emt_cli.training.dataset import TEACHER, PictureStore
from emt_cli.training.prepare import Report

PART, RECORD = "teacher.part", "teacher.json"


def load_teacher(model: str, scale: int) -> Weights:
    """Read a known model or a model file; raises ModelError, UsageError for a model of another scale."""
    weights = load_weights(find_model(model, scale).path)
    if weights.config.scale != scale:
        raise UsageError(
            f"teacher {model}: enlarges x{weights.config.scale}, the run x{scale}; name one of x{scale}"
        )
    return weights


def add_answers(
    store: PictureStore,
    model: str,
    *,
    device: torch.device | None = None,
    report: Report | None = None,
) -> PictureStore:
    """Let a model enlarge every LR picture; return the store with the answers, which lie in its folder.

    model: a known name or a file; it computes in float32, so that its answers are the same, but for rounding,
    whatever the device (None: the CPU). Answers that are there already are taken; work broken off goes on
    where it stopped. Raises ModelError, UsageError for a model of another scale, DeviceError, OutputError.
    """
    folder = store.folder
    weights = load_teacher(model, store.scale)
    if _recorded(folder) == weights.sha256 and (folder / TEACHER).is_file():
        with contextlib.suppress(ValueError):  # answers cut short are made again
            return PictureStore(folder, store.scale, teacher=True)
    try:
        if _recorded(folder) != weights.sha256:
            for old in (TEACHER, PART):
                (folder / old).unlink(missing_ok=True)
            write_atomically(folder / RECORD, json.dumps({"sha256": weights.sha256}).encode())
        _answer(Upscaler(weights, device=str(device or "cpu"), exact=True), store, folder / PART, report)
        (folder / PART).replace(folder / TEACHER)
    except OSError as error:
        raise OutputError(
            f"{folder}: the teacher's answers cannot be written ({error.strerror or error})"
        ) from error
    return PictureStore(folder, store.scale, teacher=True)


def _recorded(folder: Path) -> str | None:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return str(record["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _answer(teacher: Upscaler, store: PictureStore, part: Path, report: Report | None) -> None:
    """Append the answers that part does not hold yet."""
    sizes = [int(h * w) * 3 * store.scale**2 for h, w in store.sides]
    there = part.stat().st_size if part.is_file() else 0
    done = 0
    while done < len(sizes) and sum(sizes[: done + 1]) <= there:
        done += 1
    with part.open("r+b" if there else "wb") as file:
        file.truncate(sum(sizes[:done]))
        file.seek(0, os.SEEK_END)
        for picture in range(done, len(store)):
            file.write(teacher.upscale(np.array(store.lr(picture))).tobytes())
            if report:
                report("teacher's answers", picture + 1, len(store))
        file.flush()
        os.fsync(file.fileno())

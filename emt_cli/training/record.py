"""What a run leaves to read: log.jsonl, TensorBoard events, curves and sample pictures."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from emt_cli.atomic import write_atomically
from emt_cli.media.picture.io import Picture, write_picture
from emt_cli.training.dataset import Patches, Pixels
from emt_cli.training.events import Events

LOG, CURVES, SAMPLES, EVENTS = "log.jsonl", "curves.png", "samples", "events"
CURVES_OF = {"loss": "loss", "psnr": "validation PSNR, Y (dB)", "niqe": "validation NIQE"}
SAMPLE_SIDE = 96
"""LR pixels of a sample's side, at most."""
SHOWN = 4
"""Validation pictures that are shown, at most."""


class Record:
    """Writes the records of one run."""

    def __init__(self, folder: Path, *, steps_done: int) -> None:
        """Go on after steps_done; lines of later steps, lost with a broken-off run, are taken out."""
        self.folder = folder
        kept = [line for line in read_log(folder) if line["step"] <= steps_done]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(folder / LOG, text.encode())
        self._events: Events | None = None
        with contextlib.suppress(ImportError):  # TensorBoard is not needed
            self._events = Events(folder / EVENTS, first_step=steps_done + 1)

    def add(self, step: int, **values: float) -> None:
        """Add one line: a step and its values, finite ones only."""
        finite = {name: value for name, value in values.items() if np.isfinite(value)}
        self._append({"step": step, **finite})
        if self._events is not None:
            self._events.add(step, finite)

    def add_pictures(self, step: int, pictures: Sequence[tuple[Pixels, Pixels, Pixels]]) -> None:
        """Show the middles of LR, answer and original in samples/ and TensorBoard."""
        side = min(SAMPLE_SIDE, *(size for lr, _, _ in pictures for size in lr.shape[:2]))
        pixels = np.concatenate([_row(*picture, side) for picture in pictures])
        path = self.folder / SAMPLES / f"step-{step:08d}.png"
        _write(path, pixels)
        if self._events is not None:
            self._events.add_picture(step, "validation", path.read_bytes(), pixels.shape[:2])

    def note(self, step: int, event: str, **values: Any) -> None:
        """Add one line about the run itself."""
        self._append({"step": step, "event": event, **values})

    def _append(self, line: dict[str, Any]) -> None:
        with (self.folder / LOG).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Draw the curves."""
        draw_curves(self.folder)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log; one cut off at the end, or damaged otherwise, is left out."""
    path = folder / LOG
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    values = []
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and isinstance(value.get("step"), int):
            values.append(value)
    return values


def draw_curves(folder: Path) -> None:
    """Draw loss and scores over the steps into curves.png, if matplotlib is there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    lines = read_log(folder)
    figure = Figure(figsize=(12, 4), layout="constrained")
    for place, (name, label) in enumerate(CURVES_OF.items()):
        axes = figure.add_subplot(1, len(CURVES_OF), place + 1)
        points = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
        axes.plot(*zip(*points, strict=True)) if points else None
        axes.set(xlabel="step", ylabel=label)
        axes.grid(alpha=0.3)
    stream = io.BytesIO()
    figure.savefig(stream)
    write_atomically(folder / CURVES, stream.getvalue())


def shown_pictures(count: int) -> list[int]:
    """Return which of so many validation pictures are shown: SHOWN of them, evenly spread."""
    return [count * place // min(SHOWN, count) for place in range(min(SHOWN, count))]


def _row(lr: Pixels, answer: Pixels, hr: Pixels, side: int) -> Pixels:
    scale = len(hr) // len(lr)
    y, x = ((size - side) // 2 for size in lr.shape[:2])
    coarse = np.kron(lr[y : y + side, x : x + side], np.ones((scale, scale, 1), np.uint8))
    window = slice(y * scale, (y + side) * scale), slice(x * scale, (x + side) * scale)
    return np.concatenate([coarse, answer[window], hr[window]], axis=1)


def save_patches(path: Path, patches: Patches) -> None:
    """Write a batch: LR patches in the upper row (their pixels as squares), below what is wanted."""
    side = patches.hr.shape[1]
    coarse = [cv2.resize(lr, (side, side), interpolation=cv2.INTER_NEAREST) for lr in patches.lr]
    rows = [coarse, list(patches.hr)] + ([] if patches.teacher is None else [list(patches.teacher)])
    _write(path, np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0))


def _write(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, Picture(np.ascontiguousarray(pixels)), overwrite=True)

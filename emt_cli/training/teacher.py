"""The teacher's answers on the training pictures, made once and kept beside them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch

from emt_cli.assets.catalog import known_models
from emt_cli.assets.model_choice import find_model
from emt_cli.atomic import write_atomically
from emt_cli.engine.community.network import CommunityNetwork
from emt_cli.engine.models import Model, load_model
from emt_cli.engine.upscaler import Upscaler
from emt_cli.errors import InputError, OutputError, UsageError
from emt_cli.media.picture.formats import SUFFIXES
from emt_cli.media.picture.io import read_picture
from emt_cli.media.samples import convert
from emt_cli.training.dataset import TEACHER, PictureStore, Pixels
from emt_cli.training.prepare import Report, named

PART, RECORD = "teacher.part", "teacher.json"


def is_folder(teacher: str) -> bool:
    """Tell whether a teacher is a folder of answers; known models come first."""
    return teacher not in known_models() and Path(teacher).is_dir()


def load_teacher(model: str, scale: int, *, rgb: bool = False) -> Model:
    """Read a known model or a file, an EMT or not; rgb: whether it has to know colours.

    Raises ModelError, UsageError for one of another scale or of grays.
    """
    teacher = load_model(find_model(model, scale).path)
    if teacher.scale != scale:
        raise UsageError(
            f"teacher {model}: enlarges x{teacher.scale}, the run x{scale}; name one of x{scale}"
        )
    if rgb and isinstance(teacher, CommunityNetwork) and teacher.facts.channels != 3:
        raise UsageError(f"teacher {model}: knows grays alone; name one of RGB for teacher_sees = damaged")
    return teacher


def add_answers(
    store: PictureStore,
    teacher: str,
    *,
    device: torch.device | None = None,
    report: Report | None = None,
) -> PictureStore:
    """Put a teacher's answers to the LR pictures beside them, and return the store with them.

    teacher: a known model or its file, which computes in float32, so that its answers are the same, but for
    rounding, whatever the device (None: the CPU); or a folder of answers, named as the pictures. What is
    there is taken; work broken off goes on where it stopped. Raises ModelError, UsageError for a model of
    another scale, InputError for answers that are missing or of another size, DeviceError, OutputError.
    """
    folder = store.folder
    answers: ModelAnswers | FolderAnswers
    if is_folder(teacher):
        answers = FolderAnswers(store, Path(teacher))
    else:
        answers = ModelAnswers(store, load_teacher(teacher, store.scale), device)
    if _recorded(folder) == answers.sha256 and (folder / TEACHER).is_file():
        with contextlib.suppress(ValueError):  # answers cut short are made again
            return PictureStore(folder, store.scale, teacher=True)
    try:
        if _recorded(folder) != answers.sha256:
            for old in (TEACHER, PART):
                (folder / old).unlink(missing_ok=True)
            write_atomically(folder / RECORD, json.dumps({"sha256": answers.sha256}).encode())
        _write(answers, store, folder / PART, report)
        (folder / PART).replace(folder / TEACHER)
    except OSError as error:
        raise OutputError(
            f"{folder}: the teacher's answers cannot be written ({error.strerror or error}); make room"
        ) from error
    return PictureStore(folder, store.scale, teacher=True)


class ModelAnswers:
    """What a model says."""

    def __init__(self, store: PictureStore, model: Model, device: torch.device | None) -> None:
        self.sha256, self._store = model.sha256, store
        self._make = functools.cache(lambda: Upscaler(model, device=str(device or "cpu"), exact=True))

    def __getitem__(self, picture: int) -> Pixels:
        return np.asarray(self._make().upscale(np.array(self._store.lr(picture))), dtype=np.uint8)


class FolderAnswers:
    """What any network said before, as picture files of the pictures' names, or NAME_x4."""

    def __init__(self, store: PictureStore, folder: Path) -> None:
        """Find all files; raises InputError, naming those that are missing."""
        self._store = store
        found = [_find_answer(folder / name, store.scale) for name in store.names]
        missing = [name for name, path in zip(store.names, found, strict=True) if path is None]
        if missing:
            raise InputError(
                f"teacher {folder}: no answers for {len(missing)} pictures: {named(missing, ', ')}; add them"
            )
        self._paths = [path for path in found if path is not None]
        states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in self._paths]
        self.sha256 = hashlib.sha256(repr(states).encode()).hexdigest()

    def __getitem__(self, picture: int) -> Pixels:
        path = self._paths[picture]
        pixels: Pixels = convert(read_picture(path).pixels, np.uint8)
        h, w = (int(side) * self._store.scale for side in self._store.sides[picture])
        if (
            not 0 <= pixels.shape[0] - h < self._store.scale
            or not 0 <= pixels.shape[1] - w < self._store.scale
        ):
            size = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise InputError(
                f"{path}: {size}, and {w}x{h} is x{self._store.scale} of the LR picture; replace it"
            )
        return np.ascontiguousarray(pixels[:h, :w])  # what an original has beyond a multiple of the scale


def _find_answer(path: Path, scale: int) -> Path | None:
    stems = path.stem, f"{path.stem}_x{scale}"
    candidates = (path.with_name(stem + suffix) for stem in stems for suffix in (path.suffix, *SUFFIXES))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _recorded(folder: Path) -> str | None:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return str(record["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(
    answers: ModelAnswers | FolderAnswers, store: PictureStore, part: Path, report: Report | None
) -> None:
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
            file.write(answers[picture].tobytes())
            if report:
                report("teacher's answers", picture + 1, len(store))
        file.flush()
        os.fsync(file.fileno())

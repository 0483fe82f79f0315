"""Score methods on sets of pictures as the papers do.

HR is cropped to a multiple of the scale and made small by MATLAB's bicubic, unless LR pictures are given.
What a method makes of LR is compared with HR on luma (and RGB), `scale` pixels from each border left out.
What a network answered is kept in the cache, by the hash of LR, model, settings and code: an interrupted run
goes on where it was, and scores are always taken anew.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emt_cli.assets.benchmarks import FoundSet
from emt_cli.assets.catalog import cache_folder
from emt_cli.errors import InputError, OutputError
from emt_cli.evaluation.methods import Bytes, Method
from emt_cli.media.metrics import WINDOW, luma, psnr, ssim
from emt_cli.media.picture.io import Picture, read_picture, write_picture
from emt_cli.media.picture.pairs import find_lr
from emt_cli.media.resize import bicubic_downscale
from emt_cli.media.samples import convert
from emt_cli.steps import part

KEEP_DAYS = 30
"""Answers in the cache that are older are removed."""


@dataclass(frozen=True)
class Score:
    """How well one method did on one picture."""

    set: str
    picture: str
    scale: int
    method: str
    psnr: float
    """On luma, in dB; infinite for equal pictures."""
    ssim: float
    """On luma."""
    psnr_rgb: float
    ssim_rgb: float
    seconds: float | None
    """That the method took; None where its answer was there from an earlier run."""


@dataclass(frozen=True, eq=False)
class Scored:
    """One picture with all that was made of it."""

    set: str
    picture: str
    scale: int
    lr: Bytes
    hr: Bytes
    answers: dict[str, Bytes]
    """For each method's name."""
    scores: list[Score]


def score_set(
    pictures: FoundSet, methods: Sequence[Method], *, lr_folder: Path | None = None, resume: bool = True
) -> Iterator[float | Scored]:
    """Score methods of one scale on a set, picture by picture.

    Yields the share of the set that is done, and each picture when it is. lr_folder: LR pictures of the same
    names, maybe with x4 and so on behind. resume: take answers that are there from an earlier run. Raises
    InputError for pictures that cannot be read or do not fit.
    """
    scale = methods[0].scale
    sizes = [path.stat().st_size for path in pictures.pictures]
    for index, path in enumerate(pictures.pictures):
        lr, hr = read_pair(path, scale, lr_folder)
        answers, scores = {}, []
        for number, method in enumerate(methods):
            start = time.perf_counter()
            kept = _answer_file(method, lr)
            answer = _read_answer(kept, hr.shape) if kept is not None and resume else None
            fresh = answer is None
            if answer is None:
                begin, end = (
                    (sum(sizes[:index]) + sizes[index] * done / len(methods)) / sum(sizes)
                    for done in (number, number + 1)
                )
                answer = yield from part(method.enlarge(lr), begin, end)
            seconds = round(time.perf_counter() - start, 3) if fresh else None
            if kept is not None and fresh:
                _keep_answer(kept, answer)
            answers[method.name] = answer
            scores.append(_score(pictures.name, path.stem, method, answer, hr, seconds))
        yield Scored(pictures.name, path.stem, scale, lr, hr, answers, scores)
        yield sum(sizes[: index + 1]) / sum(sizes)


def read_pair(path: Path, scale: int, lr_folder: Path | None = None) -> tuple[Bytes, Bytes]:
    """Return LR and HR, RGB, of one picture; HR is cropped to a multiple of the scale, rounded to 8 bits.

    Raises InputError where LR has not the size that belongs to HR, or HR is too small to be scored.
    """
    hr = _read(path)
    least = WINDOW + 2 * scale
    h, w = (side // scale for side in hr.shape[:2])
    if min(h, w) * scale < least:
        raise InputError(
            f"{path}: {hr.shape[1]}x{hr.shape[0]} is too small: x{scale} needs {least} px a side;"
            " leave it out of the set"
        )
    cropped = hr[: h * scale, : w * scale]
    if lr_folder is None:
        return bicubic_downscale(cropped, scale), cropped
    partner = find_lr(lr_folder, Path(path.name), scale)
    lr = _read(partner)
    if lr.shape[:2] != (h, w):
        raise InputError(
            f"{partner}: {lr.shape[1]}x{lr.shape[0]}, but {path.name} is {hr.shape[1]}x{hr.shape[0]}:"
            f" x{scale} needs {w}x{h}"
        )
    return lr, cropped


def mean_scores(scores: Sequence[Score]) -> dict[str, float]:
    """Return the means of psnr, ssim, psnr_rgb and ssim_rgb."""
    names = ("psnr", "ssim", "psnr_rgb", "ssim_rgb")
    return {name: float(np.mean([getattr(score, name) for score in scores])) for name in names}


def _score(name: str, picture: str, method: Method, answer: Bytes, hr: Bytes, seconds: float | None) -> Score:
    border = method.scale
    y_answer, y_hr = luma(answer), luma(hr)
    return Score(
        name,
        picture,
        method.scale,
        method.name,
        psnr(y_answer, y_hr, border=border),
        ssim(y_answer, y_hr, border=border),
        psnr(answer, hr, border=border),
        ssim(answer, hr, border=border),
        seconds,
    )


def _read(path: Path) -> Bytes:
    pixels: Bytes = convert(read_picture(path).pixels, np.uint8)
    return pixels


def _answer_file(method: Method, lr: Bytes) -> Path | None:
    """Name the place in the cache of a network's answer."""
    if not method.identity:
        return None
    digest = hashlib.sha256(f"{method.identity} {lr.shape}".encode())
    digest.update(lr.tobytes())
    return cache_folder() / "benchmark" / f"{digest.hexdigest()}.png"


def _read_answer(path: Path, shape: tuple[int, ...]) -> Bytes | None:
    try:
        pixels = read_picture(path).pixels
    except InputError:
        return None
    return pixels.astype(np.uint8) if pixels.shape == shape and pixels.dtype == np.uint8 else None


def _keep_answer(path: Path, answer: Bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent}: {error.strerror or error}; set EMT_CACHE=FOLDER") from error
    write_picture(path, Picture(answer), overwrite=True)


def forget_old_answers() -> None:
    """Remove answers from the cache that are older than KEEP_DAYS."""
    oldest = time.time() - KEEP_DAYS * 86400
    for path in (cache_folder() / "benchmark").glob("*.png"):
        try:
            if path.stat().st_mtime < oldest:
                path.unlink()
        except OSError:  # another run was faster
            continue

"""One picture enlarged to one size by several models, one after the other, with what each took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emt_cli.engine.peak import peak_memory
from emt_cli.errors import UsageError
from emt_cli.jobs.memory import enough_memory
from emt_cli.jobs.picture.enlarge import enlarge
from emt_cli.jobs.picture.job import PictureJob
from emt_cli.jobs.picture.task import Settings
from emt_cli.media.picture.io import Picture, read_picture
from emt_cli.media.resize import resize_bytes
from emt_cli.media.samples import convert
from emt_cli.steps import Steps, finish, part

WARM_UP = 64
"""Side of the picture that each model enlarges before it is timed: what is compiled, is compiled then."""


@dataclass(frozen=True)
class Enlarged:
    """What one model made of the picture, and what it took."""

    name: str
    passes: tuple[int, ...]
    pixels: NDArray[np.uint8]
    """RGB (h, w, 3)."""
    seconds: float
    peak_bytes: int
    """Most memory in use, above what was in use before."""
    engine: str
    parameters: int


@dataclass(frozen=True)
class Comparison:
    """The picture, what plain interpolation makes of it, and what the models make."""

    name: str
    height: int
    """Of the picture, in pixels."""
    width: int
    bicubic: NDArray[np.uint8]
    enlarged: tuple[Enlarged, ...]
    device: str


def compare_models(source: Path, models: Sequence[str], settings: Settings) -> Steps[Comparison]:
    """Enlarge a picture with each model, yielding the share done; transparency is left out.

    All reach the size that settings ask for; where nobody asked, that of the first model's own scale. Raises
    UsageError for a model named twice, and whatever enlarging raises.
    """
    if len(set(models)) < len(models):
        raise UsageError("--model: name each model once")
    picture = read_picture(source, max_pixels=settings.max_pixels)
    picture = Picture(convert(picture.pixels, "uint8"))
    first = PictureJob(replace(settings, model=models[0]))
    target, device = first.settings.target, ", ".join(first.networks.devices)
    enlarged = []
    for index, model in enumerate(models):
        steps = _enlarged(picture, PictureJob(replace(settings, target=target, model=model)), str(source))
        enlarged.append((yield from part(steps, index / len(models), (index + 1) / len(models))))
    height, width = enlarged[0].pixels.shape[:2]
    plain = resize_bytes(np.asarray(picture.pixels, np.uint8), height, width)
    return Comparison(source.name, picture.height, picture.width, plain, tuple(enlarged), device)


def _enlarged(picture: Picture, job: PictureJob, name: str) -> Steps[Enlarged]:
    plan = job.plan(picture.height, picture.width, name=name)
    small = picture.pixels[:WARM_UP, :WARM_UP]
    height, width = picture.height, picture.width
    for scale in plan.passes:
        finish(job.networks.get(scale).steps(small))
        job.networks.get(scale).tiles(height, width)  # and seams are measured
        height, width = height * scale, width * scale
    with enough_memory(name), peak_memory(job.device) as peak:
        start = time.perf_counter()
        answer = yield from enlarge(picture, plan, job.networks.get)
        seconds = time.perf_counter() - start
    first = plan.passes[0]
    return Enlarged(
        name=job.networks.found(first).name,
        passes=plan.passes,
        pixels=np.asarray(answer.pixels, np.uint8),
        seconds=seconds,
        peak_bytes=peak.bytes,
        engine=job.networks.get(first).runner.description,
        parameters=job.networks.weights(first).parameters,
    )

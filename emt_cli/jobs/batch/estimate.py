"""How long a batch will take and how much it will write, from trying parts of a few of its pictures."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from emt_cli.errors import EmtError, OutputError
from emt_cli.jobs.batch.folder import BatchFolder
from emt_cli.jobs.batch.plan import Batch, Item
from emt_cli.jobs.memory import size_text
from emt_cli.jobs.picture.job import PictureJob
from emt_cli.media.picture.formats import PictureFormat
from emt_cli.media.picture.io import Picture, encode_picture, read_picture
from emt_cli.steps import finish

_SIDE = 128
_SAMPLES = 3
_RAW = 4.0
"""Bytes of a pixel to reckon with where nothing could be tried."""
_LARGEST = 17.0
"""Most bytes a written pixel takes: four floats and what is around them."""
_SPARE = 1.1


@dataclass(frozen=True)
class Estimate:
    """What is to be expected; both grow with the pictures' pixels."""

    seconds: float
    bytes: int
    """To be written to the disk."""


def expect(batch: Batch, job: PictureJob, folder: BatchFolder, *, try_anyway: bool) -> Estimate | None:
    """Say what is to be expected of a batch; None when it surely fits the disk and nobody wants to know more.

    Raises OutputError when the results will not fit.
    """
    pending = batch.pending
    free = folder.free()
    if not try_anyway and sum(item.pixels for item in pending) * _LARGEST < free:
        return None
    expected = estimate(pending, job)
    if expected.bytes > free:
        raise OutputError(
            f"{folder.path}: {len(pending)} results need about {size_text(expected.bytes)},"
            f" {size_text(free)} are free; make room, choose another disk, or --format jpeg"
        )
    return expected


def estimate(items: Sequence[Item], job: PictureJob) -> Estimate:
    """Enlarge and encode the middle of up to three pictures of each format, and reckon with the rest."""
    rates: list[float] = []
    sizes: dict[PictureFormat, float] = {}
    for format in sorted({item.format for item in items}):
        alike = sorted((item for item in items if item.format == format), key=lambda item: item.pixels)
        places = sorted({len(alike) * part // (_SAMPLES + 1) for part in range(1, _SAMPLES + 1)})
        tried = [trial for place in places if (trial := _try(alike[place], job)) is not None]
        rates += [rate for rate, _ in tried]
        sizes[format] = sum(size for _, size in tried) / len(tried) if tried else _RAW
    seconds_per_pixel = sum(rates) / len(rates) if rates else 0.0
    seconds = seconds_per_pixel * sum(item.work for item in items) / len(job.networks.devices)
    return Estimate(seconds, int(sum(item.pixels * sizes[item.format] for item in items) * _SPARE))


def _try(item: Item, job: PictureJob) -> tuple[float, float] | None:
    """Return seconds for a network pixel and bytes for a written one; None for a picture that is broken."""
    try:
        picture = read_picture(item.source, max_pixels=job.settings.max_pixels)
        part = _middle(picture)
        task = job.task(picture, item.target, name=str(item.source), format=item.format)
        scale = task.plan.passes[0]
        upscaler = job.networks.get(scale)
        colours = part.pixels[..., 0] if part.gray else part.pixels
        upscaler.upscale(colours[:16, :16])  # the first call prepares things
        start = time.perf_counter()
        pixels = finish(upscaler.steps(colours))
        seconds = time.perf_counter() - start
        stream = io.BytesIO()
        larger = replace(part, pixels=pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, axis=2))
        encode_picture(
            stream, larger, format=item.format, quality=job.settings.quality, name=str(item.target)
        )
    except EmtError:
        return None
    return seconds / (part.height * part.width), stream.tell() / (larger.height * larger.width)


def _middle(picture: Picture) -> Picture:
    top, left = max(0, picture.height - _SIDE) // 2, max(0, picture.width - _SIDE) // 2
    return Picture(
        picture.pixels[top : top + _SIDE, left : left + _SIDE], gray=picture.gray, format=picture.format
    )

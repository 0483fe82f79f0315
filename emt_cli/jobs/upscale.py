"""Enlarge picture files with one set of settings: read, plan, check, run, write."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from emt_cli.assets.catalog import FoundModel
from emt_cli.engine.device import choose_device, free_memory
from emt_cli.engine.upscaler import Upscaler
from emt_cli.errors import DeviceError, UsageError
from emt_cli.jobs.networks import Networks
from emt_cli.jobs.pictures import Plan, Target, enlarge, plan_picture, result_path
from emt_cli.media.compare import compare_with_bicubic
from emt_cli.media.files import check_target
from emt_cli.media.formats import PictureFormat, check_output, format_from_name
from emt_cli.media.pictures import MAX_PIXELS, Picture, read_picture, write_picture
from emt_cli.media.samples import convert
from emt_cli.steps import Steps

STDIN, STDOUT = "standard input", "standard output"


@dataclass(frozen=True)
class Settings:
    """How pictures are enlarged and written; the same for all pictures of a run."""

    target: Target
    model: str = "auto"
    """auto, a known name, or the path of a model file."""
    device: str = "auto"
    """One device, or several separated by commas."""
    precision: str = "auto"
    engine: str = "auto"
    tile: int | None = None
    """Side of a tile in input pixels; None fits the free memory, 0 never cuts."""
    ensemble: bool = False
    """Average over eight flips and rotations."""
    format: PictureFormat | None = None
    """Kind of file to write; None keeps the input's, or takes the one of the output's name."""
    quality: int = 95
    """For JPEG and WebP, 1 to 100."""
    suffix: str | None = None
    """Put after a result's name; None is _x4 and so on."""
    overwrite: bool = False
    strip_metadata: bool = False
    compare: bool = False
    """Write a labelled before/after picture beside the result."""
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, eq=False)
class Task:
    """A picture that has been read, planned and found possible."""

    name: str
    picture: Picture
    plan: Plan
    target: Path | BinaryIO
    format: PictureFormat
    models: tuple[FoundModel, ...]
    """Of each pass."""
    tiles: int
    """Of each colour picture, all passes together."""
    memory: int
    """Bytes it will need in all, estimated."""

    @property
    def target_name(self) -> str:
        """The target for people."""
        return str(self.target) if isinstance(self.target, Path) else STDOUT

    @property
    def compare_path(self) -> Path | None:
        """Where the before/after picture goes; None when the result goes to standard output."""
        if not isinstance(self.target, Path):
            return None
        return self.target.with_name(f"{self.target.stem}_compare.png")

    def facts(self) -> dict[str, Any]:
        """Describe the task in JSON values."""
        return {
            "input": self.name,
            "output": self.target_name,
            "width": self.plan.width,
            "height": self.plan.height,
            "out_width": self.plan.out_width,
            "out_height": self.plan.out_height,
            "format": self.format,
            "model": self.models[0].name,
            "passes": list(self.plan.passes),
            "resized": self.plan.resized,
            "tiles": self.tiles,
            "memory": self.memory,
        }


class PictureJob:
    """One run over pictures; holds the networks it has loaded."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.networks = Networks(
            settings.model,
            devices=settings.device,
            precision=settings.precision,
            tile=settings.tile,
            ensemble=settings.ensemble,
            engine=settings.engine,
        )
        self.device, self.dtype = self.networks.devices[0], self.networks.dtypes[0]
        self._taken: set[Path] = set()

    def upscaler(self, scale: int) -> Upscaler:
        """Return the network of a scale, loading it the first time."""
        return self.networks.get(scale)

    def open(
        self, source: Path | bytes, output: Path | BinaryIO | None = None, *, folder: bool = False
    ) -> Task:
        """Read a picture, plan its enlargement, and raise now whatever would fail later.

        output: a file, or with `folder` a folder; None puts the result beside its source.
        """
        settings = self.settings
        name = str(source) if isinstance(source, Path) else STDIN
        picture = read_picture(source, name=name, max_pixels=settings.max_pixels)
        plan = plan_picture(picture.height, picture.width, settings.target, self.networks.scales, name=name)
        format = settings.format or picture.format
        target: Path | BinaryIO
        if output is None or isinstance(output, Path):
            if output is not None and not folder and settings.format is None:
                format = format_from_name(output)
            target = result_path(
                source if isinstance(source, Path) else None,
                output,
                suffix=self._suffix(plan),
                format=format,
                folder=folder,
            )
        else:
            target = output
        models = tuple(self.networks.found(scale) for scale in plan.passes)
        tiles, memory = self._cost(picture, plan)
        task = Task(name, picture, plan, target, format, models, tiles, memory)
        self._check(task, folder=folder)
        return task

    def run(self, task: Task) -> Steps[dict[str, Any]]:
        """Enlarge and write a task, yielding the share done; returns its facts and what there is to note."""
        settings = self.settings
        start = time.perf_counter()
        result = yield from enlarge(task.picture, task.plan, self.upscaler)
        comparison = None
        if settings.compare:
            before, after = (convert(pixels, "uint8") for pixels in (task.picture.pixels, result.pixels))
            comparison = Picture(compare_with_bicubic(before, after))
        notes = write_picture(
            task.target,
            result,
            format=task.format,
            quality=settings.quality,
            overwrite=settings.overwrite,
            strip_metadata=settings.strip_metadata,
        )
        facts = task.facts()
        if comparison is not None and task.compare_path is not None:
            write_picture(task.compare_path, comparison, overwrite=settings.overwrite)
            facts["compare"] = str(task.compare_path)
        if any(self.upscaler(scale).runner.fell_back for scale in task.plan.passes):
            notes = (*notes, f"{self.dtype} overflowed: computed in fp32".replace("torch.", ""))
        return facts | {
            "notes": [*task.picture.notes, *notes],
            "seconds": round(time.perf_counter() - start, 3),
        }

    def _suffix(self, plan: Plan) -> str:
        if self.settings.suffix is not None:
            return self.settings.suffix
        if self.settings.target.scale:
            return f"_x{self.settings.target.scale:g}"
        return f"_{plan.out_width}x{plan.out_height}"

    def _cost(self, picture: Picture, plan: Plan) -> tuple[int, int]:
        """Count tiles and estimate bytes: input, everything kept between passes, the dearest pass."""
        samples = picture.pixels[0, 0].size if not picture.gray else 1
        alpha = 1 if picture.transparent else 0
        size = picture.pixels.dtype.itemsize
        tiles, height, width, dearest = 0, plan.height, plan.width, 0
        for index, scale in enumerate(plan.passes):
            upscaler = self.upscaler(scale)
            tiles += len(upscaler.tiles(height, width))
            last = index == len(plan.passes) - 1
            kept = size if last and not plan.resized else 4
            before = height * width * samples * (size if index == 0 else 4)
            after = height * width * scale**2 * samples * kept
            dearest = max(dearest, before + after + upscaler.peak_bytes(height, width))
            height, width = height * scale, width * scale
        whole = prod(plan.passes) ** 2 * plan.height * plan.width
        # Encoders hold up to four bytes a pixel more; an enlarged picture waits while its alpha is enlarged.
        written = plan.out_height * plan.out_width * (samples + alpha) * size
        resizing = (whole * samples * 4 + written) if plan.resized else 0
        encoding = written + 4 * plan.out_height * plan.out_width
        waiting = written if alpha else 0
        return tiles, picture.pixels.nbytes * (1 + alpha) + waiting + max(dearest, resizing, encoding)

    def _check(self, task: Task, *, folder: bool) -> None:
        plan, target = task.plan, task.target
        check_output(
            task.format,
            height=plan.out_height,
            width=plan.out_width,
            transparent=task.picture.transparent,
            name=task.target_name,
        )
        if isinstance(target, Path):
            if folder:
                target.parent.mkdir(parents=True, exist_ok=True)
            if target.resolve() in self._taken:
                raise UsageError(
                    f"{task.name}: {target} is the result of another input; give them other names"
                )
            self._taken.add(target.resolve())
            check_target(target, overwrite=self.settings.overwrite)
            if self.settings.compare and task.compare_path is not None:
                check_target(task.compare_path, overwrite=self.settings.overwrite)
        elif self.settings.compare:
            raise UsageError("--compare writes a second file; give the result a name with -o")
        free = free_memory(choose_device("cpu"))
        if task.memory > free:
            raise DeviceError(
                f"{task.name}: needs about {task.memory / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB"
                " are free; choose a smaller --scale or --tile, or close other programs"
            )

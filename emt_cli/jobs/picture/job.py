"""Enlarge picture files with one set of settings: read, plan, check, run, write."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from emt_cli.errors import UsageError
from emt_cli.jobs.memory import check_memory, enough_memory, named
from emt_cli.jobs.networks import Networks
from emt_cli.jobs.picture.cost import cost_of
from emt_cli.jobs.picture.enlarge import enlarge, enlarge_together
from emt_cli.jobs.picture.plan import Plan, plan_picture, result_path
from emt_cli.jobs.picture.task import STDIN, File, Settings, Task, compare_path
from emt_cli.media.compare import compare_with_bicubic
from emt_cli.media.files import check_folder, check_target, copy_times, make_folder
from emt_cli.media.picture.formats import PictureFormat, check_output, format_from_name
from emt_cli.media.picture.head import read_head
from emt_cli.media.picture.io import Picture, read_picture, readable_absence, write_picture
from emt_cli.media.samples import Kind, convert
from emt_cli.steps import Steps


class PictureJob:
    """One run over pictures; holds the networks it has loaded."""

    def __init__(self, settings: Settings, networks: Networks | None = None) -> None:
        self.networks = networks or settings.networks()
        self.settings = replace(settings, target=settings.target.suited(self.networks.own_scale))
        self.device = self.networks.devices[0]
        self._taken: set[Path] = set()

    def open(
        self, source: Path | bytes, output: Path | BinaryIO | None = None, *, folder: bool = False
    ) -> Task:
        """Read a picture, plan its enlargement, and raise now whatever would fail later.

        output: a file, or with `folder` a folder; None puts the result beside its source.
        """
        name = str(source) if isinstance(source, Path) else STDIN
        with enough_memory(name):
            return self._open(source, output, name=name, folder=folder)

    def _open(self, source: Path | bytes, output: Path | BinaryIO | None, *, name: str, folder: bool) -> Task:
        settings = self.settings
        if isinstance(source, Path):
            with readable_absence(source, name):
                regular = source.is_file()
            if regular:  # a pipe is read once
                head = read_head(source, max_pixels=settings.max_pixels)
                check_memory(name, head.reading, settings.memory)
        picture = read_picture(source, name=name, max_pixels=settings.max_pixels)
        format = settings.format or picture.format
        target: Path | BinaryIO
        if output is None or isinstance(output, Path):
            if output is not None and not folder and settings.format is None:
                format = format_from_name(output)
            target = result_path(
                source if isinstance(source, Path) else None,
                output,
                suffix=self.suffix(picture.height, picture.width),
                format=format,
                folder=folder,
            )
        else:
            target = output
        task = self.task(picture, target, name=name, format=format)
        self._check(task, folder=folder)
        return replace(task, source=source) if isinstance(source, Path) else task

    def task(self, picture: Picture, target: Path | BinaryIO, *, name: str, format: PictureFormat) -> Task:
        """Plan a picture's enlargement; raises UsageError when it is none or does not fit the format."""
        plan = self.plan(picture.height, picture.width, picture.kind, name=name)
        networks = self.networks.suited(picture.kind)
        models = tuple(networks.found(scale) for scale in plan.passes)
        samples = 1 if picture.gray else 3
        size, alpha = picture.pixels.itemsize, picture.transparent
        cost = cost_of(networks, plan, format, samples=samples, alpha=alpha, itemsize=size)
        task = Task(name, picture, plan, target, format, models, cost, networks)
        check_output(
            format,
            height=plan.out_height,
            width=plan.out_width,
            transparent=alpha,
            name=task.target_name,
        )
        return task

    def plan(self, height: int, width: int, kind: Kind = "plain", *, name: str) -> Plan:
        """Choose the passes for a picture of this size and kind; raises UsageError."""
        scales = self.networks.suited(kind).scales
        return plan_picture(height, width, self.settings.target, scales, name=name)

    def run(self, task: Task) -> Steps[dict[str, Any]]:
        """Enlarge and write a task, yielding the share done; returns its facts and what there is to note."""
        with enough_memory(task.name):
            return (yield from self._run(task))

    def _run(self, task: Task) -> Steps[dict[str, Any]]:
        settings = self.settings
        start = time.perf_counter()
        result = yield from self.enlarge(task)
        notes = list(result.notes)
        facts = task.facts()
        if isinstance(task.target, Path):
            make_folder(task.target.parent)
        for part in tuple(self.files(task, result)):  # both are there before the first is written
            notes += write_picture(
                part.target,
                part.picture,
                format=part.format,
                quality=settings.quality,
                overwrite=settings.overwrite,
                strip_metadata=settings.strip_metadata,
            )
            if settings.keep_dates and task.source is not None and isinstance(part.target, Path):
                copy_times(task.source, part.target)
        if settings.compare:
            facts["compare"] = str(task.compare_path)
        return facts | {
            "notes": [*notes, *self.device_notes(task)],
            "seconds": round(time.perf_counter() - start, 3),
        }

    def enlarge(self, task: Task, index: int = 0) -> Steps[Picture]:
        """Enlarge a task's picture on a device, by its place in the list; yields the share done."""
        with named(task.name):
            steps = enlarge(task.picture, task.plan, lambda scale: task.networks.get(scale, index))
            return (yield from steps)

    def batch_size(self, task: Task, index: int = 0) -> int:
        """Return how many pictures like this one a device best enlarges at once; 1: each by itself."""
        plan = task.plan
        if len(plan.passes) > 1:
            return 1
        most = task.networks.get(plan.passes[0], index).batch_size(plan.height, plan.width)
        return 1 if most > 1 and task.picture.transparent else most

    def enlarge_together(self, tasks: Sequence[Task], index: int = 0) -> list[Picture]:
        """Enlarge the pictures of tasks that are `alike` in one batch on a device."""
        plan = tasks[0].plan
        upscaler = tasks[0].networks.get(plan.passes[0], index)
        return enlarge_together([task.picture for task in tasks], plan, upscaler)

    def files(self, task: Task, result: Picture) -> Iterator[File]:
        """Yield what is written for an enlarged picture: itself and, if asked for, before/after."""
        yield File(task.target, result, task.format)
        if self.settings.compare and task.compare_path is not None:
            before, after = (convert(pixels, "uint8") for pixels in (task.picture.pixels, result.pixels))
            yield File(task.compare_path, Picture(compare_with_bicubic(before, after)), "png")

    def device_notes(self, task: Task, index: int = 0) -> list[str]:
        """Say what happened on a device that the person may want to know."""
        if any(task.networks.get(scale, index).runner.used_fallback for scale in task.plan.passes):
            return ["half precision overflowed: computed in fp32"]
        return []

    def suffix(self, height: int, width: int) -> str:
        """Return what the name of a picture's result has more than the picture's, by its size."""
        if self.settings.suffix is not None:
            return self.settings.suffix
        target = self.settings.target
        return target.suffix(*target.size(height, width))

    def _check(self, task: Task, *, folder: bool) -> None:
        target = task.target
        if isinstance(target, Path):
            results = [target, compare_path(target)] if self.settings.compare else [target]
            for result in results:
                if result.resolve() in self._taken:
                    raise UsageError(
                        f"{task.name}: {result} is the result of another input; give them other names"
                    )
            self._taken.update(result.resolve() for result in results)
            if folder:
                check_folder(target.parent)
            if target.parent.is_dir() or not folder:
                check_target(target, overwrite=self.settings.overwrite)
                if self.settings.compare:
                    check_target(compare_path(target), overwrite=self.settings.overwrite)
        elif self.settings.compare:
            raise UsageError("--compare writes a second file; give the result a name with -o")
        check_memory(task.name, task.memory, self.settings.memory, held=task.held)


def alike(one: Task, other: Task) -> bool:
    """Tell whether two tasks can share a batch: opaque pictures of one kind, the same plan."""
    a, b = one.picture, other.picture
    same = (
        one.plan == other.plan
        and one.networks is other.networks
        and (a.gray, a.pixels.dtype) == (b.gray, b.pixels.dtype)
    )
    return same and not (a.transparent or b.transparent)

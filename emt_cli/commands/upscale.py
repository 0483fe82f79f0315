"""`emt upscale`: pictures in, larger pictures out."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from emt_cli.commands import options, ui
from emt_cli.errors import EmtError, InputError, OutputError, UsageError
from emt_cli.steps import finish

if TYPE_CHECKING:
    from emt_cli.jobs.picture.job import PictureJob
    from emt_cli.jobs.picture.task import Task

EPILOG = options.examples(
    "emt upscale photo.png --scale 4",
    "emt upscale *.jpg --long-side 3840 -o large/",
    "cat photo.png | emt upscale - --scale 2 > larger.png",
)


def upscale(
    inputs: Annotated[list[str], typer.Argument(help="Pictures; - reads one from standard input.")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="File or folder of the result; - is stdout.", rich_help_panel=options.FILES
        ),
    ] = None,
    scale: options.Scale = None,
    width: options.Width = None,
    height: options.Height = None,
    long_side: options.LongSide = None,
    model: options.Model = "auto",
    device: options.Device = "auto",
    precision: options.PrecisionChoice = options.Precision.auto,
    engine: options.EngineChoice = options.Engine.auto,
    tile: options.TileSide = "auto",
    ensemble: options.Ensemble = False,
    sharpness: options.Sharpness = None,
    format: options.FormatChoice = None,
    quality: options.Quality = 95,
    suffix: options.Suffix = None,
    overwrite: options.Overwrite = False,
    strip_metadata: options.StripMetadata = False,
    keep_dates: options.KeepDates = False,
    compare: options.Compare = False,
    max_pixels: options.MaxPixels = 500_000_000,
    use: options.Use = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Enlarge pictures of all usual formats, 8 or 16 bits or float, with alpha and metadata kept.

    The result lies beside its input as NAME_x4 in the same format (PNG for GIF, TIFF for camera raw), unless
    -o or --format say otherwise. Of an animation the first picture is taken; `emt video` takes it whole.
    """
    from emt_cli.jobs.picture.job import PictureJob
    from emt_cli.jobs.picture.task import Settings

    settings = options.settings(Settings, locals())
    where, folder = _place(inputs, output, as_json=as_json)
    # A plan may be looked at whatever lies in the result's place.
    job = PictureJob(replace(settings, overwrite=True) if dry_run else settings)
    reporter = Reporter(as_json=as_json, quiet=quiet or as_json, verbose=verbose)
    codes = []
    with ui.progress(quiet=quiet or as_json) as update:
        for name in inputs:
            shown = str(Path(name))
            report = None if dry_run else partial(update, shown, total=1)
            try:
                _upscale_one(job, name, where, reporter, folder=folder, report=report, overwrite=overwrite)
            except EmtError as error:
                if len(inputs) == 1 and not as_json:
                    raise
                reporter.failed(shown, error)
                codes.append(error.exit_code)
    if codes:
        raise typer.Exit(codes[0] if len(inputs) == 1 else 4 if len(codes) == len(inputs) else 3)


def _place(
    inputs: Sequence[str], output: str | None, *, as_json: bool
) -> tuple[Path | BinaryIO | None, bool]:
    """Return where results go, None for beside each input, and whether that is a folder."""
    if Counter(inputs)["-"] > 1:
        raise UsageError("- stands for standard input and can be given once")
    if output == "-" or (output is None and list(inputs) == ["-"]):
        if len(inputs) > 1 or as_json:
            raise UsageError("standard output takes one picture and nothing else; name a folder with -o")
        if sys.__stdout__ is None:
            raise OutputError("standard output is closed; name a file with -o")
        if sys.stdout.isatty():
            raise UsageError("a picture is not written to a terminal; redirect it, or name a file with -o")
        return sys.stdout.buffer, False
    if output is None:
        return None, False
    place = Path(output)
    there = os.path.isdir(place)  # noqa: PTH112  (Path.is_dir raises where a folder cannot be entered)
    folder = output.endswith(("/", "\\")) or there or len(inputs) > 1
    if folder and place.is_file():
        raise UsageError(f"-o {output}: is a file; several results need a folder")
    return place, folder


def _upscale_one(
    job: PictureJob,
    name: str,
    where: Path | BinaryIO | None,
    reporter: Reporter,
    *,
    folder: bool,
    report: Callable[[float], None] | None,
    overwrite: bool,
) -> None:
    """Enlarge one input; report is told the share done, None ends after the plan. Nothing of it stays."""
    task = job.open(_read_stdin() if name == "-" else Path(name), where, folder=folder)
    reporter.plan(job, task)
    if report is None:
        reporter.planned(task, overwrite=overwrite)
    else:
        facts = finish(job.run(task), report)
        reporter.done(facts, silent=not isinstance(task.target, Path))


class Reporter:
    """What is said about each picture: plan and notes on stderr, results on stdout."""

    def __init__(self, *, as_json: bool, quiet: bool, verbose: bool) -> None:
        self.as_json, self.quiet, self.verbose = as_json, quiet, verbose
        self.hinted: set[str] = set()

    def plan(self, job: PictureJob, task: Task) -> None:
        """Say what will be done, before it is done."""
        plan = task.plan
        for model in task.models:
            if model.hint and model.hint not in self.hinted:
                ui.say(f"emt: {model.hint}", quiet=self.quiet)
                self.hinted.add(model.hint)
        passes = " then ".join(f"x{scale}" for scale in plan.passes)
        resized = ", resized to fit" if plan.resized else ""
        tiles = "1 tile" if task.cost.tiles == 1 else f"{task.cost.tiles} tiles"
        ui.say(
            f"{task.name}: {plan.width}x{plan.height} to {plan.out_width}x{plan.out_height}"
            f" ({task.models[0].name} {passes}{resized}; {job.device}, {tiles},"
            f" about {ui.bytes_text(task.memory)} of memory)",
            quiet=self.quiet,
        )
        if self.verbose:
            for model, scale in zip(task.models, plan.passes, strict=True):
                upscaler = task.networks.get(scale)
                size, engine = upscaler.tile_size(plan.height, plan.width), upscaler.runner.description
                ui.say(f"  x{scale}: {model.path}; {engine}; tiles of up to {size} px", quiet=self.quiet)

    def planned(self, task: Task, *, overwrite: bool) -> None:
        """Report a task that --dry-run leaves undone."""
        exists = isinstance(task.target, Path) and task.target.exists()
        if self.as_json:
            ui.show_json({"event": "planned"} | task.facts() | ({"exists": True} if exists else {}))
            return
        if exists and not overwrite:
            ui.say(f"{task.target_name}: exists already; -y would replace it", quiet=self.quiet)
        ui.show(task.target_name)

    def done(self, facts: dict[str, Any], *, silent: bool) -> None:
        """Report a result: its path, or all its facts."""
        if self.as_json:
            ui.show_json({"event": "done"} | facts)
            return
        for note in facts["notes"]:
            ui.say(f"{facts['input']}: {note}", quiet=self.quiet)
        if not silent:
            ui.show(facts["output"])
            if "compare" in facts:
                ui.show(facts["compare"])
        ui.say(f"  {ui.seconds_text(facts['seconds'])}", quiet=self.quiet or not self.verbose)

    def failed(self, name: str, error: EmtError) -> None:
        """Report a picture that failed while others go on."""
        if self.as_json:
            ui.show_json(
                {"event": "failed", "input": name, "message": str(error), "exit_code": error.exit_code}
            )
        else:
            ui.say(f"emt: error: {error}")


def _read_stdin() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("-: nothing is piped into standard input; name a file, or pipe one in")
    return sys.stdin.buffer.read()

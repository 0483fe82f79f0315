"""`emt train`: the paper's network, or another of its family, on pictures of one's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emt_cli.commands import options, ui
from emt_cli.errors import UsageError

if TYPE_CHECKING:
    from emt_cli.training.config import TrainConfig
    from emt_cli.training.loop import TrainStep
    from emt_cli.training.start import Place

EPILOG = options.examples(
    "emt train --data photos --scale 4 --preset lite --out runs/mine",
    "emt train --out runs/mine --resume auto",
    "emt train --config recipe.toml --set batch=16 --out runs/mine --dry-run",
)
RECIPE, RUN = "Recipe", options.RUN


class Preset(StrEnum):
    """Recipes that come with the command."""

    emt = "emt"
    lite = "lite"


class TrainPrecision(StrEnum):
    """Number types while training."""

    fp32 = "fp32"
    bf16 = "bf16"


def _recipe(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, readable=False, rich_help_panel=RECIPE)


def _run(help: str, *names: str, least: int | None = None) -> Any:
    return typer.Option(*names, help=help, min=least, readable=False, rich_help_panel=RUN)


def train(
    out: Annotated[Path, _run("Folder of the run.", "--out", "-o")],
    data: Annotated[
        list[str] | None, _recipe("Folder of pictures, or DIV2K, Flickr2K, DF2K; repeatable.")
    ] = None,
    lr_data: Annotated[
        list[str] | None, _recipe("Folder of LR pictures for each; else they are made.")
    ] = None,
    val: Annotated[str | None, _recipe("Validation pictures: folder or name.")] = None,
    val_lr: Annotated[str | None, _recipe("Folder of their LR pictures; else they are made.")] = None,
    scale: Annotated[int | None, _recipe("2, 3 or 4.", "--scale", "-s")] = None,
    preset: Annotated[
        Preset | None, _recipe("emt: the paper's recipe (default); lite: the bundled models'.")
    ] = None,
    config: Annotated[Path | None, _recipe("TOML file over the preset.", "--config")] = None,
    pairs: Annotated[
        list[str] | None, _recipe("key=value over file and preset; repeatable.", "--set")
    ] = None,
    steps: Annotated[int | None, _recipe("Steps in all.")] = None,
    batch: Annotated[int | None, _recipe("Patches in a step.")] = None,
    patch: Annotated[int | None, _recipe("Side of an LR patch in pixels.")] = None,
    init: Annotated[str | None, _recipe("Model to start from: a name, or a file of any scale.")] = None,
    degradation: Annotated[
        str | None, _recipe("bicubic; photo, real: blur, noise, JPEG once, twice.")
    ] = None,
    precision: Annotated[TrainPrecision | None, _recipe("Number type of the products.")] = None,
    seed: Annotated[int | None, _recipe("Decides everything random.")] = None,
    resume: Annotated[str, _run("auto: go on with the run in --out; or a checkpoint to start from.")] = "",
    cache: Annotated[Path | None, _run("Folder of decoded pictures, shared by runs.")] = None,
    fetch: Annotated[bool, _run("Download data sets given by name, and vgg19.", "--fetch")] = False,
    skip_bad: Annotated[bool, _run("Leave damaged pictures out, and list them.", "--skip-bad")] = False,
    accelerator: Annotated[str, _run("auto, cpu, cuda or mps.")] = "auto",
    devices: Annotated[int, _run("Processes on this machine, one for each device.", least=1)] = 1,
    nodes: Annotated[int, _run("Machines, each started by torchrun or SLURM.", least=1)] = 1,
    workers: Annotated[
        int | None, _run("Processes that cut patches; none beside a CPU, else up to 8.", least=0)
    ] = None,
    save_samples: Annotated[bool, _run("Write the first batch as a picture.", "--save-samples")] = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a network on pictures; Ctrl-C stops with a checkpoint, --resume auto goes on exactly."""
    _check_extra()
    from emt_cli.training.recipe import make_config

    chosen = {
        "data": data,
        "lr_data": lr_data,
        "val": val,
        "val_lr": val_lr,
        "network.scale": scale,
        "steps": steps,
        "batch": batch,
        "patch": patch,
        "init": init,
        "degradation": degradation,
        "precision": precision and precision.value,
        "seed": seed,
    }
    values = {key: value for key, value in chosen.items() if value is not None}
    from emt_cli.training.start import Place, changes, process_rank, resumed_settings, said

    place = Place(
        out=out,
        cache=cache,
        resume=resume,
        fetch=fetch,
        skip_bad=skip_bad,
        save_samples=save_samples,
        accelerator=accelerator,
        devices=devices,
        nodes=nodes,
        workers=workers,
    )
    before = resumed_settings(place)
    chosen_preset = preset.value if preset else None if before else Preset.emt.value
    recipe = make_config(chosen_preset, base=before, file=config, pairs=pairs or (), values=values)
    if not recipe.data:
        raise UsageError("no training pictures: name a folder or a data set with --data")
    if before is not None and not quiet and process_rank() == 0:
        for key, (theirs, ours) in changes(before, recipe).items():
            ui.say(f"{key}: {said(ours)} from here on, {said(theirs)} so far")
    if dry_run:
        _show_plan(recipe, place, as_json)
    else:
        _run_and_show(recipe, place, as_json=as_json, quiet=quiet)


def _check_extra() -> None:
    """Say what to install where the packages of `emt-cli[train]` are missing."""
    from importlib.util import find_spec

    if find_spec("lightning_fabric") is None:
        raise UsageError('training needs more packages; pip install "emt-cli[train]"')


def _show_plan(recipe: TrainConfig, place: Place, as_json: bool) -> None:
    """Print what would run, after checking all that can be checked without decoding the pictures."""
    from emt_cli.training.plan import make_plan
    from emt_cli.training.recipe import settings_of
    from emt_cli.training.start import check_sources, count_pictures, disk_needed, find_start

    pictures = count_pictures(recipe, place)
    start = find_start(recipe, place)
    check_sources(recipe, place, start=start and start[0])
    plan = make_plan(recipe, processes=place.processes)
    done = 0 if start is None else start[0].step
    seconds = plan.seconds_per_step * (plan.steps - done)
    values: dict[str, Any] = {
        "out": str(place.out),
        "pictures": pictures,
        "parameters": plan.parameters,
        "multiply_adds": plan.multiply_adds,
        "memory": plan.memory,
        "disk": disk_needed(recipe, place),
        "steps_done": done,
        "steps": plan.steps,
        "seconds": round(seconds),
    }
    if as_json:
        ui.show_json({**values, "settings": settings_of(recipe)})
        return
    memory, left = ui.bytes_text(plan.memory), ui.seconds_text(seconds)
    ui.show(f"run          {place.out}, {'new' if start is None else f'goes on after step {done:,}'}")
    ui.show(f"pictures     {pictures:,} for training")
    work = f"{plan.parameters:,} parameters, {plan.multiply_adds:,} multiply-adds a pixel"
    ui.show(f"network      x{recipe.scale}, {work}")
    ui.show(f"steps        {plan.steps:,} of {recipe.batch} patches of {recipe.patch}x{recipe.patch}")
    ui.show(f"memory       about {memory} on each device")
    ui.show(f"disk         about {ui.bytes_text(values['disk'])} for decoded pictures not there yet")
    ui.show(f"time         about {left} on this machine's CPU ({plan.seconds_per_step:.2f} s a step)")


def _run_and_show(recipe: TrainConfig, place: Place, *, as_json: bool, quiet: bool) -> None:
    """Run the steps; the first process shows a live line, and in the end where the model lies."""
    from emt_cli.training.loop import train
    from emt_cli.training.start import BEST, process_rank

    silent = quiet or process_rank() > 0
    last = None
    with ui.progress(quiet=silent) as update:
        steps = train(recipe, place, update, None if silent else ui.say)
        first = next(steps, None)  # with all that comes before it: pictures, teacher
    with _live(recipe.steps, silent or as_json) as show:
        for last in chain([first] if first else [], steps):
            show(last)
            if as_json and process_rank() == 0:
                _show_events(last, recipe.steps)
    if process_rank() > 0:
        return
    step = recipe.steps if last is None else last.step  # none was left to do
    finished = step == recipe.steps
    best = recipe.best if recipe.val else "newest"
    if as_json:
        ui.show_json({"step": step, "finished": finished, "model": str(place.out / BEST), "best": best})
    elif finished:
        ui.show(str(place.out / BEST))
    if not recipe.val and not silent:
        ui.say(f"{BEST} holds the newest weights: without --val there is nothing to choose the best by")
    if not finished:
        ui.say(f"stopped after step {step:,}; --resume auto goes on from there")
        raise typer.Exit(130)


def _show_events(step: TrainStep, steps: int) -> None:
    """Print a step, one in LOG_EVERY, and each validation as JSON; numbers that are none are left out."""
    from emt_cli.training.loop import LOG_EVERY

    if step.step % LOG_EVERY == 0 or step.step == steps:
        losses = {"loss": step.loss, **step.losses}
        finite = {name: loss for name, loss in losses.items() if isfinite(loss)}
        ui.show_json({"event": "progress", "step": step.step, "steps": steps, "losses": finite})
    if step.scores is not None:
        scores = {name: score for name, score in step.scores.items() if isfinite(score)}
        ui.show_json({"event": "validated", "step": step.step, "scores": scores})


@contextmanager
def _live(steps: int, silent: bool) -> Iterator[Callable[[TrainStep], None]]:
    """Yield a function that keeps a live line on a terminal, and a line for each validation elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(compact=True)
    hidden = silent or not sys.stderr.isatty()
    scores = ""
    bar = Progress(
        *columns,
        console=Console(stderr=True),
        disable=hidden,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with bar, nullcontext() if hidden else ui.on_screen(bar):
        task = bar.add_task("", total=steps)

        def show(step: TrainStep) -> None:
            nonlocal scores
            if step.scores is not None:
                scores = f", {step.scores['psnr']:.2f} dB, NIQE {step.scores['niqe']:.2f}"
                if hidden and not silent:
                    ui.say(f"step {step.step:,} of {steps:,}: loss {step.loss:.3f}{scores}")
            words = f"step {step.step:,}: loss {step.loss:.3f}{scores}, {1 / step.seconds:.1f} it/s"
            bar.update(task, completed=step.step, description=words)
            bar.refresh()

        yield show

"""`emt video`: a video in, a larger one out, with every stream and every timestamp."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emt_cli.commands import options, pipes, ui
from emt_cli.errors import OutputError, StoppedError, UsageError, VerificationError
from emt_cli.steps import finish

if TYPE_CHECKING:
    from emt_cli.jobs.video.plan import VideoJob
    from emt_cli.jobs.video.run import Maker
    from emt_cli.jobs.video.task import VideoTask

EPILOG = options.examples(
    "emt video clip.mp4 --scale 4",
    "emt video film.mkv --height 2160 --codec hevc --crf 18 -o large.mkv",
    "emt video film.mkv --preview 5 --compare",
    "emt video film.mkv --dry-run",
    "curl -s URL | emt video - -o - | mpv -",
    "emt video film.mkv --ray head.example.org:6379",
)
VIDEO, PART = "Video", "Part"
_PROGRESS_EVERY = 5.0
"""Seconds between two progress events of --json."""


def video(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="VIDEO",
            help="A video, or an animation (GIF, WebP, PNG); - is standard input.",
            show_default=False,
            readable=False,
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="File or folder of the result, or - for standard output (MKV).",
            rich_help_panel=options.FILES,
        ),
    ] = None,
    scale: options.Scale = None,
    width: options.Width = None,
    height: options.Height = None,
    long_side: options.LongSide = None,
    model: options.Model = "auto",
    device: options.Device = "auto",
    precision: options.PrecisionChoice = options.Precision.auto,
    tile: options.TileSide = "auto",
    engine: options.EngineChoice = options.Engine.auto,
    ensemble: options.Ensemble = False,
    sharpness: options.Sharpness = None,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            "-c",
            help="h264, hevc, av1, ffv1, prores, or a hardware encoder. \\[default: h264; hevc above 8 bits]",
            rich_help_panel=VIDEO,
        ),
    ] = None,
    crf: Annotated[
        int | None, typer.Option(min=0, max=63, help="Quality: lower is better.", rich_help_panel=VIDEO)
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Effort of the encoder, in its own words.", rich_help_panel=VIDEO)
    ] = None,
    pix_fmt: Annotated[
        str | None, typer.Option(help="Pixel format, such as yuv444p10le.", rich_help_panel=VIDEO)
    ] = None,
    deinterlace: Annotated[
        bool, typer.Option("--deinterlace", help="Remove comb lines first.", rich_help_panel=VIDEO)
    ] = False,
    start: Annotated[
        str | None, typer.Option(help="Begin here: seconds or h:mm:ss.", rich_help_panel=PART)
    ] = None,
    end: Annotated[
        str | None, typer.Option(help="End before this: seconds or h:mm:ss.", rich_help_panel=PART)
    ] = None,
    preview: Annotated[
        str | None,
        typer.Option(help="Only so many seconds, from --start or the middle.", rich_help_panel=PART),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Write a second video: bicubic | EMT.", rich_help_panel=options.FILES),
    ] = False,
    overwrite: options.Overwrite = False,
    tolerant: Annotated[
        bool,
        typer.Option(
            "--tolerant", help="Accept a result although the source is damaged.", rich_help_panel=options.RUN
        ),
    ] = False,
    segment: Annotated[
        int | None,
        typer.Option(
            help="Frames that are kept together, and lost when killed. \\[default: about a minute of work]",
            rich_help_panel=options.RUN,
        ),
    ] = None,
    ray: options.Ray = None,
    ray_cpus: options.RayCpus = 1,
    use: options.Use = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Enlarge a video: every frame at its time, with all sound, subtitles, chapters and tags of the source.

    Stopped by Ctrl-C, a crash or a full disk, the same command goes on. The result is verified in the end.
    """
    from emt_cli.jobs.video.plan import VideoJob
    from emt_cli.jobs.video.run import make_here, run_video
    from emt_cli.jobs.video.task import Settings

    seconds = {"start": seconds_of("--start", start), "end": seconds_of("--end", end)}
    seconds["preview"] = seconds_of("--preview", preview)
    settings = options.settings(Settings, locals() | seconds)
    if output and output.endswith(("/", "\\")) and not Path(output).is_dir():
        raise OutputError(f"{output}: no such folder; create it first")
    place = Path(output) if output else None
    # A plan may be looked at whatever lies in the result's place.
    job = VideoJob(replace(settings, overwrite=True) if dry_run else settings)
    piped = pipes.is_piped(source, place) and not dry_run
    with pipes.files(source, place, single=dry_run or not (as_json or compare)) as (file, target):
        task = job.open(file, target, name=str(source), here=ray is None)
        quiet = quiet or as_json
        _say_plan(job, task, where="Ray" if ray else None, quiet=quiet, verbose=verbose)
        if dry_run:
            shown = "-" if pipes.is_piped(source, place) else str(task.target)
            _show_plan(task, shown, job.measure(task), as_json)
            if task.target.exists() and not overwrite:
                ui.say(f"{task.target}: exists already; -y would replace it", quiet=quiet)
            return
        make: Maker = make_here
        cluster: AbstractContextManager[None] = nullcontext()
        if ray is not None:
            from emt_cli.jobs.cluster.scheduler import connected
            from emt_cli.jobs.video.on_ray import make_on_cluster

            make = partial(make_on_cluster, cpus=ray_cpus, say=partial(_note, as_json=as_json, quiet=quiet))
            cluster = connected(ray)
        with ui.progress(quiet=quiet) as update, cluster:
            report = _events(task) if as_json else lambda share: update(task.name, share, 1)
            try:
                facts = finish(run_video(job, task, make), report)
            except StoppedError as stopped:
                if as_json or pipes.PIPE in (source, place):
                    raise
                ui.say(f"emt: {stopped}")
                raise typer.Exit(stopped.exit_code) from stopped
        _show_result(task, facts, as_json=as_json, quiet=quiet, silent=piped)
        if piped:
            pipes.send(Path(facts["output"]))
    if not facts["verified"]:
        failed = ", ".join(check["name"] for check in facts["checks"] if not check["passed"])
        kept = "it was written all the same" if piped else f"it is kept as {facts['output']}"
        raise VerificationError(f"{task.name}: the result failed its verification ({failed}); {kept}")


def seconds_of(option: str, text: str | None) -> Fraction | None:
    """Read a time as people write it: 75, 75.5, 1:15 or 0:01:15.5; in seconds."""
    if text is None:
        return None
    parts = text.split(":")
    whole = all(part.isascii() and part.isdigit() for part in parts[:-1])
    last = parts[-1].replace(".", "", 1)
    if not whole or len(parts) > 3 or not last.isascii() or not last.isdigit():
        raise UsageError(f"{option} {text}: use seconds such as 75.5, or 0:01:15")
    seconds = Fraction(0)
    for part in parts:
        seconds = seconds * 60 + Fraction(part if part[-1:].isdigit() else part + "0")
    return seconds


def _note(text: str, *, as_json: bool, quiet: bool) -> None:
    """Say something about the run itself."""
    if as_json:
        ui.show_json({"event": "note", "message": text})
    else:
        ui.say(f"emt: {text}", quiet=quiet)


def _say_plan(job: VideoJob, task: VideoTask, *, where: str | None, quiet: bool, verbose: bool) -> None:
    """Say what will be done, before it is done; where: None for this machine's devices."""
    plan, info = task.plan, task.info
    hint = next((model.hint for model in task.models if model.hint), None)
    if hint:
        ui.say(f"emt: {hint}", quiet=quiet)
    passes = " then ".join(f"x{scale}" for scale in plan.passes)
    resized = ", resized to fit" if plan.resized else ""
    tiles = "1 tile" if task.tiles == 1 else f"{task.tiles} tiles"
    devices = where or "+".join(map(str, job.networks.devices))
    rate = f" at {float(info.rate):.5g} a second" if info.rate else ""
    ui.say(
        f"{task.name}: {plan.width}x{plan.height} to {plan.out_width}x{plan.out_height},"
        f" {len(task.times)} frames{rate} ({task.models[0].name} {passes}{resized}; {devices}, {tiles};"
        f" {task.codec}; about {ui.bytes_text(task.memory)} of memory,"
        f" {ui.bytes_text(task.disk)} of disk)",
        quiet=quiet,
    )
    for note in task.notes:
        ui.say(f"{task.name}: {note}", quiet=quiet)
    if verbose:
        for model, scale in zip(task.models, plan.passes, strict=True):
            runner = job.networks_for(info).get(scale).runner
            ui.say(
                f"  x{scale}: {model.path}; {runner.description}; tiles of up to {task.tile} px", quiet=quiet
            )
        ui.say(
            f"  {len(task.segments)} segments of up to {len(task.segments[0].times)} frames;"
            f" {info.codec}, {info.pixel_format}, {info.colour.matrix}, {info.colour.range}",
            quiet=quiet,
        )


def _show_plan(task: VideoTask, target: str, seconds: float, as_json: bool) -> None:
    """Print what would be done: sizes, time, memory, disk."""
    total = seconds * len(task.times)
    if as_json:
        more = {"seconds_per_frame": round(seconds, 4), "seconds": round(total, 1), "notes": list(task.notes)}
        more |= {"exists": True} if task.target.exists() else {}
        ui.show_json({"event": "planned"} | task.facts() | {"output": target} | more)
        return
    plan = task.plan
    ui.show(f"result    {target}, {task.codec}")
    ui.show(f"frames    {len(task.times):,} of {plan.out_width}x{plan.out_height}")
    ui.show(f"time      about {ui.seconds_text(total)} ({seconds:.2f} s a frame)")
    ui.show(f"memory    about {ui.bytes_text(task.memory)} at most")
    ui.show(f"disk      about {ui.bytes_text(task.disk)} while it works, half of that afterwards")


def _events(task: VideoTask) -> Callable[[float], None]:
    """Return a function that prints a progress event now and then."""
    last = time.monotonic()

    def report(share: float) -> None:
        nonlocal last
        if time.monotonic() - last >= _PROGRESS_EVERY:
            last = time.monotonic()
            ui.show_json({"event": "progress", "input": task.name, "share": round(share, 4)})

    return report


def _show_result(task: VideoTask, facts: dict[str, Any], *, as_json: bool, quiet: bool, silent: bool) -> None:
    """Print the result's path, unless silent, and on stderr how it compares with its source."""
    if as_json:
        ui.show_json({"event": "done" if facts["verified"] else "unverified"} | facts)
        return
    for note in facts["notes"][len(task.notes) :]:
        ui.say(f"{task.name}: {note}", quiet=quiet)
    for text in facts["damage"]:
        ui.say(f"{task.name}: damaged: {text}", quiet=quiet)
    checks = facts["checks"]
    names = max(len(check["name"]) for check in checks)
    for check in checks:
        same = check["expected"] == check["found"]
        word = "pass" if check["passed"] else "FAIL"
        detail = check["found"] if same or check["passed"] else f"{check['found']} (not {check['expected']})"
        ui.say(f"  {word}  {check['name']:{names}}  {detail}", quiet=quiet)
    computed, frames, seconds = facts["computed"], facts["frames"], facts["seconds"]
    saved = (
        f", {facts['duplicates']} of them duplicates that were not computed again"
        if computed < frames
        else ""
    )
    resumed = f" ({facts['resumed']} were there already)" if facts["resumed"] else ""
    ui.say(f"  {frames} frames{saved}, in {ui.seconds_text(seconds)}{resumed}", quiet=quiet)
    if silent:
        return
    ui.show(facts["output"])
    if "compare" in facts:
        ui.show(facts["compare"])

"""`emt batch`: thousands of pictures, one command, nothing lost."""

from __future__ import annotations

import sys
from contextlib import closing, nullcontext
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emt_cli.commands import options, ui
from emt_cli.commands.batch_report import Report, Reporter
from emt_cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from emt_cli.jobs.batch.find import Findings, Selection
    from emt_cli.jobs.batch.folder import BatchFolder, Shard
    from emt_cli.jobs.batch.plan import Batch
    from emt_cli.jobs.target import Target

EPILOG = options.examples(
    "emt batch photos/ -r -o large/",
    "emt batch photos/ -r -o large/ --long-side 3840 -f jpeg --exclude thumbs",
    "find photos -name '*.png' -print0 | emt batch - -0 --base photos -o large/",
    "emt batch photos/ -r -o large/ --shard 3/16",
    "emt batch photos/ -r -o large/ --ray head.example.org:6379",
)
SELECTION = "Selection"
_NOTHING_NAMED = "name folders, pictures or patterns, a --list, or - for a list on standard input"


def batch(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders, pictures, patterns in quotes; - reads a list of paths from standard input.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the results, which also holds the journal of what is done; "
            "else FOLDER_x4 beside the one given.",
            rich_help_panel=options.FILES,
        ),
    ] = None,
    recursive: Annotated[
        bool,
        typer.Option(
            "--recursive",
            "-r",
            help="Enter folders in folders; results mirror them.",
            rich_help_panel=SELECTION,
        ),
    ] = False,
    lists: Annotated[
        list[Path] | None,
        typer.Option(
            "--list", help="File with a path on each line.", readable=False, rich_help_panel=SELECTION
        ),
    ] = None,
    null: Annotated[
        bool,
        typer.Option("--null", "-0", help="Paths in lists end with a NUL byte.", rich_help_panel=SELECTION),
    ] = False,
    base: Annotated[
        Path | None,
        typer.Option(
            help="Results of listed files mirror their paths below this.", rich_help_panel=SELECTION
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(help="Take only files of folders that fit this pattern.", rich_help_panel=SELECTION),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Leave out files and folders that fit this pattern.", rich_help_panel=SELECTION),
    ] = None,
    shard: Annotated[
        str, typer.Option(help="Do the I-th of N equal parts: I/N.", rich_help_panel=SELECTION)
    ] = "1/1",
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
    name: Annotated[
        str | None,
        typer.Option(
            help="Names of results, such as {stem}_x{scale}{ext}; also {type}, {folder}, {width}, {height}.",
            rich_help_panel=options.FILES,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            help="Leave results that exist as they are, whatever made them.",
            rich_help_panel=options.FILES,
        ),
    ] = False,
    skip_larger: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="Skip pictures with a side above this.", min=1, rich_help_panel=SELECTION
        ),
    ] = None,
    strip_metadata: options.StripMetadata = False,
    keep_dates: options.KeepDates = False,
    compare: options.Compare = False,
    max_pixels: options.MaxPixels = 500_000_000,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            max=256,
            help="Threads that read, and that write. \\[default: 2, more with a GPU]",
            rich_help_panel=options.RUN,
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Go on with what appears in the folders, until Ctrl-C.",
            rich_help_panel=options.RUN,
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write what became of each picture: .json or .csv.", rich_help_panel=options.RUN),
    ] = None,
    ray: options.Ray = None,
    ray_cpus: options.RayCpus = 1,
    use: options.Use = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Enlarge folders of pictures, unattended; interrupted in any way, the same command goes on.

    What is done is noted in the output folder: pictures whose content, settings and model are the same are
    not done again. A bad picture does not stop the others. Ctrl-C finishes the pictures under way.
    """
    from emt_cli.jobs.batch.estimate import expect
    from emt_cli.jobs.batch.find import Selection
    from emt_cli.jobs.batch.folder import BatchFolder
    from emt_cli.jobs.batch.naming import Template
    from emt_cli.jobs.batch.on_ray import run_on_cluster
    from emt_cli.jobs.batch.plan import plan_batch
    from emt_cli.jobs.batch.run import RunStats, run_batch, run_here
    from emt_cli.jobs.batch.watch import Watch, only
    from emt_cli.jobs.cluster.scheduler import connected
    from emt_cli.jobs.picture.job import PictureJob
    from emt_cli.jobs.picture.task import Settings
    from emt_cli.jobs.target import Target
    from emt_cli.stop import stop_signals

    if output is None:
        output = _beside(inputs or [], lists or [], Target.asked(scale, width, height, long_side))
        ui.say(f"emt: results go to {output}", quiet=quiet or as_json)
    if output.exists() and not output.is_dir():
        raise UsageError(f"-o {output}: is a file; results of a batch need a folder")
    if watch and (dry_run or lists or "-" in (inputs or [])):
        raise UsageError("--watch is for folders and patterns; leave out lists and --dry-run")
    if name is not None and suffix is not None:
        raise UsageError("--name gives the whole name; leave out --suffix")
    settings = options.settings(Settings, locals())
    into, template = BatchFolder(output, _shard(shard)), None if name is None else Template(name)
    record = None if report is None else Report(report, overwrite=overwrite)
    reporter = Reporter(as_json=as_json, quiet=quiet, verbose=verbose, record=record)
    selection = Selection(recursive, tuple(include or ()), tuple(exclude or ()))
    find = partial(_find, inputs or [], lists or [], selection, into, base=base, null=null)
    findings = find()
    job = PictureJob(settings)

    def planned(findings: Findings) -> Batch:
        with ui.progress(quiet=reporter.quiet) as update:
            return plan_batch(
                findings,
                job,
                into,
                name=template,
                skip_existing=skip_existing,
                skip_larger=skip_larger,
                report=partial(update, "looking into files"),
            )

    def run(plan: Batch) -> None:
        stats.total += plan.total
        if ray is None:
            events = run_here(plan, job, into, stop, jobs)
        else:
            events = run_on_cluster(plan.items, job, into, cpus=ray_cpus, stop=stop, say=reporter.note)
        with closing(events):  # before the lock goes, whatever happens
            reporter.run(run_batch(plan, into, events, stop, stats), stats, plan, stop)

    stats = RunStats()
    with nullcontext() if dry_run else into.held():
        plan = planned(findings)
        reporter.found(findings)
        reporter.collisions(plan)
        count = len(findings.pictures) + len(findings.failures)
        if not count and not watch:
            raise InputError("no pictures to enlarge; see `emt batch --help`")
        if count and not plan.total:
            reporter.note(f"--shard {shard}: none of the {count} pictures falls into it; nothing to do")
        reporter.plan(plan, job, expect(plan, job, into, try_anyway=dry_run), dry_run=dry_run)
        if dry_run:
            raise typer.Exit(0 if not plan.failures else 4 if len(plan.failures) == plan.total else 3)
        with nullcontext() if ray is None else connected(ray), stop_signals() as stop:
            watcher = Watch(find, findings) if watch else None
            run(plan)
            if watcher is not None and not stop.is_set():
                reporter.note("waiting for more pictures; Ctrl-C ends it")
                for everything, new in watcher.arrivals(stop):
                    run(only(planned(everything), new))
    if code := reporter.summary(stats):
        raise typer.Exit(code)


def _beside(inputs: list[str], lists: list[Path], target: Target) -> Path:
    """Return the folder of the results beside the only input, a folder."""
    if not inputs and not lists:
        raise UsageError(_NOTHING_NAMED)
    folder = Path(inputs[0] if inputs else ".")
    if len(inputs) == 1 and not (folder.exists() or has_magic(inputs[0]) or inputs[0] == "-"):
        raise InputError(f"{inputs[0]}: does not exist; check the path")
    if len(inputs) != 1 or lists or not folder.is_dir():
        raise UsageError("name the folder of the results with -o")
    if folder.name in ("", ".."):
        folder = folder.resolve()
    if not folder.name:
        raise UsageError("name the folder of the results with -o")
    return folder.with_name(folder.name + (f"_x{target.scale:g}" if target.scale else "_large"))


def _find(
    inputs: list[str],
    lists: list[Path],
    selection: Selection,
    into: BatchFolder,
    *,
    base: Path | None,
    null: bool,
) -> Findings:
    """Find what inputs, and lists in files or on standard input, name."""
    from emt_cli.jobs.batch.find import find_pictures, read_list

    if not inputs and not lists:
        raise UsageError(_NOTHING_NAMED)
    if null and not lists and "-" not in inputs:
        raise UsageError("-0 is for lists; add --list FILE, or - for standard input")
    listed: list[str] = []
    if "-" in inputs:
        listed += read_list(_read_stdin(), "standard input", null=null)
    for path in lists:
        try:
            listed += read_list(path.read_bytes(), str(path), null=null)
        except OSError as error:
            raise InputError(
                f"--list {path}: cannot be read ({error.strerror}); check path and permissions"
            ) from error
    named = [text for text in inputs if text != "-"]
    return find_pictures(named, listed, selection, into, base=base)


def _read_stdin() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(
            "-: nothing is piped into standard input; `emt upscale` enlarges one picture from it"
        )
    return sys.stdin.buffer.read()


def _shard(text: str) -> Shard:
    from emt_cli.jobs.batch.folder import Shard

    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal()):
        raise UsageError(f"--shard {text}: write it as 1/4 to 4/4")
    return Shard(int(number), int(of))

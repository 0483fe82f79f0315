"""`emt benchmark`: a paper's table by one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from emt_cli.commands import options, tables, ui
from emt_cli.errors import UsageError

EPILOG = options.examples(
    "emt benchmark --set Set5,Set14 --fetch",
    "emt benchmark --set Set14 --model emt --model emt-lite --html report.html",
    "emt benchmark --set Urban100 --data-dir sets -s 2,3,4 -m emt -m bicubic",
    "emt benchmark --set Set5 --model emt-lite --against run.json --tolerance 0.02",
    "emt benchmark --speed --engines native,torch --precision fp32,bf16",
    "emt benchmark --set photos -m runs/mine/best.safetensors --json > run.json",
)
REGRESSION = 9
"""Exit code when --against finds a model worse than before."""
SETS, SPEED, SHOW = "Sets", "Speed", "Results"


def _sets(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, readable=False, rich_help_panel=SETS)


def _show(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, readable=False, rich_help_panel=SHOW)


def benchmark(
    names: Annotated[
        list[str] | None, _sets("Set5, Set14, B100, Urban100, Manga109 (several: A,B), or a folder.", "--set")
    ] = None,
    data_dir: Annotated[
        Path | None, _sets("Folder that holds sets by name; else EMT_DATA.", "--data-dir")
    ] = None,
    fetch: Annotated[bool, _sets("Download sets that are not on this machine.", "--fetch")] = False,
    lr_data: Annotated[
        Path | None, _sets("Folder of LR pictures for one set; else they are made.", "--lr-data")
    ] = None,
    scale: Annotated[str | None, _sets("2, 3, 4, or several: 2,3,4. \\[default: 4]", "--scale", "-s")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="auto, a name from `emt models`, a model file, bicubic or lanczos; repeatable.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    device: options.Device = "auto",
    precision: Annotated[
        str,
        typer.Option(
            help="auto, fp32, fp16 or bf16; several with --speed: fp32,bf16.", rich_help_panel=options.MODEL
        ),
    ] = "auto",
    tile: Annotated[
        str,
        typer.Option(
            "--tile",
            "-t",
            help="Side of a tile in input pixels, auto or off; several with --speed: off,256,64.",
            rich_help_panel=options.MODEL,
        ),
    ] = "auto",
    tta: options.Ensemble = False,
    speed: Annotated[
        bool, typer.Option("--speed", help="Measure speed and memory instead.", rich_help_panel=SPEED)
    ] = False,
    size: Annotated[
        str, typer.Option(help="Input WIDTHxHEIGHT in pixels, or several: A,B.", rich_help_panel=SPEED)
    ] = "160x96",
    engines: Annotated[
        str,
        typer.Option(
            help="auto, native, openvino, torch, eager (the network as trained); several: A,B.",
            rich_help_panel=SPEED,
        ),
    ] = "auto",
    runs: Annotated[
        int, typer.Option(min=1, help="Timed runs of each case, after a warm-up.", rich_help_panel=SPEED)
    ] = 5,
    rgb: Annotated[bool, _show("Show PSNR and SSIM on RGB too.", "--rgb")] = False,
    each: Annotated[bool, _show("Show each picture, not the means only.", "--each")] = False,
    csv: Annotated[Path | None, _show("Write all scores as CSV; - is standard output.", "--csv")] = None,
    html: Annotated[Path | None, _show("Write a page with tables and pictures to compare.", "--html")] = None,
    html_pictures: Annotated[
        int, typer.Option(min=1, help="Most pictures in the page, worst first.", rich_help_panel=SHOW)
    ] = 24,
    save: Annotated[Path | None, _show("Keep what models make, below this folder.", "--save")] = None,
    against: Annotated[
        Path | None, _show("Compare with an earlier --json; exit code 9 if worse.", "--against")
    ] = None,
    tolerance: Annotated[float, _show("PSNR in dB that --against forgives.", "--tolerance")] = 0.01,
    ssim_tolerance: Annotated[float, _show("SSIM that --against forgives.", "--ssim-tolerance")] = 0.0005,
    as_json: options.Json = False,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh", help="Compute again what earlier runs have done.", rich_help_panel=options.RUN
        ),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Score models on test sets the way papers do: PSNR and SSIM on luma, beside published figures.

    Ctrl-C is no loss: the same command goes on with the pictures that are left.
    """
    models = tuple(dict.fromkeys(model or ("auto",)))
    if as_json and csv == Path("-"):
        raise UsageError("standard output takes --json or --csv -, not both; name a file for --csv")
    if speed:
        if names or csv or html or save or against:
            raise UsageError("--speed measures without pictures; leave --set and result files out")
        record = _measure(
            models,
            _scales(scale),
            device=device,
            precisions=_parts(precision),
            tiles=[options.tile_side(part) for part in _parts(tile)],
            sizes=_sizes(size),
            engines=_parts(engines),
            runs=runs,
            quiet=quiet or as_json,
        )
        if as_json:
            ui.show_json(record)
        else:
            tables.show_speeds(record)
        return
    from emt_cli.evaluation.methods import Settings
    from emt_cli.evaluation.record import read_record, to_csv
    from emt_cli.evaluation.report import Report
    from emt_cli.evaluation.run import Benchmark, Request, save_answers
    from emt_cli.media.files import check_target

    request = Request(
        sets=tuple(part for text in names or () for part in _split(text)),
        models=models,
        scales=_scales(scale),
        settings=Settings(device, precision, options.tile_side(tile), tta),
        data_dir=data_dir,
        lr_folder=lr_data,
        fetch=fetch,
        fresh=fresh,
    )
    if html == Path("-"):
        raise UsageError("--html writes a file; give it a name")
    for target in (csv, html):
        if target not in (None, Path("-")):
            check_target(target, overwrite=True)
    report = Report(html_pictures)
    earlier = None if against is None else read_record(against)
    with ui.progress(quiet=quiet or as_json) as update:
        run = Benchmark(request, update)
        for scored in run.run():
            if html is not None:
                report.add(scored)
            if save is not None:
                save_answers(scored, save)
    record = run.record()
    if csv is not None:
        _write(csv, to_csv(record))
    if html is not None:
        _write(html, report.page(record))
    if as_json:
        ui.show_json(record)
    elif csv != Path("-"):
        tables.show_scores(record, rgb=rgb, each=each)
    if earlier is not None:
        _compare(record, earlier, psnr=tolerance, ssim=ssim_tolerance, name=str(against))


def _compare(record: dict[str, Any], earlier: dict[str, Any], *, psnr: float, ssim: float, name: str) -> None:
    """Say what is worse than in an earlier record, and end with REGRESSION if anything is."""
    from emt_cli.evaluation.record import regressions

    worse = regressions(record, earlier, psnr=psnr, ssim=ssim, name=name)
    for line in worse:
        ui.say(f"emt: worse than {name}: {line}")
    if worse:
        raise typer.Exit(REGRESSION)
    ui.say(f"not worse than {name}, within {psnr:g} dB and {ssim:g}")


def _measure(
    models: tuple[str, ...],
    scales: tuple[int, ...],
    *,
    device: str,
    precisions: list[str],
    tiles: list[int | None],
    sizes: list[tuple[int, int]],
    engines: list[str],
    runs: int,
    quiet: bool,
) -> dict[str, Any]:
    from emt_cli.evaluation.methods import PLAIN, choose_scales
    from emt_cli.evaluation.speed import Speed, SpeedTest, make_cases, speed_record

    if set(models) & set(PLAIN):
        raise UsageError("--speed is for networks; leave bicubic and lanczos out")
    cases = make_cases(
        models,
        choose_scales(models, scales),
        engines=engines,
        precisions=precisions,
        tiles=tiles,
        sizes=sizes,
    )
    test = SpeedTest(device, runs=runs)
    speeds: list[Speed] = []
    with ui.progress(quiet=quiet) as update:
        for index, case in enumerate(cases):
            for step in test.measure(case):
                if isinstance(step, Speed):
                    speeds.append(step)
                else:
                    update("measuring", index + step, len(cases))
    return speed_record(test, speeds)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _sizes(text: str) -> list[tuple[int, int]]:
    """Read WIDTHxHEIGHT,... as (height, width) pairs."""
    pairs = [part.lower().split("x") for part in _parts(text)]
    if not pairs or any(
        len(pair) != 2 or not all(side.isdecimal() and int(side) for side in pair) for pair in pairs
    ):
        raise UsageError(f"--size {text}: write WIDTHxHEIGHT in pixels, such as 160x96, or several as A,B")
    return [(int(height), int(width)) for width, height in pairs]


def _split(text: str) -> list[str]:
    """Split A,B; a folder whose name holds a comma stays whole."""
    return [text] if Path(text).is_dir() else _parts(text)


def _scales(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part.removeprefix("x")) for part in _parts(text or "")))
    except ValueError as error:
        raise UsageError(f"--scale {text}: not a scale; write 2, 3, 4, or several as 2,4") from error


def _write(path: Path, text: str) -> None:
    from emt_cli.media.files import new_file

    if path == Path("-"):
        typer.echo(text, nl=False)
        return
    with new_file(path, overwrite=True) as stream:
        stream.write(text.encode("utf-8", "backslashreplace"))  # names that are no Unicode

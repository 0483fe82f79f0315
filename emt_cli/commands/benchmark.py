"""`emt benchmark`: a paper's table by one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emt_cli.commands import options, ui
from emt_cli.errors import UsageError

if TYPE_CHECKING:
    from emt_cli.assets.benchmarks import FoundSet
    from emt_cli.evaluation.record import Record

EPILOG = options.examples(
    "emt benchmark --set Set5,Set14 --fetch",
    "emt benchmark --set Urban100 --data-dir testsets --scale 2,3,4 --model emt --model bicubic",
    "emt benchmark --set photos --model runs/mine/model.safetensors --json > run.json",
)
SETS, SHOW = "Sets", "Results"


def _sets(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=SETS)


def _show(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=SHOW)


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
    precision: options.PrecisionChoice = options.Precision.auto,
    tile: options.TileSide = "auto",
    tta: options.Ensemble = False,
    rgb: Annotated[bool, _show("Show PSNR and SSIM on RGB too.", "--rgb")] = False,
    each: Annotated[bool, _show("Show each picture, not the means only.", "--each")] = False,
    csv: Annotated[Path | None, _show("Write all scores as CSV; - is standard output.", "--csv")] = None,
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
    from emt_cli.assets.benchmarks import find_set
    from emt_cli.evaluation.methods import Method, Settings, choose_scales
    from emt_cli.evaluation.quality import Score, Scored, forget_old_answers, score_set
    from emt_cli.evaluation.record import make_record, to_csv

    wanted = [part for text in names or () for part in _split(text)]
    if not wanted:
        raise UsageError("no set: name one with --set, such as --set Set5 or --set FOLDER")
    if as_json and csv == Path("-"):
        raise UsageError("standard output takes --json or --csv -, not both; name a file for --csv")
    models = tuple(dict.fromkeys(model or ("auto",)))
    scales = choose_scales(models, _scales(scale))
    if lr_data is not None and (len(scales) > 1 or len(wanted) > 1):
        raise UsageError("--lr-data goes with one set and one scale")
    settings = Settings(device, precision.value, options.tile_side(tile), tta)
    methods = {
        (made.scale, made.name): made
        for made in (Method(name, one, settings) for one in scales for name in models)
    }
    forget_old_answers()
    scores: list[Score] = []
    with ui.progress(quiet=quiet or as_json) as update:
        sets = [
            [find_set(name, one, data_dir=data_dir, fetch=fetch, report=update) for name in wanted]
            for one in scales
        ]
        _check_names(sets[0])
        for one, found_sets in zip(scales, sets, strict=True):
            here = [method for method in methods.values() if method.scale == one]
            for found in found_sets:
                for step in score_set(found, here, lr_folder=lr_data, resume=not fresh):
                    if isinstance(step, Scored):
                        scores += step.scores
                    else:
                        update(f"{found.name} x{one}", step, 1)
    run = {"precision": precision.value, "device": device, "tile": tile, "tta": tta, "lr_data": bool(lr_data)}
    record = make_record(scores, sets[0], list(methods.values()), run)
    if csv is not None:
        _write_csv(csv, to_csv(record))
    if as_json:
        ui.show_json(record)
    elif csv != Path("-"):
        _show_tables(record, rgb=rgb, each=each)


def _split(text: str) -> list[str]:
    """Split A,B; a folder whose name holds a comma stays whole."""
    return [text] if Path(text).is_dir() else [part.strip() for part in text.split(",") if part.strip()]


def _scales(text: str | None) -> tuple[int, ...]:
    try:
        parts = (text or "").split(",") if text else []
        return tuple(dict.fromkeys(int(part.strip().removeprefix("x")) for part in parts))
    except ValueError as error:
        raise UsageError(f"--scale {text}: not a scale; write 2, 3, 4, or several as 2,4") from error


def _check_names(sets: list[FoundSet]) -> None:
    names = [found.name for found in sets]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--set: {name} is there twice; run them one at a time")


def _write_csv(path: Path, text: str) -> None:
    from emt_cli.media.files import new_file

    if path == Path("-"):
        typer.echo(text, nl=False)
        return
    with new_file(path, overwrite=True) as stream:
        stream.write(text.encode())


def _show_tables(record: Record, *, rgb: bool, each: bool) -> None:
    """Print means beside published figures, and the pictures, worst first, on request."""
    more = ["PSNR RGB", "SSIM RGB"] if rgb else []
    if each:
        columns = ["set", "scale", "picture", "model", "PSNR", "SSIM", *more]
        rows = [
            [row["set"], f"x{row['scale']}", row["picture"], row["method"], *_figures(row, rgb=rgb)]
            for row in sorted(
                record["pictures"], key=lambda row: (row["set"], row["scale"], row["psnr"] or 1e9)
            )
        ]
        ui.show_table(columns, rows)
        ui.show("")
    columns = ["set", "scale", "model", "PSNR", "SSIM", *more, "published", "difference"]
    rows = []
    for mean in record["means"]:
        paper = mean["published"]
        rows.append(
            [mean["set"], f"x{mean['scale']}", mean["method"], *_figures(mean, rgb=rgb)]
            + ([_pair(paper), _signed(mean["difference"])] if paper else ["", ""])
        )
        following = record["means"][record["means"].index(mean) + 1 :]
        if not following or (following[0]["set"], following[0]["scale"]) != (mean["set"], mean["scale"]):
            rows += [
                [
                    "",
                    "",
                    paper["method"],
                    "",
                    "",
                    *("" for _ in more),
                    _pair(paper),
                    _signed(paper["difference"]),
                ]
                for paper in record["published"]
                if (paper["set"], paper["scale"]) == (mean["set"], mean["scale"])
            ]
    ui.show_table(columns, rows)
    if record["published"]:
        ui.say("difference: measured less published; for methods not run here, of the first model")


def _figures(row: dict[str, Any], *, rgb: bool) -> list[str]:
    psnr, ssim, psnr_rgb, ssim_rgb = (row[name] for name in ("psnr", "ssim", "psnr_rgb", "ssim_rgb"))
    more = [_decibels(psnr_rgb), f"{ssim_rgb:.4f}"] if rgb else []
    return [_decibels(psnr), f"{ssim:.4f}", *more]


def _decibels(value: float | None) -> str:
    return "inf" if value is None else f"{value:.3f}"


def _pair(score: dict[str, float]) -> str:
    return f"{score['psnr']:.2f} / {score['ssim']:.4f}"


def _signed(difference: dict[str, float]) -> str:
    return f"{difference['psnr']:+.2f} / {difference['ssim']:+.4f}"

"""`emt compare`: one picture, several models, one page to look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emt_cli.commands import options, ui
from emt_cli.commands.options import examples
from emt_cli.errors import UsageError
from emt_cli.steps import finish

EPILOG = examples(
    "emt compare photo.jpg --model emt --model emt-lite -o page.html",
    "emt compare photo.jpg -m emt-lite -m 4x_UltraSharp.pth -o page.html --scale 4",
)


def compare(
    picture: Annotated[Path, typer.Argument(help="Picture to enlarge.", readable=False)],
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            help="A name from `emt models`, or a file; repeat it.",
            rich_help_panel=options.MODEL,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page to write.", rich_help_panel=options.FILES)
    ],
    scale: options.Scale = None,
    device: options.Device = "auto",
    precision: options.PrecisionChoice = options.Precision.auto,
    engine: options.EngineChoice = options.Engine.auto,
    tile: options.TileSide = "auto",
    overwrite: options.Overwrite = False,
    max_pixels: options.MaxPixels = 500_000_000,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Enlarge a picture with several models and write one page: slider, magnifier, speed and memory of each.

    The page needs nothing else. Each model is warmed up on a small part first, then timed once.
    """
    from emt_cli.atomic import write_atomically
    from emt_cli.evaluation.side_by_side import Shown, compare_page
    from emt_cli.jobs.compare import compare_models
    from emt_cli.jobs.picture.task import Settings
    from emt_cli.jobs.target import Target
    from emt_cli.media.files import check_target

    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{output}: the page is HTML; name it .html")
    check_target(output, overwrite=overwrite)
    settings = Settings(
        target=Target.asked(scale, None, None, None),
        device=device,
        precision=precision.value,
        engine=engine.value,
        tile=options.tile_side(tile),
        max_pixels=max_pixels,
    )
    with ui.progress(quiet=quiet or as_json) as update:
        found = finish(compare_models(picture, model, settings), lambda share: update(picture.name, share, 1))
    versions = [Shown("bicubic", found.bicubic)]
    for one in found.enlarged:
        passes = " then ".join(f"x{factor}" for factor in one.passes)
        rate = found.height * found.width / one.seconds
        facts = (
            f"{one.seconds:.2f} s, {rate / 1000:,.1f} thousand pixels a second",
            f"{ui.bytes_text(one.peak_bytes)} of memory",
            f"{one.parameters:,} parameters; {passes}",
            one.engine,
        )
        versions.append(Shown(one.name, one.pixels, facts))
    height, width = found.bicubic.shape[:2]
    about = f"{found.width}x{found.height} to {width}x{height}, each model timed once on {found.device}"
    page = compare_page(found.name, about, versions)
    write_atomically(output, page.encode())
    if as_json:
        models = [
            {
                "model": one.name,
                "passes": list(one.passes),
                "parameters": one.parameters,
                "seconds": one.seconds,
                "peak_bytes": one.peak_bytes,
                "engine": one.engine,
            }
            for one in found.enlarged
        ]
        sides = {"width": found.width, "height": found.height, "out_width": width, "out_height": height}
        ui.show_json(
            {"event": "done", "input": str(picture), "output": str(output), **sides, "models": models}
        )
    else:
        ui.show(str(output))

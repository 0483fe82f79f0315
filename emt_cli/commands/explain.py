"""`emt explain`: what the network looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emt_cli.commands import options, ui
from emt_cli.errors import UsageError

EPILOG = options.examples(
    "emt explain photo.png --at 120,80",
    "emt explain photo.png --at 120,80 --model emt --scale 4 -o looked-at.png",
)


def explain(
    picture: Annotated[Path, typer.Argument(help="A picture.", readable=False)],
    at: Annotated[str, typer.Option("--at", help="The point, X,Y in pixels from the top left.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="PNG to write. \\[default: beside the picture]"),
    ] = None,
    scale: Annotated[int, typer.Option("--scale", "-s", help="2, 3 or 4.")] = 4,
    model: options.Model = "auto",
    steps: Annotated[int, typer.Option(min=1, help="Steps of LAM's path: more are finer.")] = 20,
    max_pixels: options.MaxPixels = 500_000_000,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw the attention of each global layer from a point, and which pixels its result depends on (LAM)."""
    import numpy as np

    from emt_cli.assets.model_choice import find_model
    from emt_cli.engine.community.network import CommunityNetwork
    from emt_cli.engine.models import load_model
    from emt_cli.engine.torch.network import build_network
    from emt_cli.evaluation.explain import AREA, Attribution, attention_at, local_attribution, surroundings
    from emt_cli.evaluation.explain_picture import draw
    from emt_cli.media.files import check_target
    from emt_cli.media.picture.io import Picture, read_picture, write_picture
    from emt_cli.media.samples import convert

    x, y = _point(at)
    pixels = convert(read_picture(picture, max_pixels=max_pixels).pixels, np.uint8)
    height, width = pixels.shape[:2]
    if x >= width or y >= height:
        raise UsageError(f"--at {at}: outside of {picture}, which has {width}x{height} pixels")
    target = output or picture.with_name(f"{picture.stem}_explained.png")
    if target.suffix.lower() != ".png":
        raise UsageError(f"-o {output}: a PNG is written; name it .png")
    check_target(target, overwrite=overwrite)
    found = find_model(model, scale)
    weights = load_model(found.path)
    if isinstance(weights, CommunityNetwork):
        raise weights.unfit_for("explain")
    network = build_network(weights)
    crop, top, left = surroundings(pixels, y, x)
    row, column = y - top, x - left
    attribution = None
    with ui.progress(quiet=quiet or as_json) as update:
        for step in local_attribution(network, crop, row, column, steps=steps):
            if isinstance(step, Attribution):
                attribution = step
            else:
                update("attributing", step, 1)
    if attribution is None:
        raise AssertionError("the attribution ends with its map")
    attention = attention_at(network, crop, row, column)
    title = f"{found.name} x{network.config.scale} at {x},{y}"
    drawn = draw(crop, row, column, attention, attribution, title=ui.plain(f"{title} of {picture.name}"))
    write_picture(target, Picture(drawn), format="png", overwrite=overwrite)
    if as_json:
        layers = sorted({one.layer for one in attention})
        facts = {"model": found.name, "scale": network.config.scale, "x": x, "y": y, "layers": layers}
        facts |= {"output": str(target), "diffusion_index": attribution.diffusion}
        ui.show_json(facts | {"area": [left, top, AREA, AREA]})
    else:
        area = f"{AREA}x{AREA} pixels from {left},{top}"
        ui.say(f"{title}: diffusion index {attribution.diffusion:.1f}, of {area}", quiet=quiet)
        ui.show(str(target))


def _point(text: str) -> tuple[int, int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(f"--at {text}: write X,Y in pixels, such as 120,80")
    return int(parts[0]), int(parts[1])

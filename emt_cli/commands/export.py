"""`emt export`: a network for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emt_cli.commands import options, ui

EPILOG = options.examples(
    "emt export emt-lite -o emt-lite.onnx",
    "emt export emt -o emt.xml --scale 2",
    "emt export runs/mine/best.safetensors -o mine.onnx --json",
)


def export(
    model: Annotated[str, typer.Argument(help="auto, a name from `emt models`, or a model file.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="NAME.onnx, or NAME.xml for OpenVINO (with NAME.bin).")
    ],
    scale: Annotated[
        int | None,
        typer.Option("--scale", "-s", help="Which of the model's scales. \\[default: its largest]"),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a network as ONNX or OpenVINO, for any height and width, checked against torch on a photograph.

    Input "rgb", float32 (batch, 3, height, width), 0..255; output "enlarged", not clamped. Where the written
    file answers otherwise than torch, nothing is kept, and the exit code is 9.
    """
    from emt_cli.jobs.export import export as write

    done = write(model, output, scale=scale, overwrite=overwrite)
    if as_json:
        ui.show_json({"event": "done"} | done.facts())
        return
    ui.say(
        f"{done.model} x{done.scale}, {done.format}: any height and width from {done.least_side} pixels;"
        f" differs from torch by at most {done.difference:.1g} of 255",
        quiet=quiet,
    )
    for path in done.files:
        ui.show(str(path))

"""Options that several commands share, each spelled once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
import typer.core

from emt_cli.commands.defaults import ConfiguredCommand, apply_preset
from emt_cli.errors import UsageError

if TYPE_CHECKING:
    from emt_cli.jobs.networks import EnlargeSettings

Kind = TypeVar("Kind", bound="EnlargeSettings")


def complete_model(incomplete: str) -> list[str]:
    """Return what a shell may complete a model to: names, model files, folders; nothing is fetched."""
    from emt_cli.assets.catalog import SUFFIXES, known_models

    folder = Path(incomplete if incomplete.endswith(("/", os.sep)) else Path(incomplete).parent)
    try:
        near = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    except OSError:
        near = []
    files = [f"{path}{os.sep}" for path in near if path.is_dir()]
    files += [str(path) for path in near if path.suffix in SUFFIXES]
    return [choice for choice in ("auto", *known_models(), *files) if choice.startswith(incomplete)]


_RAY_ADDRESS = re.compile(r"local|auto|ray://\S+|[\w.-]+:\d+|\[[\da-fA-F:]+\]:\d+")

SIZE, MODEL, FILES, RUN = "Size", "Network", "Files", "Run"
"""Panels of the help text."""


class Precision(StrEnum):
    """Number types of the network's body."""

    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


class Engine(StrEnum):
    """What computes the network."""

    auto = "auto"
    native = "native"
    openvino = "openvino"
    torch = "torch"


class Format(StrEnum):
    """Kinds of picture files that are written."""

    png = "png"
    jpeg = "jpeg"
    webp = "webp"
    tiff = "tiff"
    bmp = "bmp"
    avif = "avif"
    heic = "heic"
    jxl = "jxl"


Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs: one object on each line.")]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Say nothing but errors and results' names.", rich_help_panel=RUN),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Say which file, device and tiles are used.", rich_help_panel=RUN),
]
Use = Annotated[
    str | None,
    typer.Option(
        "--use",
        metavar="PRESET",
        help="Options of a preset in emt.toml; see `emt config`.",
        is_eager=True,
        callback=apply_preset,
        rich_help_panel=RUN,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and stop there.", rich_help_panel=RUN)
]

Scale = Annotated[
    float | None,
    typer.Option(
        "--scale",
        "-s",
        "--outscale",
        metavar="FACTOR",
        help="Enlargement, up to 16: 4, 2.7 ...; 1 cleans at the same size. \\[default: 4]",
        rich_help_panel=SIZE,
    ),
]
Width = Annotated[
    int | None, typer.Option(metavar="PIXELS", help="Width of the result in pixels.", rich_help_panel=SIZE)
]
Height = Annotated[
    int | None, typer.Option(metavar="PIXELS", help="Height of the result in pixels.", rich_help_panel=SIZE)
]
LongSide = Annotated[
    int | None,
    typer.Option(metavar="PIXELS", help="Longer side of the result in pixels.", rich_help_panel=SIZE),
]

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="auto, a name from `emt models`, or a file: an EMT, or a network that spandrel reads.",
        rich_help_panel=MODEL,
        autocompletion=complete_model,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        metavar="DEVICE",
        help="auto, cpu, cuda, cuda:0 or mps; batch and video take several: cuda:0,cuda:1.",
        rich_help_panel=MODEL,
    ),
]
PrecisionChoice = Annotated[
    Precision,
    typer.Option(
        metavar="TYPE",
        help="auto, fp32, fp16, bf16; auto is fp16 on CUDA, bf16 where it agrees with fp32, else fp32.",
        rich_help_panel=MODEL,
    ),
]
EngineChoice = Annotated[
    Engine,
    typer.Option(
        metavar="ENGINE",
        help="auto, native (kernels for this processor), openvino, torch; auto is native on CPUs.",
        rich_help_panel=MODEL,
    ),
]
TileSide = Annotated[
    str,
    typer.Option(
        "--tile",
        "-t",
        metavar="PIXELS",
        help="Side of a tile in input pixels; auto fits the free memory, off never cuts.",
        rich_help_panel=MODEL,
    ),
]
Ensemble = Annotated[
    bool,
    typer.Option(
        "--tta",
        "-x",
        help="Average over 8 flips and rotations: a little better, 8 times the work.",
        rich_help_panel=MODEL,
    ),
]
Sharpness = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="From 0 (invents nothing) to 1 (sharpest), for models that offer it. \\[default: the model's]",
        min=0,
        max=1,
        rich_help_panel=MODEL,
    ),
]

FormatChoice = Annotated[
    Format | None,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        help="png, jpeg, webp, tiff, bmp, avif, heic or jxl; else the input's, PNG for GIF, TIFF for raw.",
        rich_help_panel=FILES,
    ),
]
Quality = Annotated[
    int,
    typer.Option(
        min=1,
        max=100,
        metavar="N",
        help="For all formats that lose detail; 100 makes WebP and JPEG XL lossless.",
        rich_help_panel=FILES,
    ),
]
Suffix = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Put after the name of a result. \\[default: _x4 and so on]",
        rich_help_panel=FILES,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", "-y", help="Replace results that exist already.", rich_help_panel=FILES),
]
StripMetadata = Annotated[
    bool,
    typer.Option(
        "--strip-metadata",
        help="Drop EXIF, XMP and resolution; the colour profile stays.",
        rich_help_panel=FILES,
    ),
]
KeepDates = Annotated[
    bool,
    typer.Option("--keep-dates", help="Give results the times of their sources.", rich_help_panel=FILES),
]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare",
        help="Write a labelled picture beside the result: bicubic | EMT.",
        rich_help_panel=FILES,
    ),
]
MaxPixels = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="Refuse inputs that declare more pixels than this.", rich_help_panel=FILES
    ),
]

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Work on a Ray cluster: HOST:PORT, auto for the one this machine is in; alone, this machine.",
        rich_help_panel=RUN,
    ),
]
RayCpus = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="Processors of a worker on a node without GPU.", rich_help_panel=RUN
    ),
]


class RayCommand(ConfiguredCommand):
    """A command whose --ray may stand alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a --ray without an address the one of this machine."""
        end = args.index("--") if "--" in args else len(args)
        for place in range(end):
            following = args[place + 1] if place + 1 < end else ""
            if args[place] == "--ray" and not _RAY_ADDRESS.fullmatch(following):
                args = [*args[:place], "--ray=local", *args[place + 1 :]]
        rest: list[str] = super().parse_args(ctx, args)
        return rest


def settings(kind: type[Kind], given: Mapping[str, Any]) -> Kind:
    """Return settings filled from a command's arguments, given by locals(): those named like their fields.

    The size comes from scale, width, height and long_side.
    """
    from emt_cli.jobs.target import Target

    values = {field.name: given[field.name] for field in fields(kind) if field.name in given}
    values["target"] = Target.asked(given["scale"], given["width"], given["height"], given["long_side"])
    values["tile"] = tile_side(given["tile"])
    return kind(**{name: value.value if isinstance(value, Enum) else value for name, value in values.items()})


def tile_side(text: str) -> int | None:
    """Read --tile: None for auto, 0 for off, else the side in input pixels."""
    if text == "auto":
        return None
    if text == "off":
        return 0
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"--tile {text}: use auto, off, or a number of pixels such as 256")
    return int(text)


def examples(*lines: str) -> str:
    """Return the end of a help text: command lines to copy."""
    return "\n\n".join(["Examples:", *lines])

"""`emt models`: what models there are, where they lie, how to get more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from emt_cli.assets.catalog import TAKEN, Model, cache_folder, known_models
from emt_cli.assets.model_choice import find_model, is_path, scales_of
from emt_cli.commands import ui
from emt_cli.commands.options import Json, Overwrite, examples
from emt_cli.errors import UsageError

app = typer.Typer(epilog=examples("emt models", "emt models pull emt --scale 4", "emt models add net.pth"))


@app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: Json = False) -> None:
    """List the models, fetch the published ones, add files of your own, look into one."""
    if context.invoked_subcommand:
        return
    listed = [_listed(model) for model in known_models().values()]
    if as_json:
        for entry in listed:
            ui.show_json(entry)
        return
    columns = ("name", "scales", "where", "licence", "note")
    ui.show_table(columns, [[entry[column] for column in columns] for entry in map(_in_words, listed)])
    ui.say(f"Fetched models lie in {cache_folder()}; EMT_CACHE=FOLDER chooses another place.")


@app.command(epilog=examples("emt models pull emt", "emt models pull emt --scale 4 --from Downloads"))
def pull(
    name: Annotated[str, typer.Argument(help="The model to fetch: emt.")],
    scale: Annotated[
        str | None, typer.Option("--scale", "-s", help="Which scales: 4, or 2,3 and so on; all if not given.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Copy from this file or folder, without any network.", readable=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch a published model, checked against its known checksum; what is already there stays.

    Proxies are taken from the environment (HTTPS_PROXY). EMT_MIRROR=URL fetches from another server's folder.
    """
    from emt_cli.assets.download import pull as fetch

    scales = [] if scale is None else _scales(scale)
    with ui.progress(quiet=as_json) as update:
        paths = fetch(name, scales, source=source, report=update)
    for path in paths:
        if as_json:
            ui.show_json({"name": name, "path": str(path)})
        else:
            ui.show(str(path))


@app.command(epilog=examples("emt models add 4x_UltraSharp.pth", "emt models add net.pth --name sharp"))
def add(
    file: Annotated[Path, typer.Argument(help="An EMT, or any network that spandrel reads.", readable=False)],
    name: Annotated[str | None, typer.Option(help="What --model calls it; else the file's name.")] = None,
    source: Annotated[str | None, typer.Option(help="Where it comes from, for the record.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Keep a copy of a model file in the cache, under a name, with its checksum."""
    from emt_cli.assets.added import Added, add_model
    from emt_cli.engine.community.network import CommunityNetwork
    from emt_cli.engine.models import load_model
    from emt_cli.engine.weights import read_model_file

    name = name or file.stem
    if name in TAKEN:
        raise UsageError(f"--name {name}: means something already; choose another")
    model = load_model(file)
    what = model.facts.architecture if isinstance(model, CommunityNetwork) else "EMT"
    origin = source or str(file.absolute())
    added = Added(name, f"{name}{file.suffix.lower()}", model.scale, model.sha256, origin, what)
    path = add_model(cache_folder(), added, read_model_file(file), overwrite=overwrite)
    if as_json:
        ui.show_json({"name": name, "path": str(path), "sha256": model.sha256})
    else:
        ui.show(str(path))


@app.command(epilog=examples("emt models info emt-lite", "emt models info my-model.safetensors --json"))
def info(
    model: Annotated[str, typer.Argument(help="A model's name, or a .safetensors or .pth file.")],
    as_json: Json = False,
) -> None:
    """Check a model's files and print config, size, sources, licence and checksum."""
    for path in _files(model):
        described = _described(path)
        if as_json:
            ui.show_json(described)
        else:
            lines = list(_flat(described))
            width = max(len(key) for key, _ in lines) + 2
            for key, value in lines:
                ui.show(f"{key:<{width}}{ui.value_text(value)}")


def _files(model: str) -> list[Path]:
    """Return the files that a name or path stands for: all that are on this machine."""
    known = known_models().get(model)
    if known is None and is_path(model):
        return [find_model(model, 0).path]
    scales = known.scales_here if known and known.scales_here else scales_of(model)
    return [find_model(model, scale).path for scale in scales]


def _scales(text: str) -> list[int]:
    try:
        return [int(part.strip().removeprefix("x")) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--scale {text}: not a scale; write 2, 3, 4, or several as 2,4") from error


def _listed(model: Model) -> dict[str, Any]:
    files = [
        {
            "scale": scale,
            "path": str(path),
            "here": path.is_file(),
            "bytes": path.stat().st_size if path.is_file() else None,
        }
        for scale, path in model.files.items()
    ]
    return {
        "name": model.name,
        "bundled": model.bundled,
        "licence": model.licence,
        "source": model.source,
        "note": model.note,
        "files": files,
    }


def _in_words(listed: dict[str, Any]) -> dict[str, str]:
    here = [file for file in listed["files"] if file["here"]]
    missing = [file for file in listed["files"] if not file["here"]]
    size = ui.bytes_text(sum(file["bytes"] for file in here))
    where = []
    if here:
        where.append(f"{'bundled' if listed['bundled'] else 'in the cache'} ({_names(here)}, {size})")
    if missing:
        where.append(f"not fetched ({_names(missing)})" if here else "not fetched")
    return {
        "name": listed["name"],
        "scales": _names(listed["files"]),
        "where": ", ".join(where),
        "licence": listed["licence"],
        "note": listed["note"],
    }


def _names(files: list[dict[str, Any]]) -> str:
    return " ".join(f"x{file['scale']}" for file in files)


def _flat(described: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in described.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", part) for name, part in value.items())
        else:
            yield key, value


def _described(path: Path) -> dict[str, Any]:
    from emt_cli.engine.community.network import CommunityNetwork
    from emt_cli.engine.models import load_model

    weights = load_model(path)
    described = {
        "name": path.stem,
        **weights.metadata,
        "scale": weights.scale,
        "file": str(path),
        "sha256": weights.sha256,
        "parameters": weights.parameters,
    }
    if isinstance(weights, CommunityNetwork):
        facts = asdict(weights.facts)
        return described | {"multiply_adds_per_pixel": facts.pop("multiply_adds"), **facts}
    return described | {
        **({} if weights.sharpness is None else {"sharpness": weights.sharpness}),
        "multiply_adds_per_pixel": weights.config.multiply_adds,
        "config": asdict(weights.config),
    }

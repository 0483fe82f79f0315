"""Where a run's settings come from: a preset, a file over it, single keys over both; no torch here."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from emt_cli.errors import InputError, UsageError
from emt_cli.training.config import TABLES, TrainConfig
from emt_cli.training.tables import types_of

FILE_LIMIT = 1 << 20
"""Longest recipe file that is read, in bytes."""

LITE: dict[str, Any] = {
    "network": {
        "dim": 64,
        "blocks": 1,
        "layers": 7,
        "attention_layers": 1,
        "heads": 2,
        "mlp_ratio": 1.5,
        "windows": [[16, 8], [8, 16]],
        "shifts": [[8, 4], [4, 8]],
    },
    "steps": 100_000,
    "patch": 48,
    "identity_start": True,
    "optimizer": "muon",
    "learning_rate": 2e-3,
    "warmup": 100,
    "decay_steps": 30_000,
    "betas": [0.9, 0.99],
    "clip": 1.0,
}
"""How the bundled models are trained; their recipe files say the rest."""

PRESETS: dict[str, dict[str, Any]] = {"emt": {}, "lite": LITE}


def make_config(
    preset: str | None = "emt",
    *,
    base: Mapping[str, Any] | None = None,
    file: Path | None = None,
    pairs: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Make a config of a preset, a TOML file over it, and single keys over both.

    base: all keys of another run, below the preset, which may then be None. pairs: "key=value" with the value
    as in TOML, quotes around text left out at will; a key of the network is "network.dim". values: more keys,
    written the same way, which come last. Raises UsageError and InputError.
    """
    if preset is not None and preset not in PRESETS:
        raise UsageError(f"preset {preset!r} is none of {', '.join(PRESETS)}")
    recipe = _known(dict(base or {}), "the checkpoint")
    if preset is not None:
        recipe |= _flat(PRESETS[preset])
    if file is not None:
        recipe |= _known(_flat(_read(file)), str(file))
    flags = _known(dict(_split(pair) for pair in pairs), "--set") | dict(values or {})
    complaint = _complaint(recipe | flags)
    if complaint and file is not None and _complaint(recipe) == complaint:
        complaint = f"{file}: {complaint}"  # it is the file's alone
    if complaint:
        raise UsageError(complaint)
    return _config(recipe | flags)


def _complaint(settings: Mapping[str, Any]) -> str:
    """Say what is wrong with settings; empty where nothing is."""
    try:
        _config(settings)
    except UsageError as error:
        return str(error)
    return ""


def _config(settings: Mapping[str, Any]) -> TrainConfig:
    """Make a config of keys such as "steps" and "network.dim"; keys left out keep their defaults."""
    inner: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
    inner["network"]["scale"] = 4
    outer: dict[str, Any] = {}
    types = _key_types()
    try:
        for key, value in settings.items():
            table, dot, name = key.rpartition(".")
            (inner[table] if dot else outer)[name] = _convert(key, value, types[key])
        return TrainConfig(**{table: kind(**inner[table]) for table, kind in TABLES.items()}, **outer)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"settings: {error}") from error


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """Return all keys of a config with JSON values: "steps", "network.dim" and so on."""
    return _flat(asdict(config))


def _key_types() -> dict[str, Any]:
    """Return the types of all keys."""
    types = {name: kind for name, kind in types_of(TrainConfig).items() if name not in TABLES}
    for table, kind in TABLES.items():
        types |= {f"{table}.{name}": inner for name, inner in types_of(kind).items()}
    return types


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            text = stream.read(FILE_LIMIT + 1)
    except OSError as error:
        raise InputError(
            f"{file}: cannot be read ({error.strerror or error}); check path and permissions"
        ) from error
    if len(text) > FILE_LIMIT:
        raise InputError(f"{file}: too long for a recipe (more than {FILE_LIMIT >> 10} kB)")
    try:
        values: dict[str, Any] = tomllib.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: no TOML: {error}") from error
    return values


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"network": {"dim": 64}} as {"network.dim": 64}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": part for inner, part in value.items()}
        else:
            flat[key] = value
    return flat


def _split(pair: str) -> tuple[str, Any]:
    key, equals, text = pair.partition("=")
    if not equals:
        raise UsageError(f"--set {pair}: write key=value, such as steps=2000")
    try:
        return key.strip(), tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return key.strip(), text.strip()


def _known(settings: dict[str, Any], source: str) -> dict[str, Any]:
    """Return settings if there are such keys; else raise UsageError with the nearest one."""
    names = list(_key_types())
    for key in settings:
        if key not in names:
            near = difflib.get_close_matches(key, names, 1, 0.5)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"
            raise UsageError(f"{source}: unknown key {key}{hint}")
    return settings


def _convert(key: str, value: Any, kind: Any) -> Any:
    """Return a TOML or JSON value as a field's type; raises UsageError."""
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if parts == (str, ...) and isinstance(value, str):  # one folder needs no brackets
            value = [value] if value else []
        if isinstance(value, list | tuple) and (parts[-1] is ... or len(parts) == len(value)):
            inner = [parts[0]] * len(value) if parts[-1] is ... else parts
            return tuple(_convert(key, part, want) for part, want in zip(value, inner, strict=True))
        raise UsageError(f"{key}: {value!r} is no list of the right length")
    if kind is float and type(value) is int:
        return float(value)
    wanted = str if get_origin(kind) is Literal else kind
    if type(value) is not wanted:
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise UsageError(f"{key}: {value!r} is not {words[wanted]}")
    return value

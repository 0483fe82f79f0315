"""Defaults of one's own: emt.toml in the user's configuration folder, and in the folder tree one works in.

    [defaults]            # for every command that has the option
    model = "emt-lite-photo"
    [video]               # for one command
    crf = 18
    [presets.web]         # for --use web
    long-side = 2048
    format = "webp"

Options are spelled as on the command line, without dashes in front; a flag wins over all of it.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
import typer.core

from emt_cli.commands import ui
from emt_cli.errors import UsageError

FILE = "emt.toml"
VARIABLE = "EMT_CONFIG"
"""Environment variable: another file than the user's; empty means no file at all."""
EXCLUSIVE = (("scale", "width", "height", "long_side"), ("name", "suffix"), ("end", "preview"))
"""Parameters of which one that is given puts the others' defaults out of force."""
_NEVER = ("help", "use", "dry_run")
_OWN_ONLY = ("overwrite", "ray", "fetch", "max_pixels")
"""Not taken from the folder tree, which may be somebody else's: they replace, reach out, or lift a limit."""


@dataclass(frozen=True)
class Setting:
    """One default in force."""

    value: Any
    source: str
    """File and table it stands in."""


@dataclass
class Defaults:
    """What files say: for each command by parameter, and presets by name."""

    commands: dict[str, dict[str, Setting]] = field(default_factory=dict)
    presets: dict[str, dict[str, dict[str, Setting]]] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    tree: Path | None = None
    """The file of the folder tree, if there is one."""


def user_file() -> Path | None:
    """Return where the user's own file lies, or would lie; None where it is switched off."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    return platformdirs.user_config_path("emt-cli") / FILE


def load_defaults(commands: Mapping[str, Any]) -> Defaults:
    """Read the files there are; commands: click's, by name. Raises UsageError, naming file and key."""
    defaults = Defaults()
    own = user_file()
    if own is None:
        return defaults
    if own.is_file():
        _read(own, commands, defaults, trusted=True)
    elif VARIABLE in os.environ:
        raise UsageError(f"{own}: no such file, which {VARIABLE} names")
    here = Path.cwd()
    near = next((path for folder in (here, *here.parents) if (path := folder / FILE).is_file()), None)
    if near is not None and not (own.is_file() and near.samefile(own)):
        defaults.tree = near
        _read(near, commands, defaults, trusted=False)
    return defaults


def apply_preset(context: Any, name: str | None) -> str | None:
    """Put a preset's values in front of a command's other defaults; the callback of --use."""
    if name is None or context.resilient_parsing:
        return name
    defaults: Defaults = context.find_object(Defaults) or Defaults()
    preset = defaults.presets.get(name)
    if preset is None:
        known = (
            ", ".join(sorted(defaults.presets)) or f"none; write [presets.{name}] into {user_file() or FILE}"
        )
        raise UsageError(f"--use {name}: no such preset (known: {known})")
    layer = dict(defaults.commands.get(context.info_name, {}))
    _merge(layer, preset.get(context.info_name, {}))
    context.default_map = {parameter: setting.value for parameter, setting in layer.items()}
    return name


class ConfiguredCommand(typer.core.TyperCommand):
    """A command whose defaults give way to flags that exclude them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, then take back what a flag has put out of force."""
        rest: list[str] = super().parse_args(ctx, args)
        for group in EXCLUSIVE:
            sources = {name: _source(ctx, name) for name in group}
            if "COMMANDLINE" in sources.values():
                ctx.params |= {name: None for name, source in sources.items() if source == "DEFAULT_MAP"}
        defaults: Defaults = ctx.find_object(Defaults) or Defaults()
        taken = {name for name in ctx.params if _source(ctx, name) == "DEFAULT_MAP"}
        if taken and defaults.tree and not (ctx.params.get("quiet") or ctx.params.get("as_json")):
            ui.say(f"emt: with the defaults of {defaults.tree}")
        return rest


def _source(context: Any, name: str) -> str:
    source = context.get_parameter_source(name)
    return "" if source is None else str(source.name)


def _read(path: Path, commands: Mapping[str, Any], defaults: Defaults, *, trusted: bool) -> None:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror or error}); check path and permissions"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    defaults.files.append(path)
    presets = tables.pop("presets", {})
    for name, table in sorted(tables.items(), key=lambda pair: pair[0] != "defaults"):
        if name != "defaults" and name not in commands:
            close = difflib.get_close_matches(name, ["defaults", "presets", *commands], n=1)
            raise UsageError(f"{path}: [{name}] is no command{_meant(close)}")
        for command, values in _checked(path, name, table, commands, trusted=trusted):
            _merge(defaults.commands.setdefault(command, {}), values)
    if not isinstance(presets, dict):
        raise UsageError(f"{path}: presets is a table of tables, such as [presets.web]")
    for name, table in presets.items():
        defaults.presets[name] = dict(_checked(path, f"presets.{name}", table, commands, trusted=trusted))


def _checked(
    path: Path, name: str, table: Any, commands: Mapping[str, Any], *, trusted: bool
) -> Iterator[tuple[str, dict[str, Setting]]]:
    """Yield the values of a table for each command it is for; raise UsageError for any that fits none."""
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {name} is a table: write [{name}]")
    chosen = [name] if name in commands else list(commands)
    options = {command: _options(commands[command]) for command in chosen}
    known = {spelled for those in options.values() for spelled in those}
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise UsageError(f"{path}: [{name}] {key}: no such option{_meant(close)}")
    for command, those in options.items():
        values = {}
        for key, value in table.items():
            if key not in those:
                continue
            option = those[key]
            if not trusted and option.name in _OWN_ONLY:
                raise UsageError(f"{path}: {key} is taken from {user_file()} only, not from folders")
            values[option.name] = Setting(_value(path, name, key, option, value), f"{path} [{name}]")
        yield command, values


def _options(command: Any) -> dict[str, Any]:
    """Return a command's options by their long names, without dashes."""
    return {
        spelled[2:]: parameter
        for parameter in command.params
        if parameter.param_type_name == "option" and parameter.name not in _NEVER
        for spelled in parameter.opts
        if spelled.startswith("--")
    }


def _value(path: Path, table: str, key: str, option: Any, value: Any) -> Any:
    """Return a value if the command line would take it; raise UsageError where it would not."""
    if option.is_flag != isinstance(value, bool) or isinstance(value, dict):
        wanted = "true or false" if option.is_flag else "a value, not a switch"
        raise UsageError(f"{path}: [{table}] {key} takes {wanted}")
    if option.multiple and not isinstance(value, list):
        value = [value]
    if key == "model" and isinstance(value, str):
        from emt_cli.assets.model_choice import is_path

        value = str(path.parent / value) if is_path(value) and not Path(value).is_absolute() else value
    try:
        option.process_value(typer.Context(typer.core.TyperCommand("emt")), value)
    except Exception as error:  # click's own kind, which depends on its version
        message = getattr(error, "message", None) or str(error)
        raise UsageError(f"{path}: [{table}] {key} = {value!r}: {message.rstrip('.')}") from error
    return value


def _merge(layer: dict[str, Setting], values: Mapping[str, Setting]) -> None:
    """Put values over those of a layer, and what they exclude out of it."""
    for group in EXCLUSIVE:
        if any(name in values for name in group):
            for name in group:
                layer.pop(name, None)
    layer |= values


def _meant(close: list[str]) -> str:
    return f"; did you mean {close[0]}?" if close else ""

"""`emt config`: defaults in force, and where they come from."""

from __future__ import annotations

import typer

from emt_cli.commands import options, ui
from emt_cli.commands.defaults import FILE, VARIABLE, Defaults, user_file

EPILOG = options.examples("emt config", "emt config --json")


def config(context: typer.Context, as_json: options.Json = False) -> None:
    """Show the defaults of emt.toml that are in force, and where they come from.

    One file lies in your configuration folder; another, which wins, may lie where you work or above.
    """
    defaults: Defaults = context.find_object(Defaults) or Defaults()
    found = [(command, "", values) for command, values in defaults.commands.items()]
    found += [
        (command, preset, values)
        for preset, commands in defaults.presets.items()
        for command, values in commands.items()
    ]
    rows = [
        (command, preset, name, setting)
        for command, preset, values in found
        for name, setting in values.items()
    ]
    if as_json:
        for command, preset, name, setting in rows:
            facts = {"command": command, "preset": preset or None, "option": _spelled(name)}
            ui.show_json(facts | {"value": setting.value, "source": setting.source})
        return
    if rows:
        table = [
            (
                f"emt {command}" + (f" --use {preset}" if preset else ""),
                _spelled(name),
                ui.value_text(s.value),
                s.source,
            )
            for command, preset, name, s in rows
        ]
        ui.show_table(("command", "option", "value", "from"), table)
    own = user_file()
    if not rows:
        where = (
            f"{VARIABLE} switches it off" if own is None else f"yours would be {own}, a folder's {FILE} in it"
        )
        ui.say(f"emt: no defaults of your own; {where}")


def _spelled(name: str) -> str:
    return name.replace("_", "-")

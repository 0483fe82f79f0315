"""`emt doctor`: what works here, what does not, and how to fix it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from emt_cli.commands import options, ui

if TYPE_CHECKING:
    from emt_cli.jobs.doctor.environment import Check

EPILOG = options.examples("emt doctor", "emt doctor --json > report.json")
SOME_FAILED = 3
"""Exit code when something that is needed is broken."""


def doctor(as_json: options.Json = False) -> None:
    """Look at everything emt needs on this machine; what is broken comes with the line that fixes it.

    Nothing is changed and nothing is fetched. Exit code 3 when something that is needed is broken.
    """
    from emt_cli import __version__
    from emt_cli.jobs.doctor.checks import examine

    checks = []
    for check in examine():
        checks.append(check)
        if not as_json:
            _show(check)
    problems = [check for check in checks if check.status == "problem"]
    if as_json:
        ui.show_json({"emt": __version__, "ok": not problems, "checks": [asdict(check) for check in checks]})
    elif problems:
        count = len(problems)
        ui.say(f"emt: {count} {'thing' if count == 1 else 'things'} to fix, marked PROBLEM")
    if problems:
        raise typer.Exit(SOME_FAILED)


def _show(check: Check) -> None:
    mark = "PROBLEM" if check.status == "problem" else check.status
    ui.show(f"{mark:<9}{check.name + ':':<17}{check.text}")
    if check.mend:
        ui.show(f"{'':<26}{'' if check.status == 'ok' else 'fix it: '}{check.mend}")

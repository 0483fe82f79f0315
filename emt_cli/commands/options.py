"""Options that several commands share, each spelled once."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs: one object on each line.")]


def examples(*lines: str) -> str:
    """Return the end of a help text: command lines to copy."""
    return "\n\n".join(["Examples:", *lines])

"""What the nodes of a cluster must share with the process that spreads the work: its storage and program."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emt_cli import __version__


@dataclass(frozen=True)
class Mark:
    """A file in a folder that all nodes must see and can write to."""

    path: Path
    token: str
    """What stands in it."""
    shown: Path
    """The folder as people know it."""
    version: str = __version__
    """Of the program that wrote it."""

    def problems(self) -> list[str]:
        """Say why this node cannot do the work: another program, or other storage."""
        found = []
        if self.version != __version__:
            found.append(f"emt {__version__} is installed, and {self.version} where the command runs")
        try:
            seen = self.path.read_text()
            aside = self.path.with_name(f"{self.path.name}-{secrets.token_hex(4)}")
            aside.write_text(seen)
            aside.unlink()
        except OSError as error:
            seen = ""
            found.append(
                f"{self.shown} cannot be written to from there ({error.strerror});"
                " mount the same storage at the same place on all nodes"
            )
        if seen and seen != self.token:
            found.append(f"{self.shown} is another folder there; mount the same storage on all nodes")
        return found


@contextlib.contextmanager
def marked(folder: Path, name: str, *, shown: Path) -> Iterator[Mark]:
    """Leave a mark in a folder while the nodes work; name: of the file, with {token} in it."""
    token = secrets.token_hex(16)
    mark = Mark(folder / name.format(token=token[:16]), token, shown)
    mark.path.write_text(token)
    try:
        yield mark
    finally:
        mark.path.unlink(missing_ok=True)

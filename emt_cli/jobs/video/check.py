"""One comparison of a finished video with its source."""

from __future__ import annotations

from dataclasses import dataclass

_LONGEST = 120


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    name: str
    passed: bool
    expected: str
    found: str


def same(name: str, expected: object, found: object) -> Check:
    """Check that two values are equal; they are shown shortened."""
    return Check(name, expected == found, short(str(expected)), short(str(found)))


def short(text: str) -> str:
    """Return a text as a table can show it."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."

"""Names of a batch's results: from a template, inside the output folder, no two alike."""

from __future__ import annotations

import string
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from emt_cli.errors import UsageError
from emt_cli.media.picture.formats import SUFFIXES, PictureFormat

FIELDS = {
    "stem": "the source's name without its ending",
    "ext": "the result's ending, such as .png",
    "type": "the source's ending without its dot",
    "folder": "the name of the folder the source lies in",
    "scale": "the enlargement, such as 4 or 2.7",
    "width": "of the result, in pixels",
    "height": "of the result, in pixels",
}
"""What a template may name in braces."""


@dataclass(frozen=True)
class Template:
    """How results are named: text with fields in braces; "/" makes folders. Raises UsageError."""

    text: str

    def __post_init__(self) -> None:
        try:
            parts = list(string.Formatter().parse(self.text))
        except ValueError as error:
            raise UsageError(f"--name {self.text}: {error}; write {{{{ for a brace") from error
        for _, name, form, conversion in parts:
            if name is not None and (name not in FIELDS or form or conversion):
                field = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
                known = ", ".join(f"{{{known}}}" for known in FIELDS)
                raise UsageError(f"--name {self.text}: {{{field}}} is no field; known are {known}")
        _check_inside(self.text, name=f"--name {self.text}")

    @property
    def format(self) -> PictureFormat | None:
        """The kind of file a literal ending asks for; None where {ext} or nothing is there."""
        return None if self.text.endswith("}") else SUFFIXES.get(PurePosixPath(self.text).suffix.lower())

    def fill(self, values: Mapping[str, str]) -> PurePosixPath:
        """Return the result's path below its folder; an ending is added where the template has none."""
        name = self.text.format_map(values)
        if self.format is None and "{ext}" not in self.text:
            name += values["ext"]
        _check_inside(name, name=f"--name {self.text}")
        return PurePosixPath(name)


def escaped(text: str) -> str:
    """Return text as it stands in a template."""
    return text.replace("{", "{{").replace("}", "}}")


def find_collisions(targets: Iterable[tuple[PurePosixPath, Path]]) -> list[tuple[PurePosixPath, list[Path]]]:
    """Return the results that several sources would share, with these sources.

    Names that differ by case or by the Unicode form of their letters count as one: on many disks they are.
    """
    sources: dict[str, list[tuple[PurePosixPath, Path]]] = defaultdict(list)
    for target, source in targets:
        sources[unicodedata.normalize("NFC", str(target)).casefold()].append((target, source))
    return [(group[0][0], [source for _, source in group]) for group in sources.values() if len(group) > 1]


def _check_inside(path: str, *, name: str) -> None:
    """Raise UsageError when a path could lead out of the folder it is relative to, or ends in none."""
    windows = sys.platform == "win32"
    parts = (path.replace("\\", "/") if windows else path).split("/")
    if {"", ".", ".."} & set(parts) or "\0" in path or (windows and ":" in path):
        raise UsageError(f"{name}: names of results stay inside the output folder; leave out .. and outer /")

"""Model files that a person has put into the cache under a name of their own."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from emt_cli.atomic import write_atomically
from emt_cli.errors import ModelError, OutputError, OutputExistsError, UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
FOLDER = "added"
_RECORD_LIMIT = 1 << 16


@dataclass(frozen=True)
class Added:
    """One such file."""

    name: str
    file: str
    """Its name in the folder."""
    scale: int
    sha256: str
    source: str
    """Where it came from, in a person's words, or the path it was copied from."""
    what: str
    """The kind of network."""


def added_folder(cache: Path) -> Path:
    """Return where such files lie."""
    return cache / FOLDER


def added_models(cache: Path) -> list[Added]:
    """Return what has been added, by name; damaged records, and those whose file is gone, count as absent."""
    found = []
    for path in sorted(added_folder(cache).glob("*.json")):
        try:
            values = (
                json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= _RECORD_LIMIT else {}
            )
            added = Added(**values)
            words = (added.name, added.file, added.sha256, added.source, added.what)
            fits = all(isinstance(word, str) for word in words) and type(added.scale) is int
            if fits and added.name == path.stem and Path(added.file).name == added.file:
                found.append(added)
        except (OSError, ValueError, TypeError):
            continue
    return [added for added in found if (added_folder(cache) / added.file).is_file()]


def add_model(cache: Path, added: Added, data: bytes, *, overwrite: bool) -> Path:
    """Put a file's bytes and its record into the cache; return where the file is.

    Raises UsageError for a name that is none, OutputExistsError for one that is taken, OutputError.
    """
    if not NAME.fullmatch(added.name):
        raise UsageError(
            f"--name {added.name}: use letters, digits, dots, dashes and underscores, 64 at most"
        )
    folder = added_folder(cache)
    record, target = folder / f"{added.name}.json", folder / added.file
    if record.exists() and not overwrite:
        raise OutputExistsError(f"{added.name}: added before; -y replaces it, --name chooses another name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(target, data)
        for suffix in (".pth", ".safetensors"):
            if suffix != target.suffix:
                (folder / f"{added.name}{suffix}").unlink(missing_ok=True)
        write_atomically(record, json.dumps(asdict(added), indent=1).encode())
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}); EMT_CACHE=FOLDER chooses another place"
        ) from error
    return target


def check_added(path: Path, sha256: str) -> None:
    """Raise ModelError for a file in the folder of added ones that is no longer what was put there."""
    if path.parent.name != FOLDER:
        return
    for added in added_models(path.parent.parent):
        if added.file == path.name and added.sha256 != sha256:
            raise ModelError(f"{path}: changed since it was added; `emt models add -y` puts it right")

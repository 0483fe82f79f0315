"""What the journals of an output folder say of a batch's results, as far as it holds together."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from emt_cli.jobs.journal import content_hash, read_journal

JOURNALS = ".emt-batch*.jsonl"
"""Names of the journals of `emt batch` in an output folder."""


def read_records(output: Path) -> list[dict[str, Any]]:
    """Return the records of all results, oldest first; raises OutputError when a journal cannot be read."""
    journals = sorted(output.glob(JOURNALS)) if output.is_dir() else []
    records = [record for journal in journals for record in read_journal(journal) if _holds_together(record)]
    return sorted(records, key=lambda record: float(record["time"]))


def written_files(output: Path) -> set[str]:
    """Return the canonical paths of the results that the journals of an output folder know."""
    return {canonical(output / file["path"]) for record in read_records(output) for file in record["files"]}


def is_own(target: Path, record: dict[str, Any], output: Path) -> bool:
    """Whether a file is what a record says was written there: its size and time, or its content."""
    place = canonical(target)
    file = next((file for file in record["files"] if canonical(output / file["path"]) == place), None)
    try:
        facts = target.stat()
        if file is None or not target.is_file() or facts.st_size != file["size"]:
            return False
        return bool(facts.st_mtime_ns == file["time"]) or content_hash(target) == file["sha256"]
    except OSError:
        return False


def canonical(path: Path) -> str:
    """Return one spelling for all ways to a file; a link to a file is a file of its own."""
    return str(_resolved(path.parent.absolute()) / path.name)


@lru_cache(maxsize=1 << 16)
def _resolved(folder: Path) -> Path:
    return Path(os.path.realpath(folder))  # which stands circles of links


def _holds_together(record: dict[str, Any]) -> bool:
    """Tell whether a record has the form in which a batch writes them."""
    files, time = record.get("files"), record.get("time")
    if not isinstance(files, list) or type(time) is not float or not isinstance(record.get("source"), dict):
        return False
    return isinstance(record.get("name"), str) and all(map(_is_file, files))


def _is_file(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("path"), str):
        return False
    try:
        return b"\0" not in os.fsencode(value["path"]) and {"size", "time", "sha256"} <= value.keys()
    except UnicodeEncodeError:
        return False

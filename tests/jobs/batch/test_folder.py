"""An output folder whose journals somebody or something has changed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from emt_cli.jobs.batch.folder import BatchFolder


def record(folder: Path) -> dict[str, object]:
    """What a batch writes of the file a.png in a folder."""
    facts, digest = (folder / "a.png").stat(), hashlib.sha256(b"picture").hexdigest()
    file = {"path": "a.png", "size": facts.st_size, "time": facts.st_mtime_ns, "sha256": digest}
    return {"name": "a.png", "time": 1.5, "key": "k", "source": {"path": "b.png"}, "files": [file]}


def write(folder: Path, *records: object) -> None:
    text = "".join(json.dumps(one) + "\n" for one in records)
    (folder / ".emt-batch-1of1.jsonl").write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(b"picture")
    return tmp_path


def test_a_file_is_known_by_its_time_or_its_content(folder: Path) -> None:
    write(folder, record(folder))
    (known,) = BatchFolder(folder).records()

    os.utime(folder / "a.png", (1, 1))
    moved_in_time = BatchFolder(folder).is_own(folder / "a.png", known)
    (folder / "a.png").write_bytes(b"another")
    os.utime(folder / "a.png", (1, 1))
    changed = BatchFolder(folder).is_own(folder / "a.png", known)

    assert (moved_in_time, changed) == (True, False)
    assert not BatchFolder(folder).is_own(folder / "gone.png", known)


@pytest.mark.parametrize("later", [1.0, float("nan"), 3.0])
def test_a_later_line_counts_whatever_the_clock_said(folder: Path, later: float) -> None:
    write(folder, record(folder) | {"time": 2.0, "key": "first"}, record(folder) | {"time": later})
    other = folder / ".emt-batch-2of2.jsonl"
    other.write_text(json.dumps(record(folder) | {"time": 1.5, "name": "b.png"}) + "\n")

    records = BatchFolder(folder).records()

    assert [(one["name"], one["key"]) for one in records] == [
        ("b.png", "k"),
        ("a.png", "first"),
        ("a.png", "k"),
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 3),
        ("time", "now"),
        ("time", None),
        ("time", 10**400),
        ("source", []),
        ("files", None),
        ("files", {"path": "a.png"}),
        ("files", [True]),
        ("files", [[]]),
        ("files", [{}]),
        ("files", [{"path": 1}]),
        ("files", [{"path": "a.png"}]),
        ("files", [{"path": "a\0.png", "size": 1, "time": 1, "sha256": ""}]),
        ("files", [{"path": "a\ud800.png", "size": 1, "time": 1, "sha256": ""}]),
    ],
)
def test_a_forged_record_is_skipped_and_the_others_count(folder: Path, field: str, value: object) -> None:
    write(folder, record(folder) | {field: value}, record(folder))

    assert BatchFolder(folder).records() == [record(folder)]
    assert [Path(path).name for path in BatchFolder(folder).results()] == ["a.png"]


@pytest.mark.skipif(os.name == "nt", reason="links need permissions there")
def test_a_path_through_a_circle_of_links_is_a_path(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    file = {"path": "loop/x.png", "size": 1, "time": 1, "sha256": ""}
    write(folder, record(folder) | {"files": [file]})

    assert len(BatchFolder(folder).results()) == 1

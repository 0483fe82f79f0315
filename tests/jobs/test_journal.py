"""The journal of a long job: what is on disk is whole, whatever ended the process."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emt_cli.errors import OutputError
from emt_cli.jobs.journal import Journal, content_hash, read_journal

WRITER = (
    "import sys; from pathlib import Path; from emt_cli.jobs.journal import Journal\n"
    "with Journal(Path(sys.argv[1])) as journal:\n"
    "    for number in range(10**9):\n"
    "        journal.append({'number': number}); print(number, flush=True)"
)


def test_records_come_back_in_their_order(tmp_path: Path) -> None:
    records = [{"name": "näme \n \udcff 🐈", "size": 2**60}, {"nothing": None}]

    with Journal(tmp_path / "new" / "j.jsonl") as journal:
        for record in records:
            journal.append(record)

    assert read_journal(tmp_path / "new" / "j.jsonl") == records


def test_a_record_is_on_the_disk_when_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "j.jsonl", []
    monkeypatch.setattr(
        os, "fsync", lambda number: synced.append((os.fstat(number).st_ino, path.read_bytes()))
    )

    with Journal(path) as journal:
        journal.append({"number": 0})

    assert synced == [(path.stat().st_ino, b'{"number":0}\n')]


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_torn_record_is_left_out_and_spoils_no_other(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append({"number": 0})
        journal.append({"number": 1})
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])

    with Journal(path) as journal:
        journal.append({"number": 2})

    kept = [0, 1, 2] if whole[:-cut].endswith(b"}") else [0, 2]
    assert [record["number"] for record in read_journal(path)] == kept


def test_damaged_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"a":1}\n\xff\xfe\0\0\n[1]\n{"a":\n"text"\n\n{"a":2}\n')

    assert read_journal(path) == [{"a": 1}, {"a": 2}]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a Unix matter")
def test_what_was_reported_before_a_kill_is_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(20):
        last = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()

    numbers = [record["number"] for record in read_journal(path)]

    assert numbers == list(range(len(numbers)))
    assert len(numbers) > last


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are a Unix matter")
def test_a_full_disk_is_told_and_what_was_noted_stays(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from emt_cli.errors import OutputError; from emt_cli.jobs.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30, 30))\n"
        "with Journal(Path(sys.argv[1])) as journal:\n"
        "    journal.append({'number': 0})\n"
        "    try: journal.append({'text': 'long' * 10})\n"
        "    except OutputError as error: print(error.__cause__.errno, error)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    with Journal(path) as journal:
        journal.append({"number": 1})

    assert done.stdout.startswith(f"{errno.ENOSPC} "), (
        done.stderr
    )  # by which a batch knows that all will fail
    assert "cannot be written" in done.stdout
    assert [record["number"] for record in read_journal(path)] == [0, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows moves no open files")
@pytest.mark.parametrize("another", [False, True], ids=["nothing", "another"])
def test_a_journal_that_was_moved_away_takes_no_more(tmp_path: Path, another: bool) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append({"number": 0})
        path.rename(tmp_path / "moved")
        if another:
            path.write_bytes(b"")
        with pytest.raises(OutputError, match="was moved or removed meanwhile"):
            journal.append({"number": 1})
        (tmp_path / "moved").replace(path)
        journal.append({"number": 2})

    assert [record["number"] for record in read_journal(path)] == [0, 2]


def test_a_journal_in_an_impossible_place_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(OutputError):
        Journal(tmp_path / "file" / "j.jsonl")


def test_the_content_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"abc" * 10**6)

    assert content_hash(tmp_path / "data") == hashlib.sha256(b"abc" * 10**6).hexdigest()


def test_a_record_is_one_line_of_plain_json(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append({"name": "a\nb"})

    lines = (tmp_path / "j.jsonl").read_text("ascii").splitlines()
    assert [json.loads(line) for line in lines] == [{"name": "a\nb"}]


def test_a_line_nested_beyond_all_depth_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"a":' + b"[" * 200_000 + b'\n{"a":1}\n')

    assert read_journal(path) == [{"a": 1}]

"""Temporary files beside their place: gone when their process ends, or else when the next one begins."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from emt_cli import atomic
from emt_cli.atomic import temporary_beside, temporary_folder, write_atomically

unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot lock folders")

HOLDER = (
    "import sys; from pathlib import Path; from emt_cli.atomic import temporary_beside\n"
    "with temporary_beside(Path(sys.argv[1])) as (path, stream):\n"
    "    stream.write(b'half'); stream.flush(); print(path.name, flush=True); sys.stdin.read()"
)

FOLDER_HOLDER = (
    "import sys; from pathlib import Path; from emt_cli.atomic import temporary_folder\n"
    "with temporary_folder(Path(sys.argv[1])) as folder:\n"
    "    (folder / 'half').touch(); print(folder.name, flush=True); sys.stdin.read()"
)


@pytest.fixture(autouse=True)
def sweep_again() -> None:
    """A process looks into each folder once; a test is another process."""
    atomic._sweep.cache_clear()


def holder(place: Path, code: str = HOLDER) -> tuple[subprocess.Popen[str], str]:
    """A process that is writing a file, and the name of its temporary one."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    process, name = holder(tmp_path / "a.png")
    process.kill()
    process.communicate()
    assert names(tmp_path) == [name]

    write_atomically(tmp_path / "b.png", b"whole")

    assert names(tmp_path) == ["b.png"]


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    process, name = holder(tmp_path / "a.png")

    write_atomically(tmp_path / "b.png", b"whole")

    assert names(tmp_path) == [name, "b.png"]
    process.communicate("")
    assert names(tmp_path) == ["b.png"]


@unix
def test_folders_of_killed_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    killed, left = holder(tmp_path, FOLDER_HOLDER)
    killed.kill()
    killed.communicate()
    living, held = holder(tmp_path, FOLDER_HOLDER)  # removes what the first one left
    (tmp_path / ".emt-pictures.tmp").mkdir()
    (tmp_path / "precious").mkdir()
    (tmp_path / f".emt-{'0' * 16}.tmp").symlink_to("precious")
    others = [f".emt-{'0' * 16}.tmp", ".emt-pictures.tmp", "precious"]

    with temporary_folder(tmp_path) as folder:
        assert names(tmp_path) == sorted([held, folder.name, *others])
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    assert left != held
    living.communicate("")
    assert names(tmp_path) == others


@unix
@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can give a folder away")
def test_folders_of_other_users_are_left_alone(tmp_path: Path) -> None:
    others = tmp_path / f".emt-{'0' * 16}.tmp"
    others.mkdir()
    os.chown(others, 65534, 65534)

    with temporary_folder(tmp_path):
        pass

    assert names(tmp_path) == [others.name]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    others = [".emt-0123.tmp", ".emt-batch-0123456789abcdef.tmp", "emt-0123456789abcdef.tmp", ".bashrc"]
    for name in others:
        (tmp_path / name).write_bytes(b"")

    write_atomically(tmp_path / "z", b"")

    assert names(tmp_path) == sorted([*others, "z"])


def test_where_nothing_can_be_locked_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_is_free", lambda descriptor: None)
    old, new = (tmp_path / f".emt-{digit * 16}.tmp" for digit in "01")
    for path in (old, new):
        path.write_bytes(b"")
    os.utime(old, (0, 0))

    write_atomically(tmp_path / "z", b"")

    assert names(tmp_path) == [new.name, "z"]


def test_a_file_taken_for_a_stale_one_at_its_birth_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = atomic._is_free
    seen: list[int] = []

    def race(descriptor: int) -> bool | None:
        """The first time another process is quicker."""
        seen.append(descriptor)
        if len(seen) == 1:
            next(tmp_path.glob(".emt-*")).unlink()
            return False
        return locked(descriptor)

    monkeypatch.setattr(atomic, "_is_free", race)
    write_atomically(tmp_path / "z", b"whole")

    assert (tmp_path / "z").read_bytes() == b"whole"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_private_file_stays_private_when_it_is_replaced(tmp_path: Path) -> None:
    place = tmp_path / "secret.png"
    place.write_bytes(b"old")
    place.chmod(0o600)

    with temporary_beside(place) as (temporary, stream):
        meanwhile = stat.S_IMODE(temporary.stat().st_mode)
        stream.write(b"new")
        stream.flush()
        temporary.replace(place)

    assert meanwhile == 0o600
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert place.read_bytes() == b"new"


def test_a_full_disk_names_the_file_that_was_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="page") as caught:
        write_atomically(tmp_path / "page.html", b"x")

    assert caught.value.filename == str(tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []

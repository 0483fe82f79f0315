"""What was compiled is kept: whole or not at all, for this user only, and not for ever."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emt_cli.engine import compiled
from emt_cli.engine.compiled import compiled_path, keep_compiled, read_compiled


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "compiled"


def test_what_was_kept_is_read_again() -> None:
    path = compiled_path("thing", 1)

    keep_compiled(path, b"machine code")

    assert read_compiled(path) == b"machine code"
    assert read_compiled(compiled_path("thing", 2)) is None


@pytest.mark.parametrize("damaged", [b"", b"short", b"\0" * 32, b"\0" * 44])
def test_damage_counts_as_absence(damaged: bytes) -> None:
    path = compiled_path("thing")
    keep_compiled(path, b"machine code")

    path.write_bytes(damaged)

    assert read_compiled(path) is None


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_code_is_not_read_from_a_folder_others_write_to(folder: Path) -> None:
    path = compiled_path("thing")
    keep_compiled(path, b"machine code")
    assert folder.stat().st_mode & 0o777 == 0o700

    folder.chmod(0o777)

    assert read_compiled(path) is None
    keep_compiled(path, b"other code")
    folder.chmod(0o700)
    assert read_compiled(path) == b"machine code"


NOBODY = 65534
posix = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
as_root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="gives files to another user")


@posix
@pytest.mark.parametrize("place", ["cache", "."])
def test_no_folder_on_the_way_may_be_open_to_others(tmp_path: Path, folder: Path, place: str) -> None:
    path = compiled_path("thing")
    keep_compiled(path, b"machine code")

    (tmp_path / place).chmod(0o777)

    assert read_compiled(path) is None
    (tmp_path / place).chmod(0o1777)  # as /tmp: what is ours cannot be replaced there
    assert read_compiled(path) == b"machine code"


@posix
def test_a_link_that_others_could_have_made_is_not_followed(tmp_path: Path, folder: Path) -> None:
    path = compiled_path("thing")
    keep_compiled(path, b"machine code")
    folder.rename(tmp_path / "evil")
    folder.symlink_to(tmp_path / "evil")

    assert read_compiled(path) is None, "the folder itself is no link"
    keep_compiled(path, b"other code")
    folder.parent.chmod(0o1777)
    assert read_compiled(path) is None
    assert read_compiled(tmp_path / "evil" / path.name) == b"machine code"


@posix
def test_a_link_of_ones_own_on_the_way_is_followed(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_compiled(compiled_path("thing"), b"machine code")
    (tmp_path / "link").symlink_to("cache")
    (tmp_path / "loop").symlink_to("loop")

    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "link"))
    assert read_compiled(compiled_path("thing")) == b"machine code"
    tmp_path.chmod(0o777)
    assert read_compiled(compiled_path("thing")) is None
    tmp_path.chmod(0o700)
    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "loop"))
    assert read_compiled(compiled_path("thing")) is None


@posix
@pytest.mark.parametrize("kind", ["open to others", "link", "pipe", "folder"])
def test_the_file_itself_is_ones_own_and_closed(tmp_path: Path, folder: Path, kind: str) -> None:
    path = compiled_path("thing")
    keep_compiled(path, b"machine code")
    assert path.stat().st_mode & 0o777 == 0o600

    if kind == "open to others":
        path.chmod(0o666)
    else:
        path.rename(tmp_path / "moved")
        make = {"link": lambda: path.symlink_to(tmp_path / "moved"), "pipe": lambda: os.mkfifo(path)}
        make.get(kind, path.mkdir)()

    assert read_compiled(path) is None


@posix
@as_root
@pytest.mark.parametrize("place", ["cache", "cache/compiled", "file"])
def test_what_belongs_to_another_user_is_not_read(tmp_path: Path, folder: Path, place: str) -> None:
    path = compiled_path("thing")
    keep_compiled(path, b"machine code")

    os.chown(path if place == "file" else tmp_path / place, NOBODY, NOBODY)

    assert read_compiled(path) is None


@posix
@pytest.mark.slow
def test_the_race_of_looking_against_reading_is_never_won(tmp_path: Path, folder: Path) -> None:
    path = compiled_path("thing")
    keep_compiled(path, b"machine code")
    evil = tmp_path / "evil"
    shutil.copytree(folder, evil)
    (evil / path.name).unlink()
    keep_compiled(evil / path.name, b"evil code")
    (tmp_path / "cache").chmod(0o777)
    swap = (
        "import os, sys\nfolder, evil, aside = sys.argv[1:]\nprint(flush=True)\n"
        "while True:\n    os.rename(folder, aside); os.symlink(evil, folder)\n"
        "    os.unlink(folder); os.rename(aside, folder)\n"
    )
    line = [sys.executable, "-c", swap, str(folder), str(evil), str(tmp_path / "cache" / "aside")]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as attacker:
        assert attacker.stdout is not None
        attacker.stdout.readline()
        end = time.monotonic() + 5
        found = set()
        while time.monotonic() < end:
            found.add(read_compiled(path))
        attacker.kill()

    assert found == {None}


def test_the_oldest_files_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "KEPT_BYTES", 2 * len(b"code" + bytes(32)))  # with their checksums
    paths = [compiled_path("thing", number) for number in range(3)]

    for age, path in zip((200, 100, 0), paths, strict=True):
        keep_compiled(path, b"code")
        os.utime(path, (1e9 - age, 1e9 - age))
    keep_compiled(paths[2], b"code")

    assert sorted(folder.iterdir()) == sorted(paths[1:])


def test_the_newest_file_stays_however_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "KEPT_BYTES", 10)

    keep_compiled(compiled_path("thing", 1), b"code" * 100)

    assert read_compiled(compiled_path("thing", 1)) == b"code" * 100


def test_no_cache_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "file"))

    keep_compiled(compiled_path("thing"), b"code")

    assert read_compiled(compiled_path("thing")) is None

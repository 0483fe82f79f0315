"""What was compiled is kept: whole or not at all, for this user only, and not for ever."""

from __future__ import annotations

import os
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


def test_the_oldest_files_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "KEPT_FILES", 2)
    paths = [compiled_path("thing", number) for number in range(3)]

    for age, path in zip((200, 100, 0), paths, strict=True):
        keep_compiled(path, b"code")
        os.utime(path, (1e9 - age, 1e9 - age))
    keep_compiled(paths[2], b"code")

    assert sorted(folder.iterdir()) == sorted(paths[1:])


def test_no_cache_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "file"))

    keep_compiled(compiled_path("thing"), b"code")

    assert read_compiled(compiled_path("thing")) is None

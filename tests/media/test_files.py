"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from emt_cli import atomic
from emt_cli.atomic import nothing_unfinished, temporary_beside, temporary_folder
from emt_cli.errors import OutputError, OutputExistsError
from emt_cli.media.files import (
    check_folder,
    check_target,
    commit_file,
    make_folder,
    new_file,
    remove_temporary,
    temporary_file,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_only_when_done(tmp_path: Path) -> None:
    with new_file(tmp_path / "out.bin") as stream:
        stream.write(b"done")
        assert "out.bin" not in names(tmp_path)

    assert (tmp_path / "out.bin").read_bytes() == b"done"
    assert names(tmp_path) == ["out.bin"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with new_file(tmp_path / "out.bin") as stream:
            stream.write(b"x")
    finally:
        os.umask(old)

    assert stat.S_IMODE((tmp_path / "out.bin").stat().st_mode) == 0o640


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_failure_leaves_the_old_file_and_no_other(tmp_path: Path, failure: type[BaseException]) -> None:
    (tmp_path / "out.bin").write_bytes(b"old")

    def fail() -> None:
        with new_file(tmp_path / "out.bin", overwrite=True) as stream:
            stream.write(b"half")
            raise failure

    with pytest.raises(failure):
        fail()

    assert names(tmp_path) == ["out.bin"]
    assert (tmp_path / "out.bin").read_bytes() == b"old"


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_file_that_appears_in_the_meantime_is_left_alone(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", without_links)

    def race() -> None:
        with new_file(tmp_path / "out.bin") as stream:
            stream.write(b"ours")
            (tmp_path / "out.bin").write_bytes(b"theirs")

    with pytest.raises(OutputExistsError, match="appeared"):
        race()

    assert names(tmp_path) == ["out.bin"]
    assert (tmp_path / "out.bin").read_bytes() == b"theirs"


def without_links(*_: object) -> None:
    raise OSError(errno.EPERM, "not here")


def test_file_systems_without_hard_links_serve_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "hardlink_to", without_links)

    with new_file(tmp_path / "out.bin") as stream:
        stream.write(b"done")

    assert names(tmp_path) == ["out.bin"]
    assert (tmp_path / "out.bin").read_bytes() == b"done"


def test_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(b"old")
    (tmp_path / "link.bin").symlink_to("real.bin")

    with new_file(tmp_path / "link.bin", overwrite=True) as stream:
        stream.write(b"new")

    assert (tmp_path / "link.bin").is_symlink()
    assert (tmp_path / "real.bin").read_bytes() == b"new"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_full_disk_is_told_in_one_line() -> None:
    with pytest.raises(OutputError, match="/dev/full: no room left"), new_file(Path("/dev/full")) as stream:
        stream.write(b"x" * 100000)

    assert Path("/dev/full").is_char_device()


def test_writing_that_stops_half_way_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OutputError, match="large"), new_file(tmp_path / "out.bin") as stream:
            stream.write(b"x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert names(tmp_path) == []


def test_places_that_cannot_take_a_file_are_known_beforehand(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)

    with pytest.raises(OutputError, match="is a folder"):
        check_target(tmp_path, overwrite=True)
    with pytest.raises(OutputExistsError, match="-y"):
        check_target(tmp_path / "taken", overwrite=False)
    with pytest.raises(OutputError, match="does not exist"):
        check_target(tmp_path / "absent" / "out.bin", overwrite=False)
    if not os.access(locked, os.W_OK):
        with pytest.raises(OutputError, match="permission"):
            check_target(locked / "out.bin", overwrite=False)
    check_target(tmp_path / "taken", overwrite=True)
    check_target(tmp_path / "free", overwrite=False)


def test_a_file_that_waits_for_its_name_goes_with_its_process(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{number}.tmp" for number in range(3))
    for aside in (first, second, third):
        with temporary_file(aside, tmp_path / "out.bin") as stream:
            stream.write(b"whole")

    commit_file(first, tmp_path / "out.bin", overwrite=False)
    remove_temporary(second)
    second.write_bytes(b"another's")
    with nothing_unfinished():  # as a signal does
        assert names(tmp_path) == [second.name, "out.bin"]


@pytest.mark.parametrize("make", [temporary_beside, temporary_folder])
def test_a_signal_right_after_a_file_was_made_removes_it(
    tmp_path: Path, make: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = []

    def signalled(descriptor: int) -> bool:
        if not left:
            with nothing_unfinished():
                left.append(names(tmp_path))
        return True

    monkeypatch.setattr(atomic, "_is_free", signalled)
    with make(tmp_path if make is temporary_folder else tmp_path / "out.bin"):
        pass

    assert left == [[]]


def test_no_thread_begins_a_file_while_the_process_ends(tmp_path: Path) -> None:
    begun = Event()

    def write() -> None:
        with temporary_beside(tmp_path / "out.bin"):
            begun.set()

    with nothing_unfinished():
        thread = Thread(target=write)
        thread.start()
        assert not begun.wait(0.2)
        assert names(tmp_path) == []
    thread.join()
    assert begun.is_set()


def test_folders_are_made_or_it_is_said_why_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("nowhere")

    for taken in (tmp_path / "file" / "deep" / "er", tmp_path / "file", tmp_path / "link" / "deep"):
        with pytest.raises(OutputError, match=r"is no folder.*choose another place"):
            check_folder(taken)
        with pytest.raises(OutputError, match=r"cannot be made.*choose another place"):
            make_folder(taken)
    with pytest.raises(OutputError, match="too long"):
        check_folder(tmp_path / ("x" * 300))
    check_folder(tmp_path / "deep" / "er")
    assert not (tmp_path / "deep").exists()
    make_folder(tmp_path / "deep" / "er")
    check_folder(tmp_path / "deep" / "er")

"""The lock between processes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from emt_cli.errors import OutputError, UsageError
from emt_cli.lock import lock

HOLDER = (
    "import sys, time; from pathlib import Path; from emt_cli.lock import lock\n"
    "with lock(Path(sys.argv[1]), busy='taken'):\n"
    "    print('held', flush=True); time.sleep(60)"
)


def hold(path: Path) -> subprocess.Popen[str]:
    """Start a process that holds the lock, and wait until it does."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_holder_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".lock"
    process = hold(path)

    with pytest.raises(UsageError, match="somebody is here"), lock(path, busy="somebody is here"):
        pass
    process.kill()
    process.wait()
    with lock(path, busy="somebody is here"):
        assert path.exists()


@pytest.mark.parametrize("name", [".lock", "new/.lock", "new/and/deep/.lock"])
def test_file_and_folders_that_it_made_are_gone_afterwards(tmp_path: Path, name: str) -> None:
    with lock(tmp_path / name, busy="taken"):
        pass

    assert os.name == "nt" or list(tmp_path.iterdir()) == []


def test_folders_that_were_there_or_hold_something_stay(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()

    with lock(tmp_path / "old" / "new" / "deep" / ".lock", busy="taken"):
        (tmp_path / "old" / "new" / "result").touch()
    with lock(tmp_path / "old" / ".lock", busy="taken"):
        (tmp_path / "old" / "new" / "result").unlink()
        (tmp_path / "old" / "new").rmdir() if os.name != "nt" else None

    assert os.name == "nt" or [path.name for path in tmp_path.rglob("*")] == ["old"]


def test_waiting_goes_on_when_the_holder_is_done(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with lock(tmp_path / ".lock", busy="", wait=True):
            order.append("second")

    thread = threading.Thread(target=second)
    with lock(tmp_path / ".lock", busy=""):
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(timeout=10)

    assert order == ["first", "second"]


def test_two_never_hold_it_although_its_file_comes_and_goes(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def many() -> None:
        for _ in range(200):
            try:
                with lock(tmp_path / "new" / ".lock", busy="taken"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    inside[0] -= 1
            except UsageError:
                pass

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == [1]


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(OutputError, match="cannot be written"), lock(tmp_path / "file" / ".lock", busy=""):
        pass


@pytest.mark.skipif(os.name == "nt", reason="locks of Windows are asked otherwise")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_disk_without_locks_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    import fcntl

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)

    with pytest.raises(OutputError, match="choose another place"), lock(tmp_path / "new" / ".lock", busy=""):
        pass

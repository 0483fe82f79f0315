"""The real command line in processes that start at once: forked from one that has imported torch."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
from own_peak import own_peak

FORKS = "forkserver" in multiprocessing.get_all_start_methods()
CONTEXT = multiprocessing.get_context("forkserver" if FORKS else "spawn")
if FORKS:
    CONTEXT.set_forkserver_preload(
        ["torch", "emt_cli.cli", "emt_cli.jobs.picture.job", "emt_cli.media.picture.io"]
    )
OUT, ERR = "stdout.txt", "stderr.txt"
RUNS = 300
"""Commands that one process runs before another takes its place."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Exit code; minus the signal that killed it."""
    stdout: str
    stderr: str
    seconds: float = 0.0
    grown: int = 0
    """Bytes of memory it took at its peak beyond what was held before; 0 where that cannot be told."""


def start(
    *arguments: str | Path, folder: Path, talk: Path, env: Mapping[str, str] | None = None
) -> BaseProcess:
    """Start `emt ARGUMENTS` in a folder; what it prints goes into files in the folder `talk`."""
    talk.mkdir(parents=True, exist_ok=True)
    process = CONTEXT.Process(target=_main, args=([str(a) for a in arguments], folder, talk, dict(env or {})))
    process.start()
    return process


def finish(process: BaseProcess, talk: Path, *, seconds: float = 600) -> Ended:
    """Wait for a command's end; one that takes longer is killed, and has failed the test."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"no end after {seconds} s: {_text(talk / ERR)}")
    return Ended(process.exitcode, _text(talk / OUT), _text(talk / ERR))


def emt(*arguments: str | Path, folder: Path, talk: Path, env: Mapping[str, str] | None = None) -> Ended:
    """Run `emt ARGUMENTS` to its end."""
    return finish(start(*arguments, folder=folder, talk=talk, env=env), talk)


def _main(arguments: list[str], folder: Path, talk: Path, env: dict[str, str]) -> None:
    os.environ.update(env)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _redirect(talk)
    _command(arguments)


def _command(arguments: list[str]) -> None:
    from emt_cli.cli import main

    sys.argv = ["emt", *arguments]
    main()


def _redirect(talk: Path) -> None:
    for number, name in ((1, OUT), (2, ERR)):
        stream = os.open(talk / name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(stream, number)
        os.close(stream)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


class HungError(Exception):
    """A command that did not end in time."""


class DiedError(Exception):
    """A command that took its process down with it, or took so much memory that it was killed."""


class Worker:
    """Runs one command after the other in one process, which is started again when one of them kills it."""

    def __init__(self, talk: Path, *, memory: int, seconds: float) -> None:
        """memory: bytes a command may take beyond the start before its allocations fail, and with the
        programs it starts before all are killed; seconds: until it is killed."""
        self.talk, self.memory, self.seconds = talk, memory, seconds
        talk.mkdir(parents=True, exist_ok=True)
        self.process: BaseProcess | None = None
        self.pipe: Connection
        self.runs = 0

    def run(self, work: Callable[..., None], *arguments: object, folder: Path) -> Ended:
        """Call work(*arguments) in a folder; raises HungError or DiedError."""
        self.runs += 1
        if self.runs % RUNS == 0:  # what a command may leave in its process must not add up
            self.close()
        if self.process is None:
            self.pipe, theirs = CONTEXT.Pipe()
            self.process = CONTEXT.Process(target=_serve, args=(theirs, self.talk, self.memory), daemon=True)
            self.process.start()
            theirs.close()
            self.pipe.recv()
        began = time.perf_counter()
        self.pipe.send((work, arguments, folder))
        try:
            self._wait(psutil.Process(self.process.pid))
            code, grown = self.pipe.recv()
        except (EOFError, ConnectionError, psutil.NoSuchProcess) as error:
            self.process.join(1)
            code = self.process.exitcode
            self.close()
            raise DiedError(f"the process died (exit code {code})") from error
        except (HungError, DiedError):
            self.close()
            raise
        seconds = time.perf_counter() - began
        return Ended(code, _text(self.talk / OUT), _text(self.talk / ERR), seconds, grown)

    def _wait(self, process: psutil.Process) -> None:
        """Wait for an answer, looking at the memory of the process and all that it has started."""
        end = time.monotonic() + self.seconds
        before = _resident([process])
        while not self.pipe.poll(0.2):
            if time.monotonic() > end:
                raise HungError(f"no end after {self.seconds} s")
            taken = _resident([process, *process.children(recursive=True)]) - before
            if taken > self.memory:
                raise DiedError(f"killed: it took {taken / 2**30:.1f} GB of memory")

    def close(self) -> None:
        """End the process and what it has started."""
        if self.process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(self.process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None


def _resident(processes: list[psutil.Process]) -> int:
    """Return the memory of processes in bytes; those that are gone have none."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def command(*arguments: str) -> None:
    """Run `emt ARGUMENTS`; to be handed to a Worker."""
    _command(list(arguments))


def _serve(pipe: Connection, talk: Path, memory: int) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    pipe.send("ready")
    while True:
        try:
            work, arguments, folder = pipe.recv()
        except EOFError:
            return
        os.chdir(folder)
        _redirect(talk)
        _limit_memory(memory)
        before = own_peak(reset=True)
        code = 0
        try:
            work(*arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
        left = [t.name for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
        if left:
            os.write(2, f"threads left behind: {left}\n".encode())
        pipe.send((code, max(0, own_peak() - before)))


def _limit_memory(memory: int) -> None:
    """Let allocations far beyond the limit fail, so that a test cannot take the machine down.

    What earlier commands of the process have left in it does not count.
    """
    try:
        import resource

        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size + memory, most))
    except (ImportError, OSError):
        return

"""Commands killed at random moments, again and again: nothing lost, nothing half, nothing left behind.

`python tests/campaign_kills.py --kills 100` kills every command so often; tests/test_kills.py does so a few
times. After each kill, what stands under its final name must be what a run left alone makes of it; after the
last one, the same command must end with the same results, and with no file, folder or process more.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

import clips
import corrupt_files
import numpy as np
import psutil
from PIL import Image

from emt_cli.assets import catalog
from emt_cli.engine.weights import load_weights
from emt_cli.jobs.journal import read_journal

MODEL, TOKEN = "tiny.safetensors", "EMT_TEST_KILLS"
VIDEO = ("video", "clip.mkv", "-s", "2", "--model", MODEL, "--codec", "ffv1", "--segment", "6")
BATCH = ("batch", "pictures", "-s", "2", "--model", MODEL, "-o", "out")
ORPHANS = 150.0
"""Seconds after a kill until all that the command started must have ended.

Ray's workers take up to 30; its two agents, where they do not end with their parent, try for 60 to tell a
server that is gone.
"""


@dataclass(frozen=True)
class Command:
    """One to be killed, and what it makes."""

    line: tuple[str, ...]
    results: Callable[[Path], dict[str, object]]
    """What stands under final names in its folder `out`, and what is in it."""
    journal: str = ""
    """In which finished work is noted; it never gets shorter."""


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    kills: int
    finished: int
    """Runs that ended before they were killed."""
    resumed: int
    """Kills that found finished work noted in a journal."""
    problems: list[str]


def hashes(out: Path) -> dict[str, object]:
    """Return the hash of every file that is no temporary one and no journal."""
    paths = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def videos(out: Path) -> dict[str, object]:
    """Return frames, times and sound of a video: its bytes depend on where it was interrupted."""
    return {
        path.name: (clips.shown(path), clips.times(path), clips.packets(path, "0:a:0"))
        for path in out.glob("*.mkv")
        if not path.name.startswith(".")
    }


def trained(out: Path) -> dict[str, object]:
    """Return the numbers of the last model of a finished run: its header tells the time it took."""
    last = out / "last.safetensors"
    if not last.exists() or not (out / "checkpoints" / "step-00000040.pt").exists():
        return {}
    return {last.name: {name: array.tobytes() for name, array in load_weights(last).tensors.items()}}


def train_line() -> tuple[str, ...]:
    """Return a run of training that takes no time but for its start."""
    tiny = vars(corrupt_files.TINY) | {"windows": [[8, 4], [4, 8]], "shifts": [[4, 2], [2, 4]]}
    values = {f"network.{key}": value for key, value in tiny.items()}
    values |= {"batch": 1, "patch": 8, "checkpoint_every": 5, "validate_every": 10}
    pairs = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    options = ("--data", "pictures", "--val", "pictures", "--steps", "40", "--accelerator", "cpu")
    return ("train", *options, *pairs, "--out", "out", "--resume", "auto")


COMMANDS = {
    "upscale": Command(("upscale", "photo.png", "-s", "2", "--model", MODEL, "-o", "out/"), hashes),
    "batch": Command(BATCH, hashes, ".emt-batch-1of1.jsonl"),
    "video": Command((*VIDEO, "-o", "out/large.mkv"), videos, ".large.mkv.emt-work/journal.jsonl"),
    "train": Command(train_line(), trained),
    "pull": Command(("models", "pull", "emt", "--scale", "4"), hashes),
    "batch-ray": Command((*BATCH, "--ray"), hashes, ".emt-batch-1of1.jsonl"),
    "video-ray": Command(
        (*VIDEO, "-o", "out/large.mkv", "--ray"), videos, ".large.mkv.emt-work/journal.jsonl"
    ),
}


class Yard:
    """A folder in which one command is run and killed."""

    def __init__(self, folder: Path, name: str, *, mirror: str = "") -> None:
        self.folder, self.command = folder, COMMANDS[name]
        self.out, self.temporary = folder / "out", folder / "tmp"
        self.token = f"{os.getpid()}-{name}"
        self.cache = self.out if name == "pull" else folder / "cache"
        self.env = os.environ | {"TMPDIR": str(self.temporary), "EMT_CACHE": str(self.cache)}
        self.env |= {TOKEN: self.token, "OMP_NUM_THREADS": "1", "EMT_MIRROR": mirror, "NO_PROXY": "*"}
        self.temporary.mkdir(parents=True)
        self.clear()

    def clear(self) -> None:
        """Remove all results, to begin anew."""
        for path in sorted(self.out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        self.out.mkdir(exist_ok=True)

    def start(self) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "emt_cli", *self.command.line]
        with (self.folder / "said").open("w") as said:
            return subprocess.Popen(line, cwd=self.folder, env=self.env, stdout=said, stderr=said, text=True)

    def run(self) -> float:
        """Run the command to its end; return the seconds it took."""
        began = time.perf_counter()
        process = self.start()
        assert process.wait(600) == 0, self.said()
        return time.perf_counter() - began

    def said(self) -> str:
        return (self.folder / "said").read_text(errors="replace")

    def results(self) -> dict[str, object]:
        return self.command.results(self.out)

    def files(self) -> set[str]:
        """Return all that lies in the folders a command may write to; a folder that appears counts as one.

        A cluster of one machine keeps its files in /tmp, whatever TMPDIR says; folders that others hold there
        are theirs. Every start of a training adds a file of events.
        """
        places = [path for folder in (self.out, self.temporary, self.cache) for path in folder.rglob("*")]
        found = {str(path) for path in (*places, *filter(_is_left, Path("/tmp").glob(".emt-*.tmp")))}
        return {name for name in found if "events.out" not in name}

    def noted(self) -> int:
        """Return how much finished work the journal knows."""
        return len(read_journal(self.out / self.command.journal)) if self.command.journal else 0

    def orphans(self) -> list[str]:
        """Return the processes of the command that are still there when they have had time to end."""
        end = time.monotonic() + ORPHANS
        while (left := list(self._processes())) and time.monotonic() < end:
            time.sleep(0.05)
        return left

    def _processes(self) -> Iterator[str]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(TOKEN) == self.token and process.status() != psutil.STATUS_ZOMBIE:
                    yield " ".join(process.cmdline())[:120]


def _is_left(folder: Path) -> bool:
    """Tell whether nobody holds a temporary folder any more."""
    import fcntl  # which Windows lacks

    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        finally:
            os.close(descriptor)
    return False


def kill_again_and_again(yard: Yard, kills: int, seed: int = 0) -> Outcome:
    """Kill the command of a yard so often, then let it end; results are compared all the way."""
    yard.run()  # which compiles for the machine at hand
    yard.clear()
    others = yard.files()
    seconds, whole, left = yard.run(), yard.results(), yard.files() - others
    assert whole
    yard.clear()
    problems: list[str] = []
    random, killed, finished, resumed, before = Random(seed), 0, 0, 0, 0
    while killed < kills:
        process = yard.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(random.uniform(0, seconds))
        process.kill()
        code = process.wait()
        killed += code != 0
        if code not in (0, -9):
            problems.append(f"exit code {code}: {yard.said()}")
        if orphans := yard.orphans():
            problems.append(f"still there after {ORPHANS:g} s: {orphans}")
        found, noted = yard.results(), yard.noted()
        if any(whole.get(name) != value for name, value in found.items()):
            problems.append(f"half or wrong after kill {killed}: {sorted(found)}")
        resumed += noted > 0
        if noted < before and found != whole:
            problems.append(f"{before} records in the journal, then {noted}")
        before = noted
        if code == 0 or found == whole:
            finished += code == 0
            if code == 0 and found != whole:
                problems.append(f"ended with other results: {sorted(found)}")
            yard.clear()
            before = 0
    yard.run()
    if yard.results() != whole:
        problems.append(f"other results in the end: {sorted(yard.results())}")
    if more := yard.files() - others - left:
        problems.append(f"left behind: {sorted(more)}")
    return Outcome(killed, finished, resumed, problems)


@contextlib.contextmanager
def yard(folder: Path, name: str, weights: Path | None = None) -> Iterator[Yard]:
    """Make a folder with all that a command needs; weights: the folder of published models, to be pulled."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(corrupt_files.tiny_model())
    (folder / "pictures").mkdir()
    grain = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    Image.fromarray(grain).save(folder / "photo.png")
    for index in range(12):
        Image.fromarray(np.roll(grain[:96, :120], index, 1)).save(folder / "pictures" / f"{index}.png")
    if "video" in name:
        clips.clip(folder / "clip.mkv", "-bf", "2", "-g", "20", size="96x64", seconds=2, audio=True)
    with mirror(weights / catalog.RELEASED[2].name if weights else folder / MODEL) as address:
        yield Yard(folder, name, mirror=address)


@contextlib.contextmanager
def mirror(file: Path) -> Iterator[str]:
    """Serve a file slowly under every name; yield the address."""
    data = file.read_bytes()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the reader was killed
                for at in range(0, len(data), 1 << 18):
                    self.wfile.write(data[at : at + (1 << 18)])
                    time.sleep(0.01)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill commands and say what was found; 1 if anything was."""
    parser = argparse.ArgumentParser(description="emt commands, killed at random moments.")
    parser.add_argument("--kills", type=int, default=100, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"), help="published models")
    parser.add_argument("commands", nargs="*", choices=[*COMMANDS, []], help="default: all")
    options = parser.parse_args(arguments)
    found = 0
    for name in options.commands or COMMANDS:
        weights = options.weights if name == "pull" else None
        began = time.perf_counter()
        with (
            tempfile.TemporaryDirectory(prefix="kills-") as folder,
            yard(Path(folder), name, weights) as place,
        ):
            outcome = kill_again_and_again(place, options.kills, options.seed)
        print(
            f"{name}: {outcome.kills} kills, {outcome.resumed} of them with work to go on with,"
            f" {outcome.finished} runs ended before; {time.perf_counter() - began:.0f} s;"
            f" {len(outcome.problems)} problems",
            flush=True,
        )
        for problem in outcome.problems:
            print(f"    {problem}", flush=True)
        found += len(outcome.problems)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Commands on disks that are too small: the right exit code, one line, nothing half; with room they go on.

`python tests/campaign_disks.py` needs root of a Linux machine, which can make small disks of memory.
tests/test_environment_failures.py runs a part.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from campaign_kills import COMMANDS, Yard, yard

PLACES = ("out", "tmp", "cache")
SIZES = ("size=4k", "size=16k", "size=60k", "size=150k", "size=400k", "size=1m", "size=3m", "nr_inodes=3")
"""Of disks; the last has room for bytes, and none for files."""
ENOUGH = "size=100m,nr_inodes=10000"


@contextlib.contextmanager
def small_disk(place: Path, options: str) -> Iterator[None]:
    """Have a small disk at a place; raises CalledProcessError where that cannot be."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def enlarge_disk(place: Path) -> None:
    subprocess.run(["mount", "-o", f"remount,{ENOUGH}", str(place)], check=True)


def try_on_small_disk(yard: Yard, place: str, size: str, whole: dict[str, object]) -> tuple[int, list[str]]:
    """Run a command with one of its folders on a small disk, then with room; return code and problems."""
    folder = yard.folder / place
    problems: list[str] = []
    yard.clear()
    with small_disk(folder, size):
        process = yard.start()
        code = process.wait(300)
        lines = [line for line in yard.said().splitlines() if "emt: error:" in line]
        if code not in (0, 4):
            problems.append(f"exit code {code}")
        if "Traceback" in yard.said() or (code != 0 and len(lines) != 1):
            problems.append("not one line of error")
        if code == 4 and not any("room" in line or "space" in line.lower() for line in lines):
            problems.append("does not say that the disk is full")
        if any(whole.get(name) != value for name, value in yard.results().items()):
            problems.append(f"half or wrong: {sorted(yard.results())}")
        if left := [path.name for path in folder.rglob(".emt-*.tmp")]:
            problems.append(f"left behind: {left}")
        if problems:
            problems.append(yard.said()[-1500:])
        if code != 0:
            enlarge_disk(folder)
            if yard.start().wait(300) != 0:
                problems.append(f"does not go on with room: {yard.said()[-1500:]}")
        if yard.results() != whole:
            problems.append(f"other results: {sorted(yard.results())}")
    return code, problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Run commands on small disks and say what was found; 1 if anything was."""
    parser = argparse.ArgumentParser(description="emt commands on disks that are too small.")
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"), help="published models")
    parser.add_argument("commands", nargs="*", choices=[*COMMANDS, []], help="default: all without Ray")
    options = parser.parse_args(arguments)
    found = 0
    for name in options.commands or [name for name in COMMANDS if "ray" not in name]:
        weights = options.weights if name == "pull" else None
        began, codes = time.perf_counter(), []
        with (
            tempfile.TemporaryDirectory(prefix="disks-") as folder,
            yard(Path(folder), name, weights) as place,
        ):
            place.run()
            whole = place.results()
            for where in PLACES:
                for size in SIZES:
                    if not (place.folder / where).is_dir() and where != "out":
                        continue
                    code, problems = try_on_small_disk(place, where, size, whole)
                    codes.append(code)
                    found += bool(problems)
                    for problem in problems:
                        print(f"{name}, {where}, {size}: {problem}", flush=True)
        print(f"{name}: {len(codes)} small disks, {codes.count(0)} of them large enough;", end=" ")
        print(f"{time.perf_counter() - began:.0f} s", flush=True)
    print(f"{found} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

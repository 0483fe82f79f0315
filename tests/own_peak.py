"""The largest resident memory of a process, by Linux's account of the program that runs in it.

getrusage's ru_maxrss will not do: a program that is started begins with what its parent had.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

needs_account = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of memory"
)


def own_peak(*, reset: bool = False) -> int:
    """Return the bytes since the start or the last reset; 0 where the system does not tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0
    return int(line.split()[1]) * 1024


def run_code(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code that may import this module in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    line = [sys.executable, "-c", code, *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=environment, check=False)

"""How many threads to compute with: what the person asks for, within what the process is granted."""

from __future__ import annotations

import os
import sys

import psutil

from emt_cli.control_groups import group_cores

_threads: int | None = None
"""What set_cpu_threads said."""


def cpu_threads() -> int:
    """Threads to compute with: OMP_NUM_THREADS or a core each, but no more than the process may use.

    That is the processors it may run on (taskset, cpusets) and its share of their time (control groups).
    set_cpu_threads has the last word.
    """
    if _threads is not None:
        return _threads
    allowed = allowed_cores()
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    cores = psutil.cpu_count(logical=False) or allowed
    return max(1, min(int(wanted) if wanted.isdecimal() else cores, allowed))


def allowed_cores() -> int:
    """Processors that the process may use, whatever number of threads is asked for."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, group_cores())


def set_cpu_threads(threads: int) -> None:
    """Compute with so many threads in this process, torch included where it is in use."""
    global _threads
    _threads = threads
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)

"""How much memory is free: the machine's, under the limits of its control groups, under the process's own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import psutil

from emt_cli.control_groups import NO_LIMIT, group_memory
from emt_cli.engine.device import Device, device_type


def free_memory(device: Device = "cpu") -> int:
    """Bytes that can still be had on the device; on a CPU within a container's limit, and `ulimit -v`."""
    if device_type(device) != "cpu":
        from emt_cli.engine.torch.devices import free_gpu_memory

        return free_gpu_memory(device)
    return min(int(psutil.virtual_memory().available), group_memory(), _process_memory())


def spare_memory(device: Device = "cpu") -> int:
    """Free bytes that may be planned with.

    On a CPU some are left for stacks, page tables and what libraries keep: where a container's limit is
    passed, the system kills the program.
    """
    free = free_memory(device)
    return max(0, free - free // 16 - (24 << 20)) if device_type(device) == "cpu" else free


def _process_memory() -> int:
    """Bytes left under the process's own limits, `ulimit -v` and `ulimit -d`."""
    if sys.platform != "linux":  # elsewhere they are not held to
        return NO_LIMIT
    import resource

    limits = {kind: resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)}
    if all(limit == resource.RLIM_INFINITY for limit in limits.values()):
        return NO_LIMIT
    importlib.import_module("cv2")  # writing a JPEG loads it, and its address space counts
    pages = [int(number) for number in Path("/proc/self/statm").read_text(encoding="ascii").split()]
    used = {resource.RLIMIT_AS: pages[0], resource.RLIMIT_DATA: pages[5]}
    left = [NO_LIMIT]
    for kind, limit in limits.items():
        if limit != resource.RLIM_INFINITY:
            left.append(max(0, limit - used[kind] * resource.getpagesize()))
    return min(left)

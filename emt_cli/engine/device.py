"""Which device and precision to use, and how much memory is free on it."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

import psutil
import torch

from emt_cli.errors import DeviceError, UsageError

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def choose_device(name: str = "auto") -> torch.device:
    """Turn auto, cpu, cuda, cuda:N or mps into a device; auto takes CUDA, then MPS, then the CPU.

    Raises DeviceError when the device is not on this machine, UsageError for a word that names none.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"--device {name}: not a device; use auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise DeviceError(f"--device {name}: {found} CUDA devices are usable here; try --device cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("--device mps: no Apple GPU is usable here; try --device cpu")
    return device


def choose_devices(names: str = "auto") -> list[torch.device]:
    """Turn "cuda:0,cuda:1" into devices, each once; one name is as choose_device takes it.

    Raises as choose_device does, and UsageError for a device named twice.
    """
    devices = [choose_device(name.strip()) for name in names.split(",")]
    places = [(device.type, device.index or 0) for device in devices]
    if len(set(places)) < len(places):
        raise UsageError(f"--device {names}: name each device once")
    return devices


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Turn auto, fp32, fp16 or bf16 into a type; auto is fp16 on CUDA and fp32 elsewhere."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in PRECISIONS:
        raise UsageError(f"--precision {name}: use auto, fp32, fp16 or bf16")
    return PRECISIONS[name]


def cpu_threads() -> int:
    """Threads to compute with: as torch would, but no more than the process may use of the machine."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), allowed, _container_cores()))


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on the device; on a CPU a container's limit counts too."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return min(int(psutil.virtual_memory().available), _container_memory())


def _container_memory(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes left under a Linux control group's limit (version 2), or a huge number."""
    try:
        limit = (group / "memory.max").read_text().strip()
        used = (group / "memory.current").read_text().strip()
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):
        return 1 << 62


def _container_cores(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores under a Linux control group's limit (version 2), rounded up, or a huge number."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return 1 << 30

"""Which device and precision to compute with."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from typing import Literal, get_args

from emt_cli.errors import UsageError

Device = str
"""cpu, cuda, cuda:N or mps, as torch names devices."""
Precision = Literal["fp32", "fp16", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_DRIVERS = ("libcuda.so.1", "nvcuda.dll", "libamdhip64.so")
"""Libraries of NVIDIA's and AMD's drivers; where there is none, torch need not be asked for a GPU."""


def gpu_may_be_here() -> bool:
    """Whether looking for a GPU, for which torch is imported, can find one: a driver, or a Mac."""
    if sys.platform == "darwin":
        return True
    for name in _DRIVERS:
        with suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False


def choose_device(name: str = "auto") -> Device:
    """Turn auto, cpu, cuda, cuda:N or mps into a device; auto takes CUDA, then MPS, then the CPU.

    Raises DeviceError when the device is not on this machine, UsageError for a word that names none.
    """
    kind, _, index = name.partition(":")
    if name != "auto" and (kind not in ("cpu", "cuda", "mps") or (index and not _is_index(kind, index))):
        raise UsageError(f"--device {name}: not a device; use auto, cpu, cuda, cuda:N or mps")
    if kind == "cpu" or (name == "auto" and not gpu_may_be_here()):
        return "cpu"
    from emt_cli.engine.torch.devices import check_gpu, default_device

    if name == "auto":
        return default_device()
    check_gpu(name)
    return name


def _is_index(kind: str, index: str) -> bool:
    return index.isascii() and index.isdecimal() and (kind == "cuda" or int(index) == 0)


def device_type(device: Device) -> str:
    """Return cpu, cuda or mps."""
    return device.partition(":")[0]


def choose_devices(names: str = "auto") -> list[Device]:
    """Turn "cuda:0,cuda:1" into devices, each once; one name is as choose_device takes it.

    Raises as choose_device does, and UsageError for a device named twice.
    """
    devices = [choose_device(name.strip()) for name in names.split(",")]
    places = [(device_type(device), int(device.partition(":")[2] or 0)) for device in devices]
    if len(set(places)) < len(places):
        raise UsageError(f"--device {names}: name each device once")
    return devices


def choose_precision(name: str, device: Device) -> Precision:
    """Turn auto, fp32, fp16 or bf16 into a precision; auto is fp16 on CUDA and fp32 elsewhere."""
    if name == "auto":
        return "fp16" if device_type(device) == "cuda" else "fp32"
    for precision in PRECISIONS:
        if name == precision:
            return precision
    raise UsageError(f"--precision {name}: use auto, fp32, fp16 or bf16")

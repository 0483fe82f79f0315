"""GPUs as torch sees them: which there are, how much memory is free on them."""

from __future__ import annotations

import torch

from emt_cli.errors import DeviceError


def default_device() -> str:
    """Return the best device of this machine: cuda, then mps, then cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_gpu(device: str) -> None:
    """Raise DeviceError unless cuda, cuda:N or mps is usable here."""
    kind, _, index = device.partition(":")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise DeviceError(f"--device {device}: {found} CUDA devices are usable here; try --device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("--device mps: no Apple GPU is usable here; try --device cpu")


def free_gpu_memory(device: str) -> int:
    """Return the bytes that can still be had on a GPU."""
    if device == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return int(torch.cuda.mem_get_info(torch.device(device))[0])


def release_memory(device: str) -> None:
    """Give back what torch keeps of a GPU's memory for later."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def allocated_memory(device: str) -> int:
    """Return the bytes of a CUDA device that tensors take, and count the most of it from now on."""
    torch.cuda.reset_peak_memory_stats(device)
    return int(torch.cuda.memory_allocated(device))


def most_memory(device: str) -> int:
    """Return the most bytes that tensors have taken since allocated_memory was asked."""
    return int(torch.cuda.max_memory_allocated(device))

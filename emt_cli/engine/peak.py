"""The most memory that something takes while it runs, above what was in use before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from emt_cli.engine.device import Device, device_type

_INTERVAL = 0.002
"""Seconds between two looks at the process."""


@dataclass
class Peak:
    """Bytes; right once the block has ended."""

    bytes: int = 0


@contextmanager
def peak_memory(device: Device) -> Iterator[Peak]:
    """Watch the memory of a CUDA device, or of this process for any other, while the block runs."""
    peak = Peak()
    if device_type(device) == "cuda":
        from emt_cli.engine.torch.devices import allocated_memory, most_memory

        before = allocated_memory(device)
        yield peak
        peak.bytes = most_memory(device) - before
        return
    process = psutil.Process()
    before = most = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(_INTERVAL):
            most = max(most, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak.bytes = most - before

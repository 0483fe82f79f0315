"""Memory of which parts can be given back to the system before the rest."""

from __future__ import annotations

import mmap
import sys
from contextlib import suppress


class ZeroPages:
    """Zeros of so many bytes; raises MemoryError where there are not so many."""

    def __init__(self, size: int) -> None:
        try:
            if sys.platform == "win32":
                self.bytes = mmap.mmap(-1, size)
            else:
                self.bytes = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(f"{size} bytes") from error
        if sys.platform == "linux":
            with suppress(OSError):  # a system without pages of two megabytes, which take fewer look-ups
                self.bytes.madvise(mmap.MADV_HUGEPAGE)

    def give_back(self, start: int, end: int) -> None:
        """Let go of the whole pages between two bytes; nothing may be read there any more."""
        start, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if sys.platform == "linux" and start < end:
            self.bytes.madvise(mmap.MADV_DONTNEED, start, end - start)

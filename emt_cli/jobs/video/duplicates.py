"""Frames that were seen a moment ago: the same pixels are computed once."""

from __future__ import annotations

import zlib
from collections import deque
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Answer = TypeVar("Answer")


class RecentFrames(Generic[Answer]):
    """The last few different frames, each with what was made of it."""

    def __init__(self, most: int) -> None:
        self._frames: deque[tuple[int, NDArray[Any], Answer]] = deque(maxlen=most)

    def find(self, pixels: NDArray[Any]) -> Answer | None:
        """Return what was made of a frame with exactly these pixels, if that is remembered."""
        checksum = _checksum(pixels)
        for known, other, answer in self._frames:
            if known == checksum and other.dtype == pixels.dtype and np.array_equal(other, pixels):
                return answer
        return None

    def add(self, pixels: NDArray[Any], answer: Answer) -> None:
        """Remember a frame in place of the oldest."""
        self._frames.append((_checksum(pixels), pixels, answer))


def _checksum(pixels: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels).data)

"""The samples of a picture as decoders give them and as encoders take them, a few rows at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from emt_cli.cores import cpu_threads
from emt_cli.media.picture.metadata import Metadata

T = TypeVar("T")
R = TypeVar("R")

Pixels: TypeAlias = npt.NDArray[Any]
"""RGB (h, w, 3), or one plane (h, w): uint8, uint16, or float32 with 0..1 as its nominal range."""

Kind = Literal["plain", "coarse", "coarse video", "drawn"]
"""What a file tells of its picture or video: saved so coarsely that blocks and rings show; a drawing or a
page of text, by its bits or, saved with losses, its pixels; or neither."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
BAND = 1 << 20
"""About how many samples are converted at a time."""
_MOST_THREADS = 8
_AHEAD = 2
"""Items before their turn, for each thread."""


def full_scale(dtype: npt.DTypeLike) -> float:
    """Return the value that means white or opaque: 255, 65535 or 1."""
    kind = np.dtype(dtype)
    return float(np.iinfo(kind).max) if kind.kind == "u" else 1.0


def convert(values: Pixels, dtype: npt.DTypeLike) -> Pixels:
    """Convert between 0..255, 0..65535 and 0..1, rounding once; values of the asked type pass through."""
    if values.dtype == dtype:
        return values
    scaled: Pixels = values.astype(np.float32) * np.float32(full_scale(dtype) / full_scale(values.dtype))
    if np.dtype(dtype).kind == "u":
        scaled = np.clip(np.rint(scaled), 0, full_scale(dtype))
    return scaled.astype(dtype, copy=False)


def widened(samples: Pixels, bits: int) -> Pixels:
    """Return samples of any number of bits as uint8, uint16 or float32, white at full scale."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    if bits in (8, 16):
        return samples
    most, kind = 2**bits - 1, np.uint8 if bits < 8 else np.uint16
    wide = samples.astype(np.uint64)
    return np.asarray(((wide * int(full_scale(kind)) * 2 + most) // (2 * most)).astype(kind))


class Sized:
    """What has pixels has a height and a width."""

    pixels: Pixels

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a decoder found in a file, before the EXIF orientation is applied."""

    pixels: Pixels
    alpha: Pixels | None
    gray: bool
    metadata: Metadata = field(default_factory=Metadata)
    orientation: int | None = None
    """Turns still to be made, as in EXIF; None for what the EXIF of the metadata says."""
    frames: int = 1
    notes: tuple[str, ...] = ()
    kind: Kind = "plain"


@dataclass(frozen=True, eq=False)
class Samples(Sized):
    """A picture's samples in the type and channels of the file: gray or RGB, with or without alpha."""

    pixels: Pixels
    alpha: Pixels | None
    gray: bool
    dtype: np.dtype[Any]

    @property
    def channels(self) -> int:
        """Samples of a pixel, 1 to 4."""
        return (1 if self.gray else 3) + (self.alpha is not None)

    def rows(self, start: int, stop: int) -> Pixels:
        """Return rows start to stop (exclusive) as (n, w, channels)."""
        colour = self.pixels[start:stop]
        if self.gray:
            colour = _gray(colour)[..., None]
        planes = [convert(colour, self.dtype)]
        if self.alpha is not None:
            planes.append(convert(self.alpha[start:stop], self.dtype)[..., None])
        return np.ascontiguousarray(planes[0]) if len(planes) == 1 else np.concatenate(planes, axis=2)

    def bands(self) -> list[tuple[int, int]]:
        """Return the (start, stop) rows of bands of about BAND samples that cover the picture."""
        step = max(1, BAND // (self.width * self.channels))
        return [(start, min(start + step, self.height)) for start in range(0, self.height, step)]


def _gray(colour: Pixels) -> Pixels:
    """Return one plane of three nearly equal ones: itself where they agree, else their luma (BT.601)."""
    red = colour[..., 0]
    if np.array_equal(red, colour[..., 1]) and np.array_equal(red, colour[..., 2]):
        return red
    luma = colour.astype(np.float32) @ _LUMA
    return luma if colour.dtype.kind == "f" else np.rint(luma).astype(colour.dtype)


def _threads() -> int:
    return min(_MOST_THREADS, cpu_threads())


def bands_ahead() -> int:
    """Most items that in_order has under way or finished before their turn."""
    return _AHEAD * _threads()


def in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield work(item) for each item in turn, computed on threads a few items ahead."""
    threads = _threads()
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[R]] = deque()
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > _AHEAD * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

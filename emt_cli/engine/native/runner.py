"""Run the network with kernels compiled for this processor: on the CPU, in single precision or bf16.

Layer by layer over the whole picture, without tiles or halo; strips of rows, and windows, are shared out
among threads. Two feature maps of the picture are kept, everything else has the size of some rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from math import ceil, prod
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from emt_cli.engine.device import Precision, cpu_threads
from emt_cli.engine.folded import fold
from emt_cli.engine.memory import spare_memory
from emt_cli.engine.native.llvm import Processor, Program, processor
from emt_cli.engine.native.packing import (
    PackedAttention,
    PackedLayer,
    PackedNetwork,
    aligned_zeros,
)
from emt_cli.engine.native.rows import write_row_kernels
from emt_cli.engine.native.shapes import CACHE_LINE, INPUT_CHANNELS, Shapes
from emt_cli.engine.native.tail import write_tail_kernel
from emt_cli.engine.native.windows import write_window_kernels
from emt_cli.engine.self_ensemble import self_ensemble
from emt_cli.engine.tiling import Floats
from emt_cli.engine.weights import Weights
from emt_cli.steps import Steps, finish

STRIP_ROWS = 96
"""Least rows of a strip, where there are enough: each computes two rows more."""
KEPT_BYTES = 48 << 20
"""Feature maps up to this size are kept for the next picture of the same size, where memory is plentiful."""


@lru_cache(maxsize=8)
def _program(shapes: Shapes) -> Program:
    return Program(
        [*write_row_kernels(shapes), *write_window_kernels(shapes), write_tail_kernel(shapes)], shapes.cpu
    )


@lru_cache(maxsize=8)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Return the threads that all networks of a process share; a forked one has none of its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="emt-kernels")


class NativeRunner:
    """Enlarge one tile: RGB float32 (h, w, 3), 0..255, to (h * scale, w * scale, 3), unclamped.

    bf16: products of MLPs and attention are of bf16 numbers, their sums and everything else of float32.
    """

    name = "native"
    cpu_budget = 1 << 30  # 1.4 megapixels are still one tile at x4
    used_fallback = False

    def __init__(
        self,
        weights: Weights,
        *,
        bf16: bool = False,
        threads: int | None = None,
        cpu: Processor | None = None,
    ) -> None:
        cpu = cpu or processor()
        if cpu is None or (bf16 and not cpu.bf16):
            raise RuntimeError("no kernels for this processor")
        self.config = weights.config
        self.threads = threads or cpu_threads()
        self.shapes = Shapes(weights.config, cpu, bf16)
        self.program = _program(self.shapes)
        self.packed = PackedNetwork(fold(weights), self.shapes)
        self._free: list[_Run] = []  # threads take from it and put back

    @property
    def precision(self) -> Precision:
        """Of the products; everything else is computed in fp32."""
        return "bf16" if self.shapes.bf16 else "fp32"

    @property
    def max_concurrency(self) -> int:
        """Two where there are several threads: while one layer's last strips are computed, another begins."""
        return min(2, self.threads)

    @property
    def description(self) -> str:
        """The engine in words."""
        cpu = self.shapes.cpu
        precision = "bf16 products" if self.shapes.bf16 else "fp32"
        return f"kernels for {cpu.name}, {precision}, {cpu.lanes} numbers at once, {self.threads} threads"

    @property
    def bytes_per_pixel(self) -> int:
        """Memory an input pixel of a tile costs, the tile's own copies of input and output included."""
        shapes = self.shapes
        maps = 2 if shapes.answer_stride == shapes.features.stride else 3
        answer = max(0, 3 * self.config.scale**2 - shapes.features.stride)  # it takes a map's place
        return 4 * (maps * shapes.features.stride + INPUT_CHANNELS + 3 + answer)

    @property
    def fixed_bytes(self) -> int:
        """Memory of the threads, for a picture some thousand pixels wide."""
        return 4 * self.threads * (self.shapes.row_scratch(2048) + self.shapes.window_scratch())

    def tile_bytes(self, height: int, width: int) -> int:
        """Memory a tile of this size takes, that of the threads with it, which grows with the width."""
        below, right = self.config.small_pads(height, width)
        pixels = (height + below + 2) * (width + right + 2)
        wider = max(0, self.shapes.row_scratch(width + right) - self.shapes.row_scratch(2048))
        answer = 12 * self.config.scale**2  # has a place of its own where maps are kept
        kept = answer if 4 * pixels * self.shapes.features.stride <= KEPT_BYTES else 0
        return pixels * (self.bytes_per_pixel + kept) + self.fixed_bytes + 4 * self.threads * wider

    def __call__(self, pixels: Floats, *, ensemble: bool = False) -> Floats:
        """Enlarge a tile; ensemble averages the answers for its eight flips and rotations (paper: EMT+)."""
        return finish(self.steps(pixels, ensemble=ensemble))

    def steps(self, pixels: Floats, *, ensemble: bool = False) -> Steps[Floats]:
        """Enlarge a tile as a call does, yielding the share done after each layer."""
        return (yield from (self_ensemble(self._enlarge, pixels) if ensemble else self._enlarge(pixels)))

    def _enlarge(self, pixels: Floats) -> Steps[Floats]:
        h, w = pixels.shape[:2]
        pads = self.config.small_pads(h, w)
        if any(pads):
            pixels = np.pad(pixels, ((0, pads[0]), (0, pads[1]), (0, 0)), mode="edge")
        try:
            run = self._free.pop()
        except IndexError:
            run = None
        if run is None or (run.height, run.width) != pixels.shape[:2]:
            run = None  # its memory goes before the other's is taken
            run = _Run(self, *pixels.shape[:2])
        answer = yield from run.enlarge(pixels, spend=not run.kept)
        if run.kept:
            self._free.append(run)
        if not np.isfinite(answer.reshape(len(answer), -1)[:: self.config.scale]).all():
            words = "in bf16" if self.shapes.bf16 else "even in single precision"
            raise FloatingPointError(f"the network's answer is not finite, {words}")
        scale = self.config.scale
        return answer[: h * scale, : w * scale]

    def share_out(self, work: Callable[[int], None], count: int) -> None:
        """Do pieces of work, 0 to count - 1, on all threads; each takes the next one when it is free."""
        pieces = iter(range(count))  # each number is given to one thread only

        def some() -> None:
            for index in pieces:
                work(index)

        if self.threads == 1 or count == 1:
            return some()
        pool = _pool(self.threads, os.getpid())
        futures = [pool.submit(some) for _ in range(min(self.threads, count))]
        try:
            for future in futures:
                future.result()
        finally:  # they write into memory that goes when this call is left
            for _ in pieces:  # nothing more is begun
                pass
            wait(futures)


class _Run:
    """Memory for a picture of one size, and the calls of the kernels on it."""

    def __init__(self, runner: NativeRunner, height: int, width: int) -> None:
        self.runner, self.height, self.width = runner, height, width
        self.call, self.shapes = runner.program, runner.shapes
        shapes, threads = self.shapes, runner.threads
        floats = (height + 2) * (width + 2)
        # Zeros, because of the borders: kernels never write there.
        self.pixels = np.zeros((height + 2, width + 2, INPUT_CHANNELS), np.float32)
        self.front = aligned_zeros(floats * shapes.features.stride)
        self.back = aligned_zeros(self.front.size)
        self.kept = self.front.nbytes <= min(KEPT_BYTES, spare_memory() // 8)
        self.answer = None
        if shapes.answer_stride != shapes.features.stride:
            self.answer = aligned_zeros(floats * shapes.answer_stride)
        size = max(shapes.row_scratch(width), shapes.window_scratch())
        self.scratch = aligned_zeros(threads, -(-size // CACHE_LINE) * CACHE_LINE)
        self.free: SimpleQueue[int] = SimpleQueue()
        for index in range(threads):
            self.free.put(index)
        count = max(1, height // STRIP_ROWS // threads) * threads
        rows = ceil(height / count)
        self.strips = [(top, min(top + rows, height)) for top in range(0, height, rows)]
        self.orders: dict[tuple[int, int, int, int], _Order] = {}

    def enlarge(self, pixels: Floats, *, spend: bool) -> Steps[Floats]:
        """Run the network on (h, w, 3) of this size; spend: this is the last time, memory may be used up."""
        packed, width, height = self.runner.packed, self.width, self.height
        scale = self.runner.config.scale
        for colour, mean in enumerate(packed.mean):  # one after the other: numpy is slow on short axes
            np.subtract(pixels[..., colour], mean, out=self.pixels[1:-1, 1:-1, colour])
        source, head = _address(self.pixels), _address(packed.head)
        front, back = _address(self.front), _address(self.back)
        self._rows(lambda top, bottom, _: self.call("head", source, front, head, top, bottom, width))
        for index, layer in enumerate(packed.layers):
            if isinstance(layer.mixer, PackedAttention):
                self._attend(layer.mixer, front, back if self.answer is None else _address(self.answer))
            self._local(layer, front, back)
            front, back = back, front
            yield (index + 1) / len(packed.layers)
        spare = self.front if len(packed.layers) % 2 else self.back
        shape = (height * scale, width * scale, 3)
        fits = spend and spare.size >= prod(shape)
        image = spare[: prod(shape)].reshape(shape) if fits else np.empty(shape, np.float32)
        addresses = (source, front, head, _address(packed.tail))
        out = _address(image)
        self._rows(
            lambda top, bottom, scratch: self.call(
                "tail", *addresses, scratch, out, top, bottom, height, width
            )
        )
        return image

    def _local(self, layer: PackedLayer, front: int, back: int) -> None:
        """Pixel mixer, if it is one, and MLP, from front into back."""
        mixed = not isinstance(layer.mixer, PackedAttention)
        mixer = _address(layer.mixer) if not isinstance(layer.mixer, PackedAttention) else 0
        addresses = (front, back, mixer, _address(layer.fc1), _address(layer.fc2))
        name = "mixed_layer" if mixed else "layer"
        size = (self.height, self.width)

        def rows(top: int, bottom: int, scratch: int) -> None:
            self.call(name, *addresses, scratch, top, bottom, *size)

        self._rows(rows)

    def _attend(self, attention: PackedAttention, front: int, answer: int) -> None:
        """Add the attention's answer to front."""
        for index, shape in enumerate(zip(attention.windows, attention.shifts, strict=True)):
            self._windows(index, self._order(*shape), front, answer, _address(attention.qv[index]))
        proj = _address(attention.proj)
        self._rows(lambda top, bottom, _: self.call("project", answer, front, proj, top, bottom, self.width))

    def _windows(self, index: int, order: _Order, front: int, answer: int, weights: int) -> None:
        pieces = min(order.count, 8 * self.runner.threads)
        addresses = (front, answer, weights, *order.addresses)

        def windows(piece: int, scratch: int) -> None:
            first, last = (order.count * end // pieces for end in (piece, piece + 1))
            self.call(f"window{index}", *addresses, scratch, first, last, order.across, self.width)

        self._share_out(windows, pieces)

    def _rows(self, work: Callable[[int, int, int], None]) -> None:
        """Call work(top, bottom, scratch address) for each strip."""
        self._share_out(lambda index, scratch: work(*self.strips[index], scratch), len(self.strips))

    def _share_out(self, work: Callable[[int, int], None], count: int) -> None:
        """Call work(piece, scratch address) for each piece, on all threads."""

        def piece(index: int) -> None:
            slot = self.free.get()
            try:
                work(index, _address(self.scratch[slot]))
            finally:
                self.free.put(slot)

        self.runner.share_out(piece, count)

    def _order(self, window: tuple[int, int], offset: tuple[int, int]) -> _Order:
        key = (*window, *offset)
        if key not in self.orders:
            self.orders[key] = _Order(window, offset, self.height, self.width)
        return self.orders[key]


class _Order:
    """Which rows and columns the windows of one shape read and write, rolled and reflected as SWSA does."""

    def __init__(self, window: tuple[int, int], offset: tuple[int, int], height: int, width: int) -> None:
        axes = []
        for side, length, roll in zip(window, (height, width), offset, strict=True):
            place = np.roll(np.arange(length + -length % side), roll)
            axes.append((np.where(place < length, place, 2 * (length - 1) - place), place))
        (rows, y), (columns, x) = axes
        self.arrays: list[NDArray[np.int64]] = [
            np.ascontiguousarray(array, np.int64)
            for array in (
                rows,
                columns,
                np.where(y < height, y, -(1 << 40)),
                np.where(x < width, x, -(1 << 40)),
            )
        ]
        self.across = len(columns) // window[1]
        self.count = len(rows) // window[0] * self.across

    @property
    def addresses(self) -> Sequence[int]:
        return [_address(array) for array in self.arrays]


def _address(array: NDArray[np.generic]) -> int:
    return array.ctypes.data

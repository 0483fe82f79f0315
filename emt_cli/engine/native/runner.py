"""Run the network with kernels compiled for this processor: on the CPU, in single precision or bf16.

Layer by layer over the whole picture, without tiles or halo; strips of rows, and windows, are shared out
among threads. One feature map of the picture is kept, everything else has the size of some rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from queue import SimpleQueue
from typing import Any

import numpy as np

from emt_cli.cores import cpu_threads
from emt_cli.engine.device import Precision
from emt_cli.engine.folded import fold
from emt_cli.engine.memory import spare_memory
from emt_cli.engine.native.llvm import Function
from emt_cli.engine.native.packing import PackedNetwork
from emt_cli.engine.native.processor import Processor, processor
from emt_cli.engine.native.program import Program
from emt_cli.engine.native.rows import write_row_kernels
from emt_cli.engine.native.run import Run, row_bytes
from emt_cli.engine.native.shapes import Shapes
from emt_cli.engine.native.tail import write_tail_kernel
from emt_cli.engine.native.turns import Turn, in_turn
from emt_cli.engine.native.windows import write_window_kernels
from emt_cli.engine.runner import Take
from emt_cli.engine.self_ensemble import self_ensemble
from emt_cli.engine.tiling import Floats, Numbers
from emt_cli.engine.weights import Weights
from emt_cli.steps import Steps, finish

KEPT_BYTES = 96 << 20
"""Feature maps up to this size are kept for the next picture of the same size, where memory is plentiful."""


@lru_cache(maxsize=8)
def _program(shapes: Shapes) -> Program:
    def written() -> Iterator[Function]:
        yield from write_row_kernels(shapes)
        yield from write_window_kernels(shapes)
        yield write_tail_kernel(shapes)

    return Program(written(), shapes.cpu)


@lru_cache(maxsize=8)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Return the threads that all networks of a process share; a forked one has none of its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="emt-kernels")


class NativeRunner:
    """Enlarge one tile: RGB float32 (h, w, 3), 0..255, to (h * scale, w * scale, 3), unclamped.

    bf16: products of MLPs and attention are of bf16 numbers, their sums and everything else of float32.
    """

    name = "native"
    cpu_budget = 620 << 20  # 2 megapixels are still one tile
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
        self._free: list[Run] = []  # threads take from it and put back

    @property
    def precision(self) -> Precision:
        """Of the products; everything else is computed in fp32."""
        return "bf16" if self.shapes.bf16 else "fp32"

    @property
    def max_concurrency(self) -> int:
        """Two where there are several threads: while one waits for a strip, the other is computed."""
        return min(2, self.threads)

    @property
    def description(self) -> str:
        """The engine in words."""
        cpu = self.shapes.cpu
        precision = "bf16 products" if self.shapes.bf16 else "fp32"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"kernels for {cpu.name}, {precision}, {cpu.lanes} numbers at once, {threads}"

    @property
    def bytes_per_pixel(self) -> int:
        """Memory an input pixel of a tile costs: its features, and itself as floats, twice if done again."""
        return 4 * self.shapes.features.stride + 26

    @property
    def fixed_bytes(self) -> int:
        """Memory of rows and threads, for a picture some thousand pixels wide."""
        return row_bytes(self.shapes, 2048, 2048, self.threads)

    def tile_bytes(self, height: int, width: int) -> int:
        """Memory a tile of this size takes, that of rows and threads with it, which grows with the width."""
        below, right = self.config.small_pads(height, width)
        height, width = height + below, width + right
        pixels = (height + 2) * (width + 2)
        return pixels * self.bytes_per_pixel + row_bytes(self.shapes, height, width, self.threads)

    def __call__(self, pixels: Floats, *, ensemble: bool = False) -> Floats:
        """Enlarge a tile; ensemble averages the answers for its eight flips and rotations (paper: EMT+)."""
        return finish(self.steps(pixels, ensemble=ensemble))

    def steps(self, pixels: Floats, *, ensemble: bool = False) -> Steps[Floats]:
        """Enlarge a tile as a call does, yielding the share done after each layer."""
        return (yield from (self_ensemble(self._enlarge, pixels) if ensemble else self._enlarge(pixels)))

    def bands(self, pixels: Numbers, take: Take) -> Steps[None]:
        """Enlarge a tile; take gets the answer, some rows at a time."""
        h, w = pixels.shape[:2]
        scale, pads = self.config.scale, self.config.small_pads(h, w)
        if any(pads):
            padded: Any = np.pad(pixels, ((0, pads[0]), (0, pads[1]), (0, 0)), mode="edge")
            pixels = padded
        try:
            run = self._free.pop()
        except IndexError:
            run = None
        if run is None or (run.height, run.width) != pixels.shape[:2]:
            run = None  # its memory goes before the other's is taken
            run = Run(self, *pixels.shape[:2])

        def inside(first: int, rows: Floats) -> None:
            if not np.isfinite(rows[::scale]).all():
                words = "in bf16" if self.shapes.bf16 else "even in single precision"
                raise FloatingPointError(f"the network's answer is not finite, {words}")
            if first < h:
                take(first, rows[: (h - first) * scale, : w * scale])

        kept = run.map.nbytes <= min(KEPT_BYTES, spare_memory() // 8)
        yield from run.enlarge(pixels, inside, spend=not kept)
        if kept:
            self._free.append(run)

    def _enlarge(self, pixels: Floats) -> Steps[Floats]:
        height, width = (side * self.config.scale for side in pixels.shape[:2])
        answer: Floats = np.empty((height, width, 3), np.float32)

        def take(first: int, rows: Floats) -> None:
            answer[first * self.config.scale :][: len(rows)] = rows

        yield from self.bands(pixels, take)
        return answer

    def share_out(self, turns: Sequence[Turn], free: SimpleQueue[int]) -> Steps[None]:
        """Do the pieces of turns on all threads, yielding the share done; free: as in_turn takes it."""
        return in_turn(turns, self.threads, _pool(self.threads, os.getpid()), free)

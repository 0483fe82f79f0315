"""The kernels' calls on one picture, and the memory they work in: one feature map, and rows.

Layers are computed in place. Rows at the borders of strips are copied before, for the strips beside; answers
of attention wait in a ring of rows (order.py); the enlarged picture leaves in bands of rows, as floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import ceil
from queue import SimpleQueue
from threading import Condition
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from emt_cli.engine.native.order import Band, Order, Shape
from emt_cli.engine.native.packing import PackedAttention, PackedLayer, PackedNetwork, aligned_zeros
from emt_cli.engine.native.program import Program
from emt_cli.engine.native.shapes import CACHE_LINE, EDGE, INPUT_CHANNELS, Shapes
from emt_cli.engine.pages import ZeroPages
from emt_cli.engine.runner import Take
from emt_cli.engine.tiling import Floats
from emt_cli.steps import Steps

STRIP_ROWS = 192
"""Least rows of a strip, where there are enough: each computes two rows more, and copies six."""
BAND_ROWS, BAND_PIXELS = 16, 1 << 14
"""Least rows and pixels, where there are enough, whose enlargement is there as floats at a time."""
WINDOW_PIXELS = 1 << 14
"""Least pixels of each thread whose windows are computed before answers are projected."""


Piece = Callable[[int], None]
"""Work that gets the number of the memory it may use."""


@dataclass(frozen=True)
class Turn:
    """Pieces that may begin once the first `after` of all turns are through."""

    pieces: Sequence[Piece]
    after: int


class Kernels(Protocol):
    """What a run needs of its runner."""

    program: Program
    shapes: Shapes
    packed: PackedNetwork
    threads: int

    def share_out(self, work: Callable[[int], None], count: int) -> None:
        """Do pieces of work, 0 to count - 1, on all threads."""


def window_rows(width: int, threads: int) -> int:
    """Return the least rows of a band of windows."""
    return ceil(threads * WINDOW_PIXELS / width)


def band_rows(height: int, width: int, threads: int) -> int:
    """Return the rows whose enlargement a thread has as floats at a time."""
    return max(1, BAND_ROWS, min(ceil(BAND_PIXELS / width), ceil(height / threads)))


def strip_count(height: int, threads: int) -> int:
    """Return into how many strips a picture's rows are cut; of EDGE rows or more if there are several."""
    return max(1, min(height // EDGE, max(1, height // STRIP_ROWS // threads) * threads))


def scratch_sizes(shapes: Shapes, height: int, width: int, threads: int) -> tuple[int, int, int]:
    """Return the floats of a thread: kernels' own, rows of the picture, rows of the enlarged one."""
    rows = band_rows(height, width, threads)
    return (
        _whole_lines(max(shapes.row_scratch(width), shapes.window_scratch())),
        _whole_lines((rows + 4) * (width + 2) * INPUT_CHANNELS),
        _whole_lines(rows * width * 3 * shapes.config.scale**2),
    )


def row_bytes(shapes: Shapes, height: int, width: int, threads: int) -> int:
    """Return the memory of a run beside the map of features."""
    sizes = scratch_sizes(shapes, height, width, threads)
    floats = threads * (sum(sizes) + sizes[-1])  # what is made of the enlarged rows takes less than they do
    edges = 2 * strip_count(height, threads) * 2 * EDGE * (width + 2) * shapes.features.stride
    answers = 0
    if shapes.config.attention_layers:
        tallest = max(tall for tall, _ in shapes.config.windows)
        rolls = max(abs(down) for down, _ in shapes.config.shifts)
        rows = 2 * (window_rows(width, threads) + tallest) + tallest + rolls
        answers = (min(rows, height) + 2) * (width + 2) * shapes.answer_stride
    return 4 * (floats + edges + answers)


class Run:
    """Memory for a picture of one size, and the calls of the kernels on it."""

    def __init__(self, kernels: Kernels, height: int, width: int) -> None:
        self.kernels, self.height, self.width = kernels, height, width
        self.call, self.shapes = kernels.program, kernels.shapes
        shapes, threads = self.shapes, kernels.threads
        # Zeros, because of the borders: kernels never write there.
        self.pitch = (width + 2) * shapes.features.stride
        self.memory = ZeroPages(4 * (height + 2) * self.pitch)
        self.map = np.frombuffer(self.memory.bytes, np.float32).reshape(height + 2, self.pitch)
        count = strip_count(height, threads)
        ends = [height * index // count for index in range(count + 1)]
        self.strips = list(pairwise(ends))
        # Of what a layer reads, and of what it leaves for the next one.
        self.edges, self.next_edges = (aligned_zeros(count, 2 * EDGE, self.pitch) for _ in range(2))
        self.answers: Floats | None = None
        self.band_rows = band_rows(height, width, threads)
        sizes = scratch_sizes(shapes, height, width, threads)
        self.scratch = aligned_zeros(threads, sum(sizes))
        lines = (self.band_rows + 4) * (width + 2) * INPUT_CHANNELS
        areas = (scratch[sizes[0] : sizes[0] + lines] for scratch in self.scratch)
        self.lines = [area.reshape(-1, width + 2, INPUT_CHANNELS) for area in areas]
        """The picture's rows of a band and two around it, of each thread, less the mean."""
        self.image = sizes[0] + sizes[1]
        self.free: SimpleQueue[int] = SimpleQueue()
        for index in range(threads):
            self.free.put(index)
        self.orders: dict[tuple[tuple[int, int], ...], Order] = {}

    def enlarge(self, pixels: Floats, take: Take, *, spend: bool) -> Steps[None]:
        """Run the network on (h, w, 3) of this size; take gets the answer.

        spend: this is the last time; memory is given back as soon as it is not needed any more.
        """
        packed = self.kernels.packed
        head, features = _address(packed.head), _address(self.map)

        def begin(index: int, slot: int) -> None:
            first, last = self.strips[index]
            for top in range(first, last, self.band_rows):
                bottom = min(top + self.band_rows, last)
                source = self._place_lines(pixels, top, bottom, slot)
                self.call("head", source, features, head, top, bottom, self.width)
            self._keep_edges(index, self.edges)

        self._share_out([partial(begin, index) for index in range(len(self.strips))])
        for index, layer in enumerate(packed.layers):
            if isinstance(layer.mixer, PackedAttention):
                self._attend(layer.mixer)
            self._local(layer)
            yield (index + 1) / len(packed.layers)
        if spend:
            self.answers = None
            self.edges = self.next_edges = aligned_zeros(0, 2 * EDGE, self.pitch)
        self._finish(pixels, take, spend=spend)

    def _place_lines(self, pixels: Floats, top: int, bottom: int, slot: int) -> int:
        """Bring a band's rows of the picture, and two around it, to where kernels read them.

        Return the address at which a whole picture of such rows would begin.
        """
        lines, mean = self.lines[slot], self.kernels.packed.mean
        first, last = max(0, top - 2), min(self.height, bottom + 2)
        place = first - top + 2
        for colour in range(3):  # one after the other: numpy is slow on short axes
            inside = lines[place : place + last - first, 1:-1, colour]
            np.subtract(pixels[first:last, :, colour], mean[colour], out=inside)
        lines[:place] = 0
        lines[place + last - first :] = 0
        return _address(lines) - 4 * (top - 1) * (self.width + 2) * INPUT_CHANNELS

    def _finish(self, pixels: Floats, take: Take, *, spend: bool) -> None:
        packed, scale = self.kernels.packed, self.shapes.config.scale
        addresses = (_address(self.map), _address(packed.head), _address(packed.tail))
        row = self.width * 3 * scale**2
        bands = range(0, self.height, self.band_rows)

        def band(index: int, slot: int) -> None:
            top = bands[index]
            bottom = min(top + self.band_rows, self.height)
            scratch = self.scratch[slot]
            image = scratch[self.image : self.image + (bottom - top) * row]
            out = _address(image) - 4 * top * row
            source = self._place_lines(pixels, top, bottom, slot)
            size = (self.height, self.width)
            self.call("tail", source, *addresses, _address(scratch), out, top, bottom, *size)
            if spend:  # but for the rows that the bands above and below read
                self.memory.give_back(4 * (top + 2) * self.pitch, 4 * bottom * self.pitch)
            rows = image.reshape((bottom - top) * scale, self.width * scale, 3)
            take(top, rows)

        self._share_out([partial(band, index) for index in range(len(bands))])

    def _local(self, layer: PackedLayer) -> None:
        """Pixel mixer, if it is one, and MLP, in place."""
        mixed = not isinstance(layer.mixer, PackedAttention)
        mixer = _address(layer.mixer) if not isinstance(layer.mixer, PackedAttention) else 0
        weights = (mixer, _address(layer.fc1), _address(layer.fc2))
        name, features, count = "mixed_layer" if mixed else "layer", _address(self.map), len(self.strips)

        def strip(index: int, slot: int) -> None:
            top, bottom = self.strips[index]
            before = _address(self.edges[index]) - 4 * self.pitch  # as if a border lay above
            after = _address(self.edges[(index + 1) % count, EDGE:]) - 4 * self.pitch
            scratch = _address(self.scratch[slot])
            self.call(name, features, before, after, *weights, scratch, top, bottom, self.height, self.width)
            self._keep_edges(index, self.next_edges)

        self._share_out([partial(strip, index) for index in range(count)])
        self.edges, self.next_edges = self.next_edges, self.edges

    def _keeper(self, index: int) -> Piece:
        return lambda _: self._keep_edges(index, self.edges)

    def _keep_edges(self, index: int, edges: Floats) -> None:
        """Copy the first and last rows of a strip, for the strips beside it."""
        top, bottom = self.strips[index]
        below = edges[(index + 1) % len(edges)]
        for row in range(EDGE):
            edges[index, EDGE + row] = self.map[1 + (top + row) % self.height]
            below[row] = self.map[1 + (bottom - EDGE + row) % self.height]

    def _attend(self, attention: PackedAttention) -> None:
        """Add the attention's answer to the features, in place."""
        order = self._order(attention)
        if self.answers is None or len(self.answers) < order.rows + 2:
            self.answers = aligned_zeros(order.rows + 2, (self.width + 2) * self.shapes.answer_stride)
        windows = [self._windows(attention, order, band, self.answers) for band in order.bands]
        project = [self._projections(attention, order, band, self.answers) for band in order.bands]
        # Windows write where answers of two bands before were; these are projected while others are computed.
        count = len(order.bands)
        turns = [Turn(windows[0], 0)]
        for band in range(1, count):
            turns.append(Turn(windows[band], 2 * band - 1 if band > 1 else 0))
            turns.append(Turn(project[band - 1], max(1, 2 * band - 2)))
        turns.append(Turn(project[-1], max(1, 2 * count - 2)))
        turns.append(Turn([self._keeper(index) for index in range(len(self.strips))], len(turns)))
        self._in_turn(turns)

    def _windows(self, attention: PackedAttention, order: Order, band: Band, answers: Floats) -> list[Piece]:
        """Cut a band's windows into pieces that write their answers."""
        pieces: list[Piece] = []
        for index, (shape, (first, last)) in enumerate(zip(order.shapes, band.windows, strict=True)):
            count = (last - first) * shape.across
            parts = min(count, 8 * self.kernels.threads)
            ends = [first * shape.across + count * part // max(1, parts) for part in range(parts + 1)]
            weights = attention.qv[index]
            pieces += [
                partial(self._attend_windows, f"window{index}", answers, weights, shape, start, end)
                for start, end in pairwise(ends)
            ]
        return pieces

    def _attend_windows(
        self, name: str, answers: Floats, weights: Floats, shape: Shape, start: int, end: int, slot: int
    ) -> None:
        addresses = (*map(_address, (self.map, answers, weights)), *map(_address, shape.arrays))
        scratch = _address(self.scratch[slot])
        self.call(name, *addresses, scratch, start, end, shape.across, self.width)

    def _projections(
        self, attention: PackedAttention, order: Order, band: Band, answers: Floats
    ) -> list[Piece]:
        """Cut a band's rows into pieces that add their answers to the features."""
        pitch = 4 * (self.width + 2) * self.shapes.answer_stride
        proj = _address(attention.proj)

        def project(top: int, bottom: int, _: int) -> None:
            waiting = _address(answers) + (order.slot(top) - top) * pitch
            self.call("project", waiting, _address(self.map), proj, top, bottom, self.width)

        parts = order.runs(band.top, band.bottom, 2 * self.kernels.threads)
        return [partial(project, top, bottom) for top, bottom in parts]

    def _in_turn(self, turns: Sequence[Turn]) -> None:
        """Call the pieces of all turns as _share_out does, each as soon as its turn may begin."""
        left = [len(turn.pieces) for turn in turns]
        through, changed = 0, Condition()

        def call(number: int, piece: Piece, slot: int) -> None:
            nonlocal through
            with changed:  # the pieces waited for were begun before this one
                changed.wait_for(lambda: through >= turns[number].after)
            try:
                piece(slot)
            finally:
                with changed:
                    left[number] -= 1
                    while through < len(turns) and not left[through]:
                        through += 1
                    changed.notify_all()

        numbered = [(number, piece) for number, turn in enumerate(turns) for piece in turn.pieces]
        self._share_out([partial(call, number, piece) for number, piece in numbered])

    def _share_out(self, pieces: Sequence[Piece]) -> None:
        """Call each piece with the number of the memory it may use, on all threads."""

        def work(index: int) -> None:
            slot = self.free.get()
            try:
                pieces[index](slot)
            finally:
                self.free.put(slot)

        self.kernels.share_out(work, len(pieces))

    def _order(self, attention: PackedAttention) -> Order:
        key = (*attention.windows, *attention.shifts)
        if key not in self.orders:
            least = window_rows(self.width, self.kernels.threads)
            self.orders[key] = Order(
                attention.windows, attention.shifts, self.height, self.width, least=least
            )
        return self.orders[key]


def _whole_lines(floats: int) -> int:
    return -(-floats // (CACHE_LINE // 4)) * (CACHE_LINE // 4)


def _address(array: NDArray[Any]) -> int:
    return array.ctypes.data

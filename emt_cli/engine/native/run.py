"""The kernels' calls on one picture, and the memory they work in: one feature map, and rows.

Layers are computed in place. Rows at the borders of strips are copied before, for the strips beside; answers
of attention wait in a ring of rows (order.py); the enlarged picture leaves in bands of rows, as floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from math import ceil
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from emt_cli.engine.native.order import Band, Order, Shape
from emt_cli.engine.native.packing import PackedAttention, PackedLayer, PackedNetwork, aligned_zeros
from emt_cli.engine.native.program import Program
from emt_cli.engine.native.shapes import CACHE_LINE, EDGE, INPUT_CHANNELS, Shapes
from emt_cli.engine.native.turns import Piece, Turn
from emt_cli.engine.pages import ZeroPages
from emt_cli.engine.runner import Take
from emt_cli.engine.tiling import Floats, Numbers
from emt_cli.steps import Steps

STRIP_ROWS = 48
"""Least rows of a strip where each thread has several: it computes two rows more, and copies six."""
BAND_ROWS, BAND_PIXELS = 16, 1 << 14
"""Least rows and pixels, where there are enough, whose enlargement is there as floats at a time."""
WINDOW_PIXELS = 1 << 13
"""Least pixels of each thread whose windows are computed before answers are projected."""


class Kernels(Protocol):
    """What a run needs of its runner."""

    program: Program
    shapes: Shapes
    packed: PackedNetwork
    threads: int

    def share_out(self, turns: Sequence[Turn], free: SimpleQueue[int]) -> Steps[None]:
        """Do the pieces of turns on all threads, yielding the share done; free: memory of one each."""


def window_rows(width: int, threads: int) -> int:
    """Return the least rows of a band of windows."""
    return ceil(threads * WINDOW_PIXELS / width)


def band_rows(height: int, width: int, threads: int) -> int:
    """Return the rows whose enlargement a thread has as floats at a time."""
    return max(1, BAND_ROWS, min(ceil(BAND_PIXELS / width), ceil(height / threads)))


def strip_count(height: int, threads: int) -> int:
    """Return into how many strips a picture's rows are cut; of EDGE rows or more if there are several."""
    # With two for each thread, those beside a strip are through when its turn comes.
    return max(1, min(height // EDGE, max(threads, min(2 * threads, height // STRIP_ROWS))))


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
        # What layers of even and of odd numbers read; each leaves them for the next one.
        self.edges = [aligned_zeros(count, 2 * EDGE, self.pitch) for _ in range(2)]
        self.answers = aligned_zeros(0)
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

    def enlarge(self, pixels: Numbers, take: Take, *, spend: bool) -> Steps[None]:
        """Run the network on (h, w, 3) of this size, yielding the share done; take gets the answer.

        spend: this is the last time; memory is given back as soon as it is not needed any more.
        """
        layers = self.kernels.packed.layers
        attend = [layer.mixer if isinstance(layer.mixer, PackedAttention) else None for layer in layers]
        last = max((number for number, attention in enumerate(attend) if attention), default=-1)
        rows = max((self._order(attention).rows + 2 for attention in attend if attention), default=0)
        if len(self.answers) < rows:
            self.answers = aligned_zeros(rows, (self.width + 2) * self.shapes.answer_stride)
        turns: list[Turn] = []
        strips = range(len(self.strips))
        # Attention needs all of the features, and no edges of strips.
        keep = [attention is None for attention in attend[1:]] + [False]
        begin = partial(self._begin, pixels, keep=attend[0] is None)
        self._in_strips(turns, -1, 0.0, [[partial(begin, index)] for index in strips], follow=False)
        for number, (layer, attention) in enumerate(zip(layers, attend, strict=True)):
            share = (number + 1) / len(layers)
            if attention is not None:
                self._attend(turns, attention, number, share)
                if spend and number == last:
                    turns.append(Turn([self._drop_answers], len(turns), share))
            local = partial(self._local, layer, number, keep=keep[number])
            pieces = [[partial(local, index)] for index in strips]
            self._in_strips(turns, number, share, pieces, follow=attention is None)
        finish = partial(self._finish, pixels, take, spend)
        bands = [[partial(finish, *band) for band in self._bands(*ends)] for ends in self.strips]
        self._in_strips(turns, len(layers), 1.0, bands, follow=True)
        yield from self.kernels.share_out(turns, self.free)

    def _in_strips(
        self, turns: list[Turn], number: int, share: float, strips: Sequence[Sequence[Piece]], *, follow: bool
    ) -> None:
        """Add the work of a layer on each strip.

        follow: it comes right after the layer before in strips, and begins where those beside are through
        that one. Each layer goes from one strip further down around the picture: where the one before
        ends, others may be at work still.
        """
        count, before = len(strips), len(turns)
        for place in range(count):
            after = before - count + min(place + 3, count) if follow else before
            turns.append(Turn(strips[(number + place) % count], after, share))

    def _begin(self, pixels: Numbers, index: int, slot: int, *, keep: bool) -> None:
        """Compute the features of a strip that the first layer reads."""
        head, features = _address(self.kernels.packed.head), _address(self.map)
        for top, bottom in self._bands(*self.strips[index]):
            source = self._place_lines(pixels, top, bottom, slot)
            self.call("head", source, features, head, top, bottom, self.width)
        if keep:
            self._keep_edges(index, 0, slot)

    def _bands(self, top: int, bottom: int) -> list[tuple[int, int]]:
        """Cut rows into bands."""
        return [(row, min(row + self.band_rows, bottom)) for row in range(top, bottom, self.band_rows)]

    def _place_lines(self, pixels: Numbers, top: int, bottom: int, slot: int) -> int:
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

    def _finish(self, pixels: Numbers, take: Take, spend: bool, top: int, bottom: int, slot: int) -> None:
        """Enlarge a band of rows."""
        packed, scratch = self.kernels.packed, self.scratch[slot]
        row = self.width * 3 * self.shapes.config.scale**2
        addresses = (_address(self.map), _address(packed.head), _address(packed.tail))
        image = scratch[self.image : self.image + (bottom - top) * row]
        out = _address(image) - 4 * top * row
        source = self._place_lines(pixels, top, bottom, slot)
        size = (self.height, self.width)
        self.call("tail", source, *addresses, _address(scratch), out, top, bottom, *size)
        if spend:  # but for the rows that the bands above and below read
            self.memory.give_back(4 * (top + 2) * self.pitch, 4 * bottom * self.pitch)
        scale = self.shapes.config.scale
        take(top, image.reshape((bottom - top) * scale, self.width * scale, 3))

    def _local(self, layer: PackedLayer, number: int, index: int, slot: int, *, keep: bool) -> None:
        """Compute pixel mixer, if it is one, and MLP of a strip, in place."""
        mixed = not isinstance(layer.mixer, PackedAttention)
        mixer = _address(layer.mixer) if not isinstance(layer.mixer, PackedAttention) else 0
        weights = (mixer, _address(layer.fc1), _address(layer.fc2))
        (top, bottom), edges = self.strips[index], self.edges[number % 2]
        before = _address(edges[index]) - 4 * self.pitch  # as if a border lay above
        after = _address(edges[(index + 1) % len(edges), EDGE:]) - 4 * self.pitch
        addresses = (_address(self.map), before, after, *weights, _address(self.scratch[slot]))
        self.call("mixed_layer" if mixed else "layer", *addresses, top, bottom, self.height, self.width)
        if keep:
            self._keep_edges(index, number + 1, slot)

    def _keep_edges(self, index: int, number: int, _: int) -> None:
        """Copy the first and last rows of a strip, which those beside it read in the layer of this number."""
        (top, bottom), edges = self.strips[index], self.edges[number % 2]
        below = edges[(index + 1) % len(edges)]
        for row in range(EDGE):
            edges[index, EDGE + row] = self.map[1 + (top + row) % self.height]
            below[row] = self.map[1 + (bottom - EDGE + row) % self.height]

    def _attend(self, turns: list[Turn], attention: PackedAttention, number: int, share: float) -> None:
        """Add the attention's answer to the features, in place."""
        order, start = self._order(attention), len(turns)
        windows = [self._windows(attention, order, band) for band in order.bands]
        project = [self._projections(attention, order, band) for band in order.bands]

        def add(pieces: list[Piece], after: int) -> None:
            turns.append(Turn(pieces, start + after, share))

        # Windows write where answers of two bands before were; these are projected while others are computed.
        count = len(order.bands)
        add(windows[0], 0)
        for band in range(1, count):
            add(windows[band], 2 * band - 1 if band > 1 else 0)
            add(project[band - 1], max(1, 2 * band - 2))
        add(project[-1], max(1, 2 * count - 2))
        add([partial(self._keep_edges, index, number) for index in range(len(self.strips))], 2 * count)

    def _drop_answers(self, _: int) -> None:
        self.answers = aligned_zeros(0)

    def _windows(self, attention: PackedAttention, order: Order, band: Band) -> list[Piece]:
        """Cut a band's windows into pieces that write their answers."""
        pieces: list[Piece] = []
        for index, (shape, (first, last)) in enumerate(zip(order.shapes, band.windows, strict=True)):
            count = (last - first) * shape.across
            parts = min(count, 8 * self.kernels.threads)
            ends = [first * shape.across + count * part // max(1, parts) for part in range(parts + 1)]
            weights = attention.qv[index]
            pieces += [
                partial(self._attend_windows, f"window{index}", weights, shape, start, end)
                for start, end in pairwise(ends)
            ]
        return pieces

    def _attend_windows(
        self, name: str, weights: Floats, shape: Shape, start: int, end: int, slot: int
    ) -> None:
        addresses = (*map(_address, (self.map, self.answers, weights)), *map(_address, shape.arrays))
        scratch = _address(self.scratch[slot])
        self.call(name, *addresses, scratch, start, end, shape.across, self.width)

    def _projections(self, attention: PackedAttention, order: Order, band: Band) -> list[Piece]:
        """Cut a band's rows into pieces that add their answers to the features."""
        pitch = 4 * (self.width + 2) * self.shapes.answer_stride
        proj = _address(attention.proj)

        def project(top: int, bottom: int, _: int) -> None:
            waiting = _address(self.answers) + (order.slot(top) - top) * pitch
            self.call("project", waiting, _address(self.map), proj, top, bottom, self.width)

        parts = order.runs(band.top, band.bottom, 2 * self.kernels.threads)
        return [partial(project, top, bottom) for top, bottom in parts]

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

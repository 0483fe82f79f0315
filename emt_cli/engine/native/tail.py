"""The last convolution, from features to enlarged pixels, with a third of its multiplications saved twice.

Winograd's F(4, 3) along the rows: four pixels next to each other take six products instead of twelve
(Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016). Columns go in pieces, so that three
rows of transformed features stay in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from emt_cli.engine.native.llvm import Function
from emt_cli.engine.native.rows import add_to, head_row, row_product, rows_of, slot_of, store_to, zero
from emt_cli.engine.native.shapes import GROUP, INPUT_CHANNELS, PIECE, PLACES, Shapes

INPUTS = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
"""From six pixels, the one before a group of four to the one after it, to what the products take."""
KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float64,
)
"""From the three taps of a row of the convolution to the six matrices of the products."""
OUTPUTS = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32
)
"""From the six products to four pixels."""
BIAS_PLACE = 1
"""The product that goes into all four pixels as it is."""


def write_tail_kernel(shapes: Shapes) -> Function:
    """Write tail: rows top..bottom of the last convolution, of front plus the head, into the image.

    %tail: for each of the six products what a row product takes, for three rows of features.
    """
    names = ["pixels", "front", "weights", "tail", "scratch", "image"]
    f = Function(
        "tail",
        [*((name, "ptr") for name in names), *((n, "i64") for n in ("top", "bottom", "height", "width"))],
        shapes.cpu,
    )
    stride, output = shapes.features.stride, shapes.output
    source = rows_of(f, "%pixels", "%width", INPUT_CHANNELS)
    front = rows_of(f, "%front", "%width", stride)
    sizes = shapes.tail_scratch
    line = "%scratch"
    ring = f.at(line, sizes[0])
    products = f.at(ring, sizes[1])
    enlarged = f.at(products, sizes[2])
    plane, row_size = PIECE // GROUP * stride, PLACES * PIECE // GROUP * stride
    slot = slot_of(f, ring, row_size)
    with f.loop(0, "%width", step=PIECE) as piece:
        left = piece.index
        rest = f.integer("sub", "%width", left)
        wide = f.select(f.compare("slt", rest, PIECE), "i64", rest, PIECE)
        groups = f.integer("sdiv", f.integer("add", wide, GROUP - 1), GROUP)
        # The pixel before and the one after belong to it, or to the border of zeros.
        zero(f, line, sizes[0])
        begin = f.select(f.compare("sgt", left, 0), "i64", -1, 0)
        end = f.select(f.compare("sgt", rest, PIECE), "i64", PIECE + 1, wide)
        first, count = f.integer("add", left, begin), f.integer("sub", end, begin)
        start = f.at(line, f.integer("mul", f.integer("add", begin, 1), stride))
        with f.loop(f.integer("sub", "%top", 1), f.integer("add", "%bottom", 1)) as step:
            row = step.index
            inside, outside = (f.compare(how, row, "%height") for how in ("ult", "uge"))
            with f.when(inside):
                features = f.at(front(row), f.integer("mul", first, stride))
                pixels = [
                    f.at(source(f.integer("add", row, dy)), f.integer("mul", first, INPUT_CHANNELS))
                    for dy in (-1, 0, 1)
                ]
                head_row(f, shapes, pixels, count, add_to(features, start))
                row_of_pixels = Groups(line, GROUP * stride, stride)
                _transform(f, INPUTS, row_of_pixels, Groups(slot(row), stride, plane), groups, stride)
            with f.when(outside):
                zero(f, slot(row), row_size)
            with f.when(f.compare("sgt", row, "%top")):
                middle = f.integer("sub", row, 1)
                rows = [slot(f.integer("add", middle, dy)) for dy in (-1, 0, 1)]
                matrix = shapes.tail_matrix
                with f.loop(0, PLACES) as place:
                    taken = [(f.at(row, f.integer("mul", place.index, plane)), stride) for row in rows]
                    weights = f.at("%tail", f.integer("mul", place.index, matrix))
                    out = f.at(products, f.integer("mul", place.index, PIECE // GROUP * output.stride))
                    row_product(f, output, taken, weights, groups, in_stride=stride, write=store_to(out))
                size = output.stride
                made = Groups(products, size, PIECE // GROUP * size)
                _transform(f, OUTPUTS, made, Groups(enlarged, GROUP * size, size), groups, size)
                _lay_out(f, shapes, enlarged, middle, left, wide)
    return f


@dataclass(frozen=True)
class Groups:
    """Where the channels of groups of pixels, or of what they are turned into, lie."""

    address: str
    step: int
    """Floats from one group to the next."""
    place: int
    """Floats from one pixel of a group, or one product, to the next."""


def _transform(
    f: Function, matrix: NDArray[np.float32], source: Groups, target: Groups, count: str, channels: int
) -> None:
    """Write the product of a small constant matrix with each of `count` groups."""
    with f.loop(0, count) as group, f.loop(0, channels, step=f.lanes) as channel:
        here, there = (
            f.at(groups.address, f.integer("mul", group.index, groups.step), channel.index)
            for groups in (source, target)
        )
        values = [f.load(f.at(here, number * source.place)) for number in range(matrix.shape[1])]
        for number, factors in enumerate(matrix):
            f.store(_sum(f, values, factors), f.at(there, number * target.place))


def _sum(f: Function, values: Sequence[str], factors: NDArray[np.float32]) -> str:
    terms = [(value, float(factor)) for value, factor in zip(values, factors, strict=True) if factor]
    terms.sort(key=lambda term: term[1] != 1)  # a value as it is comes first
    (first, factor), *others = terms
    start = first if factor == 1 else f.op("fmul", first, f.number(factor))
    return reduce(lambda sum, term: f.multiply_add(term[0], f.number(term[1]), sum), others, start)


def _lay_out(f: Function, shapes: Shapes, enlarged: str, row: str, left: str, wide: str) -> None:
    """Write the enlarged pixels of a row of pixels into the rows of the image."""
    scale = shapes.config.scale
    long = f.integer("mul", "%width", 3 * scale)
    for line in range(scale):
        image_row = f.integer("add", f.integer("mul", row, scale), line)
        target = f.at("%image", f.integer("mul", image_row, long), f.integer("mul", left, 3 * scale))
        with f.loop(0, wide) as column:
            pixel = f.at(enlarged, f.integer("mul", column.index, shapes.output.stride), line * 3 * scale)
            f.copy(f.at(target, f.integer("mul", column.index, 3 * scale)), pixel, 3 * scale)

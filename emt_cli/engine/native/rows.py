"""Kernels that go row by row: convolutions, pixel mixer, MLP, an attention layer's last product.

A matrix product keeps a block of pixels times output channels in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil

from emt_cli.engine.native import bf16
from emt_cli.engine.native.llvm import LOG2_E, Function
from emt_cli.engine.native.shapes import CACHE_LINE, EDGE, INPUT_CHANNELS, Product, Shapes, shift_groups
from emt_cli.model.config import MIX_OFFSETS

UNROLLED = 4
"""Channels of a product in one turn of the loop."""
MIXED = 4
"""Vectors of channels that the pixel mixer takes at once."""

Write = Callable[[Function, str, str, int], None]
"""Takes (function, value, offset of the block of pixels in its row, of the vector in it)."""
MultiplyAdd = Callable[[Function, str, str, str], str]
"""From (function, a, b, sum) to a * b + sum."""


def write_row_kernels(shapes: Shapes) -> Iterator[Function]:
    """Write the functions head, layer and mixed_layer, and project if the network has attention."""
    yield _head(shapes)
    yield _layer(shapes, mixed=False)
    yield _layer(shapes, mixed=True)
    if shapes.config.attention_layers:
        yield _project(shapes)


def row_product(
    f: Function,
    plan: Product,
    groups: Sequence[tuple[str, int]],
    weights: str,
    width: str,
    *,
    in_stride: int,
    write: Write,
    multiply_add: MultiplyAdd = Function.multiply_add,
    ahead: tuple[str, int] | None = None,
) -> None:
    """Write the product of a row of pixels with a matrix; `write` takes the results.

    groups: address of the first pixel's first channel, and how many channels, of each piece of the sum.
    weights: per block of columns the biases, then a line for each channel of the groups.
    A channel may be a pair of channels, if multiply_add takes it so.
    ahead: another row, and floats of a pixel of it, to be brought into the cache meanwhile.
    """
    inputs = sum(count for _, count in groups)
    with f.loop(0, plan.blocks) as block:
        matrix = f.at(weights, f.integer("mul", block.index, (inputs + 1) * plan.columns))
        whole = f.integer("sub", width, f.integer("srem", width, plan.pixels))
        for pixels, start, end in ((plan.pixels, "0", whole), (1, whole, width)):
            with f.loop(start, end, step=pixels) as column:
                x = column.index
                here = f.integer("mul", x, in_stride)
                if ahead is not None:
                    soon = f.at(ahead[0], f.integer("mul", x, ahead[1]))
                    for place in range(0, pixels * ahead[1], CACHE_LINE // 4):
                        f.prefetch(f.at(soon, place))
                biases = [f.load(f.at(matrix, v * plan.lanes)) for v in range(plan.vectors)]
                sums = biases * pixels
                row = 1
                for address, count in groups:
                    first, line = f.at(address, here), f.at(matrix, row * plan.columns)
                    sums = _add_channels(f, plan, sums, first, line, count, pixels, in_stride, multiply_add)
                    row += count
                target = f.integer("mul", x, plan.stride)
                offset = f.integer("add", target, f.integer("mul", block.index, plan.columns))
                for pixel in range(pixels):
                    for v in range(plan.vectors):
                        step = pixel * plan.stride + v * plan.lanes
                        write(f, sums[pixel * plan.vectors + v], offset, step)


def _add_channels(
    f: Function,
    plan: Product,
    sums: list[str],
    values: str,
    line: str,
    count: int,
    pixels: int,
    stride: int,
    multiply_add: MultiplyAdd,
) -> list[str]:
    """Write the products of `count` channels of a block of pixels, added to sums; some in each turn."""

    def add(channel: str | int, sums: list[str]) -> list[str]:
        first = (
            f.integer("mul", channel, plan.columns) if isinstance(channel, str) else channel * plan.columns
        )
        factors, value, after = f.at(line, first), f.at(values, channel), []
        vectors = [f.load(f.at(factors, v * plan.lanes)) for v in range(plan.vectors)]
        for pixel in range(pixels):
            one = f.broadcast(f.at(value, pixel * stride))
            block = sums[pixel * plan.vectors :]
            after += [multiply_add(f, one, *pair) for pair in zip(vectors, block, strict=False)]
        return after

    whole = count - count % UNROLLED
    if whole:
        with f.loop(0, whole, step=UNROLLED, carried=sums) as turn:
            for number in range(UNROLLED):
                turn.values = add(f.integer("add", turn.index, number), turn.values)
        sums = turn.values
    for channel in range(whole, count):
        sums = add(channel, sums)
    return sums


def multiply_add_of(shapes: Shapes) -> MultiplyAdd:
    """Return how a network's products are summed up."""
    return bf16.dot if shapes.bf16 else Function.multiply_add


def store_to(out: str) -> Write:
    """Store the values in a row."""
    return lambda f, value, offset, step: f.store(value, f.at(out, offset, step))


def add_to(row: str, out: str) -> Write:
    """Store the values, added to those at the same places of another row."""

    def write(f: Function, value: str, offset: str, step: int) -> None:
        f.store(f.op("fadd", value, f.load(f.at(row, offset, step))), f.at(out, offset, step))

    return write


def _silu(out: str) -> Write:
    """Store SiLU: x / (1 + exp(-x))."""

    def write(f: Function, x: str, offset: str, step: int) -> None:
        value = f.op("fdiv", x, f.op("fadd", f.number(1.0), f.exp2(x, -LOG2_E)))
        f.store(value, f.at(out, offset, step))

    return write


def _silu_bf16(out: str) -> Write:
    """Store SiLU in bf16, computed as precisely as that."""

    def write(f: Function, x: str, offset: str, step: int) -> None:
        power = bf16.exp2(f, f.op("fmul", x, f.number(-LOG2_E)))
        value = f.op("fmul", x, bf16.inverse(f, f.op("fadd", f.number(1.0), power)))
        bf16.store(f, value, bf16.at(f, out, offset, step))

    return write


def zero(f: Function, address: str, floats: str | int) -> None:
    """Write zeros, whole vectors of them."""
    with f.loop(0, floats, step=f.lanes) as place:
        f.store("zeroinitializer", f.at(address, place.index))


def _shifted(row: Callable[[int], str], f: Function, channels: int, stride: int) -> list[tuple[str, int]]:
    """Return the groups of the sum over shift(x), for the row in the middle; zeros lie around the rows."""
    return [(f.at(row(dy), dx * stride + start), count) for (dy, dx), start, count in shift_groups(channels)]


def _shifted_pairs(
    row: Callable[[int], str], f: Function, channels: int, stride: int
) -> list[tuple[str, int]]:
    """Return the same of rows of bf16, in pairs; what fills up the last pair of a group has no weight."""
    return [
        (bf16.at(f, row(dy), dx * stride + start), ceil(count / 2))
        for (dy, dx), start, count in shift_groups(channels)
    ]


def _neighbours(rows: Sequence[str], f: Function, stride: int) -> list[tuple[str, int]]:
    """Return the groups of the sum of a 3x3 convolution: three pixels of a row lie one after the other."""
    return [(f.at(row, -stride), 3 * stride) for row in rows]


def rows_of(f: Function, base: str, width: str, stride: int) -> Callable[[str], str]:
    """Return what gives the first pixel's address of a row of a map with borders."""
    step = f.integer("mul", f.integer("add", width, 2), stride)
    first = f.at(base, step, stride)
    return lambda row: f.at(first, f.integer("mul", row, step))


def _kept_rows(f: Function, stride: int, *, wrap: bool) -> Callable[[str], str]:
    """Return what gives a row of a layer's input: of front, or of what is kept of before and after.

    wrap: whether rows beyond the picture are those of its other end; else they are front's border of zeros.
    """
    own, before, after = (rows_of(f, base, "%width", stride) for base in ("%front", "%before", "%after"))

    def address(row: str) -> str:
        above, below = f.compare("slt", row, "%top"), f.compare("sge", row, "%bottom")
        if not wrap:
            above = f.set(f"and i1 {above}, {f.compare('sge', row, 0)}")
            below = f.set(f"and i1 {below}, {f.compare('slt', row, '%height')}")
        kept = f.select(below, "ptr", after(f.integer("sub", row, "%bottom")), own(row))
        return f.select(above, "ptr", before(f.integer("sub", row, f.integer("sub", "%top", EDGE))), kept)

    return address


def slot_of(f: Function, ring: str, step: str | int) -> Callable[[str], str]:
    """Return what gives the address of a row's slot in a ring of three, for rows from -3 on."""

    def address(row: str) -> str:
        slot = f.integer("srem", f.integer("add", row, 3), 3)
        return f.at(ring, f.integer("mul", slot, step))

    return address


def ring_of(f: Function, base: str, width: str, stride: int) -> Callable[[str], str]:
    """Return what gives the first pixel's address of a row kept in a ring of three; clear its borders."""
    step = f.integer("mul", f.integer("add", width, 2), stride)
    first = f.at(base, stride)
    for slot in range(3):
        row = f.at(base, f.integer("mul", step, slot))
        zero(f, row, stride)
        zero(f, f.at(row, f.integer("sub", step, stride)), stride)

    return slot_of(f, first, step)


def _head(shapes: Shapes) -> Function:
    """Write head: rows top..bottom of the first convolution: pixels (h + 2, w + 2, 4) into front."""
    arguments = [("pixels", "ptr"), ("front", "ptr"), ("weights", "ptr")]
    f = Function("head", [*arguments, ("top", "i64"), ("bottom", "i64"), ("width", "i64")], shapes.cpu)
    source = rows_of(f, "%pixels", "%width", INPUT_CHANNELS)
    target = rows_of(f, "%front", "%width", shapes.features.stride)
    with f.loop("%top", "%bottom") as row:
        rows = [source(f.integer("add", row.index, dy)) for dy in (-1, 0, 1)]
        head_row(f, shapes, rows, "%width", store_to(target(row.index)))
    return f


def head_row(f: Function, shapes: Shapes, rows: Sequence[str], width: str, write: Write) -> None:
    """Write the first convolution of a row; rows: the first pixel's address in it and in its neighbours."""
    groups = _neighbours(rows, f, INPUT_CHANNELS)
    row_product(f, shapes.features, groups, "%weights", width, in_stride=INPUT_CHANNELS, write=write)


def _project(shapes: Shapes) -> Function:
    """Write project: rows top..bottom of an attention layer's last product, of answer, added to front."""
    arguments = [("answer", "ptr"), ("front", "ptr"), ("weights", "ptr")]
    f = Function("project", [*arguments, ("top", "i64"), ("bottom", "i64"), ("width", "i64")], shapes.cpu)
    stride = shapes.answer_stride
    source = rows_of(f, "%answer", "%width", stride)
    target = rows_of(f, "%front", "%width", shapes.features.stride)
    with f.loop("%top", "%bottom") as row:
        first, groups, start = source(row.index), [], 0
        for part in shapes.parts:
            groups.append((f.at(first, start), part.queries // 2 if shapes.bf16 else part.channels))
            start += part.answer
        out = target(row.index)
        row_product(
            f,
            shapes.features,
            groups,
            "%weights",
            "%width",
            in_stride=stride,
            write=add_to(out, out),
            multiply_add=multiply_add_of(shapes),
        )
    return f


def _layer(shapes: Shapes, *, mixed: bool) -> Function:
    """Write layer or mixed_layer: rows top..bottom of the MLP, after the pixel mixer if mixed, in place.

    Rows go through rings: a row of mixed features, then one of hidden channels, then one of the answer, each
    as soon as its neighbours are there; its place is not read any more then. In bf16 the MLP reads rows of
    its own, rounded once.
    before, after: EDGE rows above top and from bottom on as they were before the layer, of which others may
    have written some; around the picture those of its other end, as the pixel mixer wants them.
    """
    arguments = ["front", "before", "after", "mixer", "fc1", "fc2", "scratch"]
    f = Function(
        "mixed_layer" if mixed else "layer",
        [*((name, "ptr") for name in arguments), *((n, "i64") for n in ("top", "bottom", "height", "width"))],
        shapes.cpu,
    )
    dim, features, hidden = shapes.config.dim, shapes.features, shapes.hidden
    front = _kept_rows(f, features.stride, wrap=mixed)
    base, rings = "%scratch", []
    for stride in shapes.rings:
        rings.append(ring_of(f, base, "%width", stride))
        base = f.at(base, f.integer("mul", f.integer("add", "%width", 2), 3 * stride))
    ring = rings[0] if mixed else front
    source = rings[-2] if mixed or shapes.bf16 else front
    hidden_ring = rings[-1]
    in_stride, hidden_stride = shapes.rings[-2:]
    shifted, silu = (_shifted_pairs, _silu_bf16) if shapes.bf16 else (_shifted, _silu)
    begin, end = f.integer("sub", "%top", 2), f.integer("add", "%bottom", 2)
    with f.loop(begin, end) as step:
        row = step.index
        if mixed or shapes.bf16:
            inside, outside = (f.compare(how, row, "%height") for how in ("ult", "uge"))
            with f.when(inside):
                if mixed:
                    _mix_row(f, shapes, front, row, ring(row), source(row))
                else:
                    _narrow_row(f, front(row), source(row), f.integer("mul", "%width", features.stride))
            with f.when(outside):
                zero(f, source(row), f.integer("mul", "%width", in_stride))
        with f.when(f.compare("sge", row, "%top")):
            middle = f.integer("sub", row, 1)
            inside, outside = (f.compare(how, middle, "%height") for how in ("ult", "uge"))
            with f.when(inside):
                row_product(
                    f,
                    hidden,
                    shifted(lambda dy: source(f.integer("add", middle, dy)), f, dim, features.stride),
                    "%fc1",
                    "%width",
                    in_stride=in_stride,
                    write=silu(hidden_ring(middle)),
                    ahead=(front(f.integer("add", row, 2)), features.stride),
                    multiply_add=multiply_add_of(shapes),
                )
            with f.when(outside):
                zero(f, hidden_ring(middle), f.integer("mul", "%width", hidden_stride))
        with f.when(f.compare("sge", row, f.integer("add", "%top", 2))):
            last = f.integer("sub", row, 2)
            row_product(
                f,
                features,
                shifted(lambda dy: hidden_ring(f.integer("add", last, dy)), f, hidden.outputs, hidden.stride),
                "%fc2",
                "%width",
                in_stride=hidden_stride,
                write=add_to(ring(last), front(last)),
                ahead=(front(f.integer("add", last, 1)), features.stride),
                multiply_add=multiply_add_of(shapes),
            )
    return f


def _narrow_row(f: Function, source: str, target: str, floats: str) -> None:
    """Write a row in bf16."""
    with f.loop(0, floats, step=f.lanes) as place:
        bf16.store(f, f.load(f.at(source, place.index)), bf16.at(f, target, place.index))


def _mix_row(
    f: Function, shapes: Shapes, front: Callable[[str], str], row: str, out: str, narrow: str
) -> None:
    """Write a row of x + BatchNorm(PixelMix(x) - x): a sum over five pixels; borders are circular.

    narrow: where it is also written in bf16, if products are.
    %mixer: for each vector of channels the biases, the factors of the pixel itself, and of MIX_OFFSETS.
    """
    stride, lanes, offsets = shapes.features.stride, f.lanes, ((0, 0), *MIX_OFFSETS)
    last = f.integer("sub", "%width", 1)
    rows = {dy: front(f.integer("add", row, dy)) for dy in (-1, 0, 1)}
    for start in range(0, stride, MIXED * lanes):
        channels = range(start, min(start + MIXED * lanes, stride), lanes)
        size = 1 + len(offsets)
        factors = [
            [f.load(f.at("%mixer", channel * size + k * lanes)) for k in range(size)] for channel in channels
        ]
        with f.loop(0, "%width") as column:
            x = column.index
            left = f.select(f.compare("eq", x, 0), "i64", last, f.integer("sub", x, 1))
            right = f.select(f.compare("eq", x, last), "i64", 0, f.integer("add", x, 1))
            columns = {-1: left, 0: x, 1: right}
            pixels = [f.at(rows[dy], f.integer("mul", columns[dx], stride)) for dy, dx in offsets]
            place = f.integer("mul", x, stride)
            for channel, (total, *weights) in zip(channels, factors, strict=True):
                for pixel, weight in zip(pixels, weights, strict=True):
                    total = f.multiply_add(f.load(f.at(pixel, channel)), weight, total)
                f.store(total, f.at(out, place, channel))
                if shapes.bf16:
                    bf16.store(f, total, bf16.at(f, narrow, place, channel))

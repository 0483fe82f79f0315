"""Kernels that go row by row: convolutions, pixel mixer, MLP, an attention layer's last product.

A matrix product keeps a block of pixels times output channels in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from emt_cli.engine.native.llvm import Function
from emt_cli.engine.native.shapes import INPUT_CHANNELS, Product, Shapes
from emt_cli.model.layers import MIX_OFFSETS, SHIFT_OFFSETS

UNROLLED = 4
"""Channels of a product in one turn of the loop."""

Finish = Callable[[Function, str, str, int], str]
"""From (function, value, offset of the block of pixels, of the vector in it) to the value that is stored."""


def write_row_kernels(shapes: Shapes) -> list[Function]:
    """Write the functions head, layer and mixed_layer, and project if the network has attention."""
    functions = [_head(shapes), _layer(shapes, mixed=False), _layer(shapes, mixed=True)]
    return [*functions, _project(shapes)] if shapes.config.attention_layers else functions


def row_product(
    f: Function,
    plan: Product,
    groups: Sequence[tuple[str, int]],
    weights: str,
    out: str,
    width: str,
    *,
    in_stride: int,
    finish: Finish,
) -> None:
    """Write the product of a row of pixels with a matrix, then `finish`, then the store to out.

    groups: address of the first pixel's first channel, and how many channels, of each piece of the sum.
    weights: per block of columns the biases, then a line for each channel of the groups.
    """
    inputs = sum(count for _, count in groups)
    with f.loop(0, plan.blocks) as block:
        matrix = f.at(weights, f.integer("mul", block.index, (inputs + 1) * plan.columns))
        place = f.at(out, f.integer("mul", block.index, plan.columns))
        whole = f.integer("sub", width, f.integer("srem", width, plan.pixels))
        for pixels, start, end in ((plan.pixels, "0", whole), (1, whole, width)):
            with f.loop(start, end, step=pixels) as column:
                x = column.index
                here = f.integer("mul", x, in_stride)
                biases = [f.load(f.at(matrix, v * plan.lanes)) for v in range(plan.vectors)]
                sums = biases * pixels
                row = 1
                for address, count in groups:
                    first, line = f.at(address, here), f.at(matrix, row * plan.columns)
                    sums = _add_channels(f, plan, sums, first, line, count, pixels, in_stride)
                    row += count
                target = f.integer("mul", x, plan.stride)
                offset = f.integer("add", target, f.integer("mul", block.index, plan.columns))
                for pixel in range(pixels):
                    for v in range(plan.vectors):
                        step = pixel * plan.stride + v * plan.lanes
                        value = finish(f, sums[pixel * plan.vectors + v], offset, step)
                        f.store(value, f.at(place, target, step))


def _add_channels(
    f: Function, plan: Product, sums: list[str], values: str, line: str, count: int, pixels: int, stride: int
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
            after += [f.multiply_add(one, *pair) for pair in zip(vectors, block, strict=False)]
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


def plain(f: Function, value: str, offset: str, step: int) -> str:
    """Finish a product by nothing more."""
    return value


def plus(address: str) -> Finish:
    """Add what lies at the same place of another row."""
    return lambda f, value, offset, step: f.op("fadd", value, f.load(f.at(address, offset, step)))


def _silu(f: Function, x: str, offset: str, step: int) -> str:
    """SiLU: x / (1 + exp(-x))."""
    return f.op("fdiv", x, f.op("fadd", f.number(1.0), f.exp2(x, -1.4426950408889634)))


def zero(f: Function, address: str, floats: str | int) -> None:
    """Write zeros, whole vectors of them."""
    with f.loop(0, floats, step=f.lanes) as place:
        f.store("zeroinitializer", f.at(address, place.index))


def _shifted(row: Callable[[int], str], f: Function, channels: int, stride: int) -> list[tuple[str, int]]:
    """Return the groups of the sum over shift(x), for the row in the middle; zeros lie around the rows."""
    size = channels // 5
    groups = [
        (f.at(row(dy), dx * stride + index * size), size) for index, (dy, dx) in enumerate(SHIFT_OFFSETS)
    ]
    return [*groups, (f.at(row(0), 4 * size), channels - 4 * size)]


def _neighbours(rows: Sequence[str], f: Function, stride: int) -> list[tuple[str, int]]:
    """Return the groups of the sum of a 3x3 convolution: three pixels of a row lie one after the other."""
    return [(f.at(row, -stride), 3 * stride) for row in rows]


def rows_of(f: Function, base: str, width: str, stride: int) -> Callable[[str], str]:
    """Return what gives the first pixel's address of a row of a map with borders."""
    step = f.integer("mul", f.integer("add", width, 2), stride)
    first = f.at(base, step, stride)
    return lambda row: f.at(first, f.integer("mul", row, step))


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
    """Write head: rows top..bottom of the first convolution: pixels (h + 2, w + 2, 4) into now."""
    arguments = [("pixels", "ptr"), ("now", "ptr"), ("weights", "ptr")]
    f = Function("head", [*arguments, ("top", "i64"), ("bottom", "i64"), ("width", "i64")], shapes.cpu)
    source = rows_of(f, "%pixels", "%width", INPUT_CHANNELS)
    target = rows_of(f, "%now", "%width", shapes.features.stride)
    with f.loop("%top", "%bottom") as row:
        rows = [source(f.integer("add", row.index, dy)) for dy in (-1, 0, 1)]
        head_row(f, shapes, rows, target(row.index), "%width", plain)
    return f


def head_row(f: Function, shapes: Shapes, rows: Sequence[str], out: str, width: str, finish: Finish) -> None:
    """Write the first convolution of a row; rows: the first pixel's address in it and in its neighbours."""
    groups = _neighbours(rows, f, INPUT_CHANNELS)
    row_product(f, shapes.features, groups, "%weights", out, width, in_stride=INPUT_CHANNELS, finish=finish)


def _project(shapes: Shapes) -> Function:
    """Write project: rows top..bottom of an attention layer's last product, of answer, added to now."""
    arguments = [("answer", "ptr"), ("now", "ptr"), ("weights", "ptr")]
    f = Function("project", [*arguments, ("top", "i64"), ("bottom", "i64"), ("width", "i64")], shapes.cpu)
    stride = shapes.answer_stride
    source = rows_of(f, "%answer", "%width", stride)
    target = rows_of(f, "%now", "%width", shapes.features.stride)
    with f.loop("%top", "%bottom") as row:
        first, groups, start = source(row.index), [], 0
        for part in shapes.parts:
            groups.append((f.at(first, start), part.channels))
            start += part.padded_channels
        out = target(row.index)
        row_product(f, shapes.features, groups, "%weights", out, "%width", in_stride=stride, finish=plus(out))
    return f


def _layer(shapes: Shapes, *, mixed: bool) -> Function:
    """Write layer or mixed_layer: rows top..bottom of the MLP, after the pixel mixer if mixed, now into then.

    Rows go through rings: a row of mixed features, then one of hidden channels, then one of the answer, each
    as soon as its neighbours are there.
    """
    arguments = ["now", "then", "mixer", "fc1", "fc2", "ring", "hidden_ring"]
    f = Function(
        "mixed_layer" if mixed else "layer",
        [*((name, "ptr") for name in arguments), *((n, "i64") for n in ("top", "bottom", "height", "width"))],
        shapes.cpu,
    )
    dim, stride, hidden = shapes.config.dim, shapes.features.stride, shapes.hidden
    now, then = rows_of(f, "%now", "%width", stride), rows_of(f, "%then", "%width", stride)
    ring = ring_of(f, "%ring", "%width", stride) if mixed else now
    hidden_ring = ring_of(f, "%hidden_ring", "%width", hidden.stride)
    begin, end = f.integer("sub", "%top", 2), f.integer("add", "%bottom", 2)
    with f.loop(begin, end) as step:
        row = step.index
        if mixed:
            inside, outside = (f.compare(how, row, "%height") for how in ("ult", "uge"))
            with f.when(inside):
                _mix_row(f, shapes, now, row, ring(row))
            with f.when(outside):
                zero(f, ring(row), f.integer("mul", "%width", stride))
        with f.when(f.compare("sge", row, "%top")):
            middle = f.integer("sub", row, 1)
            inside, outside = (f.compare(how, middle, "%height") for how in ("ult", "uge"))
            with f.when(inside):
                groups = _shifted(lambda dy: ring(f.integer("add", middle, dy)), f, dim, stride)
                row_product(
                    f, hidden, groups, "%fc1", hidden_ring(middle), "%width", in_stride=stride, finish=_silu
                )
            with f.when(outside):
                zero(f, hidden_ring(middle), f.integer("mul", "%width", hidden.stride))
        with f.when(f.compare("sge", row, f.integer("add", "%top", 2))):
            last = f.integer("sub", row, 2)
            groups = _shifted(
                lambda dy: hidden_ring(f.integer("add", last, dy)), f, hidden.outputs, hidden.stride
            )
            row_product(
                f,
                shapes.features,
                groups,
                "%fc2",
                then(last),
                "%width",
                in_stride=hidden.stride,
                finish=plus(ring(last)),
            )
    return f


def _mix_row(f: Function, shapes: Shapes, now: Callable[[str], str], row: str, out: str) -> None:
    """Write a row of x + BatchNorm(PixelMix(x) - x): a sum over five pixels; borders are circular.

    %mixer: for each vector of channels the biases, the factors of the pixel itself, and of MIX_OFFSETS.
    """
    stride, lanes = shapes.features.stride, f.lanes
    last = f.integer("sub", "%width", 1)
    above = f.integer("sub", row, 1)
    above = f.select(f.compare("slt", above, 0), "i64", f.integer("sub", "%height", 1), above)
    below = f.integer("add", row, 1)
    below = f.select(f.compare("eq", below, "%height"), "i64", 0, below)
    rows = {-1: now(above), 0: now(row), 1: now(below)}
    with f.loop(0, stride // lanes) as vector:
        channel = f.integer("mul", vector.index, lanes)
        factors = f.at("%mixer", f.integer("mul", channel, 2 + len(MIX_OFFSETS)))
        bias, *weights = [f.load(f.at(factors, k * lanes)) for k in range(2 + len(MIX_OFFSETS))]
        bases = {dy: f.at(address, channel) for dy, address in rows.items()}
        target = f.at(out, channel)
        with f.loop(0, "%width") as column:
            x = column.index
            left = f.select(f.compare("eq", x, 0), "i64", last, f.integer("sub", x, 1))
            right = f.select(f.compare("eq", x, last), "i64", 0, f.integer("add", x, 1))
            columns = {-1: left, 0: x, 1: right}
            total = bias
            for (dy, dx), weight in zip(((0, 0), *MIX_OFFSETS), weights, strict=True):
                value = f.load(f.at(bases[dy], f.integer("mul", columns[dx], stride)))
                total = f.multiply_add(value, weight, total)
            f.store(total, f.at(target, f.integer("mul", x, stride)))

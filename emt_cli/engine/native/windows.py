"""Kernels that go window by window: the striped-window attention of a global layer.

The tokens of a window lie along the vectors: softmax(q q^T) v never leaves the registers, however few
channels a head has, and no row of weights is summed across lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil, gcd

from emt_cli.engine.native import windows_bf16
from emt_cli.engine.native.llvm import Function
from emt_cli.engine.native.rows import multiply_add_of
from emt_cli.engine.native.shapes import Part, Shapes

KEYS = 8
"""Most tokens whose weights are computed before they are used: queries and sums take turns in registers."""

Write = Callable[[Function, Part, str, str, str, Sequence[str]], None]
"""Takes (function, part, address of all lines, number of a block of them, first token, sums line by line)."""


def write_window_kernels(shapes: Shapes) -> Iterator[Function]:
    """Write the functions window0, window1 ..., one for each window shape."""
    if shapes.config.attention_layers:
        for index in range(len(shapes.config.windows)):
            yield _window(shapes, index)


def _window(shapes: Shapes, index: int) -> Function:
    """Write window0 ...: windows first..last of one shape, softmax(q q^T) v of front into its part of answer.

    rows, columns: for each row of windows (and column) the rows (columns) of the map its tokens are read
    from; rows_out, columns_out: those they are written to, below 0 for none.
    """
    names = ["front", "answer", "weights", "rows", "columns", "rows_out", "columns_out", "scratch"]
    numbers = ["first", "last", "across", "width"]
    f = Function(f"window{index}", [*((n, "ptr") for n in names), *((n, "i64") for n in numbers)], shapes.cpu)
    part, lanes = shapes.parts[index], f.lanes
    padded, heads = part.padded_tokens, shapes.config.heads
    places = ["%scratch"]
    for area in shapes.window_areas(part):
        places.append(f.at(places[-1], area))
    tokens, queries, values, mixed, dump, sources, targets, _ = places
    start = sum(other.answer for other in shapes.parts[:index])
    write_queries = write_values = _write_lines
    gather, attend = _gather, _attend
    if shapes.bf16:
        write_queries, write_values = windows_bf16.write_queries, windows_bf16.write_values
        gather, attend = windows_bf16.gather, windows_bf16.attend
        windows_bf16.write_ones(f, part, values)
    with f.loop("%first", "%last") as window:
        _list_tokens(f, shapes, part, window.index, sources, targets)
        gather(f, shapes, part, sources, tokens)
        matrix = _token_product(
            f, shapes, part, tokens, "%weights", queries, part.query_blocks, write_queries
        )
        _token_product(f, shapes, part, tokens, matrix, values, part.value_blocks, write_values)
        if shapes.bf16:
            windows_bf16.clear_padding(f, part, values)
        with f.loop(0, heads) as head:
            attend(f, shapes, part, head.index, queries, values, mixed)
        with f.loop(0, padded, step=lanes) as token, f.loop(0, part.answer, step=lanes) as channel:
            lines = []
            for lane in range(lanes):
                place = f.integer("mul", f.integer("add", channel.index, lane), padded)
                lines.append(f.load(f.at(mixed, place, token.index)))
            for lane, line in enumerate(f.transpose(lines)):
                offset = f.load_integer(targets, f.integer("add", token.index, lane))
                real = f.compare("sge", offset, 0)
                place = f.select(real, "ptr", f.at("%answer", offset, start), dump)
                f.store(line, f.at(place, channel.index))
    return f


def _list_tokens(f: Function, shapes: Shapes, part: Part, window: str, sources: str, targets: str) -> None:
    """Fill sources and targets with each token's offset in front and answer, -1 where nothing is written."""
    tall, wide = part.window
    down = f.integer("mul", f.integer("sdiv", window, "%across"), tall)
    right = f.integer("mul", f.integer("srem", window, "%across"), wide)
    line = f.integer("add", "%width", 2)
    with f.loop(0, part.padded_tokens) as token:
        real = f.compare("slt", token.index, part.tokens)
        inner = f.select(real, "i64", token.index, 0)
        row = f.integer("add", down, f.integer("sdiv", inner, wide))
        column = f.integer("add", right, f.integer("srem", inner, wide))
        places = []
        for rows, columns in (("%rows", "%columns"), ("%rows_out", "%columns_out")):
            y, x = f.load_integer(rows, row), f.load_integer(columns, column)
            inside = f.integer("or", y, x)  # below 0 if one of them is
            y, x = f.integer("add", y, 1), f.integer("add", x, 1)
            places.append((inside, f.integer("add", f.integer("mul", y, line), x)))
        f.store_integer(f.integer("mul", places[0][1], shapes.features.stride), sources, token.index)
        inside, place = places[1]
        kept = f.set(f"and i1 {real}, {f.compare('sge', inside, 0)}")
        target = f.select(kept, "i64", f.integer("mul", place, shapes.answer_stride), -1)
        f.store_integer(target, targets, token.index)


def _gather(f: Function, shapes: Shapes, part: Part, sources: str, tokens: str) -> None:
    """Read a window's tokens from front, and turn them into (channels, tokens)."""
    padded, lanes = part.padded_tokens, f.lanes
    with f.loop(0, padded, step=lanes) as token, f.loop(0, shapes.features.stride, step=lanes) as channel:
        lines = []
        for lane in range(lanes):
            offset = f.load_integer(sources, f.integer("add", token.index, lane))
            lines.append(f.load(f.at("%front", offset, channel.index)))
        for lane, line in enumerate(f.transpose(lines)):
            place = f.integer("mul", f.integer("add", channel.index, lane), padded)
            f.store(line, f.at(tokens, place, token.index))


def _token_product(
    f: Function, shapes: Shapes, part: Part, tokens: str, weights: str, target: str, blocks: int, write: Write
) -> str:
    """Compute queries or values of a window's tokens; return where the weights end.

    weights: for each block of rows the biases, then a line of factors for each input channel, or pair.
    """
    padded, lanes = part.padded_tokens, f.lanes
    inputs = ceil(shapes.config.dim / 2) if shapes.bf16 else shapes.config.dim
    multiply_add = multiply_add_of(shapes)
    with f.loop(0, blocks) as block, f.loop(0, padded, step=part.vectors * lanes) as token:
        matrix = f.at(weights, f.integer("mul", block.index, (inputs + 1) * part.rows))
        biases = [f.broadcast(f.at(matrix, row)) for row in range(part.rows)]
        sums = [bias for bias in biases for _ in range(part.vectors)]
        first = f.at(tokens, token.index)
        factors = f.at(matrix, part.rows)
        with f.loop(0, inputs, carried=sums) as channel:
            line = f.at(first, f.integer("mul", channel.index, padded))
            vectors = [f.load(f.at(line, v * lanes)) for v in range(part.vectors)]
            column = f.at(factors, f.integer("mul", channel.index, part.rows))
            after = []
            for row in range(part.rows):
                one = f.broadcast(f.at(column, row))
                after += [
                    multiply_add(f, one, vector, channel.values[row * part.vectors + v])
                    for v, vector in enumerate(vectors)
                ]
            channel.values = after
        write(f, part, target, block.index, token.index, channel.values)
    return f.at(weights, blocks * (inputs + 1) * part.rows)


def _write_lines(f: Function, part: Part, target: str, block: str, token: str, sums: Sequence[str]) -> None:
    """Store a block of lines, a vector of tokens each."""
    lines = f.at(target, f.integer("mul", block, part.rows * part.padded_tokens), token)
    for number, value in enumerate(sums):
        row, v = divmod(number, part.vectors)
        f.store(value, f.at(lines, row * part.padded_tokens + v * f.lanes))


def _attend(f: Function, shapes: Shapes, part: Part, head: str, q: str, v: str, out: str) -> None:
    """Compute softmax(q q^T) v of a head; q, v, out are (heads, head_dim, tokens), q times sqrt(log2 e).

    A softmax may subtract any number near the largest logit. Here it is the token's own, |q|^2, so that one
    pass is enough: the sum is at least 1, and only where another logit is larger by 69 must the largest be
    looked for.
    """
    padded, lanes, size = part.padded_tokens, f.lanes, shapes.config.head_dim
    q, v, out = (f.at(base, f.integer("mul", head, size * padded)) for base in (q, v, out))
    with f.loop(0, padded, step=lanes) as token:
        queries = [f.load(f.at(q, token.index, d * padded)) for d in range(size)]

        def logits(key: str, start: str) -> str:
            total = start
            for d, query in enumerate(queries):
                total = f.multiply_add(query, f.broadcast(f.at(q, key, d * padded)), total)
            return total

        def mix(shift: str) -> str:
            """Write the answer with this number subtracted (as a vector to add); return the sums."""
            keys = gcd(KEYS, part.tokens)
            with f.loop(0, part.tokens, step=keys, carried=["zeroinitializer"] * (size + 1)) as key:
                places = [f.integer("add", key.index, number) for number in range(keys)]
                found = [logits(place, shift) for place in places]
                powers = [f.exp2(logit) for logit in found]
                total, *sums = key.values
                for place, power in zip(places, powers, strict=True):
                    total = f.op("fadd", total, power)
                    for d in range(size):
                        value = f.broadcast(f.at(v, place, d * padded))
                        sums[d] = f.multiply_add(power, value, sums[d])
                key.values = [total, *sums]
            total, *sums = key.values
            inverse = f.op("fdiv", f.number(1.0), total)
            for d in range(size):
                f.store(f.op("fmul", sums[d], inverse), f.at(out, token.index, d * padded))
            return total

        own = "zeroinitializer"
        for query in queries:
            own = f.multiply_add(query, query, own)
        total = mix(f.op("fsub", "zeroinitializer", own))
        large = f.set(f"fcmp uge {f.vector} {total}, {f.number(1e30)}")
        mask = f.set(f"bitcast <{lanes} x i1> {large} to i{lanes}")
        with f.when(f.set(f"icmp ne i{lanes} {mask}, 0")):
            with f.loop(0, part.tokens, carried=[own]) as key:
                other = logits(key.index, "zeroinitializer")
                larger = f.set(f"fcmp ogt {f.vector} {other}, {key.values[0]}")
                kinds = f"{f.vector} {other}, {f.vector} {key.values[0]}"
                key.values = [f.set(f"select <{lanes} x i1> {larger}, {kinds}")]
            mix(f.op("fsub", "zeroinitializer", key.values[0]))

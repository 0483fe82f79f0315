"""Striped-window attention with products of bf16 pairs.

Queries lie as pairs of channels, (channels / 2, tokens), values as pairs of tokens, (channels, tokens / 2). A
vector of logits is of eight queries and two keys, so that rounding the weights of sixteen queries makes the
pairs their product with the values takes: nothing is moved between lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from emt_cli.engine.native import bf16
from emt_cli.engine.native.bf16 import LANES
from emt_cli.engine.native.llvm import Function
from emt_cli.engine.native.shapes import Part, Shapes

KEYS = 16
"""Tokens whose weights are computed before they are used: queries and sums take turns in registers."""


def write_ones(f: Function, part: Part, values: str) -> None:
    """Write the line after the values: ones, and zeros where there is no token; it sums weights up."""
    first = bf16.at(f, values, part.value_blocks * part.rows * part.padded_tokens)
    for token in range(part.padded_tokens):
        f.emit(f"store bfloat {float(token < part.tokens):e}, ptr {bf16.at(f, first, token)}, align 2")


def gather(f: Function, shapes: Shapes, part: Part, sources: str, tokens: str) -> None:
    """Read a window's tokens from front, and turn them into (channels / 2, tokens), pairs of channels."""
    padded = part.padded_tokens
    with f.loop(0, padded, step=LANES) as token, f.loop(0, shapes.features.stride, step=2 * LANES) as channel:
        lines = []
        for lane in range(LANES):
            offset = f.load_integer(sources, f.integer("add", token.index, lane))
            place = f.at("%front", offset, channel.index)
            lines.append(bf16.pair(f, f.load(place), f.load(f.at(place, LANES))))
        half = f.integer("sdiv", channel.index, 2)
        for lane, line in enumerate(f.transpose(lines)):
            f.store(line, f.at(tokens, f.integer("mul", f.integer("add", half, lane), padded), token.index))


def write_queries(f: Function, part: Part, target: str, block: str, token: str, sums: Sequence[str]) -> None:
    """Store a block of queries as pairs of channels."""
    padded, vectors = part.padded_tokens, part.vectors
    lines = f.at(target, f.integer("mul", block, part.rows // 2 * padded), token)
    for row in range(0, part.rows, 2):
        for v in range(vectors):
            pairs = bf16.interleave(f, sums[row * vectors + v], sums[(row + 1) * vectors + v])
            f.store(pairs, f.at(lines, row // 2 * padded + v * LANES))


def write_values(f: Function, part: Part, target: str, block: str, token: str, sums: Sequence[str]) -> None:
    """Store a block of values as pairs of tokens."""
    padded = part.padded_tokens
    lines = bf16.at(f, target, f.integer("mul", block, part.rows * padded), token)
    for number, value in enumerate(sums):
        row, v = divmod(number, part.vectors)
        bf16.store(f, value, bf16.at(f, lines, row * padded + v * LANES))


def clear_padding(f: Function, part: Part, values: str) -> None:
    """Write zeros as the values of what is no token, so that it weighs nothing."""
    if part.tokens == part.padded_tokens:
        return
    with f.loop(0, part.channels) as channel:
        line = bf16.at(f, values, f.integer("mul", channel.index, part.padded_tokens))
        for token in range(part.tokens, part.padded_tokens):
            f.emit(f"store bfloat {0.0:e}, ptr {bf16.at(f, line, token)}, align 2")


def attend(f: Function, shapes: Shapes, part: Part, head: str, q: str, v: str, out: str) -> None:
    """Compute softmax(q q^T) v of a head into pairs of channels, (channels / 2, tokens).

    As in single precision a token's own logit is subtracted. Weights are summed up as they were rounded.
    """
    padded, size, pairs = part.padded_tokens, shapes.config.head_dim, part.queries // shapes.config.heads // 2
    ones = bf16.at(f, v, part.value_blocks * part.rows * padded)
    q, out = (f.at(base, f.integer("mul", head, pairs * padded)) for base in (q, out))
    v = bf16.at(f, v, f.integer("mul", head, size * padded))
    zero = "zeroinitializer"
    with f.loop(0, padded, step=LANES) as token:
        halves: list[list[str]] = [[], []]  # each query twice: for two keys
        for d in range(pairs):
            both = f.load(f.at(q, token.index, d * padded))
            for number, half in enumerate(halves):
                lanes = [lane // 2 + 8 * number for lane in range(LANES)]
                half.append(f.shuffle(both, "poison", lanes))

        def logits(key: str, starts: Sequence[str]) -> list[str]:
            totals = list(starts)
            for d in range(pairs):
                two = bf16.broadcast_two(f, f.at(q, key, d * padded))
                totals = [
                    bf16.dot(f, half[d], two, total) for half, total in zip(halves, totals, strict=True)
                ]
            return totals

        def mix(shifts: Sequence[str]) -> str:
            """Write the answer with these numbers subtracted (as vectors to add); return the sums."""
            with f.loop(0, padded, step=gcd(KEYS, padded), carried=[zero] * (size + 1)) as key:
                places = [f.integer("add", key.index, number) for number in range(0, gcd(KEYS, padded), 2)]
                found = [logits(place, shifts) for place in places]
                weights = [bf16.pair(f, *(bf16.exp2(f, logit) for logit in pair)) for pair in found]
                total, *sums = key.values
                for place, weight in zip(places, weights, strict=True):
                    total = bf16.dot(f, weight, f.broadcast(bf16.at(f, ones, place)), total)
                    for d in range(size):
                        value = f.broadcast(bf16.at(f, v, place, d * padded))
                        sums[d] = bf16.dot(f, weight, value, sums[d])
                key.values = [total, *sums]
            total, *sums = key.values
            inverse = f.op("fdiv", f.number(1.0), total)
            answer = [f.op("fmul", value, inverse) for value in sums] + [zero] * (2 * pairs - size)
            for d in range(pairs):
                f.store(bf16.interleave(f, *answer[2 * d : 2 * d + 2]), f.at(out, token.index, d * padded))
            return total

        owns = []
        for half in halves:
            own = zero
            for query in half:
                own = bf16.dot(f, query, query, own)
            owns.append(own)
        total = mix([f.op("fsub", zero, own) for own in owns])
        large = f.set(f"fcmp uge {f.vector} {total}, {f.number(1e30)}")
        mask = f.set(f"bitcast <{LANES} x i1> {large} to i{LANES}")
        with f.when(f.set(f"icmp ne i{LANES} {mask}, 0")):
            with f.loop(0, padded, step=2, carried=owns) as key:
                others = logits(key.index, [zero, zero])
                key.values = [_larger(f, *pair) for pair in zip(others, key.values, strict=True)]
            neighbours = [lane ^ 1 for lane in range(LANES)]
            most = [_larger(f, value, f.shuffle(value, "poison", neighbours)) for value in key.values]
            mix([f.op("fsub", zero, value) for value in most])


def _larger(f: Function, a: str, b: str) -> str:
    larger = f.set(f"fcmp ogt {f.vector} {a}, {b}")
    return f.set(f"select <{f.lanes} x i1> {larger}, {f.vector} {a}, {f.vector} {b}")

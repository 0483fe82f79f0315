"""How the numbers of one network lie in memory, and how products are blocked in one processor's registers.

Feature maps are (h + 2, w + 2, channels), channels last and padded to whole vectors, with a border of zeros,
so that shifts are other addresses and cost nothing. All sizes are in floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from emt_cli.engine.native.processor import Processor
from emt_cli.model.config import SHIFT_OFFSETS, EMTConfig

CACHE_LINE = 64
"""Bytes."""
INPUT_CHANNELS = 4
"""RGB and a zero."""
EDGE = 3
"""Rows above and below that a row of a layer's answer depends on."""
GROUP, PLACES = 4, 6
"""The last convolution gives so many pixels at once, by so many products (tail.py)."""
PIECE = 128
"""Columns of the last convolution that are done at once."""


@dataclass(frozen=True)
class Product:
    """How a product with a matrix of `outputs` columns is blocked in registers."""

    outputs: int
    vectors: int
    """Of output channels in a block."""
    blocks: int
    pixels: int
    """In a block."""
    lanes: int

    @property
    def columns(self) -> int:
        """Output channels of a block."""
        return self.vectors * self.lanes

    @property
    def stride(self) -> int:
        """Output channels, padded."""
        return self.columns * self.blocks


def plan_product(outputs: int, cpu: Processor) -> Product:
    """Block a product for the registers there are."""
    needed = ceil(outputs / cpu.lanes)
    most = 4 if cpu.registers >= 32 else 2
    blocks = ceil(needed / most)
    vectors = ceil(needed / blocks)
    pixels = min(8, (cpu.registers - vectors - 2) // vectors)
    return Product(outputs, vectors, blocks, pixels, cpu.lanes)


@dataclass(frozen=True)
class Part:
    """The share of one window shape in an attention layer, as it lies in memory."""

    window: tuple[int, int]
    tokens: int
    padded_tokens: int
    channels: int
    """Of its values: dim / parts."""
    queries: int
    """Numbers of a token's queries: as many as channels, or each head's filled up to whole pairs in bf16."""
    answer: int
    """Floats of a pixel's answer, padded."""
    rows: int
    """Queries or values computed at once, in a block."""
    query_blocks: int
    value_blocks: int
    vectors: int
    """Of tokens, computed at once."""


def plan_part(config: EMTConfig, index: int, cpu: Processor, *, bf16: bool) -> Part:
    """Block the attention of one window shape."""
    window = config.windows[index]
    tokens = window[0] * window[1]
    padded = ceil(tokens / cpu.lanes) * cpu.lanes
    channels = config.dim // len(config.windows)
    queries = 2 * config.heads * ceil(config.head_dim / 2) if bf16 else channels
    answer = queries // 2 if bf16 else channels
    most = 4 if cpu.registers >= 32 else 2
    choices = (6, 4) if bf16 else (6, 5, 4)
    rows = min(choices, key=lambda rows: rows * (ceil(queries / rows) + ceil(channels / rows)))
    return Part(
        window,
        tokens,
        padded,
        channels,
        queries,
        ceil(answer / cpu.lanes) * cpu.lanes,
        rows,
        ceil(queries / rows),
        ceil(channels / rows),
        next(v for v in range(most, 0, -1) if padded // cpu.lanes % v == 0),
    )


def shift_groups(channels: int) -> list[tuple[tuple[int, int], int, int]]:
    """Return for each group of an MLP's shift (down, right) where it reads, its first channel, how many."""
    size = channels // 5
    shifted = [(offset, index * size, size) for index, offset in enumerate(SHIFT_OFFSETS)]
    return [*shifted, ((0, 0), 4 * size, channels - 4 * size)]


@dataclass(frozen=True)
class Shapes:
    """How everything of one network lies in memory."""

    config: EMTConfig
    cpu: Processor
    bf16: bool = False
    """Whether products of MLPs and attention are of bf16 numbers, in pairs; feature maps are not."""

    @property
    def features(self) -> Product:
        """Products that give features."""
        return plan_product(self.config.dim, self.cpu)

    @property
    def hidden(self) -> Product:
        """Products that give hidden channels of an MLP."""
        return plan_product(self.config.hidden, self.cpu)

    @property
    def output(self) -> Product:
        """Products that give the enlarged pixels of an input pixel."""
        return plan_product(3 * self.config.scale**2, self.cpu)

    @property
    def parts(self) -> list[Part]:
        """Shares of an attention layer."""
        return [
            plan_part(self.config, index, self.cpu, bf16=self.bf16)
            for index in range(len(self.config.windows))
        ]

    @property
    def answer_stride(self) -> int:
        """Floats of a pixel of an attention's answer, at least as many as of its features."""
        return max(self.features.stride, sum(part.answer for part in self.parts))

    @property
    def rings(self) -> list[int]:
        """Floats a pixel takes in the rings of rows of a layer: mixed features, hidden channels.

        In bf16: mixed features, the same or those of a layer without mixer rounded, hidden channels.
        """
        features, hidden = self.features.stride, self.hidden.stride
        return [features, features // 2, hidden // 2] if self.bf16 else [features, hidden]

    def row_scratch(self, width: int) -> int:
        """Floats a thread needs for rows: a layer's rings or the tail's, and a vector that goes beyond."""
        return max(3 * (width + 2) * sum(self.rings), sum(self.tail_scratch)) + self.cpu.lanes

    @property
    def tail_scratch(self) -> tuple[int, int, int, int]:
        """Floats of the tail's features, of three rows of them transformed, of products, and of results."""
        features, output, groups = self.features.stride, self.output.stride, PIECE // GROUP
        return (
            (PIECE + 2) * features,
            3 * PLACES * groups * features,
            PLACES * groups * output,
            PIECE * output,
        )

    @property
    def tail_matrix(self) -> int:
        """Floats of one of the last convolution's matrices, biases included."""
        return (3 * self.features.stride + 1) * self.output.stride

    def window_areas(self, part: Part) -> tuple[int, ...]:
        """Floats of a window's tokens, queries, values, answer, one pixel's answer more, offsets in and out.

        In bf16 values have a line of ones more.
        """
        padded, share = part.padded_tokens, 2 if self.bf16 else 1
        lines = share * self.cpu.lanes
        return (
            ceil(self.features.stride / lines) * self.cpu.lanes * padded,
            part.query_blocks * part.rows * padded // share,
            (part.value_blocks * part.rows + share - 1) * padded // share,
            part.answer * padded,
            part.answer,
            2 * padded,
            2 * padded,
        )

    def window_scratch(self) -> int:
        """Floats a thread needs for a window."""
        return max((sum(self.window_areas(part)) for part in self.parts), default=0)

"""How the numbers of one network lie in memory, and how products are blocked in one processor's registers.

Feature maps are (h + 2, w + 2, channels), channels last and padded to whole vectors, with a border of zeros,
so that shifts are other addresses and cost nothing. All sizes are in floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from emt_cli.engine.native.llvm import Processor
from emt_cli.model.config import EMTConfig

INPUT_CHANNELS = 4
"""RGB and a zero."""
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
    padded_channels: int
    rows: int
    """Queries and values computed at once."""
    row_blocks: int
    vectors: int
    """Of tokens, computed at once."""


def plan_part(config: EMTConfig, index: int, cpu: Processor) -> Part:
    """Block the attention of one window shape."""
    window = config.windows[index]
    tokens = window[0] * window[1]
    padded = ceil(tokens / cpu.lanes) * cpu.lanes
    channels = config.dim // len(config.windows)
    most = 4 if cpu.registers >= 32 else 2
    vectors = next(v for v in range(most, 0, -1) if padded // cpu.lanes % v == 0)
    rows = min((6, 5, 4), key=lambda rows: ceil(2 * channels / rows) * rows)
    return Part(
        window,
        tokens,
        padded,
        channels,
        ceil(channels / cpu.lanes) * cpu.lanes,
        rows,
        ceil(2 * channels / rows),
        vectors,
    )


@dataclass(frozen=True)
class Shapes:
    """How everything of one network lies in memory."""

    config: EMTConfig
    cpu: Processor

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
        return [plan_part(self.config, index, self.cpu) for index in range(len(self.config.windows))]

    @property
    def answer_stride(self) -> int:
        """Channels of an attention's answer: parts one after the other, each padded."""
        return sum(part.padded_channels for part in self.parts)

    def row_scratch(self, width: int) -> int:
        """Floats a thread needs for rows: three of features and of hidden channels, or the tail's."""
        layers = 3 * (width + 2) * (self.features.stride + self.hidden.stride)
        return max(layers, sum(self.tail_scratch))

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

    def window_scratch(self) -> int:
        """Floats a thread needs for a window."""
        return max(map(self._window_scratch, self.parts), default=0)

    def _window_scratch(self, part: Part) -> int:
        rows = self.features.stride + part.row_blocks * part.rows + part.padded_channels
        return part.padded_tokens * rows + part.padded_channels + 4 * part.padded_tokens

"""The network as a graph of standard operations, written once for ONNX and OpenVINO (graph_onnx.py, ...).

Channels first, batch normalisation folded; shifts and pixel mixers are depthwise 3x3 convolutions, attention
is matmul, softmax, matmul, which compilers such as OpenVINO's fuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from emt_cli.engine.folded import FoldedAttention, FoldedLayer, FoldedMixer, FoldedNetwork
from emt_cli.engine.tiling import Floats
from emt_cli.model.config import MIX_OFFSETS, SHIFT_OFFSETS, Pair

Node = Any
"""A tensor of the graph being written, of the writer's own kind."""


class GraphWriter(Protocol):
    """Adds one operation to a graph and returns its result."""

    def convolution(
        self, x: Node, weight: Floats, bias: Floats | None, *, groups: int = 1, pad: int = 0
    ) -> Node:
        """Convolve (b, c, h, w) with weight (out, in / groups, k, k)."""

    def add(self, a: Node, b: Node | Floats) -> Node:
        """Add, broadcasting."""

    def silu(self, x: Node) -> Node:
        """Return x / (1 + exp(-x))."""

    def slice(self, x: Node, axis: int, start: int, end: int | None) -> Node:
        """Take [start:end] of an axis; numbers below 0 count from its end."""

    def concatenate(self, parts: Sequence[Node], axis: int) -> Node:
        """Join along an axis."""

    def windows(self, x: Node, axis: int, side: int) -> tuple[Node, Node]:
        """Count windows of a side along an axis of the input, rounded up, and the pixels that adds."""

    def reshape(self, x: Node, shape: Sequence[Node]) -> Node:
        """Reshape to numbers, one of them -1, counts of windows, and pairs: a count times a number."""

    def transpose(self, x: Node, order: Sequence[int]) -> Node:
        """Reorder the axes."""

    def matmul(self, a: Node, b: Node, *, turned: bool = False) -> Node:
        """Multiply the last two axes; turned: with those of b exchanged."""

    def softmax(self, x: Node) -> Node:
        """Softmax over the last axis."""

    def reflect(self, x: Node, bottom: Node, right: Node) -> Node:
        """Extend (b, c, h, w) by so many pixels, mirrored, without repeating the edge."""

    def crop(self, x: Node) -> Node:
        """Cut (b, c, h, w) to the height and width of the input."""

    def pixel_shuffle(self, x: Node, scale: int) -> Node:
        """Turn (b, c s s, h, w) into (b, c, h s, w s), as torch does."""


def write_network(writer: GraphWriter, x: Node, network: FoldedNetwork) -> Node:
    """Write the network for RGB x (b, 3, h, w), 0..255; return the enlarged (b, 3, h * scale, w * scale).

    Any size above half the largest window side: smaller ones are the caller's to pad.
    """
    mean = network.mean[None, :, None, None]
    first = writer.convolution(writer.add(x, -mean), *network.head, pad=1)
    features = first
    for layer in network.layers:
        features = _layer(writer, features, layer, network.config.heads)
    features = writer.add(features, first)
    tail = writer.convolution(features, *network.tail, pad=1)
    return writer.add(writer.pixel_shuffle(tail, network.config.scale), mean)


def _layer(writer: GraphWriter, x: Node, layer: FoldedLayer, heads: int) -> Node:
    if isinstance(layer.mixer, FoldedMixer):
        x = _mix(writer, x, layer.mixer)
    else:
        x = writer.add(x, _attention(writer, x, layer.mixer, heads))
    y = x
    for (weight, bias), activate in ((layer.fc1, True), (layer.fc2, False)):
        channels = weight.shape[1]
        y = writer.convolution(y, _shift_kernel(channels), None, groups=channels, pad=1)
        y = writer.convolution(y, weight[:, :, None, None], bias)
        y = writer.silu(y) if activate else y
    return writer.add(x, y)


def _mix(writer: GraphWriter, x: Node, mixer: FoldedMixer) -> Node:
    """Write x + BatchNorm(PixelMix(x) - x), whose borders are circular."""
    for axis in (2, 3):
        ends = writer.slice(x, axis, -1, None), writer.slice(x, axis, 0, 1)
        x = writer.concatenate([ends[0], x, ends[1]], axis)
    kernel = _kernel(mixer.taps, ((0, 0), *MIX_OFFSETS))
    return writer.convolution(x, kernel, mixer.bias, groups=len(mixer.bias))


def _attention(writer: GraphWriter, x: Node, mixer: FoldedAttention, heads: int) -> Node:
    weight = np.concatenate([weight for weight, _ in mixer.qv])[:, :, None, None]
    qv = writer.convolution(x, weight, np.concatenate([bias for _, bias in mixer.qv]))
    channels = len(mixer.qv[0][1])
    attended = []
    for index, (window, roll) in enumerate(zip(mixer.windows, mixer.shifts, strict=True)):
        part = writer.slice(qv, 1, index * channels, (index + 1) * channels)
        attended.append(_attend(writer, part, channels, window, roll, heads))
    weight, bias = mixer.proj
    return writer.convolution(writer.concatenate(attended, 1), weight[:, :, None, None], bias)


def _attend(writer: GraphWriter, part: Node, channels: int, window: Pair, roll: Pair, heads: int) -> Node:
    """SWSA in windows of one shape: (b, channels, h, w) to (b, channels / 2, h, w)."""
    tall, wide = window
    values = channels // 2
    (down, bottom), (across, right) = writer.windows(part, 2, tall), writer.windows(part, 3, wide)
    part = _rolled(writer, writer.reflect(part, bottom, right), roll)
    split = writer.reshape(part, [-1, channels, down, tall, across, wide])
    tokens = writer.transpose(split, (0, 2, 4, 3, 5, 1))
    tokens = writer.reshape(tokens, [-1, tall * wide, 2 * heads, values // heads])
    tokens = writer.transpose(tokens, (0, 2, 1, 3))
    q, v = writer.slice(tokens, 1, 0, heads), writer.slice(tokens, 1, heads, 2 * heads)
    out = writer.matmul(writer.softmax(writer.matmul(q, q, turned=True)), v)
    out = writer.reshape(writer.transpose(out, (0, 2, 1, 3)), [-1, down, across, tall, wide, values])
    out = writer.transpose(out, (0, 5, 1, 3, 2, 4))
    out = writer.reshape(out, [-1, values, (down, tall), (across, wide)])
    return writer.crop(_rolled(writer, out, (-roll[0], -roll[1])))


def _rolled(writer: GraphWriter, x: Node, roll: Pair) -> Node:
    for axis, step in zip((2, 3), roll, strict=True):
        if step:
            x = writer.concatenate(
                [writer.slice(x, axis, -step, None), writer.slice(x, axis, 0, -step)], axis
            )
    return x


def _shift_kernel(channels: int) -> Floats:
    """Return shift(x) as a depthwise kernel."""
    offsets = (*SHIFT_OFFSETS, (0, 0))
    size = channels // len(offsets)
    group = np.minimum(np.arange(channels) // size, len(offsets) - 1)
    return _kernel(np.eye(len(offsets), dtype=np.float32)[:, group], offsets)


def _kernel(taps: Floats, offsets: Sequence[Pair]) -> Floats:
    """Return depthwise kernels (c, 1, 3, 3) from factors (offsets, c)."""
    kernel = np.zeros((taps.shape[1], 1, 3, 3), np.float32)
    for (dy, dx), factors in zip(offsets, taps, strict=True):
        kernel[:, 0, 1 + dy, 1 + dx] = factors
    return kernel

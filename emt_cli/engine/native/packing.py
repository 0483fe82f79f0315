"""A network's weights, folded and in the order in which the kernels read them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt

import numpy as np

from emt_cli.engine.folded import FoldedAttention, FoldedLayer, FoldedMixer, FoldedNetwork
from emt_cli.engine.native.bf16 import to_pairs
from emt_cli.engine.native.llvm import LOG2_E
from emt_cli.engine.native.shapes import (
    CACHE_LINE,
    INPUT_CHANNELS,
    PLACES,
    Part,
    Product,
    Shapes,
    shift_groups,
)
from emt_cli.engine.native.tail import BIAS_PLACE, KERNEL
from emt_cli.engine.tiling import Floats
from emt_cli.model.config import MIX_OFFSETS


@dataclass(frozen=True)
class PackedAttention:
    """Weights of SWSA, and where its windows lie."""

    windows: tuple[tuple[int, int], ...]
    shifts: tuple[tuple[int, int], ...]
    qv: list[Floats]
    """For each window shape."""
    proj: Floats


@dataclass(frozen=True)
class PackedLayer:
    """Weights of one layer."""

    mixer: Floats | PackedAttention
    fc1: Floats
    fc2: Floats


class PackedNetwork:
    """All weights of a network."""

    def __init__(self, network: FoldedNetwork, shapes: Shapes) -> None:
        weight, bias = network.head
        self.mean = network.mean
        self.head = _columns(shapes.features, _taps_of(weight, INPUT_CHANNELS), bias)
        self.tail = _pack_tail(network, shapes)
        self.layers = [_pack_layer(layer, shapes) for layer in network.layers]


def _pack_tail(network: FoldedNetwork, shapes: Shapes) -> Floats:
    """Pack the last convolution: for each place of Winograd's products its matrix for three rows of features.

    An input pixel's enlarged pixels come row by row, colours last, as the kernel writes them.
    """
    scale = network.config.scale
    weight, bias = network.tail
    taps = weight.astype(np.float64).reshape(3, scale, scale, -1, 3, 3)
    # rows, columns, features, outputs
    taps = taps.transpose(4, 5, 3, 1, 2, 0).reshape(3, 3, -1, 3 * scale**2)
    padded = np.zeros((PLACES, 3, shapes.features.stride, 3 * scale**2))
    padded[:, :, : taps.shape[2]] = np.einsum("pc,rcfo->prfo", KERNEL, taps)
    colours = bias.reshape(3, scale, scale) + network.mean[:, None, None]
    biases = np.zeros((PLACES, 3 * scale**2), np.float32)
    biases[BIAS_PLACE] = colours.transpose(1, 2, 0).ravel()
    matrices = zip(padded.astype(np.float32).reshape(PLACES, -1, 3 * scale**2), biases, strict=True)
    return aligned(np.stack([_columns(shapes.output, lines, bias) for lines, bias in matrices]))


def _pack_layer(layer: FoldedLayer, shapes: Shapes) -> PackedLayer:
    mixer = layer.mixer
    return PackedLayer(
        _taps(shapes, mixer) if isinstance(mixer, FoldedMixer) else _pack_attention(mixer, shapes),
        _shifted(shapes, shapes.hidden, *layer.fc1),
        _shifted(shapes, shapes.features, *layer.fc2),
    )


def _pack_attention(mixer: FoldedAttention, shapes: Shapes) -> PackedAttention:
    qv = [
        _token_rows(shapes, plan, weight, bias)
        for plan, (weight, bias) in zip(shapes.parts, mixer.qv, strict=True)
    ]
    weight, bias = mixer.proj
    lines, size = weight.T, shapes.config.head_dim
    if shapes.bf16:
        lines = np.concatenate([to_pairs(head) for head in lines.reshape(-1, size, len(lines))])
    return PackedAttention(mixer.windows, mixer.shifts, qv, _columns(shapes.features, lines, bias))


def aligned_zeros(*shape: int) -> Floats:
    """Return zeros that begin with a line of the cache, so that no vector lies in two."""
    floats = prod(shape)
    memory = np.zeros(floats + CACHE_LINE // 4, np.float32)
    start = -memory.ctypes.data % CACHE_LINE // 4
    return memory[start : start + floats].reshape(shape)


def aligned(values: Floats) -> Floats:
    """Return a contiguous copy that begins with a line of the cache."""
    copy = aligned_zeros(*values.shape)
    copy[...] = values
    return copy


def _columns(plan: Product, weight: Floats, bias: Floats) -> Floats:
    """Pack a matrix (inputs, outputs) for rows of pixels: block by block, the biases, then the lines."""
    inputs, outputs = weight.shape
    packed = np.zeros((inputs + 1, plan.stride), np.float32)
    packed[0, :outputs] = bias
    packed[1:, :outputs] = weight
    return aligned(packed.reshape(inputs + 1, plan.blocks, plan.columns).swapaxes(0, 1))


def _shifted(shapes: Shapes, plan: Product, weight: Floats, bias: Floats) -> Floats:
    """Pack a matrix (outputs, inputs) whose inputs are shifted; in bf16 each group is made of whole pairs."""
    lines = weight.T
    if shapes.bf16:
        groups = shift_groups(len(lines))
        lines = np.concatenate([to_pairs(lines[start : start + count]) for _, start, count in groups])
    return _columns(plan, lines, bias)


def _taps_of(weight: Floats, stride: int) -> Floats:
    """Turn a 3x3 convolution's weight into a matrix (9 * stride, outputs), pixel by pixel, row by row."""
    outputs, inputs = weight.shape[:2]
    padded = np.zeros((3, 3, stride, outputs), np.float32)
    padded[:, :, :inputs] = weight.transpose(2, 3, 1, 0)
    return padded.reshape(9 * stride, outputs)


def _token_rows(shapes: Shapes, plan: Part, weight: Floats, bias: Floats) -> Floats:
    """Pack queries and values (2 channels, dim) for windows: block by block, the biases, then the lines.

    Queries are multiplied by sqrt(log2 e), for 2 ** (q q).
    """
    lines = np.concatenate([bias[None], weight.T])  # (1 + dim, 2 channels)
    queries, values = lines[:, : plan.channels] * np.float32(sqrt(LOG2_E)), lines[:, plan.channels :]
    size, inputs = shapes.config.head_dim, len(lines)
    packed = np.zeros((inputs, (plan.query_blocks + plan.value_blocks) * plan.rows), np.float32)
    heads = packed[:, : plan.queries].reshape(inputs, shapes.config.heads, -1)
    heads[..., :size] = queries.reshape(inputs, -1, size)
    start = plan.query_blocks * plan.rows
    packed[:, : plan.queries] = heads.reshape(inputs, -1)
    packed[:, start : start + plan.channels] = values
    if shapes.bf16:
        packed = np.concatenate([packed[:1], to_pairs(packed[1:])])
    return aligned(packed.reshape(len(packed), -1, plan.rows).swapaxes(0, 1))


def _taps(shapes: Shapes, mixer: FoldedMixer) -> Floats:
    """Pack the pixel mixer: for each vector of channels the biases and the factors of five pixels."""
    packed = np.zeros((2 + len(MIX_OFFSETS), shapes.features.stride), np.float32)
    packed[0, : len(mixer.bias)] = mixer.bias
    packed[1:, : len(mixer.bias)] = mixer.taps
    lanes = shapes.cpu.lanes
    return aligned(packed.reshape(len(packed), -1, lanes).swapaxes(0, 1))

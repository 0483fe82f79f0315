"""The network as an OpenVINO model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from emt_cli.engine.folded import FoldedNetwork
from emt_cli.engine.graph import Node, write_network
from emt_cli.engine.tiling import Floats


def openvino_model(network: FoldedNetwork) -> Any:
    """Build the openvino.Model of a network, for any size `write_network` serves.

    Input "rgb" and output "enlarged": float32 (b, 3, h, w), 0..255, unclamped.
    """
    x = ops.parameter([-1, 3, -1, -1], np.float32, name="rgb")
    x.output(0).set_names({"rgb"})
    y = write_network(OpenVINOWriter(x), x, network)
    y.output(0).set_names({"enlarged"})
    return ov.Model([ops.result(y)], [x], "emt")


class OpenVINOWriter:
    """A GraphWriter whose nodes are OpenVINO's."""

    def __init__(self, x: Node) -> None:
        self._shape = ops.shape_of(x)
        self._windows: dict[tuple[int, int], tuple[Node, Node]] = {}

    def convolution(
        self, x: Node, weight: Floats, bias: Floats | None, *, groups: int = 1, pad: int = 0
    ) -> Node:
        """Convolve (b, c, h, w) with weight (out, in / groups, k, k)."""
        pads = ([1, 1], [pad, pad], [pad, pad], [1, 1])
        if groups > 1:
            weight = weight.reshape(groups, -1, *weight.shape[1:])
            y = ops.group_convolution(x, ops.constant(weight), *pads)
        else:
            y = ops.convolution(x, ops.constant(weight), *pads)
        return y if bias is None else ops.add(y, ops.constant(bias.reshape(1, -1, 1, 1)))

    def add(self, a: Node, b: Node | Floats) -> Node:
        """Add, broadcasting."""
        return ops.add(a, ops.constant(b) if isinstance(b, np.ndarray) else b)

    def silu(self, x: Node) -> Node:
        """SiLU."""
        return ops.swish(x)

    def slice(self, x: Node, axis: int, start: int, end: int | None) -> Node:
        """Take [start:end] of an axis."""
        last = np.iinfo(np.int64).max if end is None else end
        return ops.slice(x, *(_integers([number]) for number in (start, last, 1, axis)))

    def concatenate(self, parts: Sequence[Node], axis: int) -> Node:
        """Join along an axis."""
        return ops.concat(list(parts), axis)

    def _side(self, axis: int) -> Node:
        return ops.gather(self._shape, _integers([axis]), _integers(0))

    def windows(self, x: Node, axis: int, side: int) -> tuple[Node, Node]:
        """Count windows, and pixels to add."""
        if (axis, side) not in self._windows:
            length, one = self._side(axis), _integers([side])
            count = ops.divide(ops.add(length, _integers([side - 1])), one)
            self._windows[axis, side] = count, ops.subtract(ops.multiply(count, one), length)
        return self._windows[axis, side]

    def reshape(self, x: Node, shape: Sequence[Node]) -> Node:
        """Reshape."""
        if all(isinstance(side, int) for side in shape):
            return ops.reshape(x, _integers(shape), False)
        return ops.reshape(x, ops.concat([_length(side) for side in shape], 0), False)

    def transpose(self, x: Node, order: Sequence[int]) -> Node:
        """Reorder the axes."""
        return ops.transpose(x, _integers(order))

    def matmul(self, a: Node, b: Node, *, turned: bool = False) -> Node:
        """Multiply the last two axes."""
        return ops.matmul(a, b, False, turned)

    def softmax(self, x: Node) -> Node:
        """Softmax over the last axis."""
        return ops.softmax(x, -1)

    def reflect(self, x: Node, bottom: Node, right: Node) -> Node:
        """Extend by mirrored pixels."""
        ends = ops.concat([_integers([0, 0]), bottom, right], 0)
        return ops.pad(x, _integers([0, 0, 0, 0]), ends, "reflect")

    def crop(self, x: Node) -> Node:
        """Cut to the input's sides."""
        sides = ops.gather(self._shape, _integers([2, 3]), _integers(0))
        return ops.slice(x, _integers([0, 0]), sides, _integers([1, 1]), _integers([2, 3]))

    def pixel_shuffle(self, x: Node, scale: int) -> Node:
        """Turn (b, c s s, h, w) into (b, c, h s, w s)."""
        return ops.depth_to_space(x, "depth_first", scale)


def _integers(values: Any) -> Node:
    return ops.constant(np.asarray(values, np.int64))


def _length(side: Node) -> Node:
    """Make what `reshape` takes a node."""
    if isinstance(side, tuple):
        return ops.multiply(side[0], _integers([side[1]]))
    return _integers([side]) if isinstance(side, int) else side

"""The network as an ONNX model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from emt_cli.engine.folded import FoldedNetwork
from emt_cli.engine.graph import Node, write_network
from emt_cli.engine.tiling import Floats

OPSET = 17
"""Of the operations used; IR_VERSION is the file format that goes with it."""
IR_VERSION = 8


def onnx_model(network: FoldedNetwork, metadata: dict[str, str]) -> Any:
    """Build the onnx.ModelProto of a network: batch, height and width open, as `write_network` says.

    Input "rgb" and output "enlarged": float32 (b, 3, h, w), 0..255, unclamped. metadata: into the file's own.
    """
    scale = network.config.scale
    writer = ONNXWriter()
    y = write_network(writer, "rgb", network)
    writer.nodes.append(helper.make_node("Identity", [y], ["enlarged"], "enlarged"))
    sides = ("batch", 3, "height", "width")
    enlarged = ("batch", 3, f"{scale} * height", f"{scale} * width")
    graph = helper.make_graph(
        writer.nodes,
        "emt",
        [helper.make_tensor_value_info("rgb", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("enlarged", TensorProto.FLOAT, enlarged)],
        list(writer.constants.values()),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="emt"
    )
    helper.set_model_props(model, metadata)
    return model


class ONNXWriter:
    """A GraphWriter whose nodes are the names of ONNX's tensors; equal constants are kept once."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[tuple[Any, ...], Any] = {}
        self._known: dict[tuple[Any, ...], str] = {}

    def _set(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def _constant(self, values: Any) -> str:
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(values, f"constant_{len(self.constants)}")
        return str(self.constants[key].name)

    def _integers(self, values: Sequence[int]) -> str:
        return self._constant(np.asarray(values, np.int64))

    def convolution(
        self, x: Node, weight: Floats, bias: Floats | None, *, groups: int = 1, pad: int = 0
    ) -> Node:
        """Convolve (b, c, h, w) with weight (out, in / groups, k, k)."""
        values = [weight] if bias is None else [weight, bias]
        side = weight.shape[-1]
        constants = [self._constant(np.ascontiguousarray(value)) for value in values]
        return self._set("Conv", x, *constants, group=groups, kernel_shape=[side, side], pads=[pad] * 4)

    def add(self, a: Node, b: Node | Floats) -> Node:
        """Add, broadcasting."""
        return self._set("Add", a, self._constant(b) if isinstance(b, np.ndarray) else b)

    def silu(self, x: Node) -> Node:
        """SiLU."""
        return self._set("Mul", x, self._set("Sigmoid", x))

    def slice(self, x: Node, axis: int, start: int, end: int | None) -> Node:
        """Take [start:end] of an axis."""
        last = np.iinfo(np.int64).max if end is None else end
        return self._set("Slice", x, *(self._integers([number]) for number in (start, last, axis)))

    def concatenate(self, parts: Sequence[Node], axis: int) -> Node:
        """Join along an axis."""
        return self._set("Concat", *parts, axis=axis)

    def _once(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation on lengths, unless the graph has it already."""
        key = (kind, *inputs, *attributes.items())
        if key not in self._known:
            self._known[key] = self._set(kind, *inputs, **attributes)
        return self._known[key]

    def windows(self, x: Node, axis: int, side: int) -> tuple[Node, Node]:
        """Count windows, and pixels to add."""
        length, one = self._once("Shape", "rgb", start=axis, end=axis + 1), self._integers([side])
        count = self._once("Div", self._once("Add", length, self._integers([side - 1])), one)
        return count, self._once("Sub", self._once("Mul", count, one), length)

    def _length(self, side: Node) -> str:
        if isinstance(side, tuple):
            return self._once("Mul", side[0], self._integers([side[1]]))
        return self._integers([side]) if isinstance(side, int) else str(side)

    def reshape(self, x: Node, shape: Sequence[Node]) -> Node:
        """Reshape."""
        if all(isinstance(side, int) for side in shape):
            return self._set("Reshape", x, self._integers(shape))
        return self._set("Reshape", x, self._once("Concat", *map(self._length, shape), axis=0))

    def transpose(self, x: Node, order: Sequence[int]) -> Node:
        """Reorder the axes."""
        return self._set("Transpose", x, perm=list(order))

    def matmul(self, a: Node, b: Node, *, turned: bool = False) -> Node:
        """Multiply the last two axes."""
        return self._set("MatMul", a, self._set("Transpose", b, perm=[0, 1, 3, 2]) if turned else b)

    def softmax(self, x: Node) -> Node:
        """Softmax over the last axis."""
        return self._set("Softmax", x, axis=-1)

    def reflect(self, x: Node, bottom: Node, right: Node) -> Node:
        """Extend by mirrored pixels."""
        ends = self._once("Concat", self._integers([0] * 6), bottom, right, axis=0)
        return self._set("Pad", x, ends, mode="reflect")

    def crop(self, x: Node) -> Node:
        """Cut to the input's sides."""
        sides = self._once("Shape", "rgb", start=2, end=4)
        return self._set("Slice", x, self._integers([0, 0]), sides, self._integers([2, 3]))

    def pixel_shuffle(self, x: Node, scale: int) -> Node:
        """Turn (b, c s s, h, w) into (b, c, h s, w s)."""
        return self._set("DepthToSpace", x, blocksize=scale, mode="CRD")

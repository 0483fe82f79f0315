"""Compile a network of others with OpenVINO, and see whether it computes the same: a program of its own.

    python -m emt_cli.engine.community.convert NETWORK RESULT PRECISION THREADS

leaves the compiled model at RESULT, or nothing where the network does not convert.
"""

from __future__ import annotations

import sys
import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from emt_cli.engine.community.read import read_network

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

TRACED = 24, 32
"""Sides of the picture the graph is traced with, before what the network demands."""
TRIED = (32, 24), (40, 56), (21, 35)
"""Sides it is compared with torch on: where sizes have been frozen into the graph it fails or differs."""
TOLERANCE = 1e-3
"""Largest difference of an answer of 0..1: a quarter of a step of 255."""

_trace: Any = torch.jit.trace


class _Network(nn.Module):
    def __init__(self, network: ImageModelDescriptor[Any]) -> None:
        super().__init__()
        self.model, self._call = network.model, network._call_fn

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self._call(self.model, x)
        return answer


def openvino_graph(network: ImageModelDescriptor[Any]) -> tuple[Any, object]:
    """Return the openvino.Model of a network, for any size, and what has to live as long.

    Raises whatever keeps it from being one. OpenVINO's convert_model does the same, and tells its makers.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    traced = _trace(_Network(network).eval(), example(network, TRACED), check_trace=False)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)
    model = frontend.convert(frontend.load(decoder))
    model.reshape([-1, network.input_channels, -1, -1])
    return model, decoder


def convert(path: Path, precision: str, threads: int) -> bytes | None:
    """Return a network's compiled model as a file; None where it answers otherwise than torch."""
    from openvino import Core

    network = read_network(path.read_bytes(), path)
    core = Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph, _decoder = openvino_graph(network)
        compiled = core.compile_model(graph, "CPU", settings)
        for sides in TRIED:
            x = example(network, sides)
            expected, answer = network._call_fn(network.model, x).numpy(), compiled([x.numpy()])[0]
            if answer.shape != expected.shape or not np.abs(answer - expected).max() < TOLERANCE:
                return None
    if precision != "f32":
        compiled = core.compile_model(graph, "CPU", settings | {"INFERENCE_PRECISION_HINT": precision})
    stream = BytesIO()
    compiled.export_model(stream)
    return stream.getvalue()


def example(network: ImageModelDescriptor[Any], sides: tuple[int, int]) -> Tensor:
    """Return a picture of noise, of sides that the network takes."""
    height, width = sides
    right, below = network.size_requirements.get_padding(width, height)
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, network.input_channels, height + below, width + right, generator=generator)


if __name__ == "__main__":
    found = convert(Path(sys.argv[1]), sys.argv[3], int(sys.argv[4]))
    if found is not None:
        Path(sys.argv[2]).write_bytes(found)

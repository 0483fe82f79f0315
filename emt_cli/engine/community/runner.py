"""Run a network of others: through OpenVINO on a CPU where it converts, else through torch."""

from __future__ import annotations

from importlib.util import find_spec
from threading import Lock
from typing import Protocol

import numpy as np

from emt_cli.engine.community.network import CommunityNetwork
from emt_cli.engine.community.planes import from_planes, to_planes
from emt_cli.engine.device import Device, Precision, choose_precision, device_type
from emt_cli.engine.self_ensemble import self_ensemble
from emt_cli.engine.tiling import Floats
from emt_cli.errors import DeviceError, UsageError
from emt_cli.steps import Steps

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
_ROOM = 1.5
"""Memory beyond the tensors that live at once: what convolutions unfold, blocks that are not given back."""


class Backend(Protocol):
    """A library that computes one input."""

    name: str
    precision: Precision

    def infer(self, plane: Floats) -> Steps[Floats]:
        """Return the answer (1, c, H, W) to (1, c, h, w), yielding from time to time."""


class CommunityRunner:
    """Enlarge one tile: RGB float32 (h, w, 3), 0..255, to (h * scale, w * scale, 3), unclamped.

    The library is chosen when the first tile comes: converting a network takes seconds the first time.
    An answer of half precision that is not finite is computed again in float32, and so are all that follow.
    """

    max_concurrency = 1
    cpu_budget = 2 << 30  # whole feature maps are kept

    def __init__(self, engine: str, network: CommunityNetwork, device: Device, precision: Precision) -> None:
        self.network, self.device, self.precision = network, device, precision
        self.used_fallback = False
        self._engine = engine
        self._backend: Backend | None = None
        self._choosing = Lock()

    @property
    def name(self) -> str:
        """The library that computes, or will be asked first."""
        if self._backend is not None:
            return self._backend.name
        return "openvino" if self._asks_openvino else "torch"

    @property
    def description(self) -> str:
        """The engine in words."""
        if self._backend is None and self._asks_openvino:
            return f"OpenVINO, or torch if {self.network.facts.architecture} does not convert"
        return f"{'OpenVINO' if self.name == 'openvino' else 'torch'}, {self.precision}"

    @property
    def _asks_openvino(self) -> bool:
        on_cpu = device_type(self.device) == "cpu" and self.precision != "fp16"
        return self._engine == "openvino" or (
            self._engine == "auto" and on_cpu and find_spec("openvino") is not None
        )

    @property
    def bytes_per_pixel(self) -> int:
        """Memory an input pixel of a tile costs, the tile's own copies of input and output included."""
        facts = self.network.facts
        inside = facts.bytes_per_pixel * _BYTES[self.precision] / 4 * _ROOM
        return int(inside) + 24 + 24 * facts.scale**2

    @property
    def fixed_bytes(self) -> int:
        """Memory it takes whatever the tile."""
        return 2 * self.network.facts.fixed_bytes

    def tile_bytes(self, height: int, width: int) -> int:
        """Memory a tile of this size takes, sides extended as the network needs them."""
        rows, columns = self.network.facts.padded(height, width)
        return rows * columns * self.bytes_per_pixel + self.fixed_bytes

    def steps(self, pixels: Floats, *, ensemble: bool = False) -> Steps[Floats]:
        """Enlarge a tile; ensemble averages over its eight flips and turns."""
        answer = yield from self._answer(pixels, ensemble)
        if not np.isfinite(answer).all() and self.precision != "fp32":
            self.used_fallback, self.precision, self._backend = True, "fp32", None
            answer = yield from self._answer(pixels, ensemble)
        if not np.isfinite(answer).all():
            raise FloatingPointError("the network's answer is not finite, even in single precision")
        return answer

    def _answer(self, pixels: Floats, ensemble: bool) -> Steps[Floats]:
        yield 0.0
        return (yield from (self_ensemble(self._enlarge, pixels) if ensemble else self._enlarge(pixels)))

    def _enlarge(self, pixels: Floats) -> Steps[Floats]:
        with self._choosing:
            if self._backend is None:
                self._backend = self._choose()
            backend = self._backend
        planes = to_planes(pixels, self.network.facts)
        answers = []
        for plane in planes:
            answers.append((yield from backend.infer(plane)))
            yield len(answers) / len(planes)
        scale = self.network.scale
        return from_planes(answers, pixels.shape[0] * scale, pixels.shape[1] * scale)

    def _choose(self) -> Backend:
        if self._asks_openvino:
            from emt_cli.engine.community.openvino_backend import openvino_backend

            found = openvino_backend(self.network, self.precision)
            if found is not None:
                return found
            if self._engine == "openvino":
                raise DeviceError(
                    f"--engine openvino: {self.network.facts.architecture} does not convert;"
                    " use --engine torch, or auto"
                )
        from emt_cli.engine.community.torch_backend import TorchBackend

        return TorchBackend(self.network, self.device, self.precision)


def make_community_runner(
    engine: str, network: CommunityNetwork, device: Device, precision: Precision
) -> CommunityRunner:
    """Return the runner of an --engine value; raises as runner.make_runner does."""
    if engine == "native":
        raise UsageError("--engine native: computes EMT models only; use --engine auto, openvino or torch")
    if engine == "openvino" and precision == "fp16":
        raise UsageError("--engine openvino: computes in fp32 or bf16; use --engine torch")
    if engine == "openvino" and find_spec("openvino") is None:
        raise DeviceError('--engine openvino: OpenVINO is not installed; pip install "emt-cli[cpu]"')
    return CommunityRunner(engine, network, device, precision)


def community_precision(name: str, device: Device, network: CommunityNetwork) -> Precision:
    """Turn a --precision value into a precision; auto takes fp16 on CUDA where the network stands it.

    Raises UsageError for one the network does not stand.
    """
    precision = choose_precision(name, device)
    facts = network.facts
    if precision == "fp32" or (facts.half if precision == "fp16" else facts.bf16):
        return precision
    if name == "auto":
        return "fp32"
    raise UsageError(f"--precision {name}: {facts.architecture} does not stand it; use fp32")

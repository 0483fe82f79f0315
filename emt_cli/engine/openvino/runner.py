"""Run the network through OpenVINO, on the CPU: one compiled model serves every size.

Compiling takes about a second. The compiled model is kept in the cache folder, for this processor and this
version of everything, so that the next start only reads it.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_cli.engine.compiled import compiled_path, keep_compiled, read_compiled
from emt_cli.engine.device import Precision, cpu_threads
from emt_cli.engine.folded import fold
from emt_cli.engine.self_ensemble import self_ensemble
from emt_cli.engine.tiling import Floats
from emt_cli.engine.weights import Weights
from emt_cli.errors import DeviceError
from emt_cli.steps import Steps

if TYPE_CHECKING:
    from emt_cli.engine.torch.runner import TorchRunner

COMPILE_COST = 1e11
"""Multiply-adds in which OpenVINO gains on torch what compiling costs: 90,000 pixels of network emt."""
_HINTS = {"fp32": "f32", "bf16": "bf16"}


@cache
def openvino_core() -> Any:
    """Return the one openvino.Core of this process, which lives as long as the process.

    OpenVINO gives the thread a signal stack with each Core. When Cores go in the order they came, the thread
    keeps one whose memory is gone; Python's handlers run on it: the next Ctrl-C is a segmentation fault.
    """
    from openvino import Core

    return Core()


class OpenVINORunner:
    """Enlarge one tile: RGB float32 (h, w, 3), 0..255, to (h * scale, w * scale, 3), unclamped.

    precision: fp32, or bf16, which OpenVINO uses where the processor has it.
    meanwhile: computes as long as compiling would cost more than it has been worth; None compiles at once.
    """

    name = "openvino"
    max_concurrency = 1
    cpu_budget = 2 << 30  # it keeps whole feature maps: half a megapixel is still one tile
    used_fallback = False

    def __init__(
        self, weights: Weights, precision: Precision = "fp32", *, meanwhile: TorchRunner | None = None
    ) -> None:
        self.weights, self.precision, self.config = weights, precision, weights.config
        self._core = openvino_core()
        self._settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": cpu_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._meanwhile = meanwhile
        self._done = 0.0
        self._model: Any = None
        self._free: list[Any] = []  # requests, one for each thread that enlarges
        self._compiling = Lock()
        self._process = os.getpid()
        self.path = self._path()

    def _path(self) -> Path:
        """Name everything a compiled model depends on."""
        from openvino import get_version

        names = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
        device = [self._core.get_property("CPU", name) for name in names]
        digest = hashlib.sha256()
        for name, value in self.weights.tensors.items():
            digest.update(name.encode() + value.tobytes())
        facts = (self.config, get_version(), device, self._settings, digest.hexdigest())
        return compiled_path("openvino", *facts)

    @property
    def description(self) -> str:
        """The engine in words."""
        if self._model is None and self._meanwhile is not None and not self.path.is_file():
            return "torch until OpenVINO is worth compiling for"
        return f"OpenVINO, {self._settings['INFERENCE_PRECISION_HINT']}"

    @property
    def bytes_per_pixel(self) -> int:
        """Memory an input pixel of a tile costs, the tile's own copies of input and output included."""
        return 4 * (14 * self.config.dim + 9 * self.config.scale**2)  # measured

    @property
    def fixed_bytes(self) -> int:
        """Memory it takes whatever the tile."""
        return 100 << 20

    def tile_bytes(self, height: int, width: int) -> int:
        """Memory a tile of this size takes, short sides extended as the network needs them."""
        below, right = self.config.small_pads(height, width)
        return (height + below) * (width + right) * self.bytes_per_pixel + self.fixed_bytes

    def steps(self, pixels: Floats, *, ensemble: bool = False) -> Steps[Floats]:
        """Enlarge a tile; ensemble averages the answers for its eight flips and rotations (paper: EMT+)."""
        work = float(pixels.shape[0] * pixels.shape[1]) * self.config.multiply_adds * (8 if ensemble else 1)
        if self._model is None and self._meanwhile is not None and not self.path.is_file():
            self._done += work
            if self._done < COMPILE_COST:
                return (yield from self._meanwhile.steps(pixels, ensemble=ensemble))
        if self._process != os.getpid():
            raise DeviceError("OpenVINO does not survive a fork: make the Upscaler in the forked process")
        with self._compiling:
            if self._model is None:
                self._model = self._compiled()
        answer = yield from (self_ensemble(self._enlarge, pixels) if ensemble else self._enlarge(pixels))
        if not np.isfinite(answer).all():
            raise FloatingPointError(f"the network's answer is not finite in {self.precision}")
        return answer

    def _enlarge(self, pixels: Floats) -> Steps[Floats]:
        h, w = pixels.shape[:2]
        pads = self.config.small_pads(h, w)
        padded = np.pad(pixels, ((0, pads[0]), (0, pads[1]), (0, 0)), mode="edge")
        try:
            request = self._free.pop()
        except IndexError:
            request = self._model.create_infer_request()
        request.start_async([np.ascontiguousarray(padded.transpose(2, 0, 1)[None])])
        try:
            while not request.wait_for(100):  # milliseconds; Ctrl-C comes through between
                yield 0.0
        finally:  # left in the middle, it would be busy when the next picture comes
            request.wait()
        scale = self.config.scale
        answer: Floats = request.get_output_tensor().data[0, :, : h * scale, : w * scale]
        answer = np.ascontiguousarray(answer.transpose(1, 2, 0))
        self._free.append(request)
        yield 1.0
        return answer

    def _compiled(self) -> Any:
        """Read the compiled model from the cache, or compile it and leave it there."""
        data = read_compiled(self.path)
        if data is not None:
            with suppress(RuntimeError):  # of another machine after all, or a version that lies
                return self._core.import_model(BytesIO(data), "CPU", self._settings)
        from emt_cli.engine.openvino.graph import openvino_model

        model = self._core.compile_model(openvino_model(fold(self.weights)), "CPU", self._settings)
        stream = BytesIO()
        model.export_model(stream)
        keep_compiled(self.path, stream.getvalue())
        return model

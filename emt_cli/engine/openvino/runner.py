"""Run the network through OpenVINO, on the CPU: one compiled model serves every size.

Compiling takes about a second. The compiled model is kept in the cache folder, for this processor and this
version of everything, so that the next start only reads it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from emt_cli.engine.device import Precision
from emt_cli.engine.folded import fold
from emt_cli.engine.openvino.compiled_model import CompiledModel
from emt_cli.engine.self_ensemble import self_ensemble
from emt_cli.engine.tiling import Floats
from emt_cli.engine.weights import Weights
from emt_cli.steps import Steps

if TYPE_CHECKING:
    from emt_cli.engine.torch.runner import TorchRunner

COMPILE_COST = 1e11
"""Multiply-adds in which OpenVINO gains on torch what compiling costs: 90,000 pixels of network emt."""


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
        digest = hashlib.sha256()
        for name, value in weights.tensors.items():
            digest.update(name.encode() + value.tobytes())
        self.compiled = CompiledModel(self._compile, precision, self.config, digest.hexdigest())
        self._meanwhile = meanwhile
        self._done = 0.0

    def _compile(self, core: Any, settings: dict[str, Any]) -> Any:
        from emt_cli.engine.openvino.graph import openvino_model

        return core.compile_model(openvino_model(fold(self.weights)), "CPU", settings)

    @property
    def description(self) -> str:
        """The engine in words."""
        if self._meanwhile is not None and not self.compiled.ready:
            return "torch until OpenVINO is worth compiling for"
        return f"OpenVINO, {self.compiled.settings['INFERENCE_PRECISION_HINT']}"

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
        if self._meanwhile is not None and not self.compiled.ready:
            self._done += work
            if self._done < COMPILE_COST:
                return (yield from self._meanwhile.steps(pixels, ensemble=ensemble))
        answer = yield from (self_ensemble(self._enlarge, pixels) if ensemble else self._enlarge(pixels))
        if not np.isfinite(answer).all():
            raise FloatingPointError(f"the network's answer is not finite in {self.precision}")
        return answer

    def _enlarge(self, pixels: Floats) -> Steps[Floats]:
        h, w = pixels.shape[:2]
        pads = self.config.small_pads(h, w)
        padded = np.pad(pixels, ((0, pads[0]), (0, pads[1]), (0, 0)), mode="edge")
        scale = self.config.scale

        def take(answer: Floats) -> Floats:
            return np.ascontiguousarray(answer[0, :, : h * scale, : w * scale].transpose(1, 2, 0))

        answer = yield from self.compiled.infer(np.ascontiguousarray(padded.transpose(2, 0, 1)[None]), take)
        yield 1.0
        return answer

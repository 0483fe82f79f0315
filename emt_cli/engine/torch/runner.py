"""Run the network through torch, on any device, in any precision."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from emt_cli.engine.device import Device, Precision
from emt_cli.engine.folded import fold
from emt_cli.engine.tiling import Floats
from emt_cli.engine.torch.inference import STRIP_PIXELS, InferenceEMT
from emt_cli.engine.torch.network import build_network
from emt_cli.engine.weights import Weights
from emt_cli.errors import DeviceError
from emt_cli.model.emt import EMT
from emt_cli.steps import Steps, finish, part

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
GPU_STRIP_PIXELS = 1 << 18
"""Pixels of a strip on a GPU, which wants large kernels more than it wants cache."""


class TorchRunner:
    """Enlarge one tile: RGB float32 (h, w, 3), 0..255, to (h * scale, w * scale, 3), unclamped.

    A tile with a non-finite value (half precision overflows on some pictures) is computed again in float32,
    and the runner stays there: `used_fallback` tells.
    """

    name = "torch"
    max_concurrency = 1
    cpu_budget = 1 << 30  # 1.4 megapixels are still one tile at x4

    def __init__(self, weights: Weights, device: Device = "cpu", precision: Precision = "fp32") -> None:
        self.weights = weights
        self.device = torch.device(device)
        self.strip_pixels = STRIP_PIXELS if self.device.type == "cpu" else GPU_STRIP_PIXELS
        self.used_fallback = False
        self._process = os.getpid()
        self._plain: EMT | None = None
        self._use(precision)

    def _use(self, precision: Precision) -> None:
        self.precision = precision
        self.net = InferenceEMT(
            fold(self.weights), device=self.device, dtype=DTYPES[precision], strip_pixels=self.strip_pixels
        )

    @property
    def description(self) -> str:
        """The engine in words."""
        return f"torch, {self.precision}"

    @property
    def bytes_per_pixel(self) -> int:
        """Memory an input pixel of a tile costs, the tile's own copies of input and output included."""
        return self.net.bytes_per_pixel + 12 + 12 * self.net.config.scale**2

    @property
    def fixed_bytes(self) -> int:
        """Memory of the strips, whatever the tile."""
        config = self.net.config
        return self.strip_pixels * self.net.dtype.itemsize * (4 * config.hidden + 4 * config.dim)

    def tile_bytes(self, height: int, width: int) -> int:
        """Memory a tile of this size takes, short sides extended as the network needs them."""
        below, right = self.net.config.small_pads(height, width)
        return (height + below) * (width + right) * self.bytes_per_pixel + self.fixed_bytes

    def __call__(self, pixels: Floats, *, ensemble: bool = False) -> Floats:
        """Enlarge a tile; ensemble averages the answers for its eight flips and rotations (paper: EMT+)."""
        return finish(self.steps(pixels, ensemble=ensemble))

    def steps(self, pixels: Floats, *, ensemble: bool = False) -> Steps[Floats]:
        """Enlarge a tile as a call does, yielding the share done."""
        self._check_process()
        self._flush_denormal()
        x = self._placed(np.ascontiguousarray(pixels)[None])
        y = yield from (self._ensemble(x) if ensemble else self.net.steps(x))
        if not bool(torch.isfinite(y).all()) and self.precision != "fp32":
            self.used_fallback = True
            self._use("fp32")
            y = yield from (self._ensemble(x) if ensemble else self.net.steps(x))
        if not bool(torch.isfinite(y).all()):
            raise FloatingPointError("the network's answer is not finite, even in single precision")
        answer: Floats = y[0].permute(1, 2, 0).cpu().numpy()
        return answer

    def batch(self, pixels: Floats) -> Floats:
        """Enlarge (b, h, w, 3) at once, with the network as it is trained: for a GPU and small pictures."""
        self._flush_denormal()
        if self._plain is None:
            self._plain = build_network(self.weights).to(self.device)
        half = self.precision != "fp32"
        # As in tiles: TF32 keeps 10 bits of what it multiplies.
        exact = torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)
        with torch.inference_mode(), exact, torch.autocast(self.device.type, self.net.dtype, enabled=half):
            y = self._plain(self._placed(pixels)).float()
        if not bool(torch.isfinite(y).all()):
            return np.stack([self(picture) for picture in pixels])
        answer: Floats = y.permute(0, 2, 3, 1).cpu().numpy()
        return answer

    def _check_process(self) -> None:
        if self._process != os.getpid():  # the threads of OpenMP and CUDA are the parent's: it would hang
            raise DeviceError("torch does not survive a fork: make the Upscaler in the forked process")

    def _flush_denormal(self) -> None:
        """Compute without denormal numbers, which make a CPU many times slower; this holds for a thread."""
        if self.device.type == "cpu":
            torch.set_flush_denormal(True)

    def _placed(self, pixels: Floats) -> Tensor:
        """Bring (b, h, w, 3) to the device as (b, 3, h, w); through pinned memory, so that nothing waits."""
        x = torch.from_numpy(pixels)
        if self.device.type == "cuda":
            x = x.pin_memory()
        return x.to(self.device, non_blocking=True).permute(0, 3, 1, 2)

    def _ensemble(self, x: Tensor) -> Steps[Tensor]:
        b, _, h, w = x.shape
        scale = self.net.config.scale
        total = torch.zeros((b, 3, h * scale, w * scale), device=self.device)
        for index in range(8):
            turns, flipped = divmod(index, 2)
            turned = torch.rot90(x.flip(-1) if flipped else x, turns, (-2, -1))
            y = yield from part(self.net.steps(turned), index / 8, (index + 1) / 8)
            y = torch.rot90(y, -turns, (-2, -1))
            total += y.flip(-1) if flipped else y
        return total / 8

"""What computes a network: the engines there are, and which one to take."""

from __future__ import annotations

from typing import Protocol

import torch

from emt_cli.engine.native.llvm import processor
from emt_cli.engine.tiling import Floats
from emt_cli.engine.torch_runner import TorchRunner
from emt_cli.errors import DeviceError, UsageError
from emt_cli.model.emt import EMT
from emt_cli.steps import Steps

ENGINES = ("native", "torch")
"""native: kernels compiled for this processor; torch: any device, any precision."""


class Runner(Protocol):
    """Enlarges one tile: RGB float32 (h, w, 3), 0..255, to (h * scale, w * scale, 3), unclamped."""

    @property
    def name(self) -> str:
        """One of ENGINES."""

    @property
    def fell_back(self) -> bool:
        """Whether half precision overflowed and float32 took its place."""

    @property
    def dtype(self) -> torch.dtype:
        """Type the body of the network is computed in."""

    @property
    def bytes_per_pixel(self) -> int:
        """Memory an input pixel of a tile costs, the tile's own copies of input and output included."""

    @property
    def fixed_bytes(self) -> int:
        """Memory it takes whatever the tile."""

    def steps(self, pixels: Floats, *, ensemble: bool = False) -> Steps[Floats]:
        """Enlarge a tile, yielding the share done; ensemble averages over its eight flips and turns.

        Raises FloatingPointError for an answer that is not finite.
        """


def make_runner(engine: str, network: EMT, device: torch.device, dtype: torch.dtype) -> Runner:
    """Return the runner of an --engine value.

    auto is native on a CPU in float32 where kernels can be compiled, else torch. Raises UsageError for an
    unknown engine or one that does not fit the device or precision, DeviceError where it is not installed.
    """
    if engine not in ("auto", *ENGINES):
        raise UsageError(f"--engine {engine}: use auto, {' or '.join(ENGINES)}")
    fits = device.type == "cpu" and dtype == torch.float32
    if engine == "native" and not fits:
        raise UsageError("--engine native: computes on the CPU in fp32 only; use --engine torch")
    if engine == "native" and processor() is None:
        raise DeviceError(
            "--engine native: needs the package llvmlite, and AVX2 or an ARM processor; use --engine torch"
        )
    if engine == "torch" or not fits or processor() is None:
        return TorchRunner(network, device, dtype)
    from emt_cli.engine.native.runner import NativeRunner

    return NativeRunner(network)

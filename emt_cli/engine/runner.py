"""What computes a network: the engines there are, and which one to take."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Protocol, runtime_checkable

from emt_cli.engine.device import Device, Precision, device_type
from emt_cli.engine.native.processor import processor
from emt_cli.engine.precision import has_bf16_kernels
from emt_cli.engine.tiling import Floats, Numbers
from emt_cli.engine.weights import Weights
from emt_cli.errors import DeviceError, UsageError
from emt_cli.steps import Steps

ENGINES = ("native", "openvino", "torch")
"""native: kernels for this processor, fp32 or bf16; openvino: CPUs, likewise; torch: whatever there is."""


class Runner(Protocol):
    """Enlarges one tile: RGB float32 (h, w, 3), 0..255, to (h * scale, w * scale, 3), unclamped."""

    @property
    def name(self) -> str:
        """One of ENGINES."""

    @property
    def description(self) -> str:
        """The engine in words, and what it is set to."""

    @property
    def used_fallback(self) -> bool:
        """Whether half precision overflowed and float32 took its place."""

    @property
    def precision(self) -> Precision:
        """What the body of the network is computed in."""

    @property
    def bytes_per_pixel(self) -> int:
        """Memory an input pixel of a tile costs, the tile's own copies of input and output included."""

    @property
    def fixed_bytes(self) -> int:
        """Memory it takes whatever the tile."""

    def tile_bytes(self, height: int, width: int) -> int:
        """Memory a tile of this size takes in all; thin ones cost more than their pixels."""

    @property
    def max_concurrency(self) -> int:
        """Pictures it is best given at the same time, each in a thread of its own; it stands no more."""

    @property
    def cpu_budget(self) -> int:
        """Most bytes a tile may use on a CPU, however many are free."""

    def steps(self, pixels: Floats, *, ensemble: bool = False) -> Steps[Floats]:
        """Enlarge a tile, yielding the share done; ensemble averages over its eight flips and turns.

        Raises FloatingPointError for an answer that is not finite.
        """


Take = Callable[[int, Floats], None]
"""Gets rows (n, w * scale, 3) of an answer, whole ones of the input, and the number of the first of these.

Several threads call it, in any order. The rows are its own, but for the time of the call only.
"""


@runtime_checkable
class BandRunner(Protocol):
    """A runner whose answer need not be there as a whole."""

    def bands(self, pixels: Numbers, take: Take) -> Steps[None]:
        """Enlarge a tile as `steps` does, bytes as well; take gets the answer."""


@runtime_checkable
class BatchRunner(Protocol):
    """A runner that computes pictures of one size at once."""

    def batch(self, pixels: Floats) -> Floats:
        """Enlarge (b, h, w, 3)."""


def has_precision(engine: str, precision: str) -> bool:
    """Tell whether an engine computes in a precision here, both by name."""
    if engine == "native" and precision == "bf16":
        return has_bf16_kernels()
    return precision != "fp16" or engine not in ("native", "openvino")


def make_runner(
    engine: str, weights: Weights, device: Device = "cpu", precision: Precision = "fp32"
) -> Runner:
    """Return the runner of an --engine value.

    auto on a CPU in float32 is native where kernels can be compiled, else openvino where it is installed,
    with torch as long as compiling does not pay; in bf16 native where the processor multiplies such numbers;
    everywhere else it is torch. Raises UsageError for an unknown engine or one that does not fit the device
    or precision, DeviceError where it is not installed, or the processor lacks what it needs.
    """
    if engine not in ("auto", *ENGINES):
        raise UsageError(f"--engine {engine}: use auto, {', '.join(ENGINES[:-1])} or {ENGINES[-1]}")
    if engine in ("native", "openvino") and device_type(device) != "cpu":
        raise UsageError(f"--engine {engine}: computes on the CPU only; use --engine torch, or --device cpu")
    single = device_type(device) == "cpu" and precision == "fp32"
    bf16 = device_type(device) == "cpu" and precision == "bf16"
    if engine == "native" and not (single or bf16):
        raise UsageError("--engine native: computes in fp32 or bf16; use --engine torch")
    if engine == "native" and bf16 and not has_bf16_kernels():
        raise DeviceError("--engine native: bf16 needs a processor with AVX512_BF16; use --precision fp32")
    if engine == "native" or (engine == "auto" and (single or (bf16 and has_bf16_kernels()))):
        runner = _native_runner(weights, bf16=bf16)
        if runner is not None:
            return runner
        if engine == "native":
            raise DeviceError(
                "--engine native: needs the package llvmlite, and AVX2 or ARM; use --engine torch"
            )
    if engine == "openvino":
        if precision == "fp16":
            raise UsageError("--engine openvino: computes in fp32 or bf16; use --engine torch")
        if find_spec("openvino") is None:
            raise DeviceError('--engine openvino: OpenVINO is not installed; pip install "emt-cli[cpu]"')
        from emt_cli.engine.openvino.runner import OpenVINORunner

        return OpenVINORunner(weights, precision)
    from emt_cli.engine.torch.runner import TorchRunner

    plain = TorchRunner(weights, device, precision)
    if engine == "auto" and single and find_spec("openvino") is not None:
        from emt_cli.engine.openvino.runner import OpenVINORunner

        return OpenVINORunner(weights, precision, meanwhile=plain)
    return plain


def _native_runner(weights: Weights, *, bf16: bool) -> Runner | None:
    """Return the runner with kernels of its own; None where they cannot be compiled."""
    if processor() is None:
        return None
    from emt_cli.engine.native.runner import NativeRunner

    try:
        return NativeRunner(weights, bf16=bf16)
    except RuntimeError:  # LLVM's, on a processor it knows less well than it says
        return None

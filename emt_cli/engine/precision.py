"""Which number type the network is computed in, where --precision leaves the choice."""

from __future__ import annotations

from emt_cli.engine.device import Device, Precision, choose_precision, device_type
from emt_cli.engine.native.processor import processor

AGREEMENT = 68.0
"""Least agreement in dB with fp32 from which bf16 is taken unasked."""
MEASURED = {
    "4d166fec3140c8e852a018d966baff9540e17ba1b83a8211c0290ed2b7536e83": 73.0,  # emt-lite-x2
    "9d29bb508435848ed01c6c9c744d52f554e4e78de203b89650bbecdb3227778f": 71.9,  # emt-lite-x3
    "c8676dbe4bb42d3dbf2c4127829ebd247b8d3910627d8105659b2ba9b40128cf": 68.3,  # emt-base-x4
    "85bc8400b61649e9b9cecbfafe8c1fa7cea1469f617556035066dc0c3d3083fa": 69.7,  # emt-lite-x4
    "2421e84c965887e6d14286ba65d54fd5bf58fe7760f3f2bb48285cb2b1d2e7a5": 70.5,  # emt-lite-photo-x4
    "f3dcb95cfe1fa47047a0872383927a4d42caf19dbae6d19937d7b88b1262ce1d": 69.0,  # emt-photo-x4
    "e9a30267cc189d53ed4ea45540223302b622d39e9821c91c73d33541a1010ca9": 70.2,  # emt-art-x4
    "a0ccded9cac60a55a23bc43c08dcaef84887530ac14724f07a0c12e8a928f36e": 47.2,  # EMT_LSR_x2
    "04991327b0eaca4f3d59b7ca7f348484d6993626051b0152443464e0d11cfcf5": 44.7,  # EMT_LSR_x3
    "c66235c55c92bc753098372cfe6d53c8b259c302adeac48aace9b154ed9f872e": 44.9,  # EMT_LSR_x4
}
"""Agreement of files, by sha256: the least of the means over Set5, Set14, Kodak24 and pictures of text.

The released networks agree by 70 dB and more on photographs, but not on crisp text, where they give no sound
result in single precision either. tests/engine/test_engine_bf16.py measures it.
"""


def has_bf16_kernels() -> bool:
    """Tell whether the native engine computes in bf16 here."""
    cpu = processor()
    return cpu is not None and cpu.bf16


def precision_of(name: str, device: Device, engine: str, sha256: str) -> Precision:
    """Turn a --precision value into a precision, for weights known by their file's sha256.

    auto is bf16 where the native engine has it and these weights are known to agree with fp32; what else it
    is, choose_precision says.
    """
    native = engine in ("auto", "native") and device_type(device) == "cpu"
    if name == "auto" and native and MEASURED.get(sha256, 0) >= AGREEMENT and has_bf16_kernels():
        return "bf16"
    return choose_precision(name, device)


def result_precision(precision: Precision, device: Device, engine: str) -> str:
    """Name what decides a result: on a CPU, kernels and torch differ in bf16 by far more than rounding."""
    kernels = precision == "bf16" and device_type(device) == "cpu" and engine in ("auto", "native")
    return "bf16 kernels" if kernels and has_bf16_kernels() else precision

"""The processor at hand: what kernels are written for."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec


@dataclass(frozen=True)
class Processor:
    """What kernels are written for."""

    name: str
    features: str
    """As LLVM takes them: +avx2,+fma,..."""
    lanes: int
    """Floats in a vector register."""
    registers: int
    """Vector registers."""

    @property
    def bf16(self) -> bool:
        """Whether it multiplies pairs of bf16 numbers."""
        return self.lanes == 16 and "+avx512bf16" in self.features.split(",")


@cache
def processor() -> Processor | None:
    """Describe the processor; None where kernels cannot be compiled: no llvmlite, or an unknown processor."""
    if find_spec("llvmlite") is None or platform.machine().lower() not in (
        "x86_64",
        "amd64",
        "arm64",
        "aarch64",
    ):
        return None
    try:
        import llvmlite.binding as llvm
    except (ImportError, OSError):  # an installation for another system
        return None
    features = llvm.get_host_cpu_features()
    if platform.machine().lower() in ("arm64", "aarch64"):
        lanes, registers = 4, 32
    elif features.get("avx512f"):
        lanes, registers = 16, 32
    elif features.get("avx2") and features.get("fma"):
        lanes, registers = 8, 16
    else:
        return None
    return Processor(llvm.get_host_cpu_name(), features.flatten(), lanes, registers)

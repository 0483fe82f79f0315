"""Numbers rounded to bf16 and kept in single precision."""

from __future__ import annotations

import numpy as np

from emt_cli.engine.tiling import Floats


def round_bf16(values: Floats) -> Floats:
    """Round finite float32s to the nearest bf16, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded: Floats = ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return rounded


def is_bf16(values: Floats) -> bool:
    """Tell whether rounding to bf16 changes nothing."""
    return not np.any(np.ascontiguousarray(values).view(np.uint32) & 0xFFFF)

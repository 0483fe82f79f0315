"""EMT+: the mean of the answers for a picture's eight flips and rotations (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from emt_cli.engine.tiling import Floats
from emt_cli.steps import Steps, part


def self_ensemble(enlarge: Callable[[Floats], Steps[Floats]], pixels: Floats) -> Steps[Floats]:
    """Enlarge all eight views of (h, w, 3), turn the answers back, and return their mean."""
    total: Floats | None = None
    for index in range(8):
        turns, flipped = divmod(index, 2)
        view = np.rot90(pixels[:, ::-1] if flipped else pixels, turns)
        answer = yield from part(enlarge(view), index / 8, (index + 1) / 8)
        answer = np.rot90(answer, -turns)
        answer = answer[:, ::-1] if flipped else answer
        total = answer.copy() if total is None else np.add(total, answer, out=total)
    assert total is not None
    total /= 8
    return total

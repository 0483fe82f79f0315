"""Whether an enlargement still shows its source: reduced again, it must agree with it.

The released networks lose themselves on crisp text, single lines and noise (their logits have no scale and
grow); the answer is then another picture. Reduced by area, a sound one differs from its source at edges
only, by less than a quarter of the contrast around, and elsewhere by less than a step or two of 255.
"""

from __future__ import annotations

import cv2
import numpy as np

from emt_cli.engine.tiling import Floats

EDGE_SHARE, TOLERANCE = 0.25, 4.0
"""A pixel may differ by so much of the range of the 5x5 pixels around, and by so many of 255 beyond that."""
BLOCK, FAULTY = 32, 0.06
"""Of a block of so many pixels a side, more than this share differs: it is lost. On Set5, Set14 and Kodak24
the most is 0.047 (emt x2, picture 19's fence); text and lines that go wrong begin at 0.08."""
_ROWS = np.array((0, 6, 9, 15))
"""Of each 16 rows, those that are looked at: all phases of patterns of 2, 3, 4 and 6 rows are among them."""


def disagrees(source: Floats, enlarged: Floats, scale: int) -> bool:
    """Tell whether enlarged (h * scale, w * scale, 3) is another picture than source (h, w, 3), 0..255."""
    height, width = source.shape[:2]
    rows = (np.arange(0, height, 16)[:, None] + _ROWS).ravel()
    rows = rows[rows < height]
    strips = enlarged.reshape(height, -1)[rows].reshape(-1, width * scale, 3)
    reduced = cv2.resize(
        np.clip(strips, 0, 255, out=strips), (width, len(rows)), interpolation=cv2.INTER_AREA
    )
    levels = np.clip(source, 0, 255).astype(np.uint8)
    contrast = cv2.morphologyEx(levels, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8))[rows]
    excess = np.abs(np.clip(source[rows], 0, 255) - reduced) - EDGE_SHARE * contrast
    red, green, blue = (excess[..., colour] for colour in range(3))  # numpy is slow on short axes
    wrong = (np.maximum(np.maximum(red, green), blue) > TOLERANCE).astype(np.float32)
    block = min(BLOCK // 4, len(rows)), min(BLOCK, width)
    shares = cv2.boxFilter(wrong, -1, block[::-1], borderType=cv2.BORDER_REFLECT)
    return bool(shares.max() > FAULTY)

"""Whether a picture was drawn, as far as its pixels tell through the damage of JPEG and lossy WebP."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BLOCK = 8
"""Codecs damage each block for itself: an even one stays so, whatever rings around the edge beside it."""
LEAST_PIXELS, MOST_PIXELS = 1 << 14, 1 << 21
"""Of pictures to look at: smaller ones have too few blocks, larger ones cost time and memory, and are
seldom drawn."""
# Found with 300 drawings (samples/line_art.py) and 246 photographs, whole, halved and quartered, as JPEG 30
# to 98 and WebP: at most 68 % of a photograph's blocks with contrast are two-toned (a wine glass on white,
# which is mistaken when it is smaller still), else 57 %.
EVEN, STRONG = 12, 48
"""Levels between the darkest and the brightest pixel of a block: even ones have fewer, strong ones more."""
NEAR, MOSTLY = 6, 0.6
"""Two-toned is a strong block most of whose pixels lie within a sixth of these levels from either end."""
TWO_TONED = 0.72
"""Share of such among a drawing's blocks that aren't even: photographs have textures and shades there."""
LEAST_EVEN, LEAST_TWO_TONED, FEWEST_TWO_TONED = 0.05, 0.02, 32
"""Shares of all blocks, and how many: a caption in a fog or a wire across the sky is no drawing."""
TONES, TONE, OF_FEW_TONES = 8, 4, 0.8
"""Of so many tones, each so many levels wide, are this many of a drawing's even blocks, unlike a sky's."""


def worth_looking(pixels: int) -> bool:
    """Tell whether pictures of so many pixels are looked at."""
    return LEAST_PIXELS <= pixels <= MOST_PIXELS


def looks_drawn(luma: npt.NDArray[np.uint8]) -> bool:
    """Tell whether a decoded picture was drawn; luma: (h, w), whose blocks lie as the codec's."""
    height, width = (side // BLOCK for side in luma.shape)
    if not height or not width:
        return False
    whole = luma[: height * BLOCK, : width * BLOCK].reshape(height, BLOCK, width, BLOCK)
    blocks = whole.transpose(1, 3, 0, 2).reshape(BLOCK * BLOCK, -1)
    darkest, brightest = blocks.min(axis=0), blocks.max(axis=0)
    contrast = brightest - darkest
    even, strong = contrast < EVEN, contrast >= STRONG
    if even.mean() < LEAST_EVEN:
        return False
    tones = np.bincount((darkest[even].astype(np.intp) + brightest[even]) // (2 * TONE))
    if np.sort(tones)[-TONES:].sum() < OF_FEW_TONES * even.sum():
        return False
    near = np.minimum(blocks[:, strong] - darkest[strong], brightest[strong] - blocks[:, strong])
    two_toned = int(((near <= contrast[strong] // NEAR).mean(axis=0) >= MOSTLY).sum())
    uneven = even.size - int(even.sum())
    return bool(two_toned >= max(FEWEST_TWO_TONED, LEAST_TWO_TONED * even.size, TWO_TONED * uneven))

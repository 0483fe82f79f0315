"""Transparency: what is hidden under it must not shine through once a picture is resized, nor opaque fade.

OpenCV is imported when a picture has any.
"""

import numpy as np
import numpy.typing as npt

from emt_cli.media.samples import Pixels, full_scale

_FAINTEST = np.float32(1 / 255)
"""Weight of the least visible pixels, so that averages over any number of them stay above zero."""
_SURROUNDINGS = 5
"""Side in input pixels of the neighbourhood that must be opaque for a pixel to stay exactly opaque."""


def bleed_alpha(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Return pixels (h, w, 3) whose fully transparent ones take on the colours around them, smoothly.

    Editors leave black or white under alpha 0, and every filter that mixes neighbours would draw it into the
    edge. The visible pixels, weighted by their opacity, are averaged down a pyramid until no hole is left;
    then each level fills its holes from the one below (pull-push). Pixels of any opacity, and pictures wholly
    transparent, stay as they are.
    """
    import cv2

    hidden = alpha <= 0
    if not hidden.any() or hidden.all():
        return pixels
    opacity = np.maximum(alpha.astype(np.float32) / np.float32(full_scale(alpha.dtype)), _FAINTEST)
    weights = [np.where(hidden, np.float32(0), opacity)]
    while not weights[-1].all():
        weights.append(_halved(weights[-1]))
    out: Pixels = pixels.copy()
    for channel in range(pixels.shape[2]):
        levels = [pixels[..., channel].astype(np.float32) * weights[0]]
        for _ in weights[1:]:
            levels.append(_halved(levels[-1]))
        filled = levels.pop() / weights[-1]
        for level, weight in zip(reversed(levels), reversed(weights[:-1]), strict=True):
            spread = cv2.resize(filled, (weight.shape[1], weight.shape[0]), interpolation=cv2.INTER_LINEAR)
            filled = np.divide(level, weight, out=np.asarray(spread), where=weight > 0)
        if pixels.dtype.kind == "u":
            filled = np.clip(np.rint(filled), 0, full_scale(pixels.dtype))
        out[..., channel][hidden] = filled[hidden]
    return out


def divided_by_alpha(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Undo the multiplication of colours by alpha; where alpha is 0 colours stay."""
    top = full_scale(pixels.dtype)
    divisor = np.where(alpha == 0, top, alpha).astype(np.float32)[..., None]
    colours = pixels.astype(np.float32) * top / divisor
    return colours if pixels.dtype.kind == "f" else np.clip(np.rint(colours), 0, top).astype(pixels.dtype)


def _halved(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the area average at half the size, rounded up."""
    import cv2

    size = ((plane.shape[1] + 1) // 2, (plane.shape[0] + 1) // 2)
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)


def keep_extremes(alpha: Pixels, source: Pixels) -> None:
    """Make enlarged alpha exactly opaque (or clear) where the source is so all around."""
    import cv2

    window = np.ones((_SURROUNDINGS, _SURROUNDINGS), np.uint8)
    top = full_scale(source.dtype)
    size = (alpha.shape[1], alpha.shape[0])
    for mask, value in ((source >= top, top), (source <= 0, 0)):
        inside = cv2.erode(mask.astype(np.uint8), window)
        whole = np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST))
        alpha[whole.astype(bool)] = value

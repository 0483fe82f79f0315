"""Before and after in one labelled picture."""

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from emt_cli.media.resize import resize

PANEL = 2048
"""Longest side of one half, in pixels: of a larger picture the part with most detail is shown."""

_CELL = 64
_PAPER, _INK, _LINE = (24, 24, 27), (244, 244, 245), (244, 244, 245)


def compare_with_bicubic(
    before: npt.NDArray[np.uint8],
    after: npt.NDArray[np.uint8],
    *,
    labels: tuple[str, str] = ("bicubic", "EMT"),
) -> npt.NDArray[np.uint8]:
    """Return the source (h, w, 3), enlarged by bicubic, beside the result (H, W, 3); RGB, 0..255.

    Of a result beyond PANEL pixels a side only the part with most detail is shown, pixel for pixel, and only
    that part of the source is enlarged.
    """
    window = detail_window(after, PANEL)
    plain = resize(before.astype(np.float32), *after.shape[:2], window=window)
    return before_after(np.clip(np.rint(plain), 0, 255).astype(np.uint8), after[window], labels)


def before_after(
    before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8], labels: tuple[str, str]
) -> npt.NDArray[np.uint8]:
    """Return two RGB pictures (h, w, 3), 0..255, side by side under a bar with their names."""
    height, width = before.shape[:2]
    size = int(np.clip(min(height, width) / 24, 14, 48))
    font = ImageFont.load_default(size)
    bar, line = 2 * size, max(2, size // 8)
    panel = max(width, *(int(font.getlength(label)) + size for label in labels))
    canvas = Image.new("RGB", (2 * panel + line, bar + height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for start, picture, label in zip((0, panel + line), (before, after), labels, strict=True):
        draw.text((start + panel // 2, bar // 2), label, _INK, font, anchor="mm")
        canvas.paste(Image.fromarray(picture), (start + (panel - width) // 2, bar))
    draw.rectangle((panel, 0, panel + line - 1, bar + height - 1), _LINE)
    return np.array(canvas)


def detail_window(image: npt.NDArray[np.uint8], side: int) -> tuple[slice, slice]:
    """Return the rows and columns, at most `side` of each, where neighbours in RGB (h, w, 3) differ most."""
    height, width = image.shape[:2]
    tall, wide = min(side, height), min(side, width)
    if (tall, wide) == (height, width):
        return slice(0, height), slice(0, width)
    green = image[::8, :, 1].astype(np.int16)
    change = np.abs(np.diff(green, axis=1)).astype(np.float32)
    cells = cv2.resize(change, (-(-width // _CELL), -(-height // _CELL)), interpolation=cv2.INTER_AREA)
    down, across = -(-tall // _CELL), -(-wide // _CELL)
    total = cv2.integral(cells)
    sums = total[down:, across:] - total[:-down, across:] - total[down:, :-across] + total[:-down, :-across]
    y, x = np.unravel_index(int(np.argmax(sums)), sums.shape)
    top, left = min(int(y) * _CELL, height - tall), min(int(x) * _CELL, width - wide)
    return slice(top, top + tall), slice(left, left + wide)

"""Before and after in one labelled picture."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from emt_cli.media.resize import resize
from emt_cli.media.samples import Pixels, convert

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
    canvas, top, lefts = _labelled_canvas(before.shape[0], before.shape[1], labels)
    for left, picture in zip(lefts, (before, after), strict=True):
        canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas


class MovingComparison:
    """The frames of a video before and after, side by side: RGB of even sides, all alike.

    Of results (height, width) beyond PANEL pixels a side the middle is shown, pixel for pixel.
    """

    def __init__(self, height: int, width: int, *, labels: tuple[str, str] = ("bicubic", "EMT")) -> None:
        self.size = (height, width)
        tall, wide = min(height, PANEL), min(width, PANEL)
        top, left = (height - tall) // 2, (width - wide) // 2
        self.window = slice(top, top + tall), slice(left, left + wide)
        canvas, self._top, self._lefts = _labelled_canvas(tall, wide, labels)
        edges = [(0, side % 2) for side in canvas.shape[:2]]
        self._canvas = np.pad(canvas, [*edges, (0, 0)], "edge")

    def show(self, before: Pixels, after: Pixels) -> Pixels:
        """Return the source's frame (h, w, 3), enlarged by bicubic, beside the result's; of after's type."""
        plain = resize(convert(before, np.float32), *self.size, window=self.window)
        canvas: Pixels = convert(self._canvas, after.dtype).copy()
        height, width = plain.shape[:2]
        for left, picture in zip(self._lefts, (convert(plain, after.dtype), after[self.window]), strict=True):
            canvas[self._top : self._top + height, left : left + width] = picture
        return canvas


def _labelled_canvas(
    height: int, width: int, labels: tuple[str, str]
) -> tuple[npt.NDArray[np.uint8], int, tuple[int, int]]:
    """Return a canvas for two pictures of this size: with names above, their top row, their left columns."""
    size = int(np.clip(min(height, width) / 24, 14, 48))
    font = ImageFont.load_default(size)
    bar, line = 2 * size, max(2, size // 8)
    panel = max(width, *(int(font.getlength(label)) + size for label in labels))
    canvas = Image.new("RGB", (2 * panel + line, bar + height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    starts = (0, panel + line)
    for start, label in zip(starts, labels, strict=True):
        draw.text((start + panel // 2, bar // 2), label, _INK, font, anchor="mm")
    draw.rectangle((panel, 0, panel + line - 1, bar + height - 1), _LINE)
    margin = (panel - width) // 2
    return np.array(canvas), bar, (margin, panel + line + margin)


def detail_window(image: npt.NDArray[np.uint8], side: int) -> tuple[slice, slice]:
    """Return the rows and columns, at most `side` of each, where neighbours in RGB (h, w, 3) differ most."""
    height, width = image.shape[:2]
    tall, wide = min(side, height), min(side, width)
    if (tall, wide) == (height, width):
        return slice(0, height), slice(0, width)
    import cv2

    green = image[::8, :, 1].astype(np.int16)
    change = np.abs(np.diff(green, axis=1)).astype(np.float32)
    cells = cv2.resize(change, (-(-width // _CELL), -(-height // _CELL)), interpolation=cv2.INTER_AREA)
    down, across = -(-tall // _CELL), -(-wide // _CELL)
    total = cv2.integral(cells)
    sums = total[down:, across:] - total[:-down, across:] - total[down:, :-across] + total[:-down, :-across]
    y, x = np.unravel_index(int(np.argmax(sums)), sums.shape)
    top, left = min(int(y) * _CELL, height - tall), min(int(x) * _CELL, width - wide)
    return slice(top, top + tall), slice(left, left + wide)

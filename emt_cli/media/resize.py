"""Bicubic resizing as MATLAB's imresize does it: a = -0.5, antialiased, mirrored borders.

Super-resolution papers make their low-resolution pictures with it. Each axis is a product with a banded
matrix, taken as many small dense products.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

_BLOCK = 16
"""Output rows of one small matrix product."""
_PRODUCT = 1 << 18
"""Multiplications in one such product; OpenBLAS would spread larger ones over threads, at a loss."""
_BAND = 1 << 23
"""About how many output values of a large picture are made at a time."""


def resize(
    image: npt.NDArray[np.float32], height: int, width: int, *, window: tuple[slice, slice] | None = None
) -> npt.NDArray[np.float32]:
    """Resize (h, w) or (h, w, c) to a size in pixels, in float32, neither rounding nor clipping.

    With a window only those rows and columns of the result are computed. Beside input and output it needs
    about a hundred megabytes.
    """
    rows, columns = window or (slice(None), slice(None))
    planes = image.reshape(*image.shape[:2], -1)
    row_weights = _contributions(image.shape[0], height, rows, np.float32)
    column_weights = _contributions(image.shape[1], width, columns, np.float32)
    out = np.empty((len(row_weights[0]), len(column_weights[0]), planes.shape[2]), np.float32)
    step = max(1, _BAND // (planes.shape[2] * max(image.shape[1], out.shape[1])))
    for start in range(0, len(out), step):
        band = slice(start, start + step)
        part = _resample_rows(planes, row_weights[0][band], row_weights[1][band], np.float32)
        out[band] = _resample_columns(part, *column_weights, np.float32)
    return out.reshape(*out.shape[:2], *image.shape[2:])


def resize_bytes(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize RGB (h, w, 3), 0..255, along the height, then the width, rounding to bytes after each.

    The papers' bicubic scores are taken with this; float64 inside, so that halves round as they do there.
    """
    everything = slice(None)
    part = _resample_rows(image, *_contributions(image.shape[0], height, everything, np.float64), np.uint8)
    return _resample_columns(part, *_contributions(image.shape[1], width, everything, np.float64), np.uint8)


def bicubic_downscale(image: npt.NDArray[np.uint8], scale: int) -> npt.NDArray[np.uint8]:
    """Return the low-resolution RGB (h // scale, w // scale, 3), 0..255, of a cropped picture."""
    height, width = image.shape[0] // scale, image.shape[1] // scale
    return resize_bytes(image[: height * scale, : width * scale], height, width)


def _contributions(
    size: int, new_size: int, wanted: slice, dtype: npt.DTypeLike
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Return for each wanted output place its first input place, maybe outside, and its weights (n, taps)."""
    scale = new_size / size
    squeeze = min(1.0, scale)
    support = 4 / squeeze
    centre = (np.arange(new_size)[wanted] + 0.5) / scale - 0.5
    first = np.ceil(centre - support / 2).astype(np.int64)
    distance = squeeze * (first[:, None] + np.arange(int(support) + 1) - centre[:, None])
    weights = _cubic(distance)
    weights /= weights.sum(axis=1, keepdims=True)
    return first, weights.astype(dtype)


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _resample_rows(
    image: npt.NDArray[Any], first: npt.NDArray[np.int64], weights: npt.NDArray[Any], dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """Return (n, w, c) from (h, w, c) by the weights of n output rows."""
    height, taps = image.shape[0], weights.shape[1]
    flat = image.reshape(height, -1)
    out = np.empty((len(first), flat.shape[1]), dtype)
    for start in range(0, len(first), _BLOCK):
        places = first[start : start + _BLOCK] - first[start]
        matrix = np.zeros((len(places), int(places[-1]) + taps), weights.dtype)
        matrix[np.arange(len(places))[:, None], places[:, None] + np.arange(taps)] = weights[
            start : start + _BLOCK
        ]
        inside = (first[start] + np.arange(matrix.shape[1])) % (2 * height)
        rows = np.minimum(inside, 2 * height - 1 - inside)
        slab = max(64, _PRODUCT // matrix.size)
        for left in range(0, flat.shape[1], slab):
            values = matrix @ flat[rows, left : left + slab].astype(weights.dtype)
            if out.dtype == np.uint8:
                values = np.clip(np.floor(values + 0.5), 0, 255)
            out[start : start + _BLOCK, left : left + slab] = values
    return out.reshape(len(first), *image.shape[1:])


def _resample_columns(
    image: npt.NDArray[Any], first: npt.NDArray[np.int64], weights: npt.NDArray[Any], dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """Return (h, n, c) from (h, w, c) by the weights of n output columns."""
    turned = _resample_rows(np.ascontiguousarray(image.swapaxes(0, 1)), first, weights, dtype)
    return np.ascontiguousarray(turned.swapaxes(0, 1))

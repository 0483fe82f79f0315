"""How alike two pictures are, as super-resolution papers measure it: PSNR and SSIM, on luma or RGB.

SSIM is that of Wang et al. 2004: an 11x11 Gaussian of sigma 1.5, only where it lies inside the picture.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

LUMA = (65.481, 128.553, 24.966)
"""ITU-R BT.601 to studio range, for RGB of 0..1."""
WINDOW, SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def luma(rgb: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return Y (h, w), 16..235, of RGB (h, w, 3), 0..255; it is not rounded."""
    plane: npt.NDArray[np.float64] = rgb.astype(np.float64) @ (np.array(LUMA) / 255) + 16
    return plane


def psnr(a: npt.NDArray[Any], b: npt.NDArray[Any], *, border: int = 0) -> float:
    """Return the peak signal-to-noise ratio in dB of two pictures (h, w) or (h, w, 3), 0..255.

    border: pixels left out on each side. Equal pictures have an infinite ratio. Raises ValueError where the
    shapes differ or nothing is left.
    """
    a, b = _inner(a, b, border)
    error = float(np.mean(np.square(a - b)))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def ssim(a: npt.NDArray[Any], b: npt.NDArray[Any], *, border: int = 0) -> float:
    """Return the structural similarity of two pictures (h, w) or (h, w, 3), 0..255.

    Of RGB it is the mean of the channels. border: pixels left out on each side first. Raises ValueError where
    the shapes differ or what is left is smaller than the window.
    """
    a, b = _inner(a, b, border)
    if min(a.shape[:2]) < WINDOW:
        raise ValueError(f"SSIM needs {WINDOW} pixels a side, and {a.shape[1]}x{a.shape[0]} are left")
    if a.ndim == 2:
        return _plane_ssim(a, b)
    return float(np.mean([_plane_ssim(a[..., c], b[..., c]) for c in range(a.shape[2])]))


def _inner(
    a: npt.NDArray[Any], b: npt.NDArray[Any], border: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if a.shape != b.shape:
        raise ValueError(f"pictures of different shapes: {a.shape} and {b.shape}")
    inside = (slice(border, a.shape[0] - border), slice(border, a.shape[1] - border))
    if border < 0 or min(a.shape[:2]) <= 2 * border:
        raise ValueError(f"nothing is left of {a.shape[1]}x{a.shape[0]} without {border} pixels a side")
    return a[inside].astype(np.float64), b[inside].astype(np.float64)


def _plane_ssim(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    mean_a, mean_b = _blurred(a), _blurred(b)
    both = mean_a * mean_b
    squares = mean_a**2 + mean_b**2
    covariance = _blurred(a * b) - both
    variances = _blurred(a * a) + _blurred(b * b) - squares
    alike = (2 * both + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))
    return float(alike.mean())


def _blurred(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weigh by the Gaussian, only where it lies inside the plane."""
    kernel = cv2.getGaussianKernel(WINDOW, SIGMA)
    half = WINDOW // 2
    blurred: npt.NDArray[Any] = cv2.sepFilter2D(np.ascontiguousarray(plane), -1, kernel, kernel)
    return blurred[half:-half, half:-half]

"""What the network's answers are compared by: pixels, frequencies, features; originals may be sharpened."""

from __future__ import annotations

import cv2
import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from emt_cli.training.features import load_perceptual
from emt_cli.training.tables import LossConfig

CHARBONNIER = 1e-6
"""Where the Charbonnier distance turns from a square to an absolute value, 0..1."""
SQUARE = 16
"""Side in pixels of what colours are averaged over: more than grain and edges, less than objects."""
RADIUS, THRESHOLD = 50, 10.0
"""Unsharp masking as Real-ESRGAN does it: taps of the blur; least difference that is sharpened, 0..255."""
WINDOW, FAINT = 32, 0.5
"""Side in pixels of what a local spectrum is of; deviation, 0..255, of a noise below which nothing counts."""
FINE, FINE_RADIUS = 1.5, 5
"""Standard deviation of the blur in pixels and its reach where a teacher's answers are sharpened."""


class Losses:
    """The terms of the loss that follow from an answer and its target."""

    def __init__(self, config: LossConfig, device: torch.device, *, scale: int) -> None:
        """Load what is needed for answers of a network of this scale; raises ModelError."""
        self.config, self.scale = config, scale
        self.perceptual = None
        if config.perceptual and config.perceptual_weight:
            self.perceptual = load_perceptual(config.perceptual, config.perceptual_file).to(device)

    def sharpened(self, original: Tensor) -> Tensor:
        """Return the originals as pixels and features are to become."""
        return sharpened(original, self.config.sharpen) if self.config.sharpen else original

    def sharpened_answer(self, answer: Tensor) -> Tensor:
        """Return a teacher's answers as pixels and features are to become."""
        amount = self.config.sharpen_answers
        return finely_sharpened(answer, amount) if amount else answer

    def terms(self, answer: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms by name, for RGB (b, 3, h, w), 0..255.

        They are those of pixels of 0..1, times 255: so "pixel" is the mean absolute error, 0..255.
        """
        config = self.config
        terms: dict[str, Tensor] = {}
        if config.pixel_weight:
            distance = F.l1_loss if config.pixel == "l1" else charbonnier
            terms["pixel"] = config.pixel_weight * distance(answer, target)
        if config.frequency_weight:
            terms["frequency"] = config.frequency_weight * frequency_distance(answer, target)
        if config.colour_weight:
            terms["colour"] = config.colour_weight * colour_distance(answer, target)
        if config.chroma_weight:
            terms["chroma"] = config.chroma_weight * chroma_distance(answer, target)
        if config.grid_weight:
            terms["grid"] = config.grid_weight * grid_distance(answer, target, self.scale)
        if config.spectrum_weight:
            terms["spectrum"] = 255 * config.spectrum_weight * spectrum_distance(answer, target)
        if self.perceptual is not None:
            seen = (grays(answer), grays(target)) if config.gray else (answer, target)
            terms["perceptual"] = 255 * config.perceptual_weight * self.perceptual(*seen)
        return terms


def charbonnier(answer: Tensor, target: Tensor) -> Tensor:
    """Return the mean of sqrt(difference^2 + epsilon^2), 0..255 (arXiv 1704.03915)."""
    return ((answer - target).square() + (255 * CHARBONNIER) ** 2).sqrt().mean()


def frequency_distance(answer: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of the orthonormal Fourier transforms, real and imaginary parts."""
    difference = torch.fft.rfft2(answer - target, norm="ortho")
    return torch.view_as_real(difference).abs().mean()


def colour_distance(answer: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of (b, 3, h, w), averaged over SQUAREs."""
    return F.avg_pool2d(answer - target, min(SQUARE, *answer.shape[2:])).abs().mean()


def chroma_distance(answer: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of (b, 3, h, w) less their grays."""
    difference = answer - target
    return (difference - grays(difference)).abs().mean()


def spectrum_distance(answer: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of the logarithms of local power spectra of (b, 3, h, w), 0..255.

    Spectra are Welch's, of windows that overlap by half, averaged over up to 3 x 3: phases do not count.
    """
    return (_log_spectra(answer) - _log_spectra(target)).abs().mean()


def _log_spectra(x: Tensor) -> Tensor:
    side = min(WINDOW, *x.shape[2:])
    parts = x.mean(1).unfold(1, side, max(1, side // 2)).unfold(2, side, max(1, side // 2))
    bell = torch.hann_window(side, device=x.device)
    window = bell[:, None] * bell
    parts = (parts - parts.mean((3, 4), keepdim=True)) * window
    power = torch.view_as_real(torch.fft.rfft2(parts)).square().sum(-1)
    count = min(3, *power.shape[1:3])
    power = F.avg_pool2d(power.flatten(3).permute(0, 3, 1, 2), count, 1)
    return (power + FAINT**2 * window.square().sum()).log()


def grays(x: Tensor) -> Tensor:
    """Return (b, 3, h, w) with the mean of the three in each."""
    return x.mean(1, keepdim=True).expand_as(x)


def grid_distance(answer: Tensor, target: Tensor, period: int) -> Tensor:
    """Return how much of (b, 3, h, w) repeats with a period: errors, and how busy it is.

    Means over all places of one phase are compared with those over all of them, which drop what is of the
    picture; busy is the mean absolute Laplacian.
    """
    return _unevenness(answer - target, period) + _unevenness(_laplacian(answer).abs(), period)


def _unevenness(x: Tensor, period: int) -> Tensor:
    """Return by how much the phases of (b, c, h, w), each a mean over its places, differ from their mean."""
    height, width = (side // period * period for side in x.shape[2:])
    cells = x[..., :height, :width].reshape(*x.shape[:2], height // period, period, width // period, period)
    phases = _over_processes(cells.mean((0, 2, 4)))
    return (phases - phases.mean((1, 2), keepdim=True)).abs().mean()


def _over_processes(x: Tensor) -> Tensor:
    """Return the mean over all processes; its gradient is for one of them, as they average gradients."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return x
    total = x.detach().clone()
    distributed.all_reduce(total)
    return x + (total / distributed.get_world_size() - x.detach())


def _laplacian(x: Tensor) -> Tensor:
    inner = x[..., 1:-1, 1:-1]
    return x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:] - 4 * inner


def sharpened(x: Tensor, amount: float) -> Tensor:
    """Sharpen (b, 3, h, w), 0..255, where it differs from its blur by more than THRESHOLD."""
    kernel = torch.from_numpy(cv2.getGaussianKernel(RADIUS + 1, 0)).to(x)
    blurred = _blurred(x, kernel)
    residual = x - blurred
    mask = _blurred((residual.abs() > THRESHOLD).to(x), kernel)
    sharp = (x + amount * residual).clamp(0, 255)
    return mask * sharp + (1 - mask) * x


def finely_sharpened(x: Tensor, amount: float) -> Tensor:
    """Sharpen (b, 3, h, w), 0..255, everywhere, by what a narrow blur takes away."""
    kernel = torch.from_numpy(cv2.getGaussianKernel(2 * FINE_RADIUS + 1, FINE)).to(x)
    return (x + amount * (x - _blurred(x, kernel))).clamp(0, 255)


def _blurred(x: Tensor, kernel: Tensor) -> Tensor:
    """Blur along both axes; the border is mirrored, as often as it takes."""
    half = len(kernel) // 2
    for axis in (2, 3):
        size = x.shape[axis]
        places = torch.arange(-half, size + half, device=x.device) % max(1, 2 * size - 2)
        places = torch.minimum(places, 2 * size - 2 - places).clamp(min=0)
        shape = (1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)
        wide = x.index_select(axis, places).flatten(0, 1)[:, None]
        x = F.conv2d(wide, kernel.view(shape)).view(*x.shape)
    return x

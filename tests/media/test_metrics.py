"""PSNR and SSIM against scikit-image, and against scores worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from emt_cli.media.metrics import luma, psnr, ssim
from emt_cli.media.resize import bicubic_downscale, resize_bytes


@pytest.fixture(params=[0, 1, 2], ids=["noise", "blur", "brighter"])
def spoilt(request: pytest.FixtureRequest, photo: np.ndarray) -> np.ndarray:
    """The photo, damaged in one of three ways."""
    if request.param == 0:
        noise = np.random.default_rng(0).normal(0, 12, photo.shape)
        return np.clip(photo + noise, 0, 255).astype(np.uint8)
    if request.param == 1:
        return resize_bytes(bicubic_downscale(photo, 4), *photo.shape[:2])
    return np.clip(photo.astype(int) + 9, 0, 255).astype(np.uint8)


def skimage_ssim(a: np.ndarray, b: np.ndarray, **more: object) -> float:
    """The settings of Wang et al.; scikit-image too averages where the window lies inside."""
    settings = {"data_range": 255, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(a, b, **settings, **more))


def test_luma_is_that_of_skimage(photo: np.ndarray) -> None:
    assert np.allclose(luma(photo), rgb2ycbcr(photo)[..., 0], atol=1e-9)


def test_black_and_white_have_luma_16_and_235() -> None:
    pixels = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)

    assert luma(pixels).ravel() == pytest.approx([16, 235])


@pytest.mark.parametrize("border", [0, 3])
def test_psnr_equals_skimage(photo: np.ndarray, spoilt: np.ndarray, border: int) -> None:
    inside = slice(border, -border or None)
    a, b = (rgb2ycbcr(picture)[inside, inside, 0] for picture in (photo, spoilt))

    assert psnr(luma(photo), luma(spoilt), border=border) == pytest.approx(
        peak_signal_noise_ratio(a, b, data_range=255), abs=1e-9
    )


@pytest.mark.parametrize("border", [0, 3])
def test_ssim_equals_skimage(photo: np.ndarray, spoilt: np.ndarray, border: int) -> None:
    inside = slice(border, -border or None)
    a, b = (rgb2ycbcr(picture)[inside, inside, 0] for picture in (photo, spoilt))

    assert ssim(luma(photo), luma(spoilt), border=border) == pytest.approx(skimage_ssim(a, b), abs=1e-9)


def test_rgb_scores_equal_skimage(photo: np.ndarray, spoilt: np.ndarray) -> None:
    assert psnr(photo, spoilt) == pytest.approx(peak_signal_noise_ratio(photo, spoilt), abs=1e-9)
    expected = skimage_ssim(photo.astype(float), spoilt.astype(float), channel_axis=2)
    assert ssim(photo, spoilt) == pytest.approx(expected, abs=1e-9)


def test_one_grey_level_apart_is_48_13_db() -> None:
    a = np.full((20, 30), 100, np.uint8)

    assert psnr(a, a + 1) == pytest.approx(20 * math.log10(255))


def test_difference_below_zero_does_not_wrap() -> None:
    a, b = np.full((12, 12), 1, np.uint8), np.full((12, 12), 2, np.uint8)

    assert psnr(a, b) == psnr(b, a)


def test_equal_pictures_score_best(photo: np.ndarray) -> None:
    assert psnr(photo, photo) == math.inf
    assert ssim(photo, photo) == pytest.approx(1)


def test_border_is_left_out(photo: np.ndarray) -> None:
    framed = photo.copy()
    framed[:4], framed[-4:], framed[:, :4], framed[:, -4:] = 0, 0, 0, 0

    assert psnr(photo, framed, border=4) == math.inf
    assert psnr(photo, framed, border=3) < 40


def test_other_shape_is_refused(photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match="different shapes"):
        psnr(photo, photo[:-1])


def test_nothing_left_is_refused(photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match="nothing is left"):
        psnr(photo[:8], photo[:8], border=4)
    with pytest.raises(ValueError, match="SSIM needs 11"):
        ssim(photo[:18], photo[:18], border=4)


@pytest.mark.parametrize(("name", "expected"), [("Set5", (28.429, 0.8111)), ("Set14", (26.088, 0.7048))])
def test_bicubic_of_the_standard_sets_scores_as_in_papers(
    shared: Path, name: str, expected: tuple[float, float]
) -> None:
    scores = []
    for path in sorted((shared / "data" / "benchmark" / name / "HR").glob("*.png")):
        hr = np.array(Image.open(path).convert("RGB"))
        hr = hr[: hr.shape[0] // 4 * 4, : hr.shape[1] // 4 * 4]
        sr = resize_bytes(bicubic_downscale(hr, 4), *hr.shape[:2])
        scores.append((psnr(luma(sr), luma(hr), border=4), ssim(luma(sr), luma(hr), border=4)))

    mean_psnr, mean_ssim = np.mean(scores, axis=0)
    assert mean_psnr == pytest.approx(expected[0], abs=0.001)
    assert mean_ssim == pytest.approx(expected[1], abs=0.0001)

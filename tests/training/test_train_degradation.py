"""Damaged patches: where they lie, how strong the damages are, and how many there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from emt_cli.media.resize import bicubic_downscale
from emt_cli.model.config import EMTConfig
from emt_cli.training.blur_kernels import bell, bessel, sinc
from emt_cli.training.config import TrainConfig
from emt_cli.training.degradation_mix import make_degradation
from emt_cli.training.degradation_real import RealDegradation
from emt_cli.training.tables import PhotoConfig, RealConfig

SAMPLES = Path(__file__).parent.parent.parent / "samples"
QUIET = RealConfig(
    gaussian=(0, 0),
    poisson=(0, 0),
    second_gaussian=(0, 0),
    second_poisson=(0, 0),
    quality=(100, 100),
    second_quality=(100, 100),
)
"""Blurs and resizes only."""
PLAIN = replace(
    QUIET,
    resizes=(0, 0, 1),
    second_resizes=(0, 0, 1),
    second_blur_share=0.0,
    sinc_share=0.0,
    final_sinc_share=0.0,
    gaussian_share=1.0,
)
"""Nothing but the first blur and the reduction."""

BT601 = np.array([0.299, 0.587, 0.114])
LUMA_OF_NOISE = float(np.sqrt((BT601**2).sum()))
"""Deviation of the luma of noise whose deviation is 1 in each colour; JPEG keeps chroma at half the size."""


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return np.array(Image.open(SAMPLES / "astronaut.png").convert("RGB"))


def flat(level: int, side: int = 96) -> np.ndarray:
    return np.full((side * 2, side * 2, 3), level, np.uint8)


def luma(rgb: np.ndarray) -> np.ndarray:
    return rgb @ BT601


def spread(config: RealConfig, level: int = 128) -> np.ndarray:
    """Return what a flat picture has become, without its level, (b, h, w, 3)."""
    damage = RealDegradation(2, config)
    draws = [damage(flat(level), np.random.default_rng(seed)).astype(float) for seed in range(8)]
    return np.stack(draws) - level


def test_patches_are_not_shifted_by_a_fraction_of_a_pixel():
    """The centre of gravity of a spot stays where it is, whatever the kernels and sizes between."""
    damage = RealDegradation(4, QUIET)
    places = np.arange(320) - 159.5
    spot = 250 * np.exp(-(places[:, None] ** 2 + places**2) / (2 * 22**2))
    wide = np.rint(np.stack([spot] * 3, axis=2)).astype(np.uint8)
    middle = np.arange(48) - 23.5

    for seed in range(60):
        draw = damage(wide, np.random.default_rng(seed)).astype(float).mean(axis=2)
        draw[draw < 8] = 0
        centre = [(draw.sum(axis=axis) * middle).sum() / draw.sum() for axis in (0, 1)]

        assert np.abs(centre).max() < 0.1, seed


def test_margin_is_large_enough_for_the_blurs(astronaut: np.ndarray):
    """A margin twice as large gives the same patch, but for rounding of the sizes between."""
    near, far = (RealDegradation(4, QUIET, margin) for margin in (16, 32))
    wide = np.ascontiguousarray(astronaut[40:488, 20:468])
    differences = []

    for seed in range(30):
        small = near(wide[64:-64, 64:-64], np.random.default_rng(seed)).astype(float)
        large = far(wide, np.random.default_rng(seed)).astype(float)
        differences.append(np.abs(small - large).mean(axis=2))

    everywhere = np.mean(differences, axis=0)
    border = np.concatenate([everywhere[0], everywhere[-1], everywhere[:, 0], everywhere[:, -1]]).mean()
    assert border < 1.2 * everywhere[4:-4, 4:-4].mean() + 0.5


def test_gaussian_noise_is_as_strong_as_asked_for():
    noise = spread(replace(PLAIN, second_gaussian=(12, 12), gray_share=0.0))

    assert luma(noise).std() == pytest.approx(12 * LUMA_OF_NOISE, rel=0.05)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 2].ravel())[0, 1]) < 0.9


def test_gray_noise_is_the_same_in_all_colours():
    noise = spread(replace(PLAIN, second_gaussian=(12, 12), gray_share=1.0))

    assert np.corrcoef(noise[..., 0].ravel(), noise[..., 2].ravel())[0, 1] > 0.95


def test_variance_of_poisson_noise_grows_with_the_light():
    """As counted photons: Real-ESRGAN's own draws at full brightness have a deviation of 255 / 16."""
    config = replace(PLAIN, second_poisson=(1, 1), gaussian_share=0.0, gray_share=0.0)

    dark, bright = (luma(spread(config, level)).var() for level in (50, 150))

    assert bright / dark == pytest.approx(3, rel=0.1)
    assert dark == pytest.approx(LUMA_OF_NOISE**2 * 255**2 / 256 * 50 / 255, rel=0.1)


def test_jpeg_of_low_quality_leaves_blocks(astronaut: np.ndarray):
    """Steps across a grid of 8 pixels, wherever it begins, stand out from those between."""
    low = RealDegradation(2, replace(PLAIN, second_quality=(10, 10)))
    wide = np.ascontiguousarray(astronaut[100:324, 100:324])
    ratios = []

    for seed in range(10):
        gray = low(wide, np.random.default_rng(seed)).astype(float).mean(axis=2)
        steps = np.abs(np.diff(gray, axis=1)).mean(axis=0)
        phases = [steps[phase::8].mean() for phase in range(8)]
        ratios.append(max(phases) / np.median(phases))

    assert np.mean(ratios) > 1.3


def test_mild_damages_keep_the_picture(astronaut: np.ndarray):
    mild = replace(PLAIN, kernels=(1, 0, 0, 0, 0, 0), blur=(0.3, 0.3))
    wide = np.ascontiguousarray(astronaut[100:324, 100:324])

    damaged = RealDegradation(2, mild)(wide, np.random.default_rng(3)).astype(float)

    clean = bicubic_downscale(wide, 2)[16:-16, 16:-16]
    assert np.abs(damaged - clean).mean() < 3


def test_shares_of_clean_and_mild_patches_are_kept(astronaut: np.ndarray):
    wide = np.ascontiguousarray(astronaut[100:292, 100:292])
    clean = bicubic_downscale(wide, 2)[16:-16, 16:-16]
    photo = PhotoConfig(bicubic_share=1, noise_share=1, noise=(0, 0), saves=(1, 0, 0))  # clean as well
    config = TrainConfig(
        network=EMTConfig(2),
        degradation="real",
        clean_share=0.2,
        photo=photo,
        real=RealConfig(photo_share=0.5),
    )
    damage = make_degradation(config)
    assert damage is not None

    same = [np.array_equal(damage(wide, np.random.default_rng(seed)), clean) for seed in range(300)]

    assert np.mean(same) == pytest.approx(0.2 + 0.8 * 0.5, abs=0.08)


def test_bicubic_needs_no_damage():
    assert make_degradation(TrainConfig()) is None


def test_bessel_function_is_scipys():
    special = pytest.importorskip("scipy.special")
    x = np.linspace(0, 60, 500)

    assert np.abs(bessel(x) - special.j1(x)).max() < 1e-12


def test_round_gaussian_is_opencvs():
    kernel = cv2.getGaussianKernel(13, 1.7)

    assert np.abs(bell(6, (1.7, 1.7), 0.4) - kernel @ kernel.T).max() < 1e-6


def test_stretched_gaussian_has_its_deviations_along_its_axes():
    kernel = bell(40, (6, 2), 0.5)
    places = np.arange(-40, 41)
    x, y = np.meshgrid(places, places)

    along, across = x * np.cos(0.5) + y * np.sin(0.5), y * np.cos(0.5) - x * np.sin(0.5)

    assert (kernel * along**2).sum() == pytest.approx(36, rel=0.01)
    assert (kernel * across**2).sum() == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize("plateau", [False, True])
def test_kernels_are_symmetric_and_keep_the_light(plateau: bool):
    for kernel in (bell(7, (2, 1), 0.7, shape=1.8, plateau=plateau), sinc(7, 1.9)):
        assert kernel.sum() == pytest.approx(1, abs=1e-6)
        assert np.allclose(kernel, kernel[::-1, ::-1])


def test_sinc_filter_lets_low_frequencies_through_and_stops_high_ones():
    spectrum = np.abs(np.fft.fft2(sinc(10, np.pi / 2), (256, 256)))

    assert spectrum[:32, 0].min() > 0.9
    assert spectrum[100:128, 0].max() < 0.1

"""Colours under transparency."""

from __future__ import annotations

import numpy as np
import pytest

from emt_cli.media.picture.alpha import bleed_alpha
from emt_cli.media.resize import resize
from emt_cli.media.samples import full_scale


def disc(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc, soft at its edge, on transparent black."""
    y, x = np.ogrid[:61, :80]
    top = full_scale(dtype)
    opacity = np.clip(20 - np.hypot(y - 30, x - 40), 0, 1)
    pixels = np.where((opacity > 0)[..., None], np.array([0.9, 0.8, 0.3]) * top, 0).astype(dtype)
    return pixels, (opacity * top).astype(dtype)


def composed_on_disc_colour(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Upscaled by bicubic, apart, then laid over a background of the disc's own colour, 0..1."""
    top = full_scale(pixels.dtype)
    colours = resize(pixels.astype(np.float32) / top, 244, 320)
    opacity = np.clip(resize(alpha.astype(np.float32) / top, 244, 320), 0, 1)[..., None]
    return colours * opacity + np.array([0.9, 0.8, 0.3]) * (1 - opacity)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_enlarged_disc_has_no_dark_fringe(dtype: type) -> None:
    pixels, alpha = disc(dtype)

    spread = bleed_alpha(pixels, alpha)

    assert spread.dtype == dtype
    fringe = np.abs(composed_on_disc_colour(pixels, alpha) - [0.9, 0.8, 0.3]).max()
    remaining = np.abs(composed_on_disc_colour(spread, alpha) - [0.9, 0.8, 0.3]).max()
    assert fringe > 0.1  # what this is about
    assert remaining < 0.006


def test_visible_pixels_stay_as_they_are() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (33, 47, 3)).astype(np.uint8)
    alpha = generator.choice([0, 0, 0, 1, 128, 255], (33, 47)).astype(np.uint8)

    spread = bleed_alpha(pixels, alpha)

    np.testing.assert_array_equal(spread[alpha > 0], pixels[alpha > 0])


def test_hidden_pixels_take_the_side_they_lie_on() -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    alpha = np.zeros((20, 60), np.uint8)
    pixels[:, :10], pixels[:, 50:] = [255, 0, 0], [0, 0, 255]
    alpha[:, :10] = alpha[:, 50:] = 255

    spread = bleed_alpha(pixels, alpha).astype(int)

    assert (spread[:, 10:14, 0] > 200).all()
    assert (spread[:, 46:50, 2] > 200).all()
    assert (np.diff(spread[10, :, 0]) <= 0).all()


@pytest.mark.parametrize("value", [0, 255])
def test_nothing_to_spread_or_nothing_to_fill_changes_nothing(value: int) -> None:
    pixels = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)

    np.testing.assert_array_equal(bleed_alpha(pixels, np.full((3, 3), value, np.uint8)), pixels)


def test_barely_visible_pixel_is_enough() -> None:
    pixels, alpha = np.zeros((500, 700, 3), np.float32), np.zeros((500, 700), np.float32)
    pixels[400, 3], alpha[400, 3] = 0.5, 1e-30

    np.testing.assert_allclose(bleed_alpha(pixels, alpha), 0.5, rtol=1e-4)


def test_opaque_neighbours_count_more_than_faint_ones() -> None:
    pixels, alpha = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)
    pixels[0, 0], alpha[0, 0] = [255, 0, 0], 1
    pixels[1, 0], alpha[1, 0] = [0, 0, 255], 255

    assert bleed_alpha(pixels, alpha)[0, 1].tolist() == [1, 0, 254]

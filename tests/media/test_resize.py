"""Bicubic resizing against a slow dense-matrix reading of MATLAB's imresize."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emt_cli.media.resize import bicubic_downscale, resize, resize_bytes


def imresize_matrix(size: int, new_size: int) -> np.ndarray:
    """The (new_size, size) weights of MATLAB's imresize along one axis, an entry at a time."""
    scale = new_size / size
    widening = max(1.0, 1 / scale)
    matrix = np.zeros((new_size, size))
    for row in range(new_size):
        centre = (row + 1) / scale + 0.5 * (1 - 1 / scale)  # counted from 1, as MATLAB does
        left = math.floor(centre - 2 * widening)
        for place in range(left, left + math.ceil(4 * widening) + 2):
            x = abs(centre - place) / widening
            if x <= 1:
                weight = 1.5 * x**3 - 2.5 * x**2 + 1
            elif x < 2:
                weight = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            else:
                continue
            mirrored = (place - 1) % (2 * size)
            matrix[row, min(mirrored, 2 * size - 1 - mirrored)] += weight
        matrix[row] /= matrix[row].sum()
    return matrix


def imresize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The same in both directions, in double precision."""
    down, across = imresize_matrix(image.shape[0], height), imresize_matrix(image.shape[1], width)
    return np.einsum("yh,hwc,xw->yxc", down, image.astype(float), across, optimize=True)


def luma(image: np.ndarray) -> np.ndarray:
    """Y of ITU-R BT.601, 16 to 235."""
    return 16 + image.astype(float) @ np.array([65.481, 128.553, 24.966]) / 255


@pytest.mark.parametrize(
    ("size", "new_size"),
    [
        ((17, 23), (40, 9)),
        ((96, 120), (37, 211)),
        ((64, 48), (16, 12)),
        ((5, 1), (3, 7)),
        ((1, 1), (4, 4)),
        ((200, 3), (2, 5)),
        ((12, 9), (12, 9)),
    ],
    ids=str,
)
def test_resizing_equals_imresize(size: tuple[int, int], new_size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((*size, 3)).astype(np.float32)

    found = resize(image, *new_size)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, imresize(image, *new_size), atol=1e-6)


def test_single_plane_is_resized_like_a_channel() -> None:
    image = np.random.default_rng(0).random((30, 20, 3)).astype(np.float32)

    plane = resize(image[..., 1], 13, 41)

    np.testing.assert_allclose(plane, resize(image, 13, 41)[..., 1], atol=1e-6)


def test_bands_of_a_large_picture_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).random((120, 40, 3)).astype(np.float32)
    whole = resize(image, 333, 77)

    monkeypatch.setattr("emt_cli.media.resize._BAND", 1000)
    monkeypatch.setattr("emt_cli.media.resize._PRODUCT", 5000)

    np.testing.assert_allclose(resize(image, 333, 77), whole, atol=1e-6)


def test_window_is_a_part_of_the_whole() -> None:
    image = np.random.default_rng(0).random((50, 60, 3)).astype(np.float32)

    part = resize(image, 175, 150, window=(slice(40, 90), slice(100, 150)))

    np.testing.assert_allclose(part, resize(image, 175, 150)[40:90, 100:150], atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_low_resolution_follows_the_papers_recipe(photo: np.ndarray, scale: int) -> None:
    odd = photo[:95, :119]
    height, width = 95 // scale, 119 // scale
    cropped = odd[: height * scale, : width * scale].astype(float)

    rows = np.einsum("yh,hwc->ywc", imresize_matrix(height * scale, height), cropped)
    rows = np.clip(np.floor(rows + 0.5), 0, 255)
    expected = np.einsum("xw,ywc->yxc", imresize_matrix(width * scale, width), rows)
    expected = np.clip(np.floor(expected + 0.5), 0, 255)

    np.testing.assert_array_equal(bicubic_downscale(odd, scale), expected)


@pytest.mark.parametrize(
    ("name", "decibels"), [("Set5", 28.429), pytest.param("Set14", 26.088, marks=pytest.mark.slow)]
)
def test_bicubic_scores_what_the_papers_print(shared: Path, name: str, decibels: float) -> None:
    scores = []
    for path in sorted((shared / "data" / "benchmark" / name / "HR").glob("*.png")):
        image = np.asarray(Image.open(path).convert("RGB"))
        low = bicubic_downscale(image, 4)
        height, width = 4 * low.shape[0], 4 * low.shape[1]
        error = luma(image[:height, :width]) - luma(resize_bytes(low, height, width))
        scores.append(10 * np.log10(255**2 / np.mean(error[4:-4, 4:-4] ** 2)))

    assert scores
    assert np.mean(scores) == pytest.approx(decibels, abs=0.0006)

"""NIQE against other implementations' figures."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from emt_cli.media.niqe import niqe

SAMPLES = Path(__file__).parent.parent.parent / "samples"
BABOON = Path(__file__).parent.parent.parent.parent / "shared/data/benchmark/Set14/HR/baboon.png"


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))


@pytest.mark.parametrize(
    ("name", "sharp", "blurred"),
    [("cat", 2.6255, 7.1216), ("coffee", 4.1153, 6.8946), ("astronaut", 3.0906, 6.5644)],
)
def test_figures_are_those_of_basicsr(name: str, sharp: float, blurred: float):
    """Of basicsr.metrics.calculate_niqe, 1.4.2; blocks without any texture make the last digits differ."""
    picture = pixels(SAMPLES / f"{name}.png")

    assert niqe(picture) == pytest.approx(sharp, abs=0.03)
    assert niqe(cv2.GaussianBlur(picture, (0, 0), 1.5)) == pytest.approx(blurred, abs=0.03)


@pytest.mark.skipif(not BABOON.is_file(), reason="no reference data beside the checkout")
def test_figure_is_that_of_the_authors_in_matlab():
    """As BasicSR's documentation tells it for Set14's baboon."""
    assert niqe(pixels(BABOON)) == pytest.approx(5.72957, abs=1e-4)


def test_small_and_flat_pictures_have_none():
    assert math.isnan(niqe(pixels(SAMPLES / "cat.png")[:150, :150]))
    assert math.isnan(niqe(np.full((200, 300, 3), 90, np.uint8)))

"""Floats become a picture's own numbers by one rounding."""

from __future__ import annotations

import numpy as np
import pytest

from emt_cli.engine.pixels import finisher


def test_8_bits_are_the_nearest_number_and_halves_go_to_the_even_one() -> None:
    halves = np.arange(-40, 2 * 255 + 40)

    stored = finisher(np.dtype(np.uint8))((halves / 2).astype(np.float32).reshape(-1, 1, 1))

    assert stored.ravel().tolist() == [min(max(round(half / 2), 0), 255) for half in halves.tolist()]


@pytest.mark.parametrize("beside", [-0.4, 0.4])
def test_16_bits_are_the_nearest_number(beside: float) -> None:
    numbers = np.arange(-500, 66000)

    stored = finisher(np.dtype(np.uint16))(((numbers + beside) / 257).astype(np.float32).reshape(-1, 1, 1))

    np.testing.assert_array_equal(stored.ravel(), np.clip(numbers, 0, 65535))

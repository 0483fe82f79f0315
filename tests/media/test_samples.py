"""Samples in other depths: each rounded once, to the nearest."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from emt_cli.media.samples import convert


@pytest.mark.parametrize(("source", "target"), [(np.uint16, np.uint8), (np.uint8, np.uint16)])
def test_every_value_becomes_the_nearest_of_the_other_depth(source: type, target: type) -> None:
    values = np.arange(np.iinfo(source).max + 1, dtype=source)
    factor = Fraction(int(np.iinfo(target).max), int(np.iinfo(source).max))

    made = convert(values, target)

    assert made.dtype == target
    assert made.tolist() == [round(value * factor) for value in values.tolist()]


def test_floats_are_rounded_and_kept_in_range() -> None:
    values = np.array([-0.5, 0, 0.4999 / 255, 0.5001 / 255, 254.6 / 255, 1, 7], np.float32)

    assert convert(values, np.uint8).tolist() == [0, 0, 0, 1, 255, 255, 255]

"""Sizes, scales and tiles drawn at random: the result has the size that was planned, and no seams."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emt_cli.engine.torch.network import weights_of
from emt_cli.engine.upscaler import Upscaler
from emt_cli.errors import UsageError
from emt_cli.jobs.picture.enlarge import enlarge
from emt_cli.jobs.picture.plan import LARGEST, plan_picture
from emt_cli.jobs.target import Target
from emt_cli.media.picture.io import Picture
from emt_cli.model.emt import EMT
from emt_cli.steps import finish

SIDES = st.integers(1, 5000)
REACH = 40
"""Input pixels across which the tiny network can see: windows of 8, rolled by 4, in each of two blocks."""


@pytest.fixture(scope="module")
def upscaler(tiny_network: EMT) -> Upscaler:
    return Upscaler(weights_of(tiny_network))


@given(height=SIDES, width=SIDES, scale=st.floats(0.01, 20), scales=st.sampled_from([(2,), (4,), (2, 3, 4)]))
def test_a_plan_covers_its_target_with_the_least_work_or_says_no(
    height: int, width: int, scale: float, scales: tuple[int, ...]
) -> None:
    wanted = max(1, round(height * scale)), max(1, round(width * scale))
    most = min(max(scales) ** 2, LARGEST)
    larger = wanted != (height, width) and wanted[0] >= height and wanted[1] >= width
    if not larger or wanted[0] > most * height or wanted[1] > most * width:
        with pytest.raises(UsageError):
            plan_picture(height, width, Target(scale=scale), scales, name="x")
        return

    plan = plan_picture(height, width, Target(scale=scale), scales, name="x")

    product = int(np.prod(plan.passes))
    assert (plan.out_height, plan.out_width) == wanted
    assert plan.height * product >= plan.out_height
    assert plan.width * product >= plan.out_width
    assert set(plan.passes) <= set(scales)
    smaller = [a * b for a in (1, *scales) for b in scales if a * b < product]
    assert all(height * s < plan.out_height or width * s < plan.out_width for s in smaller)


@given(height=SIDES, width=SIDES, side=st.integers(1, 20000))
def test_the_shape_is_kept_to_a_pixel_whichever_side_is_given(height: int, width: int, side: int) -> None:
    for target, given_side, wanted in (
        (Target(width=side), width, 1),
        (Target(height=side), height, 0),
        (Target(long_side=side), max(height, width), 0 if height >= width else 1),
    ):
        size = target.size(height, width)
        assert size[wanted] == side
        exact = Fraction(side * (height, width)[1 - wanted], given_side)
        assert abs(size[1 - wanted] - max(exact, Fraction(1))) <= Fraction(1, 2) + Fraction(1, 10**6)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    scale=st.sampled_from([1.3, 2, 2.5, 4]),
    kind=st.sampled_from(["uint8", "uint16", "float32"]),
    gray=st.booleans(),
    alpha=st.booleans(),
    seed=st.integers(0, 9),
)
def test_any_picture_becomes_one_of_the_planned_size_and_of_its_own_kind(
    upscaler: Upscaler, height: int, width: int, scale: float, kind: str, gray: bool, alpha: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    top = {"uint8": 255, "uint16": 65535, "float32": 1}[kind]
    plane = (random.random((height, width, 3)) * top).astype(kind)
    pixels = np.repeat(plane[..., :1], 3, axis=2) if gray else plane
    picture = Picture(pixels, plane[..., 1] if alpha else None, gray)
    try:
        plan = plan_picture(height, width, Target(scale=scale), (2,), name="x")
    except UsageError:
        assert (round(height * scale), round(width * scale)) == (height, width)
        return

    result = finish(enlarge(picture, plan, lambda scale: upscaler))

    assert result.pixels.shape == (plan.out_height, plan.out_width, 3)
    assert result.pixels.dtype == kind
    assert np.isfinite(result.pixels).all()
    assert (result.alpha is not None) == alpha
    if result.alpha is not None:
        assert result.alpha.shape == result.pixels.shape[:2]
        assert result.alpha.dtype == kind


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    height=st.integers(2 * REACH + 1, 150),
    width=st.integers(2 * REACH + 1, 150),
    tile=st.sampled_from([8, 24, 64]),
    seed=st.integers(0, 9),
)
def test_tiles_give_what_the_whole_picture_gives_away_from_its_border(
    tiny_network: EMT, height: int, width: int, tile: int, seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(60, 190, (height, width, 3)).astype(np.float32) / 255

    whole = Upscaler(weights_of(tiny_network), tile=0, engine="torch").upscale(picture)
    tiled = Upscaler(weights_of(tiny_network), tile=tile, engine="torch").upscale(picture)

    assert tiled.shape == whole.shape == (2 * height, 2 * width, 3)
    edge = 2 * REACH
    assert np.abs(tiled - whole)[edge:-edge, edge:-edge].max() < 1e-3


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 1e308])
def test_scales_that_are_none_are_usage_errors(scale: float) -> None:
    with pytest.raises(UsageError):
        plan_picture(10, 10, Target(scale=scale), (2, 3, 4), name="x")

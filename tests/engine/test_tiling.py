"""Tile plans cover a picture exactly, and mosaics of tiles have no seams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_cli.engine.tiling import FEATHER, Mosaic, plan_tiles

SIDES = st.integers(1, 400)


@given(height=SIDES, width=SIDES, size=st.sampled_from([32, 64, 96, 256]))
def test_tiles_cover_every_pixel_once_and_read_a_halo_inside_the_picture(
    height: int, width: int, size: int
) -> None:
    covered = np.zeros((height, width), int)

    for tile in plan_tiles(height, width, size=size, halo=32):
        covered[tile.top : tile.bottom, tile.left : tile.right] += 1
        assert tile.bottom - tile.top < size + FEATHER
        assert tile.right - tile.left < size + FEATHER
        assert tile.read_top == max(tile.top - 32, 0)
        assert tile.read_bottom == min(tile.bottom + 32, height)
        assert tile.read_left == max(tile.left - 32, 0)
        assert tile.read_right == min(tile.right + 32, width)

    assert (covered == 1).all()


@given(height=SIDES, width=SIDES)
def test_tiles_read_from_multiples_of_the_window(height: int, width: int) -> None:
    for tile in plan_tiles(height, width, size=96, halo=32):
        assert tile.read_top % 32 == 0
        assert tile.read_left % 32 == 0


def test_tiles_of_a_row_are_of_nearly_equal_size() -> None:
    tiles = plan_tiles(300, 1000, size=512, halo=32)

    assert [(tile.left, tile.right) for tile in tiles] == [(0, 512), (512, 1000)]
    assert [tile.bottom - tile.top for tile in plan_tiles(1000, 100, size=960, halo=32)] == [512, 488]


def test_tiles_below_a_row_that_is_done_cover_the_rest_alone() -> None:
    covered = np.zeros((200, 100), int)

    for tile in plan_tiles(200, 100, size=64, halo=32, first_row=96):
        covered[tile.top : tile.bottom, tile.left : tile.right] += 1
        assert tile.read_top == tile.top - 32

    assert (covered[:96] == 0).all()
    assert (covered[96:] == 1).all()


def test_a_picture_that_fits_is_one_tile_without_halo() -> None:
    (tile,) = plan_tiles(70, 90, size=96, halo=32)

    assert tile.read == (slice(0, 70), slice(0, 90))


@pytest.mark.parametrize(("size", "halo"), [(0, 32), (33, 32), (64, 16)])
def test_sizes_off_the_grid_are_refused(size: int, halo: int) -> None:
    with pytest.raises(ValueError, match="multiples"):
        plan_tiles(100, 100, size=size, halo=halo)


@given(height=SIDES, width=SIDES, size=st.sampled_from([32, 64, 128]), scale=st.integers(1, 2))
def test_a_mosaic_of_exact_enlargements_is_the_exact_enlargement(
    height: int, width: int, size: int, scale: int
) -> None:
    source = np.random.default_rng(height * width).uniform(0, 255, (height, width, 3)).astype(np.float32)
    whole = source.repeat(scale, 0).repeat(scale, 1)
    result = np.full_like(whole, np.nan)
    mosaic = Mosaic(result, lambda rows: rows, scale=scale)

    for tile in plan_tiles(height, width, size=size, halo=32):
        mosaic.add(tile, source[tile.read].repeat(scale, 0).repeat(scale, 1))

    np.testing.assert_allclose(result, whole, atol=1e-3)


def test_tiles_that_disagree_are_blended_over_the_feather_only() -> None:
    result = np.full((32, 64, 1), np.nan, np.float32)
    mosaic = Mosaic(result, lambda rows: rows, scale=1, feather=4)

    for tile, value in zip(plan_tiles(32, 64, size=32, halo=32), (0.0, 80.0), strict=True):
        rows, columns = tile.read
        mosaic.add(
            tile, np.full((rows.stop - rows.start, columns.stop - columns.start, 1), value, np.float32)
        )

    assert (result[:, :28] == 0).all()
    np.testing.assert_allclose(result[0, 28:36, 0], [5, 15, 25, 35, 45, 55, 65, 75])
    assert (result[:, 36:] == 80).all()

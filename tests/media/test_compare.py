"""Before and after in one picture."""

from __future__ import annotations

import numpy as np
import pytest

from emt_cli.media.compare import before_after, compare_with_bicubic, detail_window
from emt_cli.media.resize import resize


def test_both_halves_are_there_under_a_bar_with_their_names(photo: np.ndarray) -> None:
    large = np.repeat(np.repeat(photo, 4, axis=0), 4, axis=1)

    picture = before_after(large, 255 - large, ("bicubic", "EMT"))

    height, width = large.shape[:2]
    bar = picture.shape[0] - height
    np.testing.assert_array_equal(picture[bar:, :width], large)
    np.testing.assert_array_equal(picture[bar:, -width:], 255 - large)
    for half in (picture[:bar, :width], picture[:bar, -width:]):
        assert half.max() > 200  # letters
        assert half.min() < 50  # paper
    assert (picture[:, width] == picture[0, width]).all()  # the divider


def test_small_pictures_leave_room_for_the_names() -> None:
    tiny = np.zeros((8, 8, 3), np.uint8)

    assert before_after(tiny, tiny, ("bicubic", "a rather long name")).shape[1] > 200


def test_left_half_is_the_source_by_bicubic(photo: np.ndarray) -> None:
    after = np.zeros((259, 324, 3), np.uint8)

    picture = compare_with_bicubic(photo, after)

    expected = np.clip(np.rint(resize(photo.astype(np.float32), 259, 324)), 0, 255)
    np.testing.assert_array_equal(picture[-259:, :324], expected)


def test_huge_result_shows_its_most_detailed_part() -> None:
    after = np.full((3000, 5000, 3), 128, np.uint8)
    after[1700:2400, 3500:4200] = np.random.default_rng(0).integers(0, 256, (700, 700, 3))
    before = np.full((750, 1250, 3), 128, np.uint8)

    rows, columns = detail_window(after, 2048)
    picture = compare_with_bicubic(before, after)

    assert rows.start <= 1700 < 2400 <= rows.stop
    assert columns.start <= 3500 < 4200 <= columns.stop
    assert (rows.stop - rows.start, columns.stop - columns.start) == (2048, 2048)
    np.testing.assert_array_equal(picture[-2048:, -2048:], after[rows, columns])


@pytest.mark.parametrize(("height", "width"), [(2100, 100), (100, 2100), (2049, 2049)])
def test_window_never_leaves_the_picture(height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)

    rows, columns = detail_window(image, 2048)

    assert image[rows, columns].shape[:2] == (min(height, 2048), min(width, 2048))


def test_window_reaches_the_last_corner() -> None:
    image = np.full((2100, 2100, 3), 128, np.uint8)
    image[-40:, -40:] = np.random.default_rng(0).integers(0, 256, (40, 40, 3))

    rows, columns = detail_window(image, 2048)

    assert image[rows, columns].shape == (2048, 2048, 3)
    assert (rows.stop, columns.stop) == (2100, 2100)

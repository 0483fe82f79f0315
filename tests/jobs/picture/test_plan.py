"""The passes and size of a result, for any network's scales."""

from __future__ import annotations

import pytest

from emt_cli.errors import UsageError
from emt_cli.jobs.picture.plan import plan_picture
from emt_cli.jobs.target import Target


@pytest.mark.parametrize(
    ("target", "scales", "passes", "size"),
    [
        (Target(4), (2, 3, 4), (4,), (40, 80)),
        (Target(5), (2, 3, 4), (2, 3), (50, 100)),
        (Target(2.5), (2, 4), (4,), (25, 50)),
        (Target(16), (8,), (8, 8), (160, 320)),
        (Target(16), (4,), (4, 4), (160, 320)),
        (Target(1), (2, 4), (2,), (10, 20)),
        (Target(None, width=50), (2, 3, 4), (3,), (25, 50)),
        (Target(None, height=50), (2, 3, 4), (2, 3), (50, 100)),
        (Target(None, long_side=50), (2, 3, 4), (3,), (25, 50)),
        (Target(1.26), (2,), (2,), (13, 25)),
    ],
)
def test_the_least_work_that_covers_the_size_is_chosen(
    target: Target, scales: tuple[int, ...], passes: tuple[int, ...], size: tuple[int, int]
) -> None:
    plan = plan_picture(10, 20, target, scales, name="photo.png")

    assert plan.passes == passes
    assert (plan.out_height, plan.out_width) == size


@pytest.mark.parametrize(
    ("target", "scales", "words"),
    [
        (Target(17), (8,), "beyond 16 times"),
        (Target(5), (2,), "beyond 4 times"),
        (Target(0.5), (2,), "emt only enlarges"),
        (Target(None, width=20), (2,), "emt only enlarges"),
    ],
)
def test_what_no_two_passes_reach_is_refused(target: Target, scales: tuple[int, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan_picture(10, 20, target, scales, name="photo.png")


def test_a_network_of_scale_one_keeps_the_size_that_is_asked_for() -> None:
    plan = plan_picture(10, 20, Target(None, width=20), (1,), name="photo.png")

    assert plan.passes == (1,)
    assert not plan.resized

"""Damaged files through the real command line: a reduced number of the cases of `make torture`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice

import pytest
from campaign import Campaign, Finding
from campaign_cases import Case, damaged, lies, structures

if os.name == "nt":
    pytest.skip("limits of memory and signals are those of Unix", allow_module_level=True)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    before = dict(os.environ)
    campaign = Campaign(tmp_path_factory.mktemp("campaign"))
    yield campaign
    campaign.close()
    os.environ.clear()
    os.environ.update(before)


def broken(campaign: Campaign, cases: Iterable[Case]) -> list[str]:
    """Run cases and say which of them broke something."""
    results = [campaign.run(case) for case in cases]
    assert results
    return [
        f"{found.case.kind} {found.case.name} ({found.case.damage}): {found.what}"
        for found in results
        if isinstance(found, Finding)
    ]


def test_pictures_damaged_at_random_end_in_one_line_or_a_whole_result(campaign: Campaign) -> None:
    assert broken(campaign, islice(damaged(11, campaign.site, "picture"), 25)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("picture", 80), ("video", 20)])
def test_parts_of_formats_damaged_behind_right_lengths_show_right_pixels_or_end_in_one_line(
    campaign: Campaign, kind: str, count: int
) -> None:
    assert broken(campaign, islice(structures(12, kind), count)) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["picture", "head"])
def test_pictures_that_lie_cost_nothing(campaign: Campaign, kind: str) -> None:
    assert broken(campaign, (case for case in lies(campaign.site.folder) if case.kind == kind)) == []


@pytest.mark.slow
def test_models_recipes_and_records_that_lie_cost_nothing_and_run_nothing(campaign: Campaign) -> None:
    pytest.importorskip("lightning_fabric")

    cases = (case for case in lies(campaign.site.folder) if case.kind not in ("picture", "head"))

    assert broken(campaign, cases) == []
    assert not (campaign.site.folder / "trace").exists(), "a malicious file was executed"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_files_of_all_kinds_damaged_at_random_break_nothing(campaign: Campaign, seed: int) -> None:
    pytest.importorskip("lightning_fabric")

    assert broken(campaign, islice(damaged(seed, campaign.site), 100)) == []

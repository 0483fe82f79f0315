"""What --model stands for, and what auto chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from emt_cli.assets.model_choice import find_model, scales_of, suited_model
from emt_cli.errors import ModelError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("EMT_CACHE", str(tmp_path))
    return tmp_path


def test_auto_is_the_released_model_once_it_is_here(cache: Path) -> None:
    before = find_model("auto", 4)
    (cache / "EMT_LSR_x4.pth").touch()
    after = find_model("auto", 4)

    assert before.name == "emt-lite"
    assert "emt models pull emt" in str(before.hint)
    assert "--model emt-base" in str(before.hint)
    assert "emt-base" not in str(find_model("auto", 2).hint)  # it has no x2
    assert (after.name, after.path, after.hint) == ("emt", cache / "EMT_LSR_x4.pth", None)


def test_auto_offers_the_scales_that_are_here(cache: Path) -> None:
    bundled = scales_of("emt-lite")

    (cache / "EMT_LSR_x2.pth").touch()

    assert scales_of("auto") == tuple(sorted({2, *bundled}))
    assert scales_of("emt") == (2, 3, 4)


def test_auto_is_another_model_for_what_was_saved_coarsely_or_drawn_and_what_keeps_its_size() -> None:
    assert suited_model("auto", "coarse") == "emt-photo"
    assert suited_model("auto", "coarse video") == "emt-lite-photo"
    assert suited_model("auto", "drawn") == "emt-art"
    assert suited_model("auto", scale=1) == "emt-lite-photo"
    assert suited_model("auto", scale=4) == suited_model("auto", "plain") == "auto"
    assert suited_model("emt-lite", "coarse", scale=1) == "emt-lite"


def test_model_that_is_not_here_says_how_to_fetch_it() -> None:
    with pytest.raises(ModelError, match="emt models pull emt --scale 3"):
        find_model("emt", 3)


def test_unknown_name_suggests_a_known_one() -> None:
    with pytest.raises(ModelError, match="did you mean emt-lite"):
        find_model("emtlite", 4)


def test_missing_path_is_not_taken_for_a_name() -> None:
    with pytest.raises(ModelError, match="no such model file"):
        find_model("models/mine.safetensors", 4)


def test_file_is_found_by_its_path(cache: Path) -> None:
    path = cache / "mine.pth"
    path.touch()

    assert find_model(str(path), 4).path == path

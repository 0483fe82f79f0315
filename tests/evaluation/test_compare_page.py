"""The page that `emt compare` writes: its content, and its use in a headless Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from PIL import Image
from typer.testing import CliRunner

from emt_cli.cli import app

run = CliRunner().invoke


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, model: str) -> Path:
    """A page on a part of the cat, by two models, in a file whose name would be markup."""
    from skimage.data import chelsea

    folder = tmp_path_factory.mktemp("compare")
    Image.fromarray(chelsea()[40:140, 80:230]).save(folder / "<b>&'x.png")
    arguments = ["compare", folder / "<b>&'x.png", "-m", model, "-m", "emt-lite", "-s", "2"]
    result = run(app, [*map(str, arguments), "-o", str(folder / "page.html"), "--json"])
    assert result.exit_code == 0, result.output
    (folder / "facts.json").write_text(result.stdout)
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed here")
    chromium = Browser(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


def magnified(browser: Browser, index: int) -> list[int]:
    """Pixels of what the magnifier shows of a version, as bytes of RGBA."""
    context = f"document.querySelectorAll('canvas')[{index}].getContext('2d')"
    return list(browser.run(f"[...{context}.getImageData(0, 0, 240, 240).data]"))


def test_it_refers_to_nothing_outside_and_names_are_text(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", text)
    assert not re.search(r"@import|url\(|https?://", text)
    assert "<b>&'" not in text


def test_speed_and_memory_stand_under_each_model(page: Path) -> None:
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page.read_text(encoding="utf-8"))

    assert [re.findall("<b>(.*?)</b>", caption)[0] for caption in captions] == ["bicubic", "tiny", "emt-lite"]
    for caption in captions[1:]:
        assert re.search(
            r"\d s, [\d.,]+ thousand pixels a second<br>\d.* of memory<br>[\d,]+ parameters", caption
        )


def test_json_tells_the_same(page: Path) -> None:
    told = json.loads((page.parent / "facts.json").read_text())

    assert [one["model"] for one in told["models"]] == ["tiny", "emt-lite"]
    assert (told["out_width"], told["out_height"]) == (300, 200)
    assert all(one["seconds"] > 0 and one["parameters"] > 0 for one in told["models"])


def test_opening_it_is_quiet_and_loads_nothing(page: Path, browser: Browser) -> None:
    browser.messages.clear()
    browser.requests.clear()

    browser.open(page)

    assert browser.messages == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]


def test_the_magnifier_shows_each_version_under_the_pointer(page: Path, browser: Browser) -> None:
    browser.open(page)
    before = [magnified(browser, index) for index in range(3)]
    box = "document.querySelector('.compare').getBoundingClientRect()"
    left, top, width, height = browser.run(f"(r => [r.left, r.top, r.width, r.height])({box})")

    browser.drag((left + width / 2, top + height / 2), (left + width / 4, top + height / 4))

    after = [magnified(browser, index) for index in range(3)]
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert after[0] != after[1] != after[2]
    square = np.array(after[2]).reshape(240, 240, 4)[:4, :4]
    assert (square == square[0, 0]).all()  # zoom 4, pixel for pixel


def test_the_slider_moves_the_border_and_zoom_shows_less_larger(page: Path, browser: Browser) -> None:
    browser.open(page)
    at = "getComputedStyle(document.querySelector('.compare')).getPropertyValue('--at')"
    side = "document.querySelector('.place').getBoundingClientRect().width"
    narrow = browser.run(side)

    browser.run("document.querySelector('.compare input').focus()")
    browser.press("Home")
    browser.run(
        "(z => { z.value = 8; z.dispatchEvent(new Event('input')); })(document.querySelector('.zoom input'))"
    )

    assert browser.run(at) == "0%"
    assert browser.run(side) == pytest.approx(narrow / 2, abs=3)


def test_a_page_of_another_name_and_models_named_twice_are_refused(tmp_path: Path, page: Path) -> None:
    picture = str(next(page.parent.glob("*.png")))

    named = run(app, ["compare", picture, "-m", "emt-lite", "-o", str(tmp_path / "page.pdf")])
    twice = run(app, ["compare", picture, "-m", "emt-lite", "-m", "emt-lite", "-o", str(tmp_path / "p.html")])
    there = run(app, ["compare", picture, "-m", "emt-lite", "-o", str(page)])

    assert (named.exit_code, twice.exit_code, there.exit_code) == (2, 2, 6)

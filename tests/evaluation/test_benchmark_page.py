"""The page that `emt benchmark --html` writes: its content, and its use in a headless Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from PIL import Image
from typer.testing import CliRunner

from emt_cli.cli import app


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page on three pictures, one of them with a name that would be markup."""
    from skimage.data import astronaut, chelsea, coffee

    folder = tmp_path_factory.mktemp("page") / "a & b"
    folder.mkdir()
    for name, picture in (("cat", chelsea()), ("<b>&'x", astronaut()), ("cup", coffee())):
        Image.fromarray(np.ascontiguousarray(picture[:200:2, :300:2])).save(folder / f"{name}.png")
    target = folder.parent / "report.html"
    arguments = ["--set", folder, "--model", "lanczos", "--model", "bicubic", "--html", target]
    result = CliRunner().invoke(app, ["benchmark", *map(str, arguments), "--html-pictures", "2"])
    assert result.exit_code == 0, result.output
    return target


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed here")
    chromium = Browser(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


def test_page_refers_to_nothing_outside(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", text)
    assert not re.search(r"@import|url\(|https?://", text)


def test_names_are_text_not_markup(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert "&lt;b&gt;&amp;&#x27;x" in text
    assert "<b>&" not in text


def test_only_the_worst_pictures_are_shown_and_it_says_so(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    shown = [float(value) for value in re.findall(r"lanczos \(([\d.]+) dB[^<]*</option>", text)][::2]
    assert text.count("<article>") == 2
    assert "the 2 worst of 3" in text
    assert shown == sorted(shown)


def test_opening_the_page_is_quiet_and_loads_nothing(page: Path, browser: Browser) -> None:
    browser.messages.clear()
    browser.requests.clear()

    browser.open(page)

    assert browser.messages == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
    assert browser.run("[...document.images].every(i => i.naturalWidth > 0)")


def test_dragging_moves_the_border_between_the_pictures(page: Path, browser: Browser) -> None:
    browser.open(page)
    browser.run("document.querySelector('.compare').scrollIntoView({block: 'center'})")
    left, top, width, height = browser.run(
        "(({x, y, width, height}) => [x, y, width, height])"
        "(document.querySelector('.compare').getBoundingClientRect())"
    )
    y = top + height / 2

    browser.drag((left + width / 2, y), (left + width / 5, y))

    clip = browser.run("getComputedStyle(document.querySelector('img.after')).clipPath")
    bar = browser.run("document.querySelector('.bar').getBoundingClientRect().x") + 1.5
    assert clip == "inset(0px 0px 0px 20%)"
    assert bar == pytest.approx(left + width / 5, abs=2)


def test_slider_follows_the_arrow_keys_and_shows_its_focus(page: Path, browser: Browser) -> None:
    browser.open(page)
    browser.run("document.querySelector('.compare input').focus()")

    for _ in range(3):
        browser.press("ArrowLeft")

    assert browser.run("document.querySelector('.compare').style.getPropertyValue('--at')") == "47%"
    assert browser.run("getComputedStyle(document.querySelector('.compare')).outlineStyle") == "solid"


def test_other_picture_can_be_chosen(page: Path, browser: Browser) -> None:
    browser.open(page)
    before = browser.run("document.querySelector('img.after').src")

    browser.run(
        "(s => { s.value = s.options.length - 1; s.dispatchEvent(new Event('change')) })"
        "(document.querySelector('select.right'))"
    )

    assert browser.run("document.querySelector('img.after').src") != before
    assert browser.run("document.querySelector('img.after').alt").endswith("HR")


def test_click_on_a_head_sorts_by_number_and_back(page: Path, browser: Browser) -> None:
    browser.open(page)
    table = "[...document.querySelectorAll('table')].pop()"
    column = f"[...{table}.tBodies[0].rows].map(row => parseFloat(row.cells[5].textContent))"
    click = f"{table}.tHead.rows[0].cells[5].querySelector('button').click()"

    browser.run(click)
    up = browser.run(column)
    browser.run(click)
    down = browser.run(column)

    assert len(up) == 6
    assert up == sorted(up)
    assert down == sorted(up, reverse=True)
    assert browser.run(f"{table}.tHead.rows[0].cells[5].getAttribute('aria-sort')") == "descending"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(page: Path, browser: Browser, scheme: str) -> None:
    browser.open(page, scheme=scheme)

    colours = [
        [int(part) for part in re.findall(r"\d+", browser.run(f"getComputedStyle(document.body).{what}"))[:3]]
        for what in ("color", "backgroundColor")
    ]
    ink, paper = (sum(colour) / 3 for colour in colours)
    assert (paper > 200) == (scheme == "light")
    assert abs(ink - paper) > 180


def test_phone_needs_no_sideways_scrolling(page: Path, browser: Browser) -> None:
    browser.open(page, width=360, height=740)

    assert browser.run("document.documentElement.scrollWidth") == 360
    assert browser.run("[...document.querySelectorAll('.compare, .crops')].every(e => e.clientWidth <= 360)")

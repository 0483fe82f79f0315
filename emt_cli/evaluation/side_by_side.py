"""One picture, enlarged by several models, as one HTML page: a slider, and a magnifier over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from emt_cli.evaluation.methods import Bytes
from emt_cli.evaluation.slider import HEAD, Version, asset, slider
from emt_cli.media.compare import detail_window

LARGEST = 2048
"""Longest side shown, in pixels: of a larger result the part with most detail, pixel for pixel."""
MAGNIFIED = 240
"""Side of a magnified part on the screen, in pixels."""


@dataclass(frozen=True)
class Shown:
    """One version of the picture."""

    name: str
    pixels: Bytes
    facts: tuple[str, ...] = ()
    """What is told under it, such as speed and memory."""


def compare_page(title: str, about: str, versions: Sequence[Shown]) -> str:
    """Return the page; all versions are RGB of one size, and the first two lie under the slider."""
    height, width = versions[0].pixels.shape[:2]
    rows, columns = detail_window(versions[-1].pixels, LARGEST)
    parts = [Version(version.name, version.pixels[rows, columns]) for version in versions]
    size = parts[0].pixels.shape[:2]
    cut = f"; shown: the {size[1]}x{size[0]} pixels with most detail" if size != (height, width) else ""
    figures = "".join(
        f'<figure><canvas width="{MAGNIFIED}" height="{MAGNIFIED}" role="img"'
        f' aria-label="{escape(f"magnified: {version.name}")}"></canvas>'
        f"<figcaption><b>{escape(version.name)}</b>"
        + "".join(f"<br>{escape(fact)}" for fact in version.facts)
        + "</figcaption></figure>"
        for version in versions
    )
    return _PAGE.format(
        css=asset("report.css") + asset("side_by_side.css"),
        js=asset("report.js") + asset("side_by_side.js"),
        title=escape(title),
        about=escape(about + cut),
        slider=slider(title, parts, 0, 1, (size[0], size[1])),
        figures=figures,
    )


_PAGE = (
    HEAD
    + """<header><h1>{title}</h1><p>{about}</p></header>
<main>
<article>
{slider}
<div class="magnifier" tabindex="0" role="group" aria-label="magnifier: arrow keys move it">{figures}</div>
<label class="zoom">Zoom <input type="range" min="1" max="12" value="4"><output></output></label>
<p>Drag across the picture to move the border; the magnifier shows what is under the pointer, pixel for pixel.
Focus it and use the arrow keys, + and -.</p>
</article>
</main>
<script>
{js}</script>
</body>
</html>
"""
)

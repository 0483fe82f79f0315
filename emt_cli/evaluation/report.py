"""A benchmark as one HTML page that needs nothing else: tables, a chart, pictures to compare by hand.

Whole pictures are shown as WebP, so that a page stays small; crops are lossless.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import inf
from typing import Any

import cv2
import numpy as np

from emt_cli.evaluation.methods import BICUBIC, Bytes
from emt_cli.evaluation.quality import Scored
from emt_cli.evaluation.slider import HEAD, Version, asset, fitting, slider, webp
from emt_cli.media.metrics import luma
from emt_cli.media.resize import resize_bytes

CROP = 96
"""Side of a crop, in pixels of HR."""


@dataclass(frozen=True)
class Card:
    """One picture, drawn."""

    psnr: float
    html: str


class Report:
    """Collects the worst pictures of a run, as they come, and makes the page."""

    def __init__(self, pictures: int = 24) -> None:
        self.pictures = pictures
        self.cards: list[Card] = []
        self.seen = 0

    def add(self, scored: Scored) -> None:
        """Draw a picture, if it is among the worst so far by the first method's PSNR."""
        self.seen += 1
        psnr = scored.scores[0].psnr
        if len(self.cards) < self.pictures or psnr < self.cards[-1].psnr:
            self.cards.append(Card(psnr, _card(scored)))
            self.cards = sorted(self.cards, key=lambda card: card.psnr)[: self.pictures]

    def page(self, record: dict[str, Any]) -> str:
        """Return the page, with the record's tables."""
        shown = len(self.cards)
        which = f"the {shown} worst of {self.seen}" if shown < self.seen else "all, the worst first"
        return _PAGE.format(
            title="Benchmark",
            css=asset("report.css"),
            js=asset("report.js"),
            settings=escape(_settings(record)),
            means=_means(record),
            chart=_chart(record),
            scores=_scores(record),
            which=which,
            cards="\n".join(card.html for card in self.cards),
        )


_PAGE = (
    HEAD
    + """<header><h1>Benchmark</h1><p>{settings}</p></header>
<main>
<h2>Means</h2>
<p>PSNR in dB and SSIM on luma. Difference: measured less published; in the rows of papers whose method was
not run, of the first model.</p>
{means}
<h2>PSNR at a glance</h2>
{chart}
<h2>Pictures</h2>
<p>Shown: {which}. Drag across a picture, or focus it and use the arrow keys. The crops show where the first
model differs most from HR, pixel for pixel.</p>
{cards}
<h2>All scores</h2>
{scores}
</main>
<script>
{js}</script>
</body>
</html>
"""
)


def _settings(record: dict[str, Any]) -> str:
    settings = record["settings"]
    tile = {None: "auto", 0: "off"}.get(settings["tile"], settings["tile"])
    words = [f"emt {record['emt']}", f"precision {settings['precision']}", f"tiles {tile}"]
    if settings["ensemble"]:
        words.append("averaged over 8 flips and rotations")
    words.append("LR as given" if settings["lr_given"] else "LR by MATLAB's bicubic")
    return " · ".join(words)


def _table(columns: Sequence[str], rows: Iterable[tuple[str, Sequence[tuple[str, Any]]]]) -> str:
    """Return a sortable table; a row is its class and its cells, each with its text and its value."""
    head = "".join(
        f'<th scope="col"{_numeric(column)}><button type="button">{escape(column)}</button></th>'
        for column in columns
    )
    body = "\n".join(
        f'<tr class="{kind}">'
        + "".join(
            f'<td{_numeric(column)} data-v="{escape(str(value))}">{escape(text)}</td>'
            for column, (text, value) in zip(columns, cells, strict=True)
        )
        + "</tr>"
        for kind, cells in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _numeric(column: str) -> str:
    return ' class="n"' if column.split()[0] in ("PSNR", "SSIM", "published", "difference", "scale") else ""


def _number(value: float | None, digits: int, sign: str = "") -> tuple[str, Any]:
    return ("inf", 999) if value is None else (f"{value:{sign}.{digits}f}", value)


def _means(record: dict[str, Any]) -> str:
    columns = ["set", "scale", "model", "PSNR", "SSIM", "published PSNR", "published SSIM", "difference dB"]
    nothing = ("", "")
    rows = []
    for place in dict.fromkeys((mean["set"], mean["scale"]) for mean in record["means"]):
        for mean in (mean for mean in record["means"] if (mean["set"], mean["scale"]) == place):
            own = _paper(mean["published"], mean["difference"]) if mean["published"] else [nothing] * 3
            rows.append(("", [*_place(mean), _number(mean["psnr"], 3), _number(mean["ssim"], 4), *own]))
        for paper in (paper for paper in record["published"] if (paper["set"], paper["scale"]) == place):
            rows.append(("paper", [*_place(paper), nothing, nothing, *_paper(paper, paper["difference"])]))
    sources = {paper["method"]: paper["source"] for paper in record["published"]}
    notes = "; ".join(f"{method}: {source}" for method, source in sources.items())
    return _table(columns, rows) + (f"<p>{escape(notes)}.</p>" if notes else "")


def _paper(score: dict[str, float], difference: dict[str, float]) -> list[tuple[str, Any]]:
    more = round(difference["psnr"], 2) + 0.0  # never -0.00
    return [_number(score["psnr"], 2), _number(score["ssim"], 4), _number(more, 2, "+")]


def _place(row: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(row["set"], row["set"]), (f"x{row['scale']}", row["scale"]), (row["method"], row["method"])]


def _chart(record: dict[str, Any]) -> str:
    """Return a dot on a line for each method, by set and scale; the line's ends are written out."""
    charts = []
    for place in dict.fromkeys((mean["set"], mean["scale"]) for mean in record["means"]):
        dots = [
            (entry["method"], entry["psnr"], kind == "means")
            for kind in ("means", "published")
            for entry in record[kind]
            if (entry["set"], entry["scale"]) == place and entry["psnr"] is not None
        ]
        if not dots:
            continue
        low, high = min(dot[1] for dot in dots), max(dot[1] for dot in dots)
        span = (high - low) or 1
        rows = "".join(
            f'<span>{escape(name)}</span><span class="track">'
            f'<i class="{"ours" if ours else ""}" style="left:{100 * (psnr - low) / span:.2f}%"></i>'
            f"</span><b>{psnr:.2f} dB</b>"
            for name, psnr, ours in sorted(dots, key=lambda dot: -dot[1])
        )
        charts.append(
            f"<h3>{escape(place[0])} x{place[1]}</h3>"
            f"<p>From {low:.2f} to {high:.2f} dB. Blue: measured; gray: published.</p>"
            f'<div class="chart">{rows}</div>'
        )
    return "".join(charts)


def _scores(record: dict[str, Any]) -> str:
    columns = ["set", "scale", "model", "picture", "PSNR", "SSIM", "PSNR RGB", "SSIM RGB"]
    worst_first = sorted(record["pictures"], key=lambda row: inf if row["psnr"] is None else row["psnr"])
    rows = [
        (
            "",
            [
                *_place(row),
                (row["picture"], row["picture"]),
                _number(row["psnr"], 3),
                _number(row["ssim"], 4),
                _number(row["psnr_rgb"], 3),
                _number(row["ssim_rgb"], 4),
            ],
        )
        for row in worst_first
    ]
    return _table(columns, rows)


def _card(scored: Scored) -> str:
    """Draw one picture: LR, bicubic, the methods and HR under a slider, and crops of them."""
    height, width = scored.hr.shape[:2]
    versions = {"LR": scored.lr, BICUBIC: resize_bytes(scored.lr, height, width)}
    versions |= scored.answers | {"HR": scored.hr}
    scores = {score.method: f"{score.psnr:.2f} dB / {score.ssim:.4f}" for score in scored.scores}
    labels = [f"{name} ({scores[name]})" if name in scores else name for name in versions]
    first = scored.scores[0].method
    names = list(versions)
    left, right = names.index(BICUBIC), names.index(first if first != BICUBIC else "HR")
    title = f"{scored.picture} · {scored.set} x{scored.scale}"
    window = _worst_window(versions[first], scored.hr, scored.scale)
    crops = "".join(
        f'<figure><img src="{webp(_crop(pixels, window, scored.scale if name == "LR" else 1), exact=True)}"'
        f' alt="{escape(f"crop of {title}: {label}")}"><figcaption>{escape(label)}</figcaption></figure>'
        for (name, pixels), label in zip(versions.items(), labels, strict=True)
    )
    shown = [
        Version(label, fitting(pixels), pixelated=name == "LR")
        for (name, pixels), label in zip(versions.items(), labels, strict=True)
    ]
    return f"""<article>
<h3>{escape(title)}</h3>
{slider(title, shown, left, right, (height, width))}
<div class="crops">{crops}</div>
</article>"""


def _worst_window(answer: Bytes, hr: Bytes, scale: int) -> tuple[int, int, int, int]:
    """Return top, left, height and width of the crop with the largest squared error.

    All are in pixels of HR and multiples of the scale, so that LR can be cut at the same place.
    """
    height, width = (min(CROP, side) for side in hr.shape[:2])
    total = cv2.integral(np.square(luma(answer) - luma(hr)))
    sums = (
        total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    )
    top, left = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return int(top) // scale * scale, int(left) // scale * scale, height, width


def _crop(pixels: Bytes, window: tuple[int, int, int, int], scale: int) -> Bytes:
    """Cut a window, given in pixels of HR, out of a picture that is `scale` times smaller."""
    top, left, height, width = (side // scale for side in window)
    return pixels[top : top + height, left : left + width]

"""Two of several pictures under a slider, as a part of a page that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from io import BytesIO

import numpy as np
from PIL import Image

from emt_cli.evaluation.methods import Bytes
from emt_cli.media.resize import resize_bytes

LARGEST = 1280
"""Longest side of a whole picture in a page, in pixels."""
QUALITY = 90
HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
"""
"""Beginning of a page, to be formatted with title and css."""


@dataclass(frozen=True)
class Version:
    """One of the pictures to choose from."""

    label: str
    pixels: Bytes
    pixelated: bool = False
    """Shown with its pixels as squares where it is enlarged."""


def slider(title: str, versions: Sequence[Version], left: int, right: int, size: tuple[int, int]) -> str:
    """Return the choice of two versions and the slider between them; needs report.css and report.js.

    left, right: the versions shown first. size: height and width in pixels at which they are shown at most.
    """
    labels = [version.label for version in versions]
    templates = "".join(
        f'<template class="version"><img class="{"pixels" if version.pixelated else ""}"'
        f' src="{webp(version.pixels)}" alt="{escape(f"{title}: {version.label}")}"></template>'
        for version in versions
    )
    label = escape(f"{title}: share of the left picture")
    sides = f'width="{size[1]}" height="{size[0]}"'
    return f"""<div class="choice">{_select("left", labels, left)}{_select("right", labels, right)}</div>
<div class="compare"><img class="before" {sides} alt=""><img class="after" {sides} alt="">
<div class="bar"></div><input type="range" min="0" max="100" value="50" aria-label="{label}"></div>
{templates}"""


def _select(side: str, labels: Sequence[str], chosen: int) -> str:
    options = "".join(
        f'<option value="{index}"{" selected" if index == chosen else ""}>{escape(label)}</option>'
        for index, label in enumerate(labels)
    )
    return f'<select class="{side}" aria-label="{side} picture">{options}</select>'


def fitting(pixels: Bytes) -> Bytes:
    """Return the picture with its longer side at most LARGEST."""
    height, width = pixels.shape[:2]
    if max(height, width) <= LARGEST:
        return pixels
    share = LARGEST / max(height, width)
    return resize_bytes(pixels, max(1, round(height * share)), max(1, round(width * share)))


def webp(pixels: Bytes, *, exact: bool = False) -> str:
    """Return a picture as the address of its own WebP; exact: without loss."""
    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "webp", quality=QUALITY, lossless=exact)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def asset(name: str) -> str:
    """Return a text file of this folder."""
    return files("emt_cli.evaluation").joinpath(name).read_text(encoding="utf-8")

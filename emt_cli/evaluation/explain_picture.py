"""The answers of `explain` as one labelled picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from emt_cli.evaluation.explain import Attention, Attribution, Map
from emt_cli.evaluation.methods import Bytes

PANEL = 224
"""Side of a panel in pixels."""
GAP, BAR, COLUMNS = 12, 26, 6
_PAPER, _INK, _POINT = (24, 24, 27), (244, 244, 245), (255, 255, 255)


def draw(
    crop: Bytes,
    y: int,
    x: int,
    attention: Sequence[Attention],
    attribution: Attribution,
    *,
    title: str,
) -> Bytes:
    """Draw the crop with its point, LAM, and each attention map, labelled, in rows; RGB (h, w, 3)."""
    panels = [
        ("looked at", _marked(_large(crop), crop, y, x)),
        (f"LAM, diffusion index {attribution.diffusion:.1f}", _heated(crop, attribution.map, None, y, x)),
    ]
    for found in attention:
        size = f"{found.window[0]}x{found.window[1]}"
        label = f"layer {found.layer}, {size}{', shifted' if found.shifted else ''}"
        panels.append((label, _heated(crop, found.weights, found.inside, y, x)))
    rows = -(-len(panels) // COLUMNS)
    cell_w, cell_h = PANEL + GAP, PANEL + BAR + GAP
    font = ImageFont.load_default(14)
    canvas = Image.new("RGB", (COLUMNS * cell_w + GAP, rows * cell_h + BAR + 2 * GAP), _PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((GAP, GAP), title, _INK, ImageFont.load_default(18))
    for index, (label, panel) in enumerate(panels):
        left = GAP + index % COLUMNS * cell_w
        top = BAR + GAP + index // COLUMNS * cell_h
        pen.text((left, top + 6), label, _INK, font)
        canvas.paste(Image.fromarray(panel), (left, top + BAR))
    return np.array(canvas)


def _large(crop: Bytes) -> Bytes:
    share = PANEL / max(crop.shape[:2])
    size = (round(crop.shape[1] * share), round(crop.shape[0] * share))
    large: Bytes = cv2.resize(crop, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    return large


def _heated(crop: Bytes, heat: Map, inside: NDArray[np.bool_] | None, y: int, x: int) -> Bytes:
    """Lay a map over the darkened crop, by the root of its values; pixels outside a window are darker."""
    gray = crop.astype(np.float32).mean(axis=2, keepdims=True).repeat(3, axis=2)
    base = gray * (0.45 if inside is None else np.where(inside, 0.5, 0.2)[..., None])
    strength = np.sqrt(heat / max(float(heat.max()), 1e-12))[..., None]
    colour = np.array([255, 170, 40], np.float32) * (0.4 + 0.6 * strength)
    mixed = base * (1 - strength) + colour * strength
    return _marked(_large(np.clip(mixed, 0, 255).astype(np.uint8)), crop, y, x)


def _marked(panel: Bytes, crop: Bytes, y: int, x: int) -> Bytes:
    """Draw a frame around the point's pixel."""
    share = PANEL / max(crop.shape[:2])
    canvas = Image.fromarray(panel)
    box = (x * share - 3, y * share - 3, (x + 1) * share + 2, (y + 1) * share + 2)
    ImageDraw.Draw(canvas).rectangle(box, outline=_POINT, width=2)
    return np.array(canvas)

"""Models side by side on damaged photographs: fidelity, naturalness, edges, colour, speed, as a table.

python tests/photo_comparison.py PICTURES OUT MODEL [MODEL ...] [--count N] [--speed]

PICTURES: folder of undamaged originals. MODEL: bicubic, or what --model takes, followed by @SHARPNESS where
it is not to be the model's own; named otherwise by NAME=MODEL. All enlarge x4. Answers are kept in
OUT/DAMAGE/NAME/PICTURE.png and taken from there next time; tests/blind_choice.py makes its sheets of them.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emt_cli import Upscaler
from emt_cli.media.metrics import luma, psnr
from emt_cli.media.niqe import niqe
from emt_cli.media.resize import bicubic_downscale, resize_bytes

Bytes = NDArray[np.uint8]
SCALE = 4
CROP = (128, 192)
"""Height and width of what is cut out of the middle of pictures that are taken at full size."""


def reduced(original: Bytes) -> Bytes:
    """Reduce by area, as programs make previews."""
    height, width = original.shape[:2]
    return cv2.resize(original, (width // SCALE, height // SCALE), interpolation=cv2.INTER_AREA)


def saved_as_jpeg(pixels: Bytes, quality: int) -> Bytes:
    """Return what comes back from a JPEG, colours at half resolution."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def blurred_and_noisy(original: Bytes) -> Bytes:
    """Do what a phone does in the evening: a soft lens, noise, JPEG of quality 75."""
    soft = reduced(cv2.GaussianBlur(original, (0, 0), 3.0)).astype(np.float64)
    noise = np.random.default_rng(7).normal(0, 6, soft.shape)
    return saved_as_jpeg(np.clip(np.rint(soft + noise), 0, 255).astype(np.uint8), 75)


def cropped(original: Bytes) -> Bytes:
    """Cut the middle out, at full size."""
    top, left = ((side - crop) // 2 for side, crop in zip(original.shape, CROP, strict=False))
    return np.ascontiguousarray(original[top : top + CROP[0], left : left + CROP[1]])


DAMAGES: dict[str, Callable[[Bytes], Bytes]] = {
    "reduced, JPEG 60": lambda original: saved_as_jpeg(reduced(original), 60),
    "blur, noise, JPEG 75": blurred_and_noisy,
    "full size, JPEG 85": lambda original: saved_as_jpeg(cropped(original), 85),
    "clean": lambda original: bicubic_downscale(original, SCALE),
}


def edges(pixels: Bytes) -> float:
    """Return the mean magnitude of the luma's Sobel gradient."""
    plane = luma(pixels)
    return float(np.hypot(cv2.Sobel(plane, cv2.CV_64F, 1, 0), cv2.Sobel(plane, cv2.CV_64F, 0, 1)).mean())


def scores(answer: Bytes, original: Bytes, *, at_full_size: bool) -> dict[str, float]:
    """Compare an answer with its original; of full-size pictures there is none, so the answer is reduced."""
    seen = answer
    if at_full_size:
        original = cropped(original)
        seen = resize_bytes(answer, *original.shape[:2])
    return {
        "psnr": psnr(seen, original, border=0 if at_full_size else SCALE),
        "niqe": niqe(answer),
        "edges": edges(seen) / edges(original),
        "colour": float(np.abs(seen.mean((0, 1)) - original.mean((0, 1))).max()),
    }


class Model:
    """A --model value, loaded when first asked; or bicubic."""

    def __init__(self, value: str) -> None:
        name, equals, model = value.partition("=")
        self._value, at, sharpness = (model if equals else value).partition("@")
        self._sharpness = float(sharpness) if at else None
        self.name = name if equals else Path(self._value).stem + at + sharpness
        self._upscaler: Upscaler | None = None

    def __call__(self, pixels: Bytes) -> Bytes:
        """Enlarge x4."""
        if self.name == "bicubic":
            return resize_bytes(pixels, pixels.shape[0] * SCALE, pixels.shape[1] * SCALE)
        if self._upscaler is None:
            scale = SCALE if not Path(self._value).suffix else None
            self._upscaler = Upscaler.from_model(self._value, scale, sharpness=self._sharpness)
        answer: Bytes = self._upscaler.upscale(pixels)
        return answer

    def speed(self) -> float:
        """Return thousand input pixels a second, the median of three pictures of 256x256."""
        pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
        self(pixels)
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            self(pixels)
            seconds.append(time.perf_counter() - start)
        return 256 * 256 / 1000 / statistics.median(seconds)


def answer_of(model: Model, pixels: Bytes, path: Path) -> Bytes:
    """Return the answer in path, made first where it is missing."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(model(pixels)).save(path)
    return np.asarray(Image.open(path))


def compare(pictures: list[Path], out: Path, models: list[Model]) -> list[dict[str, Any]]:
    """Return a row of mean scores for each damage and model."""
    rows = []
    for damage, damaged in DAMAGES.items():
        found: dict[str, list[dict[str, float]]] = {model.name: [] for model in models}
        for path in pictures:
            original = np.asarray(Image.open(path).convert("RGB"))
            original = original[: len(original) // SCALE * SCALE, : original.shape[1] // SCALE * SCALE]
            pixels = damaged(original)
            for model in models:
                answer = answer_of(model, pixels, out / damage / model.name / f"{path.stem}.png")
                full = damage.startswith("full size")
                found[model.name].append(scores(answer, original, at_full_size=full))
        for name, values in found.items():
            means = {key: statistics.fmean(value[key] for value in values) for key in values[0]}
            rows.append(means | {"damage": damage, "model": name, "worst": max(v["colour"] for v in values)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--count", type=int, help="Take only the first pictures.")
    parser.add_argument("--speed", action="store_true", help="Time each model; leave the machine alone.")
    options = parser.parse_args()
    pictures = sorted(path for path in options.pictures.iterdir() if path.suffix.lower() in (".png", ".jpg"))
    models = [Model(name) for name in options.models]
    print("| damage | model | PSNR | NIQE | edges | colour: mean, worst |")
    print("|---|---|---|---|---|---|")
    for row in compare(pictures[: options.count], options.out, models):
        print(
            f"| {row['damage']} | `{row['model']}` | {row['psnr']:.2f} dB | {row['niqe']:.2f} "
            f"| {row['edges']:.2f} | {row['colour']:.2f}, {row['worst']:.2f} |"
        )
    if options.speed:
        print("\n| model | thousand input pixels a second |\n|---|---|")
        for model in models:
            print(f"| `{model.name}` | {model.speed():,.0f} |")


if __name__ == "__main__":
    main()

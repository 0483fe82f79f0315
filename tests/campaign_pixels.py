"""Whether a result shows the damaged file that it was made of: other libraries read that file, too."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageOps

from emt_cli.engine.upscaler import Upscaler

LOSSY, LOSSY_MEAN = (".jpg", ".webp", ".heic", ".avif", ".jxl"), 8.0
"""Formats that lose detail, and how much of the luma's 255 on average; the model's colours are like noise."""
LUMA = np.array([0.299, 0.587, 0.114])


class PixelJudge:
    """Enlarges what other libraries read by the same model, and compares."""

    def __init__(self, model: Path) -> None:
        self.model = model

    @cached_property
    def _upscaler(self) -> Upscaler:
        return Upscaler.from_model(str(self.model), 2, device="cpu", engine="torch")

    def problem(self, data: bytes, result: Path) -> str:
        """Say what is wrong with a result; nothing where no other library reads the file as opaque 8 bits."""
        sources = list(_readings(data))
        if not sources:
            return ""
        with Image.open(result) as image:
            found = np.asarray(image.convert("RGB")).astype(int)
        differences = []
        for source in sources:
            expected = self._upscaler.upscale(source).astype(int)
            if expected.ndim == 2:
                expected = np.repeat(expected[..., None], 3, axis=2)
            if expected.shape == found.shape:
                lossy = result.suffix in LOSSY
                difference = np.abs((expected - found) @ LUMA) if lossy else np.abs(expected - found)
                if difference.mean() < LOSSY_MEAN if lossy else difference.max() <= 1:
                    return ""
                differences.append(
                    f"off by {difference.mean():.1f} on average, {difference.max():.0f} at most"
                )
            else:
                differences.append(f"{found.shape} instead of {expected.shape}")
        return f"other pixels than other libraries read: {'; '.join(differences)}"


def _readings(data: bytes) -> Iterator[np.ndarray]:
    """Yield gray (h, w) or RGB (h, w, 3) as others read a file, where it is plainly that and has 8 bits."""
    with suppress(Exception), Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.mode not in ("L", "RGB") or "transparency" in image.info:
            return  # others would make other colours of it
        if image.format in ("PNG", "JPEG", "WEBP", "BMP"):  # of deep TIFF it makes other things
            yield np.asarray(ImageOps.exif_transpose(image))
            yield np.asarray(image)  # what turns it may be damaged, or another library's guess
    with suppress(Exception):
        raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if raw.dtype == np.uint8 and (raw.ndim == 2 or raw.shape[2] == 3) and data[:2] not in (b"II", b"MM"):
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)  # turned upright
            yield pixels[..., 0].copy() if raw.ndim == 2 else pixels[..., ::-1].copy()
    with suppress(Exception), tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        pixels = page.asarray()
        if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and page.photometric == 2:
            yield pixels
            yield np.rot90(pixels, -1)  # by the tag of the one file here that is turned

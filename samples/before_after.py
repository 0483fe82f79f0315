"""Make the before/after pictures of the README and the model cards: python samples/before_after.py."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from emt_cli import Upscaler
from emt_cli.media.compare import compare_with_bicubic
from emt_cli.media.resize import bicubic_downscale

HERE = Path(__file__).parent
PART = np.s_[0:130, 54:164]
"""Rows and columns of the halved portrait that are shown."""


def main() -> None:
    """Halve the portrait, cut a part out, enlarge it four times, and put it beside bicubic."""
    portrait = np.array(Image.open(HERE / "astronaut.png").convert("RGB"))
    clean = np.ascontiguousarray(bicubic_downscale(portrait, 2)[PART])
    _, code = cv2.imencode(".jpg", clean[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 40])
    damaged = np.ascontiguousarray(cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1])
    for name, model, picture in (
        ("before-after.jpg", "emt-lite", clean),
        ("before-after-photo.jpg", "emt-lite-photo", damaged),
    ):
        result = Upscaler.from_model(model, device="cpu").upscale(picture)
        pair = compare_with_bicubic(picture, result, labels=("bicubic", model))
        Image.fromarray(pair).save(HERE / name, quality=90)


if __name__ == "__main__":
    main()

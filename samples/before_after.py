"""Make the before/after pictures of the README and the model cards: python samples/before_after.py.

Each is put beside bicubic: a clean photograph, a photograph from the web, a drawing.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emt_cli import Upscaler
from emt_cli.media.compare import compare_with_bicubic
from emt_cli.media.resize import bicubic_downscale

Bytes = NDArray[np.uint8]

HERE = Path(__file__).parent
PART = np.s_[0:130, 54:164]
"""Rows and columns of the halved portrait that are shown."""


def picture(name: str) -> Bytes:
    """Read a sample, its transparency on white."""
    image = Image.open(HERE / name).convert("RGBA")
    return np.array(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def saved_as_jpeg(pixels: Bytes, quality: int) -> Bytes:
    """Return what comes back from a JPEG."""
    _, code = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1])


def main() -> None:
    """Enlarge parts of the samples four times."""
    portrait = np.ascontiguousarray(bicubic_downscale(picture("astronaut.png"), 2)[PART])
    for name, model, source in (
        ("before-after.jpg", "emt-lite", portrait),
        ("before-after-cleaned.jpg", "emt-lite-photo", saved_as_jpeg(portrait, 40)),
        ("before-after-photo.jpg", "emt-photo", saved_as_jpeg(portrait, 60)),
        ("before-after-art.jpg", "emt-art", picture("recycling.png")),
    ):
        result = Upscaler.from_model(model, 4, device="cpu").upscale(source)
        pair = compare_with_bicubic(source, result, labels=("bicubic", model))
        Image.fromarray(pair).save(HERE / name, quality=90)


if __name__ == "__main__":
    main()

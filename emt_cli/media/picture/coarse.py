"""Whether a picture was saved so coarsely that its blocks and rings are better taken away than enlarged."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

from emt_cli.media.picture.jpeg_quality import jpeg_quality
from emt_cli.media.picture.webp_quality import webp_quantizer

# Where emt-lite-photo begins to win over emt-lite on Kodak24, reduced to a quarter (tests/model_choice.py).
JPEG_QUALITY = 90
WEBP_QUANTIZER = 22
"""What libwebp takes for quality 78."""


def is_coarse(image: Image.Image, stream: BinaryIO) -> bool:
    """Tell it of an open JPEG or WebP that begins where its stream does; other kinds never are."""
    if image.format == "WEBP":
        place = stream.tell()
        quantizer = webp_quantizer(stream)
        stream.seek(place)
        return quantizer is not None and quantizer >= WEBP_QUANTIZER
    quality = jpeg_quality(getattr(image, "quantization", {}))
    return quality is not None and quality < JPEG_QUALITY

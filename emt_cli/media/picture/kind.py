"""What a picture's file tells of it, as far as a model is chosen by it: saved coarsely, or drawn."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

from emt_cli.media.picture.jpeg_quality import jpeg_quality
from emt_cli.media.picture.webp_quality import webp_quantizer
from emt_cli.media.samples import Kind

# Where emt-lite-photo begins to win over emt-lite on Kodak24, reduced to a quarter (tests/model_choice.py).
JPEG_QUALITY = 90
WEBP_QUANTIZER = 22
"""What libwebp takes for quality 78."""
DRAWN_BITS, SMALL_DRAWN_BITS = 5 / 3, 3
"""Bits a byte of samples below which a file without loss is drawn; photographs have more, small ones most."""
SMALL = 1 << 18
"""Pixels of a small picture, at most."""


def kind_of(image: Image.Image, stream: BinaryIO, size: int) -> Kind:
    """Tell the kind of an open JPEG, WebP or GIF of size bytes that begins where its stream does."""
    if image.format == "WEBP":
        place = stream.tell()
        quantizer = webp_quantizer(stream)
        stream.seek(place)
        if quantizer is not None:
            return "coarse" if quantizer >= WEBP_QUANTIZER else "plain"
    if image.format in ("WEBP", "GIF"):
        return lossless_kind(size, image.height * image.width, 3 if image.format == "WEBP" else 1)
    quality = jpeg_quality(getattr(image, "quantization", {}))
    return "coarse" if quality is not None and quality < JPEG_QUALITY else "plain"


def png_kind(
    size: int, chunks: list[tuple[bytes, memoryview]], pixels: int, colour_type: int, depth: int
) -> Kind:
    """Tell the kind of a PNG of size bytes; chunks: all of its chunks, or all but those of the image."""
    image = size - sum(len(body) for name, body in chunks if name != b"IDAT")
    return lossless_kind(image, pixels, (3 if colour_type in (2, 6) else 1) * (2 if depth == 16 else 1))


def lossless_kind(size: int, pixels: int, bytes_a_pixel: int) -> Kind:
    """Tell the kind of a picture compressed to size bytes; bytes_a_pixel: without alpha, 1 for a palette."""
    most = SMALL_DRAWN_BITS if pixels <= SMALL else DRAWN_BITS
    return "drawn" if 8 * size < most * pixels * bytes_a_pixel else "plain"

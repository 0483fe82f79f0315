"""What a picture's file tells of it, as far as a model is chosen by it: saved coarsely, or drawn."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageChops

from emt_cli.media.picture.drawn import looks_drawn, worth_looking
from emt_cli.media.picture.gif import first_image_bytes
from emt_cli.media.picture.jpeg import check_jpeg
from emt_cli.media.picture.jpeg_quality import jpeg_quality
from emt_cli.media.picture.pillow import open_image
from emt_cli.media.picture.png import bare_file
from emt_cli.media.picture.webp_quality import first_frame, webp_quantizer
from emt_cli.media.samples import Kind

# Where emt-lite-photo begins to win over emt-lite on Kodak24, reduced to a quarter (tests/model_choice.py).
JPEG_QUALITY = 90
WEBP_QUANTIZER = 22
"""What libwebp takes for quality 78."""
DRAWN_BITS, SMALL_DRAWN_BITS = 5 / 3, 3
"""Bits a byte of samples below which a file without loss is drawn; photographs have more, small ones most."""
SMALL = 1 << 18
"""Pixels of a small picture, at most."""
_PNG_BYTES, _WEBP_BYTES = (3, 2), (5 / 3, 1)
"""Bytes a pixel of pictures in colour, and of gray ones saved as if in colour; WebP counts as if it had less,
for it takes about 0.7 of PNG's bytes for photographs and half for drawings (tests/model_choice.py)."""


def kind_of(image: Image.Image, stream: BinaryIO, *, look: bool = True) -> Kind:
    """Tell the kind of an open JPEG, WebP or GIF that begins where its stream does: of its first picture.

    look: whether pixels saved with losses are looked at, decoding them where that was still to be done;
    nothing else tells drawings among them.
    """
    place = stream.tell()
    try:
        if image.format == "GIF":
            return lossless_kind(first_image_bytes(stream), image.height * image.width, 1)
        if image.format == "WEBP":
            name, size = first_frame(stream)
            if name == b"VP8L":
                return _colour_kind(size, image.height * image.width, _WEBP_BYTES, lambda: image)
            quantizer = webp_quantizer(stream, size)
            coarse = quantizer is not None and quantizer >= WEBP_QUANTIZER
        elif image.format in ("JPEG", "MPO"):
            layers = getattr(image, "layer", [])
            quality = jpeg_quality(getattr(image, "quantization", {}), layers[0][3] if layers else 0)
            coarse = quality is not None and quality < JPEG_QUALITY
        else:
            return "plain"
        if look and worth_looking(image.width * image.height) and _drawn(image, stream):
            return "drawn"
        return "coarse" if coarse else "plain"
    finally:
        stream.seek(place)


def _drawn(image: Image.Image, stream: BinaryIO) -> bool:
    try:
        if image.format != "WEBP":
            stream.seek(0)
            check_jpeg(stream.read())
        return looks_drawn(np.asarray(image.convert("L")))
    except (OSError, ValueError, SyntaxError, LookupError):
        return False  # whoever needs the pixels will say what is wrong


def png_kind(chunks: list[tuple[bytes, memoryview]], pixels: int, colour_type: int, depth: int) -> Kind:
    """Tell the kind of a PNG by its chunks."""
    size = sum(len(body) for name, body in chunks if name == b"IDAT")
    itemsize = 2 if depth == 16 else 1
    if colour_type not in (2, 6):
        return lossless_kind(size, pixels, itemsize)
    colour, gray = _PNG_BYTES
    return _colour_kind(
        size,
        pixels,
        (colour * itemsize, gray * itemsize),
        lambda: open_image(io.BytesIO(bare_file(chunks, palette=False)), "png"),
    )


def _colour_kind(
    size: int, pixels: int, bytes_a_pixel: tuple[float, float], opened: Callable[[], Image.Image]
) -> Kind:
    """Tell the kind of a picture in colour, whose pixels are looked at only where its bytes leave it open.

    A photograph without colour takes as few bytes as a drawing that has colours.
    """
    colour, gray = (lossless_kind(size, pixels, each) for each in bytes_a_pixel)
    if colour == "drawn" and gray == "plain":
        red, green, blue = opened().convert("RGB").split()
        if not (ImageChops.difference(red, green).getbbox() or ImageChops.difference(red, blue).getbbox()):
            return "plain"
    return colour


def lossless_kind(size: int, pixels: int, bytes_a_pixel: float) -> Kind:
    """Tell the kind of a picture compressed to size bytes; bytes_a_pixel: without alpha, 1 for a palette."""
    most = SMALL_DRAWN_BITS if pixels <= SMALL else DRAWN_BITS
    return "drawn" if 8 * size < most * pixels * bytes_a_pixel else "plain"

"""Pillow without its own limit of size."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile, UnidentifiedImageError


def open_image(source: Path | IO[bytes], format: str) -> ImageFile.ImageFile:
    """Open a picture of one format as Image.open does, whatever its size.

    Sizes are checked by the caller, against a limit that a person can raise; Pillow's own belongs to the
    whole process, so its plugin is called directly. Raises OSError and what else damage leads to.
    """
    Image.preinit()
    if format.upper() not in Image.OPEN:
        Image.init()
    factory = Image.OPEN[format.upper()][0]
    stream = source.open("rb") if isinstance(source, Path) else source
    try:
        image = factory(stream, str(source) if isinstance(source, Path) else "")
    except BaseException as error:
        if isinstance(source, Path):
            stream.close()
        if isinstance(error, SyntaxError | IndexError | TypeError | struct.error):
            raise UnidentifiedImageError(f"no {format.upper()}") from error
        raise
    if isinstance(source, Path):
        image._exclusive_fp = True  # closes the file with the picture
    return image

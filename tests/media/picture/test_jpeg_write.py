"""JPEG in strips: the bytes are those of a file that another library writes at once."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from emt_cli.media.picture.jpeg_write import write_jpeg
from emt_cli.media.picture.metadata import Metadata
from emt_cli.media.samples import Samples


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("quality", [100, 95, 90, 89, 50, 1])
def test_strips_join_to_what_pillow_writes_at_once(
    photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, quality: int, gray: bool
) -> None:
    monkeypatch.setattr("emt_cli.media.picture.jpeg_write.BAND", 1000)
    pixels = np.tile(photo, (5, 1, 1))[:401, :117]
    pixels = np.repeat(pixels[..., :1], 3, axis=2) if gray else np.ascontiguousarray(pixels)
    stream, whole = io.BytesIO(), io.BytesIO()

    write_jpeg(stream, Samples(pixels, None, gray, np.dtype(np.uint8)), Metadata(), quality=quality)

    colours = "4:4:4" if quality >= 90 else "4:2:0"
    image = Image.fromarray(pixels[..., 0] if gray else pixels)
    image.save(whole, "jpeg", quality=quality, subsampling=colours, restart_marker_rows=1)
    assert stream.getvalue() == whole.getvalue()

"""The quality of a JPEG is that with which a program saved it."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from emt_cli.media.picture.head import read_head
from emt_cli.media.picture.io import read_picture
from emt_cli.media.picture.jpeg_quality import jpeg_quality


@pytest.mark.parametrize("quality", [1, 10, 30, 50, 75, 89, 90, 95, 100])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_what_pillow_was_told_is_found_again(
    tmp_path: Path, photo: np.ndarray, quality: int, options: dict[str, int]
):
    path = tmp_path / "a.jpg"
    Image.fromarray(photo).save(path, quality=quality, **options)

    assert read_head(path).quality == pytest.approx(quality, abs=1)
    assert read_picture(path).quality == read_head(path).quality


@pytest.mark.parametrize("quality", [20, 60, 85])
def test_what_opencv_was_told_is_found_again(photo: np.ndarray, quality: int):
    _, data = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])

    assert read_picture(data.tobytes()).quality == pytest.approx(quality, abs=1)


def test_other_kinds_of_files_have_none(photo: np.ndarray):
    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, "WEBP", quality=50)

    assert read_picture(stream.getvalue()).quality is None
    assert jpeg_quality({}) is None
    assert jpeg_quality({0: [1, 2]}) is None

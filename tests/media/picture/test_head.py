"""What files declare, against what reading them whole gives."""

from __future__ import annotations

import contextlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from emt_cli.errors import InputError
from emt_cli.media.picture.head import read_head
from emt_cli.media.picture.io import read_picture


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif", "bmp"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_head_says_what_reading_finds(
    tmp_path: Path, photo: np.ndarray, kind: str, mode: str, orientation: int
) -> None:
    if (mode in ("RGBA", "P") and kind == "jpg") or (mode == "RGBA" and kind == "bmp"):
        pytest.skip("there is no such file")
    path = tmp_path / f"picture.{kind}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(photo[:20, :30]).convert(mode)
    image.save(path, **({} if kind == "bmp" else {"exif": exif}))

    head = read_head(path)
    picture = read_picture(path)

    assert (head.format, head.height, head.width) == (picture.format, picture.height, picture.width)
    assert head.itemsize == picture.pixels.itemsize
    assert head.alpha >= (picture.alpha is not None)
    assert head.gray <= picture.gray
    assert head.file_bytes == path.stat().st_size


def test_deep_samples_are_seen(tmp_path: Path, deep: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    tifffile.imwrite(tmp_path / "b.tif", deep)
    tifffile.imwrite(tmp_path / "c.tif", deep.astype(np.float32), photometric="rgb")

    heads = [read_head(tmp_path / name) for name in ("a.png", "b.tif", "c.tif")]

    assert [head.itemsize for head in heads] == [2, 2, 4]
    assert {(head.height, head.width) for head in heads} == {deep.shape[:2]}


@pytest.mark.parametrize("length", [0, 3, 20, 30, 40])
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif", "bmp"])
def test_files_cut_off_near_their_beginning_are_refused(
    tmp_path: Path, photo: np.ndarray, kind: str, length: int
) -> None:
    path = tmp_path / f"picture.{kind}"
    Image.fromarray(photo).save(path)
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(InputError):
        read_picture(path)
    with contextlib.suppress(InputError):
        assert read_head(path).pixels == photo.shape[0] * photo.shape[1], "or it tells the truth"


def test_the_limit_of_pixels_holds(tmp_path: Path, photo: np.ndarray) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")

    with pytest.raises(InputError, match="--max-pixels"):
        read_head(tmp_path / "a.png", max_pixels=100)

"""The library: a few lines of Python on arrays and files, and nothing heavy before they are asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import emt_cli
from emt_cli import EmtError, Upscaler, upscale_file
from emt_cli.engine.weights import save_weights
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT


@pytest.fixture
def model(tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT) -> str:
    """A model file of x2."""
    save_weights(tmp_path / "tiny.safetensors", tiny_config, tiny_network.state_dict(), {})
    return str(tmp_path / "tiny.safetensors")


@pytest.fixture
def cat(tmp_path: Path, photo: np.ndarray) -> Path:
    Image.fromarray(photo[:40, :56]).save(tmp_path / "cat.jpg", exif=exif())
    return tmp_path / "cat.jpg"


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F] = "Maker"
    return tags


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, emt_cli; dir(emt_cli); print({'torch', 'numpy', 'cv2', 'typer'} & sys.modules.keys())"

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_the_readme_lines_enlarge_a_picture(photo: np.ndarray) -> None:
    upscaler = Upscaler.from_model("emt-lite", scale=4)

    larger = upscaler.upscale(photo[:40, :56])

    assert (larger.shape, larger.dtype) == ((160, 224, 3), np.uint8)
    small = np.asarray(Image.fromarray(larger).resize((56, 40), Image.Resampling.BOX), int)
    assert np.abs(small - photo[:40, :56]).mean() < 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("gray", [False, True])
def test_type_and_kind_of_the_array_stay(model: str, photo: np.ndarray, dtype: type, gray: bool) -> None:
    full = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    picture = (photo[:20, :30].astype(np.float64) * full).astype(dtype)
    picture = picture[..., 0] if gray else picture

    larger = Upscaler.from_model(model).upscale(picture)

    assert larger.dtype == dtype
    assert larger.shape == (40, 60, *picture.shape[2:])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float64),
        np.zeros((4, 4, 3), np.int32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.full((4, 4, 3), np.nan, np.float32),
    ],
    ids=["four channels", "doubles", "integers", "empty", "batch", "nan"],
)
def test_what_is_no_picture_is_a_value_error(model: str, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="picture"):
        Upscaler.from_model(model).upscale(array)


def test_views_of_any_layout_are_pictures(model: str, photo: np.ndarray) -> None:
    upscaler = Upscaler.from_model(model)
    turned = photo[:20, :30][::-1, ::-1, ::-1]

    assert np.array_equal(upscaler.upscale(turned), upscaler.upscale(turned.copy()))


def test_a_file_of_another_scale_than_asked_for_is_refused(model: str) -> None:
    with pytest.raises(EmtError, match="enlarges x2, not x4"):
        Upscaler.from_model(model, scale=4)


def test_a_file_is_enlarged_with_its_metadata(cat: Path, model: str) -> None:
    shares: list[float] = []

    result = upscale_file(cat, cat.with_name("large.jpg"), scale=1.5, model=model, progress=shares.append)

    with Image.open(result) as image:
        assert image.size == (84, 60)
        assert image.getexif()[0x010F] == "Maker"
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_result_lies_beside_its_source_and_overwrites_nothing(cat: Path, model: str) -> None:
    result = upscale_file(str(cat), long_side=100, model=model)

    assert result == cat.with_name("cat_100x71.jpg")
    with pytest.raises(EmtError, match="exists already"):
        upscale_file(cat, long_side=100, model=model)
    assert upscale_file(cat, long_side=100, model=model, overwrite=True) == result


def test_every_public_name_is_there() -> None:
    for name in emt_cli.__all__:
        assert getattr(emt_cli, name) is not None
    with pytest.raises(AttributeError):
        emt_cli.Downscaler  # noqa: B018

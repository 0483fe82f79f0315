"""--sharpness: faithful and sharp weights of one file, mixed; and what journals make of it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from emt_cli import Upscaler
from emt_cli.cli import app
from emt_cli.engine.weights import save_weights
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_config: EMTConfig, tiny_network: EMT) -> Path:
    """faithful.safetensors, sharp.safetensors, and both.safetensors of the two."""
    folder = tmp_path_factory.mktemp("models")
    faithful = {name: value.numpy() for name, value in tiny_network.state_dict().items()}
    sharp = {name: value * 1.25 if "tail" in name else value for name, value in faithful.items()}
    save_weights(folder / "faithful.safetensors", tiny_config, faithful, {})
    save_weights(folder / "sharp.safetensors", tiny_config, sharp, {})
    save_weights(folder / "both.safetensors", tiny_config, sharp, {}, faithful)
    return folder


@pytest.fixture
def picture(tmp_path: Path, photo: np.ndarray) -> Path:
    cv2.imwrite(str(tmp_path / "photo.png"), photo[:40, :48, ::-1])
    return tmp_path / "photo.png"


def emt(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def test_0_is_the_faithful_model_1_the_sharp_one_and_that_is_the_default(models: Path, photo: np.ndarray):
    pixels = np.ascontiguousarray(photo[:32, :40])

    def answer(name: str, sharpness: float | None = None) -> np.ndarray:
        model = str(models / f"{name}.safetensors")
        return Upscaler.from_model(model, device="cpu", precision="fp32", sharpness=sharpness).upscale(pixels)

    assert np.array_equal(answer("both", 0), answer("faithful"))
    assert np.array_equal(answer("both", 1), answer("sharp"))
    assert np.array_equal(answer("both"), answer("sharp"))
    assert not np.array_equal(answer("both", 0.5), answer("sharp"))
    assert not np.array_equal(answer("both", 0.5), answer("faithful"))


def test_batch_makes_again_what_had_another_sharpness(models: Path, picture: Path, tmp_path: Path):
    batch = ["batch", picture, "-o", tmp_path / "large", "--model", models / "both.safetensors", "--json"]

    def summary(*more: object) -> dict[str, object]:
        return dict(json.loads(emt(*batch, *more).splitlines()[-1]))

    emt(*batch, "--sharpness", 0.25)
    (result,) = (tmp_path / "large").glob("*.png")
    first = result.read_bytes()

    assert summary("--sharpness", 0.25)["skipped"] == 1
    assert result.read_bytes() == first
    emt(*batch, "--sharpness", 1, "-y")
    assert result.read_bytes() != first
    assert summary()["skipped"] == 1  # the model's own choice is 1


def test_model_info_tells_the_sharpness_that_is_the_default(models: Path):
    assert json.loads(emt("models", "info", models / "both.safetensors", "--json"))["sharpness"] == 1
    assert "sharpness" not in json.loads(emt("models", "info", models / "sharp.safetensors", "--json"))


@pytest.mark.parametrize("command", ["upscale", "batch", "video"])
def test_models_of_one_set_take_no_sharpness(models: Path, picture: Path, tmp_path: Path, command: str):
    words = [command, picture, "-o", tmp_path / "out", "-m", models / "sharp.safetensors", "--sharpness", 0.5]

    result = CliRunner().invoke(app, [str(word) for word in words])

    assert result.exit_code == 5
    assert "sharp.safetensors: has one set of weights" in result.stderr


def test_auto_takes_sharpness_where_its_model_offers_it_and_says_where_not(picture: Path, tmp_path: Path):
    coarse, drawn = tmp_path / "web.jpg", tmp_path / "drawn.png"
    pixels = cv2.imread(str(picture))
    cv2.imwrite(str(coarse), pixels, [cv2.IMWRITE_JPEG_QUALITY, 40])
    cv2.imwrite(str(drawn), pixels // 128 * 255)

    def one(path: Path, name: str, *words: object) -> tuple[np.ndarray, str]:
        output = tmp_path / name
        said = emt("upscale", path, "-o", output, *words)
        return cv2.imread(str(output)), said

    for path, model, offered in (
        (coarse, "emt-photo", True),
        (picture, "emt-lite", False),
        (drawn, "emt-art", False),
    ):
        sharp, said = one(path, "auto.png", "--sharpness", 0, "-y")
        named, _ = one(path, "named.png", "--model", model, *(["--sharpness", 0] if offered else []), "-y")
        assert np.array_equal(sharp, named)
        assert ("has no sharpness to choose" in said) != offered
        done = json.loads(emt("upscale", path, "-o", tmp_path / "auto.png", "-y", "--json").splitlines()[-1])
        assert (done["model"], done["sharpness"]) == (model, 1.0 if offered else None)

    said = emt("batch", coarse, picture, drawn, "-o", tmp_path / "large", "--sharpness", 0.25)
    assert "1 by emt-photo at sharpness 0.25, as they were saved coarsely" in said
    assert "1 by emt-art, as they seem to be drawn" in said

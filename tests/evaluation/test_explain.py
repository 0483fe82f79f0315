"""`emt explain`: attention maps against the network's own sums, LAM against simple cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from emt_cli.cli import app
from emt_cli.engine.weights import save_weights
from emt_cli.evaluation.explain import (
    Attribution,
    attention_at,
    gini,
    local_attribution,
    surroundings,
    window_pixels,
)
from emt_cli.model.attention import attend
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT


def test_maps_are_the_weights_that_the_network_uses() -> None:
    torch.manual_seed(0)
    part = torch.randn(1, 16, 16, 12)
    maps: list[torch.Tensor] = []

    answer = attend(part, (8, 4), (4, 2), 2, maps)

    (weights,) = maps
    order = window_pixels(16, 16, (8, 4), (4, 2))
    values = part[0].reshape(-1, 12)[:, 6:].view(-1, 2, 3)[order]  # (windows, tokens, heads, head_dim)
    expected = torch.einsum("bnqk,bknd->bqnd", weights, values).reshape(-1, 6)
    assert torch.allclose(answer[0].reshape(-1, 6)[order.flatten()], expected, atol=1e-5)


def test_asking_for_maps_does_not_change_the_answer(tiny_network: EMT) -> None:
    x = torch.rand(1, 3, 20, 24) * 255
    maps: list[torch.Tensor] = []

    with torch.no_grad():
        assert torch.equal(tiny_network(x, maps), tiny_network(x))
    assert len(maps) == 2 * 2


def test_attention_lies_in_the_window_of_the_point(tiny_network: EMT, photo: np.ndarray) -> None:
    found = attention_at(tiny_network, photo[:32, :40], 13, 21)

    assert [(one.layer, one.window, one.shifted) for one in found] == [
        (1, (8, 4), False),
        (1, (4, 8), False),
        (3, (8, 4), True),
        (3, (4, 8), True),
    ]
    for one in found:
        assert one.weights.sum() == pytest.approx(1, abs=1e-4)
        assert one.inside[13, 21]
        assert one.inside.sum() == 32
        assert not one.weights[~one.inside].any()
    assert found[0].inside[8:16, 20:24].all()


def test_attribution_stays_near_in_a_network_that_only_sees_near(photo: np.ndarray) -> None:
    torch.manual_seed(0)
    near = EMT(EMTConfig(2, 20, 1, 1, 0, 1, windows=((8, 4),), shifts=((4, 2),)))

    result = list(local_attribution(near, photo[:48, :48], 24, 24, steps=3))[-1]

    assert isinstance(result, Attribution)
    far = np.ones((48, 48), bool)
    far[14:35, 14:35] = False
    assert result.map[24, 24] > 0
    assert result.map[far].max() == 0
    assert 0 < result.diffusion < 30


def test_the_index_is_of_one_area_however_much_of_it_the_picture_has(photo: np.ndarray) -> None:
    torch.manual_seed(0)
    near = EMT(EMTConfig(2, 20, 1, 1, 0, 1, windows=((8, 4),), shifts=((4, 2),)))
    whole, part = photo[:64, :64], photo[:64, :48]

    indices = []
    for image in (whole, part):
        result = list(local_attribution(near, image, 24, 24, steps=3))[-1]
        assert isinstance(result, Attribution)
        indices.append(result.diffusion)

    assert indices[1] == pytest.approx(indices[0], rel=1e-3)


def test_gini_of_simple_cases() -> None:
    assert gini(np.full(10, 3.0)) == pytest.approx(0)
    assert gini(np.eye(1, 100)) == pytest.approx(0.99)
    assert gini(np.array([1.0, 3.0])) == pytest.approx(0.25)


@pytest.mark.parametrize(("y", "x"), [(0, 0), (50, 60), (95, 119)])
def test_surroundings_hold_the_point(photo: np.ndarray, y: int, x: int) -> None:
    crop, top, left = surroundings(photo, y, x)

    assert max(crop.shape) <= 64
    assert top % 32 == left % 32 == 0
    assert np.array_equal(crop[y - top, x - left], photo[y, x])


@pytest.fixture
def cat(tmp_path: Path, photo: np.ndarray) -> Path:
    Image.fromarray(photo[:24, :30]).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


def test_command_writes_one_picture_and_tells_the_index(
    cat: Path, tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT
) -> None:
    model = tmp_path / "tiny.safetensors"
    save_weights(model, tiny_config, tiny_network.state_dict(), {"name": "tiny"})

    arguments = [str(cat), "--at", "12,9", "--model", str(model), "--steps", "2", "--json"]
    result = CliRunner().invoke(app, ["explain", *arguments])

    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert Image.open(tmp_path / "cat_explained.png").width > 1000
    assert 0 < facts["diffusion_index"] < 100
    assert facts["layers"] == [1, 3]
    assert facts["area"] == [0, 0, 64, 64]


@pytest.mark.parametrize(("at", "what"), [("12", "write X,Y"), ("a,b", "write X,Y"), ("30,0", "outside")])
def test_impossible_point_is_refused(cat: Path, at: str, what: str) -> None:
    result = CliRunner().invoke(app, ["explain", str(cat), "--at", at])

    assert result.exit_code == 2
    assert what in result.stderr


@pytest.mark.parametrize("name", ["looked-at", "looked-at.jpg"])
def test_a_result_that_is_not_named_png_is_refused(cat: Path, tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(app, ["explain", str(cat), "--at", "1,1", "-o", str(tmp_path / name)])

    assert result.exit_code == 2
    assert f"{name}: a PNG is written; name it .png" in result.stderr
    assert not (tmp_path / name).exists()

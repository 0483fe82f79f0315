"""Networks of others: read safely, and enlarging as spandrel's own call of them does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from emt_cli.engine.community.network import CommunityNetwork
from emt_cli.engine.models import load_model, precision_for
from emt_cli.engine.upscaler import Upscaler
from emt_cli.errors import DeviceError, UsageError

community_networks = pytest.importorskip("community_networks", reason="needs spandrel")
QUICK = ("Compact", "Compact gray", "SwinIR", "DAT")
ALL = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in community_networks.NETWORKS
]
WINDOWED = {"OmniSR", "HAT", "RCAN", "SAFMN", "DITN", "ATD", "CRAFT", "SeemoRe", "RGT", "FDAT", "RealCUGAN"}
WINDOWED |= {"DCTLSA"}  # wraps around at the picture's borders
"""Networks that look at the whole picture somewhere: their tiles agree as well as was measured, and said."""

Make = Callable[[str], CommunityNetwork]


def as_spandrel(network: CommunityNetwork, pixels: np.ndarray) -> np.ndarray:
    """What spandrel itself answers to RGB floats of 0..1, each colour by itself where the network is gray."""
    planes = torch.from_numpy(pixels).permute(2, 0, 1)
    inputs = planes[None] if network.facts.channels == 3 else planes[:, None]
    answers = [network.descriptor(x[None] if x.ndim == 3 else x) for x in inputs]
    return torch.cat([answer[0] for answer in answers]).permute(1, 2, 0).numpy()


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    error = float(np.mean((np.clip(a, 0, 1) - np.clip(b, 0, 1)) ** 2))
    return 200.0 if error == 0 else -10 * np.log10(error)


@pytest.mark.parametrize("name", ALL)
def test_a_picture_of_odd_sides_is_enlarged_as_spandrel_does(
    make: Make, name: str, photo: np.ndarray
) -> None:
    network = make(name)
    pixels = (photo[:53, :37] / 255).astype(np.float32)

    answer = Upscaler(network, engine="torch", tile=0).upscale(pixels)

    assert answer.shape == (53 * network.scale, 37 * network.scale, 3)
    np.testing.assert_allclose(np.clip(answer, 0, 1), as_spandrel(network, pixels), atol=1e-5)
    assert answer.std() > 0.01  # it is a picture


@pytest.mark.parametrize("name", ALL)
def test_tiles_agree_with_the_whole_picture(
    make: Make, name: str, photo: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    network = make(name)
    pixels = (np.concatenate([photo, photo[:, ::-1]], axis=1)[:96, :200] / 255).astype(np.float32)
    upscaler = Upscaler(network, engine="torch", tile=network.multiple)

    with caplog.at_level(logging.WARNING):
        tiled = upscaler.upscale(pixels)

    assert len(upscaler.tiles(96, 200)) > 1
    agreement = decibels(tiled, Upscaler(network, engine="torch", tile=0).upscale(pixels))
    said = "agree with the whole picture" in caplog.text
    assert agreement >= (30 if said else 65)
    assert not said or name in WINDOWED


def test_the_halo_is_measured_once_and_that_is_said(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network = make("Compact gray")
    monkeypatch.setenv("EMT_CACHE", str(tmp_path))

    for _ in range(2):
        upscaler = Upscaler(network, engine="torch", tile=network.multiple)
        assert len(upscaler.tiles(64, 96)) > 1

    assert [record.getMessage() for record in caplog.records] == [
        f"{network.path.stem}: measuring how wide a halo its tiles need, this once"
    ]


@pytest.mark.parametrize("name", ALL)
def test_openvino_computes_a_network_as_torch_does_or_leaves_it_to_torch(
    make: Make, name: str, photo: np.ndarray
) -> None:
    pytest.importorskip("openvino")
    network = make(name)
    pixels = (photo[:45, :61] / 255).astype(np.float32)
    upscaler = Upscaler(network)

    answer = upscaler.upscale(pixels)

    expected = Upscaler(network, engine="torch").upscale(pixels)
    assert decibels(answer, expected) > 75
    if name in ("Compact", "Compact gray", "SPAN", "ESRGAN"):
        assert upscaler.runner.name == "openvino"


def test_what_openvino_cannot_convert_is_refused_by_name_where_it_was_asked_for(
    make: Make, photo: np.ndarray
) -> None:
    pytest.importorskip("openvino")
    upscaler = Upscaler(make("DAT"), engine="openvino")

    with pytest.raises(DeviceError, match="DAT does not convert; use --engine torch"):
        upscaler.upscale(photo)


def test_a_gray_network_enlarges_each_colour_and_a_gray_picture(make: Make, photo: np.ndarray) -> None:
    upscaler = Upscaler(make("Compact gray"), engine="torch")

    colours = upscaler.upscale(photo)
    plane = upscaler.upscale(np.ascontiguousarray(photo[..., 0]))

    assert np.array_equal(colours[..., 0], plane)
    assert not np.array_equal(colours[..., 0], colours[..., 1])


def test_alpha_is_enlarged_as_well_and_what_is_clear_or_opaque_stays_so(
    make: Make, photo: np.ndarray
) -> None:
    alpha = np.zeros(photo.shape[:2], np.uint8)
    alpha[:, 60:] = 255

    answer = Upscaler(make("Compact"), engine="torch").upscale(np.dstack([photo, alpha]))

    assert answer.shape == (192, 240, 4)
    assert (answer[:, :80, 3] == 0).all()
    assert (answer[:, -80:, 3] == 255).all()


def test_what_was_found_out_of_a_file_is_kept(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    network = make("Compact")
    parameters = sum(value.numel() for value in network.descriptor.model.parameters())
    monkeypatch.setattr(torch, "load", None)

    again = load_model(network.path)

    assert isinstance(again, CommunityNetwork)
    assert again.facts == network.facts
    assert again.parameters == parameters


def test_memory_is_planned_from_the_tensors_that_live_at_once(make: Make) -> None:
    network = make("Compact")

    # Beside the input, two maps of 8 channels of 4 bytes live at once, or one and the answer.
    assert 64 <= network.facts.bytes_per_pixel <= 160
    assert network.facts.multiply_adds == 9 * (3 * 8 + 3 * 8 * 8 + 8 * 12)


def test_precisions_are_those_the_network_stands(make: Make) -> None:
    assert precision_for("auto", "cuda", "auto", make("Compact")) == "fp16"
    assert precision_for("auto", "cuda", "auto", make("DAT")) == "fp32"
    with pytest.raises(UsageError, match="--precision fp16: DAT does not stand it"):
        precision_for("fp16", "cuda", "auto", make("DAT"))


def test_the_native_engine_is_for_emts(make: Make) -> None:
    with pytest.raises(UsageError, match="--engine native: computes EMT models only"):
        Upscaler(make("Compact"), engine="native")


def test_half_precision_that_overflows_is_computed_again_in_single(tmp_path: Path, photo: np.ndarray) -> None:
    state = community_networks.make("Compact", photo)
    state["body.0.weight"] *= 1e6  # 65504 is the largest number of fp16
    state["body.8.weight"] /= 1e6
    path = tmp_path / "loud.pth"
    torch.save(state, path)
    upscaler = Upscaler(load_model(path), engine="torch", precision="fp16")

    answer = upscaler.upscale(photo)

    assert upscaler.runner.used_fallback
    assert np.array_equal(answer, Upscaler(load_model(path), engine="torch").upscale(photo))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["realesr-animevideov3", "RealESRGAN_x4plus_anime_6B", "RealESRGAN_x4plus"])
def test_tiles_of_real_networks_agree_with_the_whole_picture(shared: Path, name: str) -> None:
    from skimage.data import chelsea

    network = load_model(shared / "weights" / "teachers" / f"{name}.pth")
    pixels = (chelsea()[80:144, 100:200] / 255).astype(np.float32)

    tiled, whole = (Upscaler(network, tile=tile).upscale(pixels) for tile in (64, 0))

    assert decibels(tiled, whole) >= 65
    assert decibels(whole.reshape(64, 4, 100, 4, 3).mean(axis=(1, 3)), pixels) > 25  # still the cat

"""Networks of a run: read once, one Upscaler a device, a digest that names the weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emt_cli.assets.model_choice import FoundModel
from emt_cli.engine.device import choose_devices
from emt_cli.engine.memory import free_memory
from emt_cli.engine.models import Model, load_model
from emt_cli.engine.torch.network import weights_of
from emt_cli.engine.upscaler import Upscaler
from emt_cli.engine.weights import save_weights
from emt_cli.errors import UsageError
from emt_cli.jobs.networks import Networks, NetworkSettings
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT


@pytest.fixture
def tiny(tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, tiny_config, tiny_network.state_dict(), {"name": "tiny"})
    return path


def test_a_model_file_is_read_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def reading(path: Path, **options: Any) -> Model:
        read.append(path)
        return load_model(path, **options)

    monkeypatch.setattr("emt_cli.jobs.networks.load_model", reading)

    networks = Networks(NetworkSettings(model=str(tiny), device="cpu"))

    assert networks.scales == (2,)
    assert networks.get(2) is networks.get(2)
    assert networks.found(2).name == "tiny"
    assert networks.digest()
    assert read == [tiny]


def test_a_model_that_is_pulled_meanwhile_changes_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    there = [FoundModel("emt-lite", tiny)]
    monkeypatch.setattr("emt_cli.jobs.networks.find_model", lambda model, scale: there[-1])
    networks = Networks(NetworkSettings(model="auto", device="cpu"))
    before = networks.get(2)

    there.append(FoundModel("emt", tmp_path / "pulled.pth"))

    assert networks.found(2).name == "emt-lite"
    assert networks.get(2) is before


@pytest.mark.parametrize(
    ("threads", "engine", "share", "places"),
    [(2, "native", 0.1, (0, 0)), (2, "native", 0.4, (0,)), (1, "native", 0.1, (0,)), (2, "torch", 0.1, (0,))],
)
def test_two_pictures_at_once_are_for_kernels_on_several_threads_with_room_for_both(
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    engine: str,
    share: float,
    places: tuple[int, ...],
) -> None:
    """share: of the free memory that one picture takes."""
    monkeypatch.setattr("emt_cli.engine.native.runner.cpu_threads", lambda: threads)
    networks = Networks(NetworkSettings(model=str(tiny), device="cpu", engine=engine))
    free = free_memory(networks.devices[0])

    assert networks.places([2], lambda pictures: share * pictures * free) == places


def test_the_digest_tells_other_weights_apart(
    tiny: Path, tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT
) -> None:
    same, other = tmp_path / "same.safetensors", tmp_path / "other.safetensors"
    same.write_bytes(tiny.read_bytes())
    changed = {
        name: value + 1 if value.is_floating_point() else value
        for name, value in tiny_network.state_dict().items()
    }
    save_weights(other, tiny_config, changed, {"name": "tiny"})

    digests = [
        Networks(NetworkSettings(model=str(path), device="cpu")).digest([2]) for path in (tiny, same, other)
    ]

    assert digests[0] == digests[1] != digests[2]


def test_devices_are_named_once_each() -> None:
    assert choose_devices("cpu") == ["cpu"]
    with pytest.raises(UsageError, match="each device once"):
        choose_devices("cpu, cpu")
    with pytest.raises(UsageError, match="not a device"):
        choose_devices("cpu,gpu")


def test_denormal_numbers_are_left_out_in_whatever_thread_computes(
    tiny_network: EMT, photo: np.ndarray
) -> None:
    upscaler = Upscaler(weights_of(tiny_network), engine="torch")
    tiny = torch.tensor([1e-40])

    def compute() -> bool:
        before = bool((tiny * 1).any())
        upscaler.upscale(photo[:16, :16])
        return before and not bool((tiny * 1).any())

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(compute).result()


@pytest.mark.parametrize("kind", ["colour", "gray"])
def test_a_batch_computed_at_once_answers_the_same(
    tiny_network: EMT, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    upscaler = Upscaler(weights_of(tiny_network), engine="torch")
    images = [photo[:40, :48], photo[40:80, 8:56], photo[20:60, 70:118]]
    if kind == "gray":
        images = [image[..., 0] for image in images]
    monkeypatch.setattr(Upscaler, "batch_size", lambda self, height, width: 4)

    answers = upscaler.upscale_batch(images, dtype=np.float32)

    for image, answer in zip(images, answers, strict=True):
        np.testing.assert_allclose(answer, upscaler.upscale(image, dtype=np.float32), atol=1e-4)


def test_a_batch_is_answered_picture_by_picture(tiny_network: EMT, photo: np.ndarray) -> None:
    upscaler = Upscaler(weights_of(tiny_network))
    images = [photo[:40, :48], photo[40:80, 8:56]]

    answers = upscaler.upscale_batch(images)

    for image, answer in zip(images, answers, strict=True):
        np.testing.assert_array_equal(answer, upscaler.upscale(image))
    with pytest.raises(ValueError, match="one size"):
        upscaler.upscale_batch([photo, photo[1:]])


def test_a_node_that_computes_in_another_precision_says_so(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emt_cli.engine.precision.has_bf16_kernels", lambda: True)
    asked = Networks(NetworkSettings(model=str(tiny), device="cpu", precision="bf16"))
    expected = asked.cpu_precisions((2,))

    alike = asked.precision_problems((2,), expected)
    monkeypatch.setattr("emt_cli.engine.precision.has_bf16_kernels", lambda: False)
    unlike = asked.precision_problems((2,), expected)

    assert expected == ("bf16 kernels",)
    assert alike == []
    assert unlike == [
        "its processor computes in bf16, that of the command in bf16 kernels; give --precision fp32"
    ]


def test_unknown_weights_are_computed_in_single_precision(tiny: Path) -> None:
    networks = Networks(NetworkSettings(model=str(tiny), device="cpu"))

    assert networks.precisions((2,)) == ("fp32",)
    assert networks.get(2).runner.precision == "fp32"

"""OpenVINO: the same answers at any size, a cache that cannot hurt, and no waiting for what does not pay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from emt_cli.engine.openvino import runner as openvino_runner
from emt_cli.engine.openvino.runner import OpenVINORunner
from emt_cli.engine.runner import make_runner
from emt_cli.engine.torch.network import build_network, weights_of
from emt_cli.engine.torch.runner import TorchRunner
from emt_cli.engine.upscaler import Upscaler
from emt_cli.engine.weights import load_weights
from emt_cli.errors import DeviceError, UsageError
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT
from emt_cli.steps import finish

pytest.importorskip("openvino")


SIGNALLED = """
import gc, os, signal
import numpy as np
from emt_cli.engine.openvino.runner import OpenVINORunner
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT
from emt_cli.steps import finish
from emt_cli.engine.torch.network import weights_of
runners = [OpenVINORunner(weights_of(EMT(EMTConfig(scale, 6, 1, 1, 0)).eval())) for scale in (2, 4)]
for runner in runners:
    finish(runner.steps(np.zeros((8, 8, 3), np.float32)))
del runner
while runners:
    runners.pop(0)
    gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "compiled"


def expected(network: EMT, pixels: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        answer = network(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
    return answer[0].permute(1, 2, 0).numpy()


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_signals_are_still_handled_when_models_are_gone(cache: Path) -> None:
    told = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, check=False)

    assert (told.returncode, told.stdout) == (0, "handled\n"), told.stderr


def test_one_model_answers_any_size_as_the_network_does(tiny_network: EMT, photo: np.ndarray) -> None:
    runner = OpenVINORunner(weights_of(tiny_network))

    for height, width in ((1, 1), (1, 50), (50, 1), (4, 9), (31, 33), (64, 40)):
        pixels = photo[:height, :width].astype(np.float32)
        answer = finish(runner.steps(pixels))
        np.testing.assert_allclose(answer, expected(tiny_network, pixels), rtol=1e-4, atol=1e-2)


def test_any_network_of_the_family_is_served(photo: np.ndarray) -> None:
    torch.manual_seed(0)
    windows = ((4, 6), (6, 4), (5, 5))
    network = EMT(EMTConfig(3, 36, 1, 3, 2, 2, 3, windows, ((2, 3), (3, 2), (1, 4)))).eval()
    pixels = photo[:23, :19].astype(np.float32)

    answer = finish(OpenVINORunner(weights_of(network)).steps(pixels))

    np.testing.assert_allclose(answer, expected(network, pixels), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("kind", ["aligned", "odd", "wide"])
def test_openvino_reproduces_the_released_network(shared: Path, kind: str) -> None:
    network = build_network(load_weights(shared / "weights" / "EMT_LSR_x2.pth"))
    golden = np.load(shared / "golden" / f"emt_x2_{kind}.npz")

    answer = finish(OpenVINORunner(weights_of(network)).steps(golden["lr"].astype(np.float32)))

    assert np.abs(answer - golden["sr"]).max() < 1e-2


def test_the_ensemble_is_the_one_of_torch(tiny_network: EMT, photo: np.ndarray) -> None:
    pixels = photo[:30, :40].astype(np.float32)

    answer = finish(OpenVINORunner(weights_of(tiny_network)).steps(pixels, ensemble=True))

    reference = TorchRunner(weights_of(tiny_network))(pixels, ensemble=True)
    np.testing.assert_allclose(answer, reference, rtol=1e-4, atol=1e-2)


def test_a_compiled_model_is_read_from_the_cache(
    tiny_network: EMT, photo: np.ndarray, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = photo[:40, :40].astype(np.float32)
    first = finish(OpenVINORunner(weights_of(tiny_network)).steps(pixels))
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr("emt_cli.engine.openvino.graph.write_network", None)

    again = finish(OpenVINORunner(weights_of(tiny_network)).steps(pixels))

    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_a_damaged_cache_is_made_anew(tiny_network: EMT, photo: np.ndarray, cache: Path, damage: str) -> None:
    pixels = photo[:40, :40].astype(np.float32)
    runner = OpenVINORunner(weights_of(tiny_network))
    first = finish(runner.steps(pixels))
    data = bytearray(runner.compiled.path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 255
    other = openvino_runner.hashlib.sha256(b"no model").digest() + b"no model"
    runner.compiled.path.write_bytes({"cut": data[:-9], "flipped": data, "other": other}[damage])

    again = finish(OpenVINORunner(weights_of(tiny_network)).steps(pixels))

    np.testing.assert_array_equal(again, first)
    rebuilt = runner.compiled.path.read_bytes()
    assert openvino_runner.hashlib.sha256(rebuilt[32:]).digest() == rebuilt[:32] != other[:32]


def test_a_cache_that_cannot_be_written_is_done_without(
    tiny_network: EMT, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "file"))

    answer = finish(OpenVINORunner(weights_of(tiny_network)).steps(photo.astype(np.float32)))

    assert answer.shape == (192, 240, 3)


def test_other_weights_and_precisions_are_cached_apart(tiny_network: EMT, tiny_config: EMTConfig) -> None:
    other = EMT(tiny_config).eval()

    paths = {
        OpenVINORunner(weights_of(network), precision).compiled.path
        for network in (tiny_network, other)
        for precision in ("fp32", "bf16")
    }

    assert len(paths) == 4


def test_torch_works_until_compiling_pays(
    tiny_network: EMT, photo: np.ndarray, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emt_cli.engine.runner.processor", lambda: None)
    work = tiny_network.config.multiply_adds * 40 * 40
    monkeypatch.setattr(openvino_runner, "COMPILE_COST", 2.5 * work)
    pixels = photo[:40, :40]
    upscaler = Upscaler(weights_of(tiny_network), exact=True)

    upscaler.upscale(pixels)
    upscaler.upscale(pixels)
    assert not cache.exists()
    assert "torch" in upscaler.runner.description
    upscaler.upscale(pixels)

    assert len(list(cache.iterdir())) == 1
    assert "OpenVINO" in Upscaler(weights_of(tiny_network)).runner.description, (
        "compiled before: taken at once"
    )


def test_only_so_many_compiled_models_are_kept(
    tiny_config: EMTConfig, photo: np.ndarray, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emt_cli.engine.compiled.KEPT_BYTES", 1)

    for seed in (0, 1):
        torch.manual_seed(seed)
        runner = OpenVINORunner(weights_of(EMT(tiny_config).eval()))
        finish(runner.steps(photo[:16, :16].astype(np.float32)))

    assert list(cache.iterdir()) == [runner.compiled.path]


def test_wrong_wishes_are_refused_in_a_line(tiny_network: EMT, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="fp32 or bf16"):
        make_runner("openvino", weights_of(tiny_network), precision="fp16")
    with pytest.raises(UsageError, match="CPU only"):
        make_runner("openvino", weights_of(tiny_network), "cuda", "fp16")
    monkeypatch.setattr("emt_cli.engine.runner.find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"pip install \"emt-cli\[cpu\]\""):
        make_runner("openvino", weights_of(tiny_network))

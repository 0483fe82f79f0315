"""Kernels compiled at run time: they answer what the network answers, for any shape and width of vectors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emt_cli.engine.native.llvm import Function
from emt_cli.engine.native.processor import Processor, processor
from emt_cli.engine.native.program import Program
from emt_cli.engine.native.runner import NativeRunner
from emt_cli.engine.runner import make_runner
from emt_cli.engine.torch.network import build_network, weights_of
from emt_cli.engine.torch.runner import TorchRunner
from emt_cli.engine.upscaler import Upscaler
from emt_cli.engine.weights import load_weights
from emt_cli.errors import DeviceError, UsageError
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT

pytestmark = pytest.mark.skipif(processor() is None, reason="no kernels for this processor")

FAMILY = (
    EMTConfig(3, 36, 1, 3, 2, 2, 3, ((4, 6), (6, 4), (5, 5)), ((2, 3), (3, 2), (1, 4))),
    EMTConfig(2, 6, 1, 2, 0),
    EMTConfig(4, 64, 1, 2, 1, 2, 1, ((16, 8), (8, 16)), ((8, 4), (4, 8))),
    EMTConfig(2, 42, 1, 2, 2, 1, 2, ((8, 3),), ((4, 1),)),
)


def expected(network: EMT, pixels: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        answer = network(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
    return answer[0].permute(1, 2, 0).numpy()


def machine(lanes: int) -> Processor:
    """This processor, taken for one with shorter vectors."""
    cpu = processor()
    assert cpu is not None
    return replace(cpu, lanes=lanes, registers=16 if lanes == 8 else 32)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (4, 9), (31, 33), (64, 40)])
@pytest.mark.parametrize("threads", [1, 3])
def test_kernels_answer_what_the_network_answers(
    tiny_network: EMT, photo: np.ndarray, size: tuple[int, int], threads: int
) -> None:
    pixels = photo[: size[0], : size[1]].astype(np.float32)

    answer = NativeRunner(weights_of(tiny_network), threads=threads)(pixels)

    np.testing.assert_allclose(answer, expected(tiny_network, pixels), rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("config", FAMILY, ids=str)
def test_kernels_serve_any_network_of_the_family_on_any_vectors(
    photo: np.ndarray, config: EMTConfig, lanes: int
) -> None:
    torch.manual_seed(0)
    network = EMT(config).eval()
    pixels = photo[:23, :37].astype(np.float32)

    answer = NativeRunner(weights_of(network), threads=2, cpu=machine(lanes))(pixels)

    np.testing.assert_allclose(answer, expected(network, pixels), rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("name", [f"x{s}_{k}" for s in (2, 3, 4) for k in ("aligned", "odd", "wide")])
def test_kernels_reproduce_the_released_network(shared: Path, name: str) -> None:
    network = build_network(load_weights(shared / "weights" / f"EMT_LSR_{name[:2]}.pth"))
    golden = np.load(shared / "golden" / f"emt_{name}.npz")

    answer = NativeRunner(weights_of(network))(golden["lr"].astype(np.float32))

    assert np.abs(answer - golden["sr"]).max() < 1e-3


def test_attention_survives_logits_far_above_a_token_s_own(photo: np.ndarray) -> None:
    torch.manual_seed(0)
    network = EMT(EMTConfig(2, 20, 1, 1, 1, 1, 2, ((8, 4),), ((4, 2),))).eval()
    pixels = photo[:24, :24].astype(np.float32)
    with torch.no_grad():
        network.body[0].mixer.qv.weight[:20] *= 40  # logits of some thousands
    double = network.double()
    with torch.inference_mode():
        exact = double(torch.from_numpy(pixels).permute(2, 0, 1)[None].double())[0].permute(1, 2, 0).numpy()

    answer = NativeRunner(weights_of(network.float()))(pixels)

    assert np.abs(exact).max() < 1e4
    np.testing.assert_allclose(answer, exact, rtol=1e-2, atol=0.5)


@pytest.mark.parametrize("factor", [1.0, -1.4426950408889634])
def test_powers_of_two_are_exact_to_single_precision(factor: float) -> None:
    cpu = processor()
    assert cpu is not None
    function = Function("powers", [("x", "ptr"), ("y", "ptr"), ("n", "i64")], cpu)
    with function.loop(0, "%n", step=cpu.lanes) as place:
        value = function.exp2(function.load(function.at("%x", place.index)), factor)
        function.store(value, function.at("%y", place.index))
    x = np.linspace(-130, 130, 16 * 1000, dtype=np.float32)
    y = np.empty_like(x)

    Program([function], cpu)("powers", x.ctypes.data, y.ctypes.data, len(x))

    rtol = 3e-7 if factor == 1 else 1e-5  # the factor and its limits are rounded
    np.testing.assert_allclose(y, np.exp2((factor * x.astype(np.float64)).clip(-100, 120)), rtol=rtol)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_blocks_are_transposed_in_registers(lanes: int) -> None:
    cpu = machine(lanes)
    function = Function("turn", [("x", "ptr"), ("y", "ptr")], cpu)
    rows = [function.load(function.at("%x", lanes * row)) for row in range(lanes)]
    for row, value in enumerate(function.transpose(rows)):
        function.store(value, function.at("%y", lanes * row))
    x = np.arange(lanes**2, dtype=np.float32).reshape(lanes, lanes)
    y = np.empty_like(x)

    Program([function], cpu)("turn", x.ctypes.data, y.ctypes.data)

    np.testing.assert_array_equal(y, x.T)


def test_a_second_picture_of_the_same_size_finds_nothing_of_the_first(
    tiny_network: EMT, photo: np.ndarray
) -> None:
    first, second = (photo[:40, start : start + 41].astype(np.float32) for start in (0, 50))
    runner = NativeRunner(weights_of(tiny_network))
    runner(first)

    answer = runner(second)

    np.testing.assert_array_equal(answer, NativeRunner(weights_of(tiny_network))(second))


@pytest.mark.parametrize("height", [40, 41, 47, 90, 95])
@pytest.mark.parametrize("config", FAMILY, ids=str)
def test_bands_and_strips_of_any_height_do_not_change_the_answer(
    photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, config: EMTConfig, height: int
) -> None:
    torch.manual_seed(0)
    weights = weights_of(EMT(config).eval())
    pixels = photo[:height, :37].astype(np.float32)
    whole = NativeRunner(weights, threads=1)(pixels)
    monkeypatch.setattr("emt_cli.engine.native.run.WINDOW_PIXELS", 1)
    monkeypatch.setattr("emt_cli.engine.native.run.STRIP_ROWS", 3)
    monkeypatch.setattr("emt_cli.engine.native.run.BAND_ROWS", 5)

    cut = NativeRunner(weights, threads=3)(pixels)

    np.testing.assert_array_equal(cut, whole)


@pytest.mark.parametrize("roll", [-3, 0, 5, 8, 21])
def test_windows_that_are_rolled_by_any_number_of_pixels_find_their_rows(
    photo: np.ndarray, roll: int
) -> None:
    torch.manual_seed(0)
    network = EMT(EMTConfig(2, 20, 1, 2, 2, 1, 2, ((8, 4),), ((roll, 2),))).eval()
    pixels = photo[:60, :30].astype(np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emt_cli.engine.native.run.WINDOW_PIXELS", 1)
        answer = NativeRunner(weights_of(network), threads=2)(pixels)

    np.testing.assert_allclose(answer, expected(network, pixels), rtol=1e-4, atol=2e-3)


def test_threads_do_not_change_the_answer(tiny_network: EMT, photo: np.ndarray) -> None:
    pixels = photo.astype(np.float32)

    one, many = (NativeRunner(weights_of(tiny_network), threads=threads)(pixels) for threads in (1, 5))

    np.testing.assert_array_equal(one, many)


def test_pictures_enlarged_at_the_same_time_do_not_meet(tiny_network: EMT, photo: np.ndarray) -> None:
    pictures = [np.roll(photo, 5 * step, axis=1).astype(np.float32) for step in range(12)]
    alone = NativeRunner(weights_of(tiny_network), threads=1)
    runner = NativeRunner(weights_of(tiny_network), threads=2)

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(runner, pictures))

    for picture, answer in zip(pictures, answers, strict=True):
        np.testing.assert_array_equal(answer, alone(picture))


def test_the_ensemble_is_the_one_of_torch(tiny_network: EMT, photo: np.ndarray) -> None:
    pixels = photo[:30, :40].astype(np.float32)

    answer = NativeRunner(weights_of(tiny_network))(pixels, ensemble=True)

    reference = TorchRunner(weights_of(tiny_network))(pixels, ensemble=True)
    np.testing.assert_allclose(answer, reference, rtol=1e-4, atol=2e-3)


def test_auto_takes_the_kernels_on_a_cpu_in_single_precision(
    tiny_network: EMT, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Upscaler(weights_of(tiny_network)).runner.name == "native"
    assert make_runner("torch", weights_of(tiny_network)).name == "torch"
    with pytest.raises(UsageError, match="use auto, native"):
        make_runner("tensorrt", weights_of(tiny_network))

    def failing(*arguments: object) -> None:
        raise RuntimeError("LLVM cannot select this instruction")

    with monkeypatch.context() as patch:
        patch.setattr("emt_cli.engine.native.runner._program", failing)
        patch.setattr("emt_cli.engine.runner.find_spec", lambda name: None)
        assert make_runner("auto", weights_of(tiny_network)).name == "torch"
    monkeypatch.setattr("emt_cli.engine.runner.processor", lambda: None)
    monkeypatch.setattr("emt_cli.engine.runner.find_spec", lambda name: None)
    assert make_runner("auto", weights_of(tiny_network)).name == "torch"
    with pytest.raises(DeviceError, match="llvmlite"):
        make_runner("native", weights_of(tiny_network))

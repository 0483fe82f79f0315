"""The engine: strips equal the network, tiles the whole; one rounding; memory runs out gently."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_peak import needs_account, run_code
from PIL import Image
from released_reference import ReleasedEMT

from emt_cli.engine.device import Precision, choose_device, choose_precision
from emt_cli.engine.folded import fold
from emt_cli.engine.memory import free_memory
from emt_cli.engine.runner import Take
from emt_cli.engine.torch.inference import InferenceEMT
from emt_cli.engine.torch.network import build_network, weights_of
from emt_cli.engine.torch.runner import TorchRunner
from emt_cli.engine.upscaler import Upscaler
from emt_cli.engine.weights import load_weights
from emt_cli.errors import DeviceError, InputError, UsageError, is_out_of_memory
from emt_cli.media.picture.io import read_picture
from emt_cli.media.resize import bicubic_downscale
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT
from emt_cli.steps import Steps


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR of two pictures 0..255."""
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def crop(photo: np.ndarray, height: int, width: int) -> torch.Tensor:
    """Part of a photo as (1, 3, h, w), 0..255; on noise single precision says little."""
    return torch.from_numpy(photo[:height, :width].copy()).permute(2, 0, 1)[None].float()


@pytest.fixture(scope="module")
def released(shared: Path) -> EMT:
    return build_network(load_weights(shared / "weights" / "EMT_LSR_x4.pth"))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (4, 9), (31, 33), (64, 40)])
@pytest.mark.parametrize("strip_pixels", [1, 100, 8192])
def test_strips_answer_what_the_network_answers(
    tiny_network: EMT, photo: np.ndarray, size: tuple[int, int], strip_pixels: int
) -> None:
    x = torch.cat([crop(photo, *size), crop(photo[::-1], *size)])

    with torch.inference_mode():
        expected = tiny_network(x)
    answer = InferenceEMT(fold(weights_of(tiny_network)), strip_pixels=strip_pixels)(x)

    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=2e-3)


def test_strips_answer_what_plain_masked_convolutions_answer(tiny_network: EMT, photo: np.ndarray) -> None:
    x = crop(photo, 37, 45)

    with torch.inference_mode():
        expected = ReleasedEMT(tiny_network)(x)
    answer = InferenceEMT(fold(weights_of(tiny_network)), strip_pixels=300)(x)

    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=2e-3)


def test_heads_extended_with_zeros_answer_the_same(tiny_network: EMT, photo: np.ndarray) -> None:
    x = crop(photo, 37, 45)

    extended, plain = (
        InferenceEMT(fold(weights_of(tiny_network)), whole_heads=whole) for whole in (True, False)
    )

    assert (extended.extra_channels, plain.extra_channels) == (6, 0)
    torch.testing.assert_close(extended(x), plain(x), rtol=1e-4, atol=2e-3)


def test_strips_serve_any_network_of_the_family(photo: np.ndarray) -> None:
    torch.manual_seed(0)
    windows = ((4, 6), (6, 4), (5, 5))
    config = EMTConfig(3, 36, 1, 3, 2, 2, 3, windows, ((2, 3), (3, 2), (1, 4)))
    network = EMT(config).eval()
    x = crop(photo, 23, 19)

    with torch.inference_mode():
        expected = network(x)

    torch.testing.assert_close(
        InferenceEMT(fold(weights_of(network)), strip_pixels=64)(x), expected, rtol=1e-4, atol=2e-3
    )


@pytest.mark.parametrize("name", [f"x{s}_{k}" for s in (2, 3, 4) for k in ("aligned", "odd", "wide")])
def test_the_engine_reproduces_the_released_network(shared: Path, name: str) -> None:
    network = build_network(load_weights(shared / "weights" / f"EMT_LSR_{name[:2]}.pth"))
    golden = np.load(shared / "golden" / f"emt_{name}.npz")

    answer = TorchRunner(weights_of(network))(golden["lr"].astype(np.float32))

    assert np.abs(answer - golden["sr"]).max() < 1e-3


def test_a_photo_in_tiles_is_close_to_the_whole(tiny_network: EMT, photo: np.ndarray) -> None:
    tall = np.concatenate([photo, photo[::-1]])  # 192 x 120

    whole = Upscaler(weights_of(tiny_network), tile=0).upscale(tall, dtype=np.float32) * 255
    tiled = Upscaler(weights_of(tiny_network), tile=32).upscale(tall, dtype=np.float32) * 255

    inside = np.s_[64:-64, 64:-64]
    assert not np.array_equal(tiled, whole)
    assert decibels(tiled[inside], whole[inside]) > 60


@pytest.mark.slow
def test_released_weights_in_tiles_of_64_agree_with_the_whole_by_65_db(shared: Path, released: EMT) -> None:
    border = 32 * 4
    weights = weights_of(released)
    tiled, whole = (Upscaler(weights, tile=side, exact=True) for side in (64, 0))
    scores, agreements = [], {}
    for path in sorted((shared / "data/benchmark/Set14/HR").iterdir()):
        hr = read_picture(path).pixels
        lr = bicubic_downscale(hr, 4)

        a, b = tiled.upscale(lr, dtype=np.float32) * 255, whole.upscale(lr, dtype=np.float32) * 255

        inside = np.s_[border:-border, border:-border]
        if a[inside].size:
            agreements[path.stem] = decibels(a[inside], b[inside])
        hr = hr[: a.shape[0], : a.shape[1]]
        scores.append([y_decibels(np.rint(np.clip(sr, 0, 255)), hr) for sr in (a, b)])
    assert len(agreements) == 13, "comic is too small to have an inside"
    assert min(agreements.values()) >= 65, agreements
    difference = np.mean(scores, axis=0)
    assert abs(difference[0] - difference[1]) < 0.02
    assert difference[1] == pytest.approx(28.968, abs=0.002)


def y_decibels(sr: np.ndarray, hr: np.ndarray, border: int = 4) -> float:
    """PSNR of the Y channel inside the border, as the papers take it."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    return decibels(*((x[border:-border, border:-border] @ weights) for x in (sr, hr)))


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "least"), [("fp16", 60), ("bf16", 50)])
def test_half_precision_stays_close_on_set5(
    shared: Path, released: EMT, precision: Precision, least: float
) -> None:
    full, half = (
        Upscaler(weights_of(released)),
        Upscaler(weights_of(released), precision=precision, engine="torch"),
    )
    pairs = []
    for path in sorted((shared / "data/benchmark/Set5/HR").iterdir()):
        lr = bicubic_downscale(read_picture(path).pixels, 4)
        pairs.append([engine.upscale(lr, dtype=np.float32).ravel() * 255 for engine in (full, half)])

    full_pixels, half_pixels = (np.concatenate(column) for column in zip(*pairs, strict=True))

    assert least < decibels(full_pixels, half_pixels) < 100
    assert not half.runner.used_fallback


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_the_answer_has_the_type_of_the_question(
    tiny_network: EMT, photo: np.ndarray, kind: Callable[..., Any]
) -> None:
    white = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[kind]
    upscaler = Upscaler(weights_of(tiny_network))
    exact = upscaler.upscale(photo, dtype=np.float32) * 255

    answer = upscaler.upscale((photo * np.float64(white)).round(6).astype(kind))

    assert answer.dtype == kind
    assert answer.shape == (192, 240, 3)
    error = np.abs(answer / white - np.clip(exact, 0, 255 if kind != np.float32 else None))
    assert error.max() <= 0.5 / white + 1e-3


def test_a_gray_plane_is_answered_by_a_gray_plane(tiny_network: EMT, photo: np.ndarray) -> None:
    gray = photo[..., 1]
    upscaler = Upscaler(weights_of(tiny_network), tile=32)

    answer = upscaler.upscale(gray)

    colour = upscaler.upscale(np.repeat(gray[..., None], 3, axis=2), dtype=np.float32)
    assert answer.shape == (192, 240)
    assert np.abs(answer - np.clip(colour.mean(axis=2) * 255, 0, 255)).max() < 0.51


def test_the_ensemble_is_the_mean_of_eight_flips_and_turns(tiny_network: EMT, photo: np.ndarray) -> None:
    square = photo[:40, :40].astype(np.float32)
    runner = TorchRunner(weights_of(tiny_network))

    answer = runner(square, ensemble=True)

    views = [np.rot90(flip, turns) for flip in (square, square[:, ::-1]) for turns in range(4)]
    undone = [np.rot90(runner(view), -(index % 4)) for index, view in enumerate(views)]
    undone[4:] = [view[:, ::-1] for view in undone[4:]]
    np.testing.assert_allclose(answer, np.mean(undone, axis=0), atol=1e-3)


def test_running_out_of_memory_halves_the_tile_and_goes_on(tiny_network: EMT, photo: np.ndarray) -> None:
    tall = np.concatenate([photo, photo])
    upscaler = Upscaler(weights_of(tiny_network), tile=0)
    expected = Upscaler(weights_of(tiny_network), tile=96).upscale(tall)
    limited = Limited(upscaler.runner, pixels=24_000)
    upscaler._runner = limited  # type: ignore[assignment]

    answer = upscaler.upscale(tall)

    assert limited.refused == 1
    np.testing.assert_array_equal(answer, expected)
    upscaler.upscale(tall)
    assert limited.refused == 1, "the size that worked is remembered"


def test_running_out_of_memory_in_a_later_row_keeps_the_rows_before(
    tiny_network: EMT, photo: np.ndarray
) -> None:
    tall = np.concatenate([photo, photo, photo])
    upscaler = Upscaler(weights_of(tiny_network), tile=96)
    whole = Upscaler(weights_of(tiny_network), tile=0).upscale(tall, dtype=np.float32)
    limited = Limited(upscaler.runner, pixels=1 << 20, from_call=4)
    upscaler._runner = limited  # type: ignore[assignment]

    answer = upscaler.upscale(tall, dtype=np.float32)

    assert limited.refused == 1
    assert np.isfinite(answer).all()
    assert decibels(answer[64:-64, 64:-64] * 255, whole[64:-64, 64:-64] * 255) > 60


def test_no_memory_even_for_the_smallest_tile_is_a_device_error(tiny_network: EMT, photo: np.ndarray) -> None:
    upscaler = Upscaler(weights_of(tiny_network))
    upscaler._runner = Limited(upscaler.runner, pixels=10)  # type: ignore[assignment]

    with pytest.raises(DeviceError, match=r"out of memory even with tiles of"):
        upscaler.upscale(photo)


class Limited:
    """A runner that has no memory for more than so many pixels, or at one call."""

    def __init__(self, runner: TorchRunner, *, pixels: int, from_call: int | None = None) -> None:
        self.runner, self.pixels, self.from_call = runner, pixels, from_call
        self.calls = self.refused = 0

    def steps(self, pixels: np.ndarray, *, ensemble: bool) -> Steps[np.ndarray]:
        self.calls += 1
        if pixels.shape[0] * pixels.shape[1] > self.pixels or self.calls == self.from_call:
            self.refused += 1
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return (yield from self.runner.steps(pixels, ensemble=ensemble))

    def bands(self, pixels: np.ndarray, take: Take) -> Steps[None]:
        take(0, (yield from self.steps(pixels, ensemble=False)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.runner, name)


def test_a_tile_that_overflows_half_precision_is_computed_again_in_fp32(
    tiny_config: EMTConfig, photo: np.ndarray
) -> None:
    torch.manual_seed(0)
    network = EMT(tiny_config).eval()
    with torch.no_grad():
        network.body[0].mlp.fc1.weight *= 1000
    runner = TorchRunner(weights_of(network), precision="fp16")
    exact = TorchRunner(weights_of(network))(photo.astype(np.float32))

    answer = runner(photo.astype(np.float32))

    assert runner.used_fallback
    assert runner.precision == "fp32"
    np.testing.assert_array_equal(answer, exact)


def test_an_answer_that_is_never_finite_is_not_pasted(tiny_config: EMTConfig, photo: np.ndarray) -> None:
    network = EMT(tiny_config).eval()
    with torch.no_grad():
        network.head.bias[0] = float("nan")

    with pytest.raises(DeviceError, match="not finite"):
        Upscaler(weights_of(network)).upscale(photo)


def test_the_default_tile_follows_the_free_memory(tiny_network: EMT, monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler = Upscaler(weights_of(tiny_network))
    sizes = []
    for free in (40 << 20, 100 << 20, 1 << 40):
        monkeypatch.setattr("emt_cli.engine.upscaler.spare_memory", lambda device="cpu", free=free: free)
        sizes.append(upscaler.tile_size(5000, 5000))

    assert sizes == sorted(set(sizes))
    assert sizes[-1] < 5000, "a CPU's tiles stay below a fixed budget"
    assert upscaler.tile_size(1000, 1000) >= 1000


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "xla", ""])
def test_words_that_are_no_device_are_usage_errors(name: str) -> None:
    with pytest.raises(UsageError, match="not a device"):
        choose_device(name)


def test_a_device_that_is_absent_is_a_device_error() -> None:
    with pytest.raises(DeviceError, match="cuda:99"):
        choose_device("cuda:99")


def test_auto_precision_is_half_on_cuda_only() -> None:
    assert choose_precision("auto", "cuda") == "fp16"
    assert choose_precision("auto", "cpu") == "fp32"
    assert choose_precision("bf16", "cpu") == "bf16"


def test_failed_allocations_are_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)

    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("can't start new thread"))
    assert is_out_of_memory(OSError("libtorch.so: failed to map segment from shared object"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_memory_in_the_name_of_a_file_is_no_shortage() -> None:
    name = "out of memory.png"

    assert not is_out_of_memory(FileNotFoundError(2, "No such file or directory", name))
    assert not is_out_of_memory(OSError(f"cannot identify image file '{name}'"))
    assert not is_out_of_memory(InputError(f"{name}: its data are damaged"))


def test_some_memory_is_free() -> None:
    assert free_memory("cpu") > 1 << 20


@pytest.mark.slow
@needs_account
def test_twelve_megapixels_x4_stay_under_one_and_a_half_gigabytes(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(3000), np.arange(4000))
    image = np.stack([ramp % 251, ramp // 7 % 256, ramp // 31 % 256], 2).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "in.png")
    script = (
        "from emt_cli.cli import app\n"
        "from own_peak import own_peak\n"
        f"app(['upscale', {str(tmp_path / 'in.png')!r}, '--model', 'emt-lite'], standalone_mode=False)\n"
        "print('peak', own_peak())\n"
    )

    done = run_code(script)

    assert done.returncode == 0, done.stderr
    assert 0.5e9 < int(done.stdout.split()[-1]) < 1.5e9

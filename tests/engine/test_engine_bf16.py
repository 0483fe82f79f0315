"""Kernels with products of bf16 numbers: they answer as rounding their operands does, and near to fp32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from emt_cli.assets.catalog import RELEASED, known_models
from emt_cli.engine import precision
from emt_cli.engine.native import bf16
from emt_cli.engine.native.llvm import Function
from emt_cli.engine.native.processor import processor
from emt_cli.engine.native.program import Program
from emt_cli.engine.native.runner import NativeRunner
from emt_cli.engine.precision import AGREEMENT, MEASURED, has_bf16_kernels, precision_of
from emt_cli.engine.runner import has_precision, make_runner
from emt_cli.engine.torch.network import weights_of
from emt_cli.engine.upscaler import Upscaler
from emt_cli.engine.weights import load_weights
from emt_cli.errors import DeviceError, UsageError
from emt_cli.media.metrics import luma, psnr
from emt_cli.media.resize import bicubic_downscale
from emt_cli.model import attention, layers
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT

needs_bf16 = pytest.mark.skipif(not has_bf16_kernels(), reason="the processor lacks AVX512_BF16")

FAMILY = (
    EMTConfig(3, 36, 1, 3, 2, 2, 3, ((4, 6), (6, 4), (5, 5)), ((2, 3), (3, 2), (1, 4))),
    EMTConfig(2, 6, 1, 2, 0),
    EMTConfig(4, 64, 1, 2, 1, 2, 1.5, ((16, 8), (8, 16)), ((8, 4), (4, 8))),
    EMTConfig(2, 42, 1, 2, 2, 2, 2, ((8, 3),), ((4, 1),)),
)


def rounded(x: Tensor) -> Tensor:
    return x.bfloat16().double()


def rounding_mlp(self: layers.MLP, x: Tensor) -> Tensor:
    hidden = F.silu(F.linear(layers.shift(rounded(x)), rounded(self.fc1.weight), self.fc1.bias))
    return F.linear(layers.shift(rounded(hidden)), rounded(self.fc2.weight), self.fc2.bias)


def rounding_attention(self: attention.SWSA, x: Tensor, maps: None = None) -> Tensor:
    gain = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
    weight = (self.qv.weight * gain[:, None]).view(len(self.windows), 2, -1, x.shape[-1])
    factors = torch.tensor([1.4426950408889634**0.5, 1.0], dtype=torch.float64)[:, None, None]
    bias = ((self.qv.bias - self.norm.running_mean) * gain + self.norm.bias).view(*weight.shape[:3], 1)
    weight, bias = rounded(weight * factors).flatten(0, 2), (bias * factors).flatten()
    parts = F.linear(rounded(x), weight, bias).chunk(len(self.windows), dim=-1)
    attended = [
        attention.attend(part, window, offset, self.heads)
        for part, window, offset in zip(parts, self.windows, self.shifts, strict=True)
    ]
    return F.linear(rounded(torch.cat(attended, -1)), rounded(self.proj.weight), self.proj.bias)


def rounding_values(q: Tensor, v: Tensor) -> Tensor:
    q = rounded(q)
    logits = q @ q.mT
    weights = rounded(torch.exp2(logits - logits.amax(-1, keepdim=True)))
    return weights @ rounded(v) / weights.sum(-1, keepdim=True)


@pytest.fixture
def rounding(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make the network round the operands of its products to bf16, and compute all else in fp64."""
    monkeypatch.setattr(layers.MLP, "forward", rounding_mlp)
    monkeypatch.setattr(attention.SWSA, "forward", rounding_attention)
    monkeypatch.setattr(attention, "mix_values", rounding_values)
    return monkeypatch


def answer_of(network: EMT, pixels: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        answer = network.double()(torch.from_numpy(pixels).permute(2, 0, 1)[None].double())
    network.float()
    return answer[0].permute(1, 2, 0).numpy()


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR between two answers as far as they are colours, in dB."""
    return -20 * np.log10(rms(a.clip(0, 255).astype(float) - b.clip(0, 255)) / 255)


@needs_bf16
@pytest.mark.parametrize("size", [(1, 1), (7, 2), (23, 37), (40, 25)])
@pytest.mark.parametrize("config", FAMILY, ids=str)
def test_kernels_answer_as_rounding_the_operands_does(
    photo: np.ndarray, config: EMTConfig, size: tuple[int, int], rounding: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = EMT(config).eval()
    pixels = np.ascontiguousarray(photo[: size[0], : size[1]], np.float32)
    emulated = answer_of(network, pixels)

    answer = NativeRunner(weights_of(network), bf16=True, threads=2)(pixels)

    rounding.undo()
    exact = answer_of(network, pixels)
    assert rms(answer - emulated) < rms(emulated - exact) / 2
    assert np.abs(answer - exact).max() > 1e-4, "nothing was rounded"


@needs_bf16
@pytest.mark.parametrize("width", [1, 2, 5, 13, 30])
def test_a_product_is_exact_but_for_rounding_its_operands(width: int) -> None:
    torch.manual_seed(0)
    config = EMTConfig(2, 36, 1, 1, 1, 3, 2, ((4, 4), (4, 4)), ((2, 2), (2, 2)))
    network = EMT(config).eval()
    runner = NativeRunner(weights_of(network), bf16=True, threads=1)
    shapes, layer = runner.shapes, network.body[0]
    generator = np.random.default_rng(0)
    values = generator.normal(size=(3, width, 2, 18)).astype(np.float32)
    answer = np.zeros((5, width + 2, shapes.answer_stride), np.float32)
    pairs = bf16.to_pairs(values.reshape(-1, 18).T).T.reshape(3, width, 2, 9)
    answer[1:-1, 1:-1, : 2 * 16].reshape(3, width, 2, 16)[..., :9] = pairs
    now = generator.normal(size=(5, width + 2, shapes.features.stride)).astype(np.float32)
    operands = torch.from_numpy(values.reshape(3, width, 36))
    weight, bias = layer.mixer.proj.weight, layer.mixer.proj.bias
    expected = (
        now[1:-1, 1:-1, :36] + F.linear(rounded(operands), rounded(weight), bias.double()).detach().numpy()
    )

    mixer = runner.packed.layers[0].mixer
    runner.program("project", answer.ctypes.data, now.ctypes.data, mixer.proj.ctypes.data, 0, 3, width)

    np.testing.assert_allclose(now[1:-1, 1:-1, :36], expected, rtol=1e-5, atol=1e-6)


@needs_bf16
def test_numbers_are_rounded_to_the_nearest() -> None:
    cpu = processor()
    assert cpu is not None
    function = Function("round", [("x", "ptr"), ("y", "ptr")], cpu)
    first, second = (function.load(function.at("%x", 16 * number)) for number in range(2))
    function.store(bf16.pair(function, first, second), "%y")
    function.store(bf16.interleave(function, first, second), function.at("%y", 16))
    bf16.store(function, first, function.at("%y", 32))
    x = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    x[0, :3] = 1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8  # halfway: to even
    y = np.zeros(48, np.float32)

    Program([function], cpu)("round", x.ctypes.data, y.ctypes.data)

    expected = torch.from_numpy(x).bfloat16()
    got = torch.from_numpy(y).view(torch.bfloat16)
    assert torch.equal(got[:32].view(2, 16), expected)
    assert torch.equal(got[32:64].view(16, 2), expected.T)
    assert torch.equal(got[64:80], expected[0])
    packed = torch.from_numpy(bf16.to_pairs(x)).view(torch.bfloat16)
    assert torch.equal(packed.view(16, 2), expected.T)


@needs_bf16
def test_quick_powers_and_inverses_are_better_than_bf16() -> None:
    cpu = processor()
    assert cpu is not None
    function = Function("quick", [("x", "ptr"), ("y", "ptr"), ("z", "ptr"), ("n", "i64")], cpu)
    with function.loop(0, "%n", step=16) as place:
        value = function.load(function.at("%x", place.index))
        function.store(bf16.exp2(function, value), function.at("%y", place.index))
        function.store(bf16.inverse(function, value), function.at("%z", place.index))
    x = np.linspace(-120, 120, 16 * 1000, dtype=np.float32)
    x[:2] = -1e30, 1e30
    y, z = np.empty_like(x), np.empty_like(x)

    Program([function], cpu)("quick", x.ctypes.data, y.ctypes.data, z.ctypes.data, len(x))

    np.testing.assert_allclose(y[2:], np.exp2(x[2:].astype(float)), rtol=1e-4)
    np.testing.assert_array_equal(y[:2], [0, np.inf])
    np.testing.assert_allclose(z[2:], 1 / x[2:].astype(float), rtol=2.0**-14)


@needs_bf16
def test_attention_in_bf16_survives_logits_far_above_a_token_s_own(photo: np.ndarray) -> None:
    torch.manual_seed(0)
    network = EMT(EMTConfig(2, 20, 1, 1, 1, 1, 2, ((8, 4),), ((4, 2),))).eval()
    pixels = np.ascontiguousarray(photo[:24, :24], np.float32)
    with torch.no_grad():
        network.body[0].mixer.qv.weight[:20] *= 40  # logits of some thousands

    answer = NativeRunner(weights_of(network), bf16=True)(pixels)

    assert agreement(answer, answer_of(network, pixels)) > 30


@needs_bf16
def test_threads_do_not_change_the_answer_in_bf16(tiny_network: EMT, photo: np.ndarray) -> None:
    pixels = photo.astype(np.float32)

    one, many = (
        NativeRunner(weights_of(tiny_network), bf16=True, threads=threads)(pixels) for threads in (1, 5)
    )

    np.testing.assert_array_equal(one, many)


@needs_bf16
def test_kernels_of_both_precisions_are_cached_apart(
    tiny_network: EMT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMT_CACHE", str(tmp_path))
    from emt_cli.engine.native.runner import _program

    def kept_after(*flags: bool) -> set[str]:
        _program.cache_clear()
        for flag in flags:
            NativeRunner(weights_of(tiny_network), bf16=flag)
        return {path.name for path in (tmp_path / "compiled").iterdir()}

    single = kept_after(False)
    both = kept_after(True)

    assert single < both
    assert kept_after(False, True) == both


def test_engines_tell_whether_they_have_bf16(tiny_network: EMT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "processor", lambda: None)

    assert not has_precision("native", "bf16")
    assert has_precision("openvino", "bf16")
    assert make_runner("auto", weights_of(tiny_network), precision="bf16").name == "torch"
    with pytest.raises(DeviceError, match="AVX512_BF16"):
        make_runner("native", weights_of(tiny_network), precision="bf16")
    with pytest.raises(UsageError, match="fp32 or bf16"):
        make_runner("native", weights_of(tiny_network), precision="fp16")


@needs_bf16
def test_bf16_is_computed_by_kernels_where_they_can(tiny_network: EMT) -> None:
    for engine in ("auto", "native"):
        runner = make_runner(engine, weights_of(tiny_network), precision="bf16")
        assert (runner.name, runner.precision) == ("native", "bf16")
        assert "bf16 products" in runner.description
    assert make_runner("torch", weights_of(tiny_network), precision="bf16").name == "torch"


def test_auto_takes_bf16_only_for_weights_known_to_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    good = next(digest for digest, decibels in MEASURED.items() if decibels >= AGREEMENT)
    poor = next(digest for digest, decibels in MEASURED.items() if decibels < AGREEMENT)
    monkeypatch.setattr(precision, "has_bf16_kernels", lambda: True)

    assert precision_of("auto", "cpu", "auto", good) == "bf16"
    assert precision_of("auto", "cpu", "native", good) == "bf16"
    assert precision_of("fp32", "cpu", "auto", good) == "fp32"
    assert precision_of("auto", "cpu", "torch", good) == "fp32"
    assert precision_of("auto", "cpu", "auto", poor) == "fp32"
    assert precision_of("auto", "cpu", "auto", "0" * 64) == "fp32"
    assert precision_of("auto", "cuda", "auto", good) == "fp16"
    monkeypatch.setattr(precision, "has_bf16_kernels", lambda: False)
    assert precision_of("auto", "cpu", "auto", good) == "fp32"


def test_all_known_weights_have_been_measured() -> None:
    bundled = [path for model in known_models().values() if model.bundled for path in model.files.values()]

    assert set(MEASURED) == {load_weights(path).sha256 for path in bundled} | {f.sha256 for f in RELEASED}


@needs_bf16
@pytest.mark.parametrize("name", ["emt-lite", "emt-lite-photo"])
def test_bundled_models_agree_with_single_precision_on_a_photograph(name: str, photo: np.ndarray) -> None:
    single, half = (Upscaler.from_model(name, precision=p) for p in ("fp32", "auto"))

    larger, other = (upscaler.upscale(photo, dtype="float32") * 255 for upscaler in (single, half))

    assert half.runner.precision == "bf16"
    assert AGREEMENT < agreement(larger, other) < 100


def text_pictures(scale: int) -> Iterator[np.ndarray]:
    """Text as screens show it, and large text made smaller, in several sizes."""
    lines = [
        "The quick brown fox jumps over the lazy dog",
        "emt upscale photo.png --scale 4",
        "(a + b)² = 100 %",
    ]
    for size in (10, 14, 20, 32):
        for larger in (1, scale):
            picture = Image.new("RGB", (320 * larger, 200 * larger), "white")
            draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size * larger)
            for number, y in enumerate(range(8, 200 - size, round(size * 1.4))):
                ink = ((0, 0, 0), (20, 20, 120), (150, 0, 0))[number % 3]
                draw.text((8 * larger, y * larger), lines[number % 3], font=font, fill=ink)
            yield np.asarray(picture) if larger == 1 else bicubic_downscale(np.asarray(picture), scale)


SIDE = 256
"""Of the corner that is taken of a photograph: text agrees least in all of these files, and decides."""


def photographs(shared: Path) -> dict[str, list[Path]]:
    folders = {"Set5": "benchmark/Set5/HR", "Set14": "benchmark/Set14/HR", "Kodak24": "valid/Kodak24"}
    return {name: sorted((shared / "data" / place).glob("*.png")) for name, place in folders.items()}


@needs_bf16
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "emt-lite-x2",
        "emt-lite-x3",
        "emt-lite-x4",
        "emt-base-x4",
        "emt-lite-photo-x4",
        "emt-photo-x4",
        "emt-art-x4",
        *range(3),
    ],
)
def test_agreement_with_single_precision_is_as_stated(shared: Path, name: str | int) -> None:
    """On the mean of corners of Set5, Set14, Kodak24 and of pictures of text; the least is what is stated."""
    path = (
        Path(f"weights/{name}.safetensors")
        if isinstance(name, str)
        else shared / "weights" / RELEASED[name].name
    )
    weights = load_weights(Path(__file__).parents[2] / path)
    scale = weights.config.scale
    single, half = (NativeRunner(weights, bf16=flag) for flag in (False, True))
    means = {}
    for set_name, files in photographs(shared).items():
        agreements, changes = [], []
        for file in files:
            original = np.asarray(Image.open(file).convert("RGB"))
            height, width = (min(side, SIDE) // scale * scale for side in original.shape[:2])
            original = original[:height, :width]
            small = bicubic_downscale(original, scale).astype(np.float32)
            answers = [runner(small) for runner in (single, half)]
            agreements.append(agreement(*answers))
            bytes_of = [np.rint(answer.clip(0, 255)).astype(np.uint8) for answer in answers]
            before, after = (psnr(luma(larger), luma(original), border=scale) for larger in bytes_of)
            changes.append(after - before)
        means[set_name] = float(np.mean(agreements))
        assert abs(np.mean(changes)) < 0.005, f"{set_name}: PSNR changed"
        assert min(agreements) > (60 if MEASURED[weights.sha256] >= AGREEMENT else 40)
    pictures = [picture.astype(np.float32) for picture in text_pictures(scale)]
    means["text"] = float(np.mean([agreement(single(picture), half(picture)) for picture in pictures]))
    print(path.name, weights.sha256, {key: round(value, 1) for key, value in means.items()})

    assert min(means.values()) == pytest.approx(MEASURED[weights.sha256], abs=0.3)
    assert (MEASURED[weights.sha256] >= AGREEMENT) == (min(means.values()) >= AGREEMENT)
    if isinstance(name, int):
        assert min(value for key, value in means.items() if key != "text") >= AGREEMENT

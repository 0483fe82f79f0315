"""The answer still shows its source: blank stays blank, constant stays constant, to the last corner."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from emt_cli.assets.catalog import known_models
from emt_cli.engine.agreement import BLOCK, EDGE_SHARE, FAULTY, SMOOTHING, TOLERANCE, Agreement, disagrees
from emt_cli.engine.torch.network import weights_of
from emt_cli.engine.upscaler import Upscaler
from emt_cli.engine.weights import load_weights
from emt_cli.media.picture.io import read_picture
from emt_cli.model.emt import EMT

ENGINES = ["native", "openvino", "torch"]
BUNDLED = [file for model in known_models().values() if model.bundled for file in model.files.values()]


def text() -> np.ndarray:
    """Black text on white, RGB uint8 (120, 160, 3), anti-aliased."""
    page = np.full((120, 160, 3), 255, np.uint8)
    for line in range(6):
        corner = (4, 16 + 18 * line)
        cv2.putText(
            page, "Quick fox 42 gj", corner, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA
        )
    return page


def patterns(photo: np.ndarray) -> dict[str, np.ndarray]:
    y, x = np.mgrid[:96, :120]
    label = photo.copy()
    label[30:60, 20:100] = text()[:30, :80]
    return {
        "text": text(),
        "label": label,
        "checkerboard": np.repeat((((y + x) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2),
        "lines": np.repeat(((y % 6 == 0) * 255).astype(np.uint8)[..., None], 3, axis=2),
    }


def reduced(large: np.ndarray, scale: int) -> np.ndarray:
    h, w = large.shape[:2]
    return large.reshape(h // scale, scale, w // scale, scale, -1).astype(float).mean(axis=(1, 3))


@pytest.mark.parametrize("file", BUNDLED, ids=lambda file: file.stem)
@pytest.mark.parametrize("tile", [0, 64])
@pytest.mark.parametrize("level", [0, 40, 128, 255])
def test_a_constant_picture_stays_constant_to_the_last_corner(file: Path, tile: int, level: int) -> None:
    upscaler = Upscaler(load_weights(file), tile=tile)
    picture = np.full((70, 93, 3), level, np.uint8)

    answer = upscaler.upscale(picture).astype(int)

    assert np.abs(answer - level).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_released_weights_keep_a_constant_picture_constant(shared: Path, engine: str, scale: int) -> None:
    upscaler = Upscaler(load_weights(shared / "weights" / f"EMT_LSR_x{scale}.pth"), engine=engine)

    for size, level in (((40, 64), 255), ((33, 47), 128)):
        answer = upscaler.upscale(np.full((*size, 3), level, np.uint8)).astype(int)
        assert np.abs(answer - level).max() <= 1


def test_dark_16_bit_pictures_get_no_spikes() -> None:
    upscaler = Upscaler(load_weights(known_models()["emt-lite"].files[4]))
    dark = np.random.default_rng(0).integers(0, 900, (48, 64, 3)).astype(np.uint16)

    assert upscaler.upscale(dark).max() < 1700


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_crisp_patterns_come_back_from_the_released_weights(
    shared: Path, photo: np.ndarray, engine: str, scale: int
) -> None:
    upscaler = Upscaler(load_weights(shared / "weights" / f"EMT_LSR_x{scale}.pth"), engine=engine)

    for name, picture in patterns(photo).items():
        error = np.abs(reduced(upscaler.upscale(picture), scale) - picture)
        flat = cv2.dilate(picture, np.ones((5, 5))) == cv2.erode(picture, np.ones((5, 5)))
        assert error[flat].max(initial=0) < 6, name
        assert error.mean() < 25, name


def test_crisp_text_comes_back_on_blank_paper_and_it_is_said(shared: Path) -> None:
    upscaler = Upscaler(load_weights(shared / "weights" / "EMT_LSR_x4.pth"))
    page = read_picture(shared / "cases" / "pictures" / "crisp_text.png").pixels
    notes: set[str] = set()

    answer = drained(upscaler.steps(page, notes=notes))

    blank = cv2.erode(page, np.ones((9, 9))).min(axis=2) == 255
    large = np.kron(blank, np.ones((4, 4))).astype(bool)
    assert np.abs(answer[large].astype(int) - 255).max() <= 3
    assert any("lost itself" in note for note in notes)


def drained(steps):  # type: ignore[no-untyped-def]
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("name", ["text", "label", "checkerboard", "lines"])
def test_emt_lite_is_trusted_on_crisp_patterns(photo: np.ndarray, name: str) -> None:
    upscaler = Upscaler(load_weights(known_models()["emt-lite"].files[4]))
    notes: set[str] = set()

    answer = drained(upscaler.steps(patterns(photo)[name], notes=notes))

    assert not notes
    assert np.abs(reduced(answer, 4) - patterns(photo)[name]).mean() < 25


def crisp_drawing() -> np.ndarray:
    """Letters, lines and a disc without anti-aliasing, RGB uint8 (96, 128, 3)."""
    page = np.full((96, 128, 3), 255, np.uint8)
    for line in range(3):
        cv2.putText(page, "Quick fox", (2, 12 + 15 * line), cv2.FONT_HERSHEY_PLAIN, 0.9, (11, 61, 145), 1)
    for x in range(0, 60, 6):
        cv2.line(page, (x, 50), (60 - x, 95), (0, 0, 0), 1)
    cv2.circle(page, (95, 66), 24, (255, 0, 0), -1)
    return page


def test_emt_art_is_trusted_where_it_smooths_what_is_jagged() -> None:
    upscaler = Upscaler(load_weights(known_models()["emt-art"].files[4]))
    notes: set[str] = set()

    answer = drained(upscaler.steps(crisp_drawing(), notes=notes))

    assert not notes
    assert np.abs(reduced(answer, 4) - crisp_drawing()).mean() < 6


def test_a_network_that_smooths_may_not_fill_what_is_blank() -> None:
    source = crisp_drawing().astype(np.float32)
    large = np.kron(source, np.ones((2, 2, 1), np.float32))
    large[20:60, 180:240] -= 12

    assert disagrees(source, large, 2, SMOOTHING["emt-art"])


def test_another_picture_is_told_from_an_enlargement(photo: np.ndarray) -> None:
    source = photo.astype(np.float32)
    large = np.kron(source, np.ones((2, 2, 1), np.float32))
    noisy = large.copy()
    noisy[60:100, 80:140] += np.random.default_rng(0).normal(0, 60, (20, 30, 3)).repeat(2, 0).repeat(2, 1)

    assert not disagrees(source, large, 2)
    assert disagrees(source, noisy, 2)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("size", "noise"), [((1, 1), 9), ((7, 5), 30), ((33, 50), 3), ((96, 120), 8)])
def test_pixels_that_differ_are_those_that_opencv_finds(
    photo: np.ndarray, scale: int, size: tuple[int, int], noise: int
) -> None:
    source = photo[: size[0], : size[1]].astype(np.float32)
    large = np.kron(source, np.ones((scale, scale, 1), np.float32))
    large += np.random.default_rng(0).normal(0, noise, large.shape).astype(np.float32)
    agreement = Agreement(source, scale)

    for first in range(0, len(source), 13):
        agreement.add(first, large[first * scale : (first + 13) * scale])

    small = cv2.resize(np.clip(large, 0, 255), size[::-1], interpolation=cv2.INTER_AREA)
    contrast = cv2.morphologyEx(source.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8))
    widest = contrast.reshape(source.shape).max(axis=2, keepdims=True)
    wrong = (np.abs(source - small) > EDGE_SHARE * widest + TOLERANCE).any(axis=2)
    looked_at = wrong[np.isin(np.arange(len(wrong)) % 16, (0, 6, 9, 15))]
    assert np.mean(agreement._wrong != looked_at) < 1e-3  # sums of another order
    block = min(BLOCK, size[1]), min(BLOCK // 4, len(looked_at))
    shares = cv2.boxFilter(agreement._wrong.astype(float), -1, block, borderType=cv2.BORDER_REFLECT)
    assert agreement.lost == (shares.max() > FAULTY)


def test_an_exact_upscaler_answers_as_the_network_does(tiny_network: EMT, photo: np.ndarray) -> None:
    import torch

    exact = Upscaler(weights_of(tiny_network), exact=True).upscale(photo, dtype=np.float32) * 255
    with torch.inference_mode():
        x = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
        expected = tiny_network(x)[0].permute(1, 2, 0).numpy()

    np.testing.assert_allclose(exact, expected, atol=2e-3)

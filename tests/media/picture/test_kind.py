"""How coarsely JPEG and WebP were saved is told as their programs were; drawings are told by their bits."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from emt_cli.media.picture.head import read_head
from emt_cli.media.picture.io import read_picture
from emt_cli.media.picture.jpeg_quality import jpeg_quality
from emt_cli.media.picture.webp_quality import first_frame, webp_quantizer


def saved(photo: np.ndarray, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("quality", [1, 10, 30, 50, 75, 89, 90, 95, 100])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpegs_quality_is_what_pillow_was_told(photo: np.ndarray, quality: int, options: dict[str, int]):
    image = Image.open(io.BytesIO(saved(photo, "JPEG", quality=quality, **options)))

    assert jpeg_quality(image.quantization) == pytest.approx(quality, abs=1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("quality", [20, 60, 85])
def test_a_jpegs_quality_is_what_opencv_was_told(photo: np.ndarray, quality: int):
    _, data = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])

    image = Image.open(io.BytesIO(data.tobytes()))

    assert jpeg_quality(image.quantization) == pytest.approx(quality, abs=1)  # type: ignore[attr-defined]


def test_a_jpeg_without_tables_has_no_quality():
    assert jpeg_quality({}) is None
    assert jpeg_quality({0: [1, 2]}) is None


def test_a_jpegs_quality_is_told_by_the_table_that_its_luma_takes(tmp_path: Path, photo: np.ndarray):
    fine, coarse = [1] * 64, [60] * 64
    data = bytearray(saved(photo, "JPEG", qtables=[fine, coarse], subsampling=0))
    frame = data.index(b"\xff\xc0") + 10  # of each component: number, sampling, table
    for component, table in enumerate((1, 0, 0)):
        data[frame + 3 * component + 2] = table
    (tmp_path / "a.jpg").write_bytes(data)

    assert read_head(tmp_path / "a.jpg").kind == "coarse"
    assert read_picture(tmp_path / "a.jpg").kind == "coarse"


@pytest.mark.parametrize("quality", [0, 20, 50, 74, 80, 95, 100])
@pytest.mark.parametrize("method", [0, 4])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_webps_quantiser_is_what_libwebp_makes_of_the_quality(
    photo: np.ndarray, quality: int, method: int, mode: str
):
    stream = io.BytesIO()
    profile = b"some profile" * 999  # its chunk stands before the frame
    Image.fromarray(photo).convert(mode).save(
        stream, "WEBP", quality=quality, method=method, icc_profile=profile
    )

    found = webp_quantizer(stream, first_frame(stream)[1])

    linear = quality / 100 * 2 / 3 if quality < 75 else 2 * quality / 100 - 1  # libwebp, QualityToCompression
    assert found == pytest.approx(127 * (1 - linear ** (1 / 3)), abs=3)  # segments are centred roughly


def test_webp_without_losses_and_damaged_webp_have_no_quantiser(photo: np.ndarray):
    lossless = saved(photo, "WEBP", lossless=True)
    lossy = saved(photo, "WEBP", quality=50)

    for data in (lossless, *(lossy[:length] for length in (0, 11, 20, 25, 29))):
        stream = io.BytesIO(data)
        assert webp_quantizer(stream, first_frame(stream)[1]) is None


@pytest.mark.parametrize(
    ("format", "options", "kind"),
    [
        ("JPEG", {"quality": 60}, "coarse"),
        ("JPEG", {"quality": 92}, "plain"),
        ("WEBP", {"quality": 60}, "coarse"),
        ("WEBP", {"quality": 85}, "plain"),
        ("WEBP", {"lossless": True}, "plain"),
        ("PNG", {}, "plain"),
        ("TIFF", {"compression": "tiff_lzw"}, "plain"),
    ],
)
def test_photographs_saved_coarsely_are_told_from_their_heads_alone(
    tmp_path: Path, photo: np.ndarray, format: str, options: dict[str, Any], kind: str
):
    path = tmp_path / "a"
    path.write_bytes(saved(photo, format, **options))

    assert read_head(path).kind == kind
    assert read_picture(path).kind == kind
    assert read_picture(path).pixels.shape == photo.shape


@pytest.mark.parametrize(
    ("format", "mode", "options"),
    [
        ("PNG", "RGB", {"icc_profile": b"some profile" * 9999}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("PNG", "L", {}),
        ("PNG", "1", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("GIF", "P", {}),
    ],
)
def test_a_page_of_text_without_loss_is_told_from_its_head_alone(
    tmp_path: Path, format: str, mode: str, options: dict[str, Any]
):
    page = Image.new("RGB", (240, 160), "white")
    for line in range(12):
        ImageDraw.Draw(page).text((8, 12 * line), "Text as programs draw it, 0123", "black")
    page.convert(mode).save(tmp_path / "a", format, **options)

    assert read_head(tmp_path / "a").kind == "drawn"
    assert read_picture(tmp_path / "a").kind == "drawn"


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {"append": 9}),
        ("GIF", {"append": 9}),
        ("GIF", {"comment": b"a comment" * 9999}),
        ("WEBP", {"append": 9, "lossless": True}),
        ("WEBP", {"lossless": True, "icc_profile": bytes(range(256)) * 400}),
    ],
)
def test_later_pictures_and_metadata_do_not_count(tmp_path: Path, format: str, options: dict[str, Any]):
    page = Image.new("RGB", (240, 160), "white")
    for line in range(12):
        ImageDraw.Draw(page).text((8, 12 * line), "Text as programs draw it, 0123", "black")
    # Later frames are as large as they can be.
    later = np.random.default_rng(0).integers(0, 256, (options.pop("append", 0), 160, 240, 3), np.uint8)
    if len(later):
        options |= {"save_all": True, "append_images": [Image.fromarray(frame) for frame in later]}
    page.save(tmp_path / "a", format, **options)

    assert read_head(tmp_path / "a").kind == "drawn"
    assert read_picture(tmp_path / "a").kind == "drawn"


@pytest.mark.parametrize(("quality", "kind"), [(30, "coarse"), (90, "plain")])
def test_a_moving_webp_is_told_by_its_first_frame(tmp_path: Path, photo: np.ndarray, quality: int, kind: str):
    frames = [Image.fromarray(np.roll(photo, 9 * step, axis=1)) for step in range(2)]
    frames[0].save(tmp_path / "a", "WEBP", save_all=True, append_images=frames[1:], quality=quality)

    assert read_head(tmp_path / "a").kind == kind
    assert read_picture(tmp_path / "a").kind == kind


@pytest.mark.parametrize("gray", [True, False])
def test_a_drawing_of_16_bits_is_told_as_well(tmp_path: Path, gray: bool):
    page = np.full((160, 240, 3), 65535, np.uint16)
    for x in range(20, 230, 30):
        cv2.circle(page, (x, 80), 3 + x // 20, (x * 250, 9000, 40000), -1, cv2.LINE_AA)
    cv2.imwrite(str(tmp_path / "a.png"), page[..., 1] if gray else page)

    assert read_head(tmp_path / "a.png").kind == "drawn"
    assert read_picture(tmp_path / "a.png").kind == "drawn"


@pytest.mark.parametrize(
    ("format", "mode", "options"),
    [("PNG", "RGB", {}), ("PNG", "RGBA", {}), ("WEBP", "RGB", {"lossless": True})],
)
def test_a_photograph_without_colour_saved_as_if_in_colour_is_not_drawn(
    tmp_path: Path, photo: np.ndarray, format: str, mode: str, options: dict[str, Any]
):
    gray = cv2.GaussianBlur(photo[..., 1], (5, 5), 1)  # as smooth as photographs of many pixels
    Image.fromarray(gray).convert(mode).save(tmp_path / "a", format, **options)

    assert read_head(tmp_path / "a").kind == "plain"
    assert read_picture(tmp_path / "a").kind == "plain"


def test_gray_photographs_of_8_and_16_bits_are_not_drawn(tmp_path: Path, photo: np.ndarray):
    gray = photo[..., 1]
    Image.fromarray(gray).save(tmp_path / "8.png", optimize=True)
    cv2.imwrite(str(tmp_path / "16.png"), gray.astype(np.uint16) * 257)

    assert read_head(tmp_path / "8.png").kind == "plain"
    assert read_picture(tmp_path / "16.png").kind == "plain"

"""How coarsely JPEG and WebP were saved is told as their programs were; drawings by their bits or pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from emt_cli.errors import InputError
from emt_cli.media.picture.head import read_head, read_kind
from emt_cli.media.picture.io import read_picture
from emt_cli.media.picture.jpeg_quality import jpeg_quality
from emt_cli.media.picture.webp_quality import first_frame, webp_quantizer

SAMPLES = Path(__file__).parents[3] / "samples"


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


def drawing(mode: str = "RGB", side: int = 1) -> Image.Image:
    """A page with a chart: 320x240, or as many times as large."""
    page = Image.new("RGB", (320, 240), "white")
    draw = ImageDraw.Draw(page)
    for line in range(8):
        draw.text((8, 8 + 14 * line), "Text as programs draw it, 0123456789, and more", "black")
    for bar in range(8):
        draw.rectangle((20 + 36 * bar, 220 - 10 * bar, 44 + 36 * bar, 230), "#0b3d91")
    return page.resize((320 * side, 240 * side), Image.Resampling.NEAREST).convert(mode)


def scene(mode: str = "RGB") -> Image.Image:
    """What cameras see: no pixel like the next, sharp edges and shades; 320x240."""
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.normal(0, 1, (60, 80, 3)).astype(np.float32), (320, 240))
    shade = np.linspace(60, 200, 320)[None, :, None] + 30 * texture + rng.normal(0, 2, (240, 320, 3))
    shade[120:, ::40] -= 90
    return Image.fromarray(shade.clip(0, 255).astype(np.uint8)).convert(mode)


def kind_in(path: Path) -> str:
    """Return the kind, of which read_kind and read_picture agree."""
    told = read_kind(path, read_head(path))
    assert read_picture(path).kind == told
    return told


LOSSES: list[tuple[str, str, dict[str, Any]]] = [
    *(("JPEG", "RGB", {"quality": quality}) for quality in (10, 30, 50, 75, 90, 98)),
    ("JPEG", "RGB", {"quality": 75, "subsampling": 0}),
    ("JPEG", "RGB", {"quality": 75, "progressive": True}),
    ("JPEG", "L", {"quality": 75}),
    ("JPEG", "CMYK", {"quality": 75}),
    *(("WEBP", mode, {"quality": quality}) for mode in ("RGB", "RGBA") for quality in (30, 75, 95)),
]


@pytest.mark.parametrize(("format", "mode", "options"), LOSSES)
def test_what_was_drawn_is_told_through_losses_and_what_was_photographed_is_not(
    tmp_path: Path, format: str, mode: str, options: dict[str, Any]
):
    drawing(mode).save(tmp_path / "drawn", format, **options)
    scene(mode).save(tmp_path / "photo", format, **options)

    assert kind_in(tmp_path / "drawn") == "drawn"
    assert kind_in(tmp_path / "photo") in ("plain", "coarse")


@pytest.mark.parametrize("name", ["astronaut", "cat", "coffee"])
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_photographs_with_captions_or_on_white_are_not_drawn(tmp_path: Path, name: str, quality: int):
    photo = Image.open(SAMPLES / f"{name}.png").convert("RGB")
    height, width = photo.height, photo.width
    captioned = Image.new("RGB", (width, height + 60), "white")
    captioned.paste(photo)
    for line in range(4):
        ImageDraw.Draw(captioned).text((8, height + 4 + 13 * line), "Words below a photograph, " * 9, "black")
    studio = Image.new("RGB", (2 * width, 2 * height), "white")
    studio.paste(photo, (width // 2, height // 2))

    for picture in (photo, photo.reduce(2), photo.convert("L"), captioned, studio):
        picture.save(tmp_path / "a.jpg", quality=quality)
        assert kind_in(tmp_path / "a.jpg") == ("plain" if quality == 95 else "coarse")


def test_a_page_scanned_from_paper_is_no_drawing(tmp_path: Path):
    paper = np.asarray(drawing("L", 2).reduce(2), np.float32)
    grain = np.random.default_rng(0).normal(0, 9, paper.shape)
    scan = cv2.GaussianBlur(20 + paper * 0.85 + grain, (3, 3), 0.7)
    Image.fromarray(scan.clip(0, 255).astype(np.uint8)).save(tmp_path / "a.jpg", quality=85)

    assert kind_in(tmp_path / "a.jpg") == "coarse"


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (9, 4000), (100, 100)])
def test_what_has_too_few_blocks_to_tell_is_kept_as_its_quality_says(tmp_path: Path, size: tuple[int, int]):
    drawing().resize(size).save(tmp_path / "a.jpg", quality=95)
    drawing().resize(size).save(tmp_path / "a.webp", quality=30)

    assert kind_in(tmp_path / "a.jpg") == "plain"
    assert kind_in(tmp_path / "a.webp") == "coarse"


def test_one_colour_is_no_drawing(tmp_path: Path):
    Image.new("RGB", (400, 300), "white").save(tmp_path / "a.jpg", quality=95)

    assert kind_in(tmp_path / "a.jpg") == "plain"


def test_pixels_are_looked_at_on_request_alone_and_of_no_large_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    drawing().save(tmp_path / "page.jpg")
    drawing(side=8).save(tmp_path / "large.jpg")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("was decoded"))

    assert read_head(tmp_path / "page.jpg").kind == "coarse"
    assert read_kind(tmp_path / "large.jpg", read_head(tmp_path / "large.jpg")) == "coarse"


@pytest.mark.parametrize(("format", "keep"), [("JPEG", 0.5), ("JPEG", 0.99), ("WEBP", 0.5)])
def test_a_damaged_drawing_is_refused_only_where_it_is_read(tmp_path: Path, format: str, keep: float):
    data = saved(np.asarray(drawing()), format, quality=60)
    (tmp_path / "a").write_bytes(data[: int(keep * len(data))])

    without = failure(lambda: read_head(tmp_path / "a").kind)

    assert failure(lambda: read_kind(tmp_path / "a", read_head(tmp_path / "a"))) == without
    with pytest.raises(InputError, match="get an undamaged copy"):
        read_picture(tmp_path / "a")


def failure(read: Callable[[], str]) -> str:
    try:
        return read()
    except InputError as error:
        return str(error)

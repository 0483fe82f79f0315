"""HEIC and AVIF, against pillow-heif, Pillow, imagecodecs and exiftool."""

from __future__ import annotations

import io
from pathlib import Path
from typing import ClassVar

import imagecodecs
import numpy as np
import pytest
from picture_files import by_exiftool, by_pillow, three
from PIL import Image, ImageCms, features

from emt_cli.errors import InputError, UsageError
from emt_cli.media.picture.head import read_head
from emt_cli.media.picture.io import Picture, read_picture, write_picture
from emt_cli.media.picture.metadata import Metadata

pillow_heif = pytest.importorskip("pillow_heif")
if not features.check("avif"):
    pytest.skip("this Pillow has no AVIF", allow_module_level=True)

P3 = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def exif(orientation: int = 1) -> bytes:
    tags = Image.Exif()
    tags[0x010F], tags[0x0112] = "Maker", orientation
    return tags.tobytes()


def by_heif(pixels: np.ndarray, mode: str, **options: object) -> bytes:
    file = pillow_heif.from_bytes(mode, (pixels.shape[1], pixels.shape[0]), pixels.tobytes())
    out = io.BytesIO()
    file.save(out, quality=95, chroma=444, **options)
    return out.getvalue()


def smooth() -> np.ndarray:
    """A picture of slopes, RGB uint16."""
    y, x = np.mgrid[:48, :64]
    return np.stack([x * 1000, y * 1300, (x + y) * 550], axis=2).astype(np.uint16)


def files() -> dict[str, bytes]:
    eight = (smooth() >> 8).astype(np.uint8)
    clear = np.dstack([eight, eight[..., 0]])
    ten = np.rint(smooth() / 65535 * 1023).astype(np.uint16)
    return {
        "plain.heic": by_heif(eight, "RGB"),
        "alpha.heic": by_heif(clear, "RGBA"),
        "gray.heic": by_heif(eight[..., 0].copy(), "L"),
        "deep.heic": by_heif(ten << 6, "RGB;16"),
        "plain.avif": by_pillow(Image.fromarray(eight), "AVIF", quality=95, subsampling="4:4:4"),
        "alpha.avif": by_pillow(Image.fromarray(clear), "AVIF", quality=95, subsampling="4:4:4"),
        "deep.avif": imagecodecs.avif_encode(ten, level=95, bitspersample=10),
        "twelve.avif": imagecodecs.avif_encode(
            np.rint(smooth() / 65535 * 4095).astype(np.uint16), level=95, bitspersample=12
        ),
    }


@pytest.mark.parametrize("name", files())
def test_pictures_are_read_with_all_their_bits(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(files()[name])

    picture, head = read_picture(tmp_path / name), read_head(tmp_path / name)

    deep = "deep" in name or "twelve" in name
    full = np.iinfo(picture.pixels.dtype).max
    expected = three(smooth()[..., 0]) if "gray" in name else smooth()
    assert picture.pixels.dtype == (np.uint16 if deep else np.uint8)
    assert picture.format == Path(name).suffix[1:]
    assert picture.gray == head.gray == ("gray" in name)
    assert (picture.alpha is not None) == head.alpha == ("alpha" in name)
    assert (head.height, head.width, head.itemsize) == (48, 64, picture.pixels.itemsize)
    error = np.abs(picture.pixels / full - expected / 65535)
    assert error.mean() < (0.003 if deep else 0.006)
    if picture.alpha is not None:
        assert np.abs(picture.alpha / 255 - smooth()[..., 0] / 65535).mean() < 0.006


def test_samples_outlive_the_image_that_decoded_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pillow-heif before 1.6 gives memory that is another's once its image is gone."""
    (tmp_path / "plain.heic").write_bytes(files()["plain.heic"])
    expected = read_picture(tmp_path / "plain.heic").pixels.copy()

    class Freed:
        info: ClassVar = {}

        def __init__(self) -> None:
            self.memory = bytearray(expected.tobytes())
            memory = memoryview(self.memory)
            self.__array_interface__ = {
                "shape": expected.shape,
                "typestr": "|u1",
                "version": 3,
                "data": memory,
            }

        def __del__(self) -> None:
            self.memory[:] = bytes(len(self.memory))

    class File:
        primary_index = 0

        def __getitem__(self, index: int) -> Freed:
            return Freed()

        def __len__(self) -> int:
            return 1

    monkeypatch.setattr("pillow_heif.open_heif", lambda *_, **__: File())

    assert np.array_equal(read_picture(tmp_path / "plain.heic").pixels, expected)


@pytest.mark.parametrize("format", ["heic", "avif"])
def test_metadata_survive_both_ways(photo: np.ndarray, format: str) -> None:
    data = by_pillow(Image.fromarray(photo), "JPEG", exif=exif(), icc_profile=P3, xmp=XMP)
    out = io.BytesIO()

    notes = write_picture(out, read_picture(data), format=format)

    again = read_picture(out.getvalue())
    assert notes == ()
    assert again.metadata.icc == P3
    assert again.metadata.xmp == XMP
    assert again.metadata.exif is not None
    found = Image.Exif()
    found.load(again.metadata.exif)
    assert found[0x010F] == "Maker"
    assert np.abs(again.pixels.astype(int) - photo).mean() < 6


@pytest.mark.parametrize("format", ["heic", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_turned_once(
    tmp_path: Path, photo: np.ndarray, format: str, orientation: int
) -> None:
    image, tags = Image.fromarray(photo), Image.Exif()
    tags[0x0112] = orientation
    pillow_heif.register_heif_opener()
    kind = "HEIF" if format == "heic" else "AVIF"
    path = tmp_path / f"a.{format}"
    path.write_bytes(by_pillow(image, kind, exif=tags.tobytes(), quality=95))
    jpeg = read_picture(by_pillow(image, "JPEG", exif=tags.tobytes(), quality=95))

    picture, head = read_picture(path), read_head(path)

    assert (head.height, head.width) == picture.pixels.shape[:2] == jpeg.pixels.shape[:2]
    assert np.abs(picture.pixels.astype(int) - jpeg.pixels).mean() < 6


@pytest.mark.parametrize("bits", [8, 16])
def test_alpha_and_depth_are_written(bits: int) -> None:
    pixels = smooth() if bits == 16 else (smooth() >> 8).astype(np.uint8)
    out = io.BytesIO()

    write_picture(out, Picture(pixels, pixels[..., 0].copy()), format="heic", quality=100)

    file = pillow_heif.open_heif(io.BytesIO(out.getvalue()), convert_hdr_to_8bit=False)
    values = np.asarray(file[0]).astype(float)
    assert file.info["bit_depth"] == (10 if bits == 16 else 8)
    assert np.abs(values[..., :3] / (65472 if bits == 16 else 255) - smooth() / 65535).mean() < 0.004
    assert np.abs(values[..., 3] / (65472 if bits == 16 else 255) - smooth()[..., 0] / 65535).mean() < 0.004


@pytest.mark.parametrize("kind", ["colours", "gray", "alpha"])
@pytest.mark.parametrize("bare", [False, True])
def test_deep_avif_has_twelve_bits_and_all_metadata(tmp_path: Path, kind: str, bare: bool) -> None:
    gray, pixels = kind == "gray", smooth()
    if gray:
        pixels = three(pixels[..., 0])
    metadata = Metadata() if bare or gray else Metadata(icc=P3, exif=exif()[6:], xmp=XMP)
    alpha = smooth()[..., 1].copy() if kind == "alpha" else None
    out = io.BytesIO()

    notes = write_picture(
        out, Picture(pixels, alpha, gray=gray, metadata=metadata), format="avif", quality=100
    )

    values = np.asarray(imagecodecs.avif_decode(out.getvalue())).astype(float)
    with Image.open(io.BytesIO(out.getvalue())) as image:
        image.load()
        info = image.info
    again = read_picture(out.getvalue())
    assert notes == ()
    assert values.max() > 255
    assert np.abs(values[..., :3] / 4095 - pixels / 65535).mean() < 0.001
    if alpha is not None:
        assert np.abs(values[..., 3] / 4095 - alpha / 65535).mean() < 0.001
    assert info.get("icc_profile") == metadata.icc
    assert info.get("xmp") == metadata.xmp
    assert again.metadata == metadata
    if metadata.exif:
        assert image.getexif()[0x010F] == "Maker"
        assert by_exiftool(out.getvalue(), tmp_path)["EXIF:Make"] == "Maker"


def test_wide_colours_without_a_profile_are_stated_in_png_and_avif() -> None:
    data = imagecodecs.avif_encode(
        (smooth() >> 8).astype(np.uint8), level=95, primaries=12, transfer=13, matrix=6
    )
    out, other = io.BytesIO(), io.BytesIO()

    picture = read_picture(data)
    write_picture(out, picture, format="png")
    write_picture(other, picture, format="jpeg")

    assert (b"cICP", bytes([12, 13, 0, 1])) in picture.metadata.png
    assert b"cICP" + bytes([12, 13, 0, 1]) in out.getvalue()
    profile = ImageCms.ImageCmsProfile(
        io.BytesIO(Image.open(io.BytesIO(other.getvalue())).info["icc_profile"])
    )
    assert profile.profile.red_primary[1][:2] == pytest.approx((0.68, 0.32), abs=0.02)


@pytest.mark.parametrize("name", ["plain.heic", "plain.avif", "deep.avif"])
def test_damaged_and_cut_files_are_one_line(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = files()[name]

    for end in (20, 100, len(data) // 2, len(data) - 20):
        with pytest.raises(InputError, match="picture"):
            read_picture(data[:end])
    assert capfd.readouterr() == ("", "")


def test_a_size_beyond_the_limit_is_refused_before_anything_is_decoded() -> None:
    data = files()["plain.heic"]
    at = data.index(b"ispe") + 8

    with pytest.raises(InputError, match="--max-pixels"):
        read_picture(data[:at] + b"\0\0\xff\xff\0\0\xff\xff" + data[at + 8 :])


def test_without_libheif_the_package_is_named(photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("emt_cli.media.picture.heif.find_spec", lambda name: None)
    monkeypatch.setattr("emt_cli.media.picture.formats.find_spec", lambda name: None)

    with pytest.raises(InputError, match=r"emt-cli\[heif\]"):
        read_picture(files()["plain.heic"])
    with pytest.raises(UsageError, match=r"emt-cli\[heif\]"):
        write_picture(io.BytesIO(), Picture(photo, metadata=Metadata()), format="heic")

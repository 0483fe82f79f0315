"""JPEG XL, against imagecodecs, pylibjxl and formulas."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from picture_files import by_pillow, png_chunk, three
from PIL import Image, ImageCms

from emt_cli.errors import InputError, UsageError
from emt_cli.media.picture.head import read_head
from emt_cli.media.picture.io import Picture, read_picture, write_picture

pylibjxl = pytest.importorskip("pylibjxl")

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
BT2020 = (70800, 29200, 17000, 79700, 13100, 4600)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def exif() -> bytes:
    tags = Image.Exif()
    tags[0x010F], tags[0x0112] = "Maker", 1
    return tags.tobytes().removeprefix(b"Exif\0\0")


def smooth() -> np.ndarray:
    """A picture of slopes, RGB uint16."""
    y, x = np.mgrid[:48, :64]
    return np.stack([x * 1000, y * 1300, (x + y) * 550], axis=2).astype(np.uint16)


def lossless() -> dict[str, tuple[bytes, np.ndarray]]:
    eight, deep = (smooth() >> 8).astype(np.uint8), smooth()
    floats = (deep / 65535).astype(np.float32)
    ten = deep >> 6
    stretched = np.floor(ten * (65535 / 1023) + 0.5).astype(np.uint16)
    return {
        "8": (imagecodecs.jpegxl_encode(eight, lossless=True), eight),
        "16": (imagecodecs.jpegxl_encode(deep, lossless=True), deep),
        "10": (imagecodecs.jpegxl_encode(ten, lossless=True, bitspersample=10), stretched),
        "float": (imagecodecs.jpegxl_encode(floats, lossless=True), floats),
        "gray": (imagecodecs.jpegxl_encode(eight[..., 0].copy(), lossless=True), three(eight[..., 0])),
        "container": (pylibjxl.encode(eight, lossless=True, exif=exif()), eight),
    }


@pytest.mark.parametrize("kind", lossless())
def test_all_bits_are_read(tmp_path: Path, kind: str) -> None:
    data, expected = lossless()[kind]
    (tmp_path / "a.jxl").write_bytes(data)

    picture, head = read_picture(tmp_path / "a.jxl"), read_head(tmp_path / "a.jxl")

    assert picture.pixels.dtype == expected.dtype
    np.testing.assert_array_equal(picture.pixels, expected)
    assert (head.format, head.height, head.width) == (picture.format, 48, 64)
    assert head.itemsize == expected.itemsize
    assert picture.gray == head.gray == (kind == "gray")


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_read(channels: int) -> None:
    pixels = np.dstack([smooth(), smooth()[..., 0]])[..., -channels:].copy()

    picture = read_picture(imagecodecs.jpegxl_encode(pixels, lossless=True))

    np.testing.assert_array_equal(picture.alpha, pixels[..., -1])
    np.testing.assert_array_equal(picture.pixels[..., -1], pixels[..., -2])
    assert picture.gray == (channels == 2)


def test_linear_light_is_known_and_goes_on_as_a_profile() -> None:
    deep = np.full((16, 16, 3), 30000, np.uint16)
    out = io.BytesIO()

    picture = read_picture(imagecodecs.jpegxl_encode(deep, lossless=True))  # which it takes for linear
    write_picture(out, picture, format="jpeg", quality=100)

    with Image.open(io.BytesIO(out.getvalue())) as image:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        shown = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"))
    assert shown is not None
    expected = 255 * (1.055 * (30000 / 65535) ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(np.asarray(shown)[8, 8].astype(int), expected, atol=3)


@pytest.mark.parametrize(
    ("space", "chunks"),
    [
        ("RGB_D65_SRG_Per_SRG", {}),
        ("RGB_D65_DCI_Rel_SRG", {b"cICP": bytes([12, 13, 0, 1])}),
        ("RGB_D65_202_Rel_PeQ", {b"cICP": bytes([9, 16, 0, 1])}),
        ("RGB_D65_SRG_Rel_Lin", {b"cICP": bytes([1, 8, 0, 1])}),
        ("RGB_D65_SRG_Rel_g0.55556", {b"gAMA": struct.pack(">I", 55556)}),
        ("RGB_EER_202_Rel_SRG", {b"cHRM": struct.pack(">8I", 33333, 33333, *BT2020)}),
        ("RGB_0.35;0.36_202_Rel_SRG", {b"cHRM": struct.pack(">8I", 35000, 36000, *BT2020)}),
    ],
)
@pytest.mark.parametrize("distance", ["0", "0.2"])
def test_colours_that_libjxl_writes_are_understood(
    tmp_path: Path, space: str, chunks: dict[bytes, bytes], distance: str
) -> None:
    tool = shutil.which("cjxl")
    if tool is None:
        pytest.skip("libjxl's own tools are not installed")
    eight = (smooth() >> 8).astype(np.uint8)
    Image.fromarray(eight).save(tmp_path / "a.ppm")
    line = [tool, "a.ppm", "a.jxl", "-d", distance, "-x", f"color_space={space}"]
    subprocess.run(line, cwd=tmp_path, capture_output=True, check=True)

    picture = read_picture(tmp_path / "a.jxl")

    found = dict(picture.metadata.png)
    assert {kind: found.get(kind) for kind in chunks} == chunks
    assert bool(found) == bool(chunks)
    assert np.abs(picture.pixels.astype(int) - eight).mean() < (0.1 if distance == "0" else 3)


def test_primaries_of_their_own_are_measured(tmp_path: Path) -> None:
    tool = shutil.which("cjxl")
    if tool is None:
        pytest.skip("libjxl's own tools are not installed")
    adobe = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
    chunks = png_chunk(b"gAMA", struct.pack(">I", 45470)) + png_chunk(b"cHRM", adobe)
    data = by_pillow(Image.fromarray((smooth() >> 8).astype(np.uint8)), "PNG")
    (tmp_path / "a.png").write_bytes(data[:33] + chunks + data[33:])
    subprocess.run([tool, "a.png", "a.jxl", "-d", "0"], cwd=tmp_path, capture_output=True, check=True)

    found = dict(read_picture(tmp_path / "a.jxl").metadata.png)

    assert found == {b"gAMA": struct.pack(">I", 45470), b"cHRM": adobe}


@pytest.mark.parametrize("quality", [100, 95])
def test_metadata_survive_both_ways(photo: np.ndarray, quality: int) -> None:
    data = by_pillow(Image.fromarray(photo), "PNG", exif=exif(), icc_profile=SRGB)
    picture, out = read_picture(data), io.BytesIO()

    notes = write_picture(out, picture, format="jxl", quality=quality)

    again = read_picture(out.getvalue())
    pixels, found = pylibjxl.decode(out.getvalue(), metadata=True)
    assert notes == ()
    assert found["icc"] == again.metadata.icc == SRGB
    assert again.metadata.exif == exif()
    np.testing.assert_array_equal(again.pixels, pixels)
    if quality == 100:
        np.testing.assert_array_equal(pixels, photo)
    else:
        assert np.abs(pixels.astype(int) - photo).mean() < 4


def test_xmp_in_a_box_is_found(photo: np.ndarray) -> None:
    data = pylibjxl.encode(photo, lossless=True, xmp=XMP)

    assert read_picture(data).metadata.xmp == XMP


def test_depth_that_is_not_written_is_told() -> None:
    out = io.BytesIO()

    notes = write_picture(out, Picture(smooth(), smooth()[..., 0].copy()), format="jxl", quality=100)

    assert notes == ("JPEG XL is written with 8 bits; PNG and TIFF keep all",)
    expected = np.rint(np.dstack([smooth(), smooth()[..., 0]]) / 257)
    np.testing.assert_array_equal(imagecodecs.jpegxl_decode(out.getvalue()), expected)


def test_damaged_and_cut_files_are_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    for data, _ in lossless().values():
        for end in (3, 15, len(data) // 2, len(data) - 5):
            with pytest.raises(InputError, match="picture"):
                read_picture(data[:end])
    assert capfd.readouterr() == ("", "")


def test_a_size_beyond_the_limit_is_refused_before_anything_is_decoded() -> None:
    # Not small; height of 30 bits, all set; ratio 1:1; all else as usual.
    head = 0 | 3 << 1 | (2**30 - 1) << 3 | 1 << 33 | 1 << 36

    with pytest.raises(InputError, match="pixels a side"):
        read_picture(b"\xff\x0a" + struct.pack("<Q", head) + bytes(100))


def test_without_the_package_it_is_named(photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pylibjxl.encode(photo, lossless=True, icc=SRGB)
    monkeypatch.setattr("emt_cli.media.picture.jxl.find_spec", lambda name: None)
    monkeypatch.setattr("emt_cli.media.picture.formats.find_spec", lambda name: None)

    with pytest.raises(InputError, match=r"emt-cli\[jxl\]"):
        read_picture(data)
    with pytest.raises(UsageError, match=r"emt-cli\[jxl\]"):
        write_picture(io.BytesIO(), Picture(photo), format="jxl")

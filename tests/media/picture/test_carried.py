"""Metadata in several parts or of older kinds: carried on, or named; read back by Pillow and exiftool."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from picture_files import by_exiftool, by_pillow, png_chunk
from PIL import Image, ImageCms, IptcImagePlugin

from emt_cli.media.picture.io import Picture, read_picture, write_picture
from emt_cli.media.picture.metadata import Metadata

IPTC = b"\x1c\x02\x05\x00\x05Title" + b"\x1c\x02\x50\x00\x04Ansel"[:-1] + b"\x1c\x02\x78\x00\x07Caption"
RESOURCE = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + b"\0" * (len(IPTC) % 2)
PATHS = b"8BIM\x07\xd0\0\0" + struct.pack(">I", 4) + b"path"
SPACES = (
    b'xmlns:x="adobe:ns:meta/" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    b' xmlns:dc="http://purl.org/dc/elements/1.1/"'
)


def packet(description: bytes, more: bytes = b"") -> bytes:
    body = b"<rdf:RDF %s><rdf:Description rdf:about='' %s</rdf:RDF>" % (more, description)
    return b"<x:xmpmeta %s>%s</x:xmpmeta>" % (SPACES, body)


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(photo: np.ndarray, *segments: bytes, xmp: bytes | None = None) -> bytes:
    data = by_pillow(Image.fromarray(photo), "JPEG", **({"xmp": xmp} if xmp else {}))
    return data[:2] + b"".join(segments) + data[2:]


def written(picture: Picture, format: str) -> tuple[bytes, tuple[str, ...]]:
    out = io.BytesIO()
    notes = write_picture(out, picture, format=format)
    return out.getvalue(), notes


@pytest.mark.parametrize("format", ["jpeg", "tiff"])
@pytest.mark.parametrize("source", ["jpeg", "tiff", "png"])
def test_iptc_goes_on(photo: np.ndarray, source: str, format: str) -> None:
    if source == "jpeg":
        data = jpeg_with(photo, segment(0xED, b"Photoshop 3.0\0" + RESOURCE))
    else:
        data, _ = written(Picture(photo, metadata=Metadata(iptc=IPTC)), source)

    result, notes = written(read_picture(data), format)

    with Image.open(io.BytesIO(result)) as image:
        found = IptcImagePlugin.getiptcinfo(image)
    assert notes == ()
    assert found is not None
    assert found[(2, 5)] == b"Title"
    assert found[(2, 120)] == b"Caption"


@pytest.mark.parametrize("format", ["jpeg", "tiff", "png"])
def test_iptc_is_found_by_exiftool(photo: np.ndarray, tmp_path: Path, format: str) -> None:
    data = jpeg_with(photo, segment(0xED, b"Photoshop 3.0\0" + RESOURCE))

    found = by_exiftool(written(read_picture(data), format)[0], tmp_path)

    assert found["IPTC:ObjectName"] == "Title"
    assert found["IPTC:Caption-Abstract"] == "Caption"


def test_what_photoshop_and_webp_cannot_hand_on_is_told(photo: np.ndarray) -> None:
    data = jpeg_with(photo, segment(0xED, b"Photoshop 3.0\0" + PATHS + RESOURCE))

    picture = read_picture(data)
    _, notes = written(picture, "webp")

    assert picture.notes == ("Photoshop's own settings (paths, guides, print) left out",)
    assert notes == ("WEBP holds no IPTC: left out",)


def extended(photo: np.ndarray, extension: bytes) -> bytes:
    """A JPEG whose XMP goes on in two further segments, the second of them first."""
    name = hashlib.md5(extension).hexdigest().upper().encode()
    main = packet(
        b'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="%s" dc:format="image/jpeg"/>'
        % name
    )
    half = len(extension) // 2
    parts = [
        b"http://ns.adobe.com/xmp/extension/\0" + name + struct.pack(">II", len(extension), at) + piece
        for at, piece in ((half, extension[half:]), (0, extension[:half]))
    ]
    return jpeg_with(photo, *(segment(0xE1, part) for part in parts), xmp=main)


@pytest.mark.parametrize("format", ["png", "webp", "tiff", "jpeg"])
def test_xmp_in_several_segments_becomes_one_packet(photo: np.ndarray, format: str) -> None:
    extension = packet(
        b"my:note='" + b"n" * 30_000 + b"' dc:source='elsewhere'/>", b"xmlns:my='http://example.com/my/'"
    )

    picture = read_picture(extended(photo, extension))
    xmp = read_picture(written(picture, format)[0]).metadata.xmp

    assert xmp is not None
    assert b"HasExtendedXMP" not in xmp
    values = {name: value for item in ElementTree.fromstring(xmp).iter() for name, value in item.items()}
    assert values["{http://purl.org/dc/elements/1.1/}format"] == "image/jpeg"
    assert values["{http://purl.org/dc/elements/1.1/}source"] == "elsewhere"
    assert len(values["{http://example.com/my/}note"]) == 30_000


def test_a_damaged_extension_of_xmp_is_told(photo: np.ndarray) -> None:
    data = extended(photo, packet(b"dc:source='" + b"n" * 3000 + b"'/>"))
    at = data.index(b"http://ns.adobe.com/xmp/extension/")

    picture = read_picture(data[: at + 80] + b"zzz" + data[at + 83 :].replace(b"/rdf:RDF", b"/rdf:RDX", 1))

    assert picture.notes == ("damaged extension of XMP left out",)
    assert picture.metadata.xmp is not None
    assert b"image/jpeg" in picture.metadata.xmp


def test_a_long_packet_goes_into_several_segments_of_a_jpeg(photo: np.ndarray, tmp_path: Path) -> None:
    xmp = packet(b"dc:source='" + b"n" * 150_000 + b"' dc:format='image/jpeg'/>")

    data, notes = written(Picture(photo, metadata=Metadata(xmp=xmp)), "jpeg")

    name = re.search(rb'HasExtendedXMP="(\w{32})"', data)
    assert name is not None
    pieces = {}
    for found in re.finditer(rb"http://ns.adobe.com/xmp/extension/\0" + name[1], data):
        total, start = struct.unpack_from(">II", data, found.end())
        size = struct.unpack_from(">H", data, found.start() - 2)[0] - 2 - (found.end() - found.start()) - 8
        pieces[start] = data[found.end() + 8 : found.end() + 8 + size]
    whole = b"".join(pieces[start] for start in sorted(pieces))
    assert notes == ()
    assert (len(whole), hashlib.md5(whole).hexdigest().upper().encode()) == (total, name[1])
    assert len(read_picture(data).metadata.xmp or b"") > 150_000
    if shutil.which("exiftool"):
        assert len(str(by_exiftool(data, tmp_path)["XMP:Source"])) == 150_000


def test_a_gain_map_is_named_and_no_longer_promised(photo: np.ndarray, tmp_path: Path) -> None:
    xmp = packet(
        b"xmlns:hdrgm='http://ns.adobe.com/hdr-gain-map/1.0/' hdrgm:Version='1.0' dc:format='image/jpeg'"
        b" xmlns:Container='http://ns.google.com/photos/1.0/container/'"
        b" xmlns:Item='http://ns.google.com/photos/1.0/container/item/'><Container:Directory><rdf:Seq>"
        b"<rdf:li rdf:parseType='Resource'><Container:Item Item:Semantic='Primary'/></rdf:li>"
        b"<rdf:li rdf:parseType='Resource'><Container:Item Item:Semantic='GainMap' Item:Length='9'/></rdf:li>"
        b"</rdf:Seq></Container:Directory></rdf:Description>"
    )
    block = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0xB001, 4, 1, 2) + bytes(4)
    data = jpeg_with(photo, segment(0xE2, b"MPF\0" + block), xmp=xmp) + by_pillow(
        Image.fromarray(photo[:8, :8]), "JPEG"
    )

    picture = read_picture(data)
    result, _ = written(picture, "jpeg")

    assert picture.notes == ("HDR gain map left out: the result is the picture as ordinary screens show it",)
    kept = read_picture(result).metadata.xmp
    assert kept is not None
    assert b"MPF\0" not in result
    names = {name for item in ElementTree.fromstring(kept).iter() for name in (item.tag, *item.keys())}
    assert "{http://purl.org/dc/elements/1.1/}format" in names
    assert not [name for name in names if "hdr-gain-map" in name or "container" in name]


def test_further_pictures_of_a_jpeg_are_counted(photo: np.ndarray) -> None:
    block = b"MM\0*\0\0\0\x08\0\1" + struct.pack(">HHII", 0xB001, 4, 1, 3) + bytes(4)

    picture = read_picture(jpeg_with(photo, segment(0xE2, b"MPF\0" + block)))

    assert picture.notes == ("further pictures in the file left out: 2",)


def png_with(pixels: np.ndarray, *chunks: bytes) -> bytes:
    data = by_pillow(Image.fromarray(pixels), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def shown(data: bytes) -> np.ndarray:
    """The middle pixel of a picture in sRGB, by its own profile."""
    with Image.open(io.BytesIO(data)) as image:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        mode = image.mode
        plain = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, profile, plain, outputMode="RGB")
    assert converted is not None
    assert mode in ("RGB", "L")
    return np.asarray(converted)[8, 8].astype(int)


@pytest.mark.parametrize("format", ["tiff", "webp"])
@pytest.mark.parametrize("gray", [False, True])
def test_linear_light_stays_linear_outside_of_png(format: str, gray: bool) -> None:
    if gray and format == "webp":
        pytest.skip("WebP has no gray")
    pixels = np.full((16, 16) if gray else (16, 16, 3), 128, np.uint8)
    data = png_with(pixels, png_chunk(b"gAMA", struct.pack(">I", 100_000)))

    result = written(read_picture(data), format)[0]

    np.testing.assert_allclose(shown(result), 255 * (1.055 * (128 / 255) ** (1 / 2.4) - 0.055), atol=2)


def test_primaries_of_a_png_become_a_profile() -> None:
    """A full green of Adobe RGB lies outside of sRGB; a middle one comes out by the matrices."""
    adobe = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
    chunks = (png_chunk(b"gAMA", struct.pack(">I", 45455)), png_chunk(b"cHRM", adobe))
    pixels = np.full((16, 16, 3), (120, 160, 110), np.uint8)

    result = written(read_picture(png_with(pixels, *chunks)), "tiff")[0]

    linear = (np.array([120, 160, 110]) / 255) ** 2.2
    matrix = np.array([[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]])
    values = matrix @ linear
    expected = 255 * (1.055 * values ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(shown(result), expected, atol=2)


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"gAMA", struct.pack(">I", 45455))],
        [(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100_000))],
        [(b"cICP", bytes([1, 13, 0, 1]))],
    ],
)
def test_statements_of_srgb_need_no_profile(photo: np.ndarray, chunks: list[tuple[bytes, bytes]]) -> None:
    data = png_with(photo, *(png_chunk(*chunk) for chunk in chunks))

    result, notes = written(read_picture(data), "webp")

    assert notes == ()
    assert "icc_profile" not in Image.open(io.BytesIO(result)).info


def test_colours_that_no_simple_profile_holds_are_told(photo: np.ndarray) -> None:
    picture = read_picture(png_with(photo, png_chunk(b"cICP", bytes([9, 16, 0, 1]))))

    assert "cICP" in written(picture, "webp")[1][0]
    assert written(picture, "png")[1] == ()


def test_xmp_that_older_programs_hide_in_png_text_is_found(photo: np.ndarray) -> None:
    xmp = packet(b"dc:source='elsewhere'/>")
    text = b"\nxmp\n%8d\n%s\n" % (len(xmp), xmp.hex().encode())

    picture = read_picture(png_with(photo, png_chunk(b"tEXt", b"Raw profile type xmp\0" + text)))

    assert picture.metadata.xmp == xmp

"""Healthy files of every kind that is read, to be damaged; and files that lie from the first byte on."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import zipfile
import zlib
from functools import cache
from pathlib import Path

import av
import cv2
import imagecodecs
import numpy as np
import pillow_heif
import pylibjxl
import safetensors.torch
import torch
from damage import png_chunk
from picture_files import by_opencv, by_pillow, by_tifffile, cmyk_profile, png_file, tiff_file
from PIL import Image, ImageCms

from emt_cli.engine.header import header_text
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT

TINY = EMTConfig(2, 20, 1, 2, 1, 1, windows=((8, 4), (4, 8)), shifts=((4, 2), (2, 4)))
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" tiff:ImageWidth="24"/>'
    b"</x:xmpmeta>"
)


def tiny_network() -> EMT:
    torch.manual_seed(0)
    return EMT(TINY).eval()


def tiny_model() -> bytes:
    """A model file of a network that takes no time."""
    from dataclasses import asdict

    header = {"emt": header_text(asdict(TINY), {"name": "tiny", "steps": 3})}
    return safetensors.torch.save(tiny_network().state_dict(), metadata=header)


def released_model() -> bytes:
    """A checkpoint in the released form: the paper's dim, one block of a global and a local layer."""
    torch.manual_seed(0)
    state = {"head.weight": torch.randn(60, 3, 3, 3) / 9, "head.bias": torch.zeros(60)}
    state |= {"tail.0.weight": torch.randn(12, 60, 3, 3) / 50, "tail.0.bias": torch.zeros(12)}
    for layer in (0, 1):
        for part, shape in (("fc1", (120, 60, 1, 1)), ("fc2", (60, 120, 1, 1))):
            name = f"body.0.mlp_list.{layer}.{part}"
            state |= {f"{name}.weight": torch.randn(shape) / 20, f"{name}.bias": torch.zeros(shape[0])}
    for name, width in (("body.0.sa_list.0.attn.1", 120), ("body.0.sa_list.1.norm", 60)):
        values = {"weight": torch.ones(width), "bias": torch.zeros(width)}
        values |= {"running_mean": torch.zeros(width), "running_var": torch.ones(width)}
        state |= {f"{name}.{key}": value for key, value in values.items()}
    for name, width in (("attn.0", 120), ("proj.0", 60)):
        state[f"body.0.sa_list.0.{name}.weight"] = torch.randn(width, 60, 1, 1) / 20
        state[f"body.0.sa_list.0.{name}.bias"] = torch.zeros(width)
    return saved({"params": state})


def saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def scene(height: int = 18, width: int = 24) -> np.ndarray:
    """A picture of slopes and edges, RGB uint8."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * 9 + y * 3) % 256, (x * y) % 256, np.where(x > y, 200, 40)]
    return np.stack(planes, axis=2).astype(np.uint8)


def exif(orientation: int = 6) -> bytes:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F], tags[0x9003] = orientation, "Maker", "2020:01:01 00:00:00"
    tags.get_ifd(0x8825)[1] = "N"
    tags.get_ifd(0x8769)[0xA002] = 24
    return tags.tobytes()


@cache
def pictures() -> dict[str, bytes]:
    """Small pictures of every format, sample type, layout and kind of metadata that is read."""
    colours = scene()
    image = Image.fromarray(colours)
    clear = Image.fromarray(np.dstack([colours, colours[..., 0]]))
    deep = colours.astype(np.uint16) * 257
    floats = colours.astype(np.float32) / 255
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = {"exif": exif(), "icc_profile": srgb, "dpi": (300, 300)}
    palette = image.quantize(16)
    frames = [image, image.rotate(90).resize(image.size)]
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"words " * 100))
    text += png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP) + png_chunk(b"tEXt", b"Author\0Me")
    lines = b"".join(b"\0" + row.tobytes() for row in colours)
    return {
        "plain.png": by_pillow(image, "PNG"),
        "tagged.png": by_pillow(image, "PNG", **tags),
        "text.png": png_file(24, 18, 8, 2, lines, text),
        "alpha.png": by_pillow(clear, "PNG"),
        "gray.png": by_pillow(image.convert("L"), "PNG"),
        "grayalpha.png": by_pillow(clear.convert("LA"), "PNG"),
        "bits.png": by_pillow(image.convert("1"), "PNG"),
        "palette.png": by_pillow(palette, "PNG", transparency=3),
        "deep.png": by_opencv(deep, ".png"),
        "deepalpha.png": by_opencv(np.dstack([deep, deep[..., 0]]), ".png"),
        "deepgray.png": by_opencv(deep[..., 0], ".png"),
        "moving.png": by_pillow(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "plain.jpg": by_pillow(image, "JPEG"),
        "tagged.jpg": by_pillow(image, "JPEG", xmp=XMP, **tags),
        "progressive.jpg": by_pillow(image, "JPEG", progressive=True, quality=90),
        "gray.jpg": by_pillow(image.convert("L"), "JPEG"),
        "cmyk.jpg": by_pillow(image.convert("CMYK"), "JPEG", icc_profile=cmyk_profile()),
        "plain.webp": by_pillow(image, "WEBP"),
        "lossless.webp": by_pillow(clear, "WEBP", lossless=True),
        "tagged.webp": by_pillow(image, "WEBP", xmp=XMP, exif=exif(), icc_profile=srgb),
        "moving.webp": by_pillow(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "plain.tif": by_pillow(image, "TIFF"),
        "tagged.tif": by_pillow(image, "TIFF", exif=exif(), icc_profile=srgb),
        "lzw.tif": by_pillow(image, "TIFF", compression="tiff_lzw"),
        "packbits.tif": by_pillow(clear, "TIFF", compression="packbits"),
        "jpeg.tif": by_pillow(image, "TIFF", compression="jpeg"),
        "fax.tif": by_pillow(image.convert("1"), "TIFF", compression="group4"),
        "palette.tif": by_pillow(palette, "TIFF"),
        "cmyk.tif": by_pillow(image.convert("CMYK"), "TIFF", icc_profile=cmyk_profile()),
        "lab.tif": by_pillow(image.convert("LAB"), "TIFF"),
        "deep.tif": by_tifffile(deep, photometric="rgb", compression="zlib", predictor=True),
        "deeplzw.tif": by_opencv(deep, ".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 5),
        "zstd.tif": by_tifffile(colours, photometric="rgb", compression="zstd", predictor=True),
        "webp.tif": by_tifffile(colours, photometric="rgb", compression="webp"),
        "j2k.tif": by_tifffile(colours, photometric="rgb", compression="jpeg2000"),
        "jxl.tif": by_tifffile(colours, photometric="rgb", compression="jpegxl"),
        "png.tif": by_tifffile(colours, photometric="rgb", compression="png"),
        "lerc.tif": by_tifffile(colours, photometric="rgb", compression="lerc"),
        "jpegtiles.tif": by_tifffile(colours, photometric="rgb", compression="jpeg", tile=(16, 16)),
        "planeslzw.tif": by_tifffile(
            colours.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", compression="lzw"
        ),
        "twelve.tif": by_tifffile(colours.astype(np.uint16), photometric="rgb", bitspersample=12),
        "floats.tif": by_tifffile(floats, photometric="rgb", compression="zlib"),
        "halves.tif": by_tifffile(floats.astype(np.float16), photometric="rgb"),
        "tiles.tif": by_tifffile(deep, photometric="rgb", tile=(16, 16), compression="zlib"),
        "planes.tif": by_tifffile(deep.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        "big.tif": by_tifffile(colours, photometric="rgb", bigtiff=True, byteorder=">"),
        "pages.tif": by_tifffile(np.stack([colours] * 3), photometric="rgb"),
        "plain.bmp": by_pillow(image, "BMP"),
        "still.gif": by_pillow(palette, "GIF"),
        "plain.avif": by_pillow(image, "AVIF", quality=80),
        "deep.avif": imagecodecs.avif_encode(deep >> 6, level=80, bitspersample=10),
        "plain.heic": _heic(np.asarray(image), "RGB"),
        "alpha.heic": _heic(np.asarray(clear), "RGBA"),
        "deep.heic": _heic(deep, "RGB;16"),
        "plain.jxl": imagecodecs.jpegxl_encode(colours),
        "deep.jxl": imagecodecs.jpegxl_encode(deep, lossless=True),
        "tagged.jxl": pylibjxl.encode(colours, exif=exif(), icc=srgb, xmp=XMP),
        "alpha.bmp": by_pillow(clear, "BMP"),
        "palette.bmp": by_pillow(palette, "BMP"),
        "bits.bmp": by_pillow(image.convert("1"), "BMP"),
    }


def _heic(pixels: np.ndarray, mode: str) -> bytes:
    stream = io.BytesIO()
    size = (pixels.shape[1], pixels.shape[0])
    pillow_heif.from_bytes(mode, size, np.ascontiguousarray(pixels).tobytes()).save(stream, quality=80)
    return stream.getvalue()


@cache
def videos() -> dict[str, bytes]:
    """Clips of a few frames in the containers and codecs that people have, and pictures that move."""
    clips = {
        "clip.mp4": _clip("mp4", "libx264"),
        "late.mp4": _clip("mp4", "libx264", start=7, options={"bf": "2"}),
        "clip.mov": _clip("mov", "mjpeg", format="yuvj420p"),
        "clip.mkv": _clip("matroska", "libx265", options={"x265-params": "log-level=none"}),
        "clip.webm": _clip("webm", "libvpx"),
        "clip.avi": _clip("avi", "mpeg4"),
        "clip.ts": _clip("mpegts", "mpeg2video"),
        "deep.mkv": _clip("matroska", "ffv1", format="yuv420p10le"),
        "sound.mp4": _clip("mp4", "libx264", sound=True),
    }
    frames = [Image.fromarray(np.roll(scene(), shift, axis=1)) for shift in (0, 3, 6)]
    for name, options in (("moving.gif", {"loop": 0}), ("moving.webp", {}), ("moving.png", {})):
        kind = {"gif": "GIF", "webp": "WEBP", "png": "PNG"}[name.rpartition(".")[2]]
        more = {"save_all": True, "append_images": frames[1:], "duration": 100, **options}
        clips[name] = by_pillow(frames[0], kind, **more)
    return clips


def _clip(
    container: str,
    codec: str,
    *,
    format: str = "yuv420p",
    start: int = 0,
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as file:
        video = file.add_stream(codec, rate=25, options=options or {})
        video.width, video.height, video.pix_fmt = 64, 32, format  # x265 breaks the heap below 64
        audio = file.add_stream("aac", rate=8000) if sound else None
        for index in range(6):
            frame = av.VideoFrame.from_ndarray(np.roll(scene(32, 64), index, axis=1), format="rgb24")
            frame.pts = index + start
            file.mux(video.encode(frame))
        file.mux(video.encode())
        if audio is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = 8000, 0
            file.mux(audio.encode(silence))
            file.mux(audio.encode())
    return stream.getvalue()


def lying_videos(secret: Path) -> dict[str, bytes]:
    """Lists that name other files or addresses, and heads that promise what is not there."""
    clip = videos()["clip.mp4"]
    other = str(secret)
    size = clip.index(b"tkhd") + 4 + 4 + 72
    return {
        "list.m3u8": f"#EXTM3U\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n".encode(),
        "list.mp4": f"#EXTM3U\n#EXTINF:1,\nfile://{other}\n#EXT-X-ENDLIST\n".encode(),
        "remote.m3u8": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "concat.txt": f"ffconcat version 1.0\nfile '{other}'\n".encode(),
        "concat.mp4": f"ffconcat version 1.0\nfile '{other}'\n".encode(),
        "session.sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "manifest.mpd": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>'
        + other.encode()
        + b"</BaseURL></MPD>",
        "image%03d.png": pictures()["plain.png"],
        "subtitles.srt": b"1\n00:00:00,000 --> 00:00:01,000\nHello\n",
        "text.mp4": b"This is a letter.\n" * 100,
        "empty.mp4": b"",
        "zeros.mkv": bytes(10_000),
        "huge.mp4": clip[:size] + struct.pack(">II", 60000 << 16, 60000 << 16) + clip[size + 8 :],
        "head-only.mp4": clip[: clip.index(b"mdat") + 4],
        "no-head.mp4": clip[: clip.index(b"moov")],
        "picture.mp4": pictures()["plain.jpg"],
        "sound-only.mp4": b"RIFF"
        + struct.pack("<I", 36)
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
        + b"data"
        + bytes(4),
    }


# Files that lie


@cache
def lying_pictures() -> dict[str, bytes]:
    """Bombs and liars: each must be refused (or, where it holds a picture, cost next to nothing)."""
    plain = pictures()
    flood = zlib.compress(bytes(300_000_000), 9)
    nested = zlib.compress(flood, 9)
    lines = bytes((24 * 3 + 1) * 18)
    lying = {
        "bomb.png": png_file(60000, 60000, 8, 2, b""),
        "bomb16.png": png_file(2**31 - 1, 2**31 - 1, 16, 6, b""),
        "bomb-data.png": _png(20000, 20000, 8, 0, flood),
        "bomb-behind.png": _png(24, 18, 8, 2, zlib.compress(lines + bytes(300_000_000), 9)),
        "bomb-profile.png": png_file(24, 18, 8, 2, lines, png_chunk(b"iCCP", b"a\0\0" + flood)),
        "bomb-text.png": png_file(24, 18, 8, 2, lines, png_chunk(b"zTXt", b"a\0\0" + flood)),
        "bomb-nested.png": png_file(24, 18, 8, 2, lines, png_chunk(b"zTXt", b"a\0\0" + nested)),
        "bomb-xmp.png": png_file(
            24, 18, 8, 2, lines, png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + flood)
        ),
        "bomb-exif.png": png_file(
            24, 18, 8, 2, lines, png_chunk(b"zTXt", b"Raw profile type exif\0\0" + flood)
        ),
        "many-chunks.png": png_file(24, 18, 8, 2, lines, png_chunk(b"tEXt", b"a\0b") * 100_000),
        "many-bombs.png": png_file(24, 18, 8, 2, lines, png_chunk(b"iCCP", b"a\0\0" + flood) * 20),
        "many-empty-chunks.png": png_file(24, 18, 8, 2, lines, png_chunk(b"teSt", b"") * 3_000_000),
        "many-idat.png": b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 24, 18, 8, 2, 0, 0, 0))
        + png_chunk(b"IDAT", b"") * 200_000
        + png_chunk(b"IEND", b""),
        "no-pixels.png": png_file(0, 18, 8, 2, b""),
        "no-head.png": b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IDAT", zlib.compress(lines))
        + png_chunk(b"IEND", b""),
        "odd-bits.png": png_file(24, 18, 7, 2, lines),
        "odd-colours.png": png_file(24, 18, 8, 5, lines),
        "bad-palette.png": png_file(24, 18, 8, 3, bytes(range(24)) * 19),
        "long-text.png": png_file(24, 18, 8, 2, lines, png_chunk(b"tEXt", b"a\0" + b"x" * 20_000_000)),
        "bomb.jpg": _jpeg_size(plain["plain.jpg"], 60000, 60000),
        "wide.jpg": _jpeg_size(plain["plain.jpg"], 20000, 20000),
        "wide-progressive.jpg": _jpeg_size(plain["progressive.jpg"], 20000, 20000),
        "flat.jpg": _jpeg_size(plain["plain.jpg"], 0, 24),
        "marker-loop.jpg": b"\xff\xd8" + b"\xff\xe1\x00\x02" * 300_000 + plain["plain.jpg"][2:],
        "scans.jpg": _jpeg_scans(plain["progressive.jpg"], 3000),
        "icc-parts.jpg": _jpeg_icc(plain["plain.jpg"]),
        "exif-circle.jpg": _jpeg_exif(plain["plain.jpg"], _circular_exif()),
        "exif-pointers.jpg": _jpeg_exif(plain["plain.jpg"], _many_pointers()),
        "exif-huge.jpg": _jpeg_exif(plain["plain.jpg"], _huge_exif()),
        "bomb.webp": _webp_size(plain["lossless.webp"]),
        "canvas.webp": _webp_canvas(plain["moving.webp"]),
        "riff-lies.webp": plain["plain.webp"][:4] + b"\xff\xff\xff\x7f" + plain["plain.webp"][8:],
        "bomb.tif": _tiff(256, 257, value=60000),
        "strips.tif": _tiff(278, value=1),
        "empty-strips.tif": _tiff(278, value=0),
        "tile-sides.tif": _tiled(2**31 - 1),
        "channels.tif": _tiff(277, value=65535),
        "bits.tif": _tiff(258, value=64),
        "orientation.tif": _tiff(274, value=77),
        "ifd-circle.tif": b"II*\0\x08\0\0\0"
        + b"\1\0"
        + struct.pack("<HHII", 0x8769, 4, 1, 8)
        + b"\x08\0\0\0",
        "ifd-long.tif": b"II*\0\x08\0\0\0" + b"\xff\xff" + os.urandom(0) + b"\x01" * 65535 * 12 + bytes(4),
        "ifd-chain.tif": _tiff_chain(20000),
        "ifd-overlap.tif": _tiff_overlapping(),
        "strips-packed.tif": _tiff_strips(1_000_000, compression=8),
        "strips-overlap.tif": _tiff_strips(100_000, compression=8, shared=1 << 20),
        "jpeg-size.tif": _tiff_part(b"\xff\xc0", ">HH", 5),
        "j2k-size.tif": _tiff_j2k(),
        "big-count.tif": b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + b"\xff" * 8 + bytes(100),
        "nan.tif": by_tifffile(np.full((18, 24, 3), np.nan, np.float32), photometric="rgb"),
        "infinite.tif": by_tifffile(np.full((18, 24, 3), np.inf, np.float32), photometric="rgb"),
        "enormous.tif": by_tifffile(np.full((18, 24, 3), 3e38, np.float32), photometric="rgb"),
        "negative.tif": by_tifffile(np.full((18, 24, 3), -3e38, np.float32), photometric="rgb"),
        "tiny-numbers.tif": by_tifffile(np.full((18, 24, 3), 1e-44, np.float32), photometric="rgb"),
        "doubles.tif": by_tifffile(np.full((18, 24, 3), 1e300, np.float64), photometric="rgb"),
        "deflate-bomb.tif": _tiff_deflated(flood),
        "bomb.bmp": _bmp_size(plain["plain.bmp"], 60000, 60000),
        "negative.bmp": _bmp_size(plain["plain.bmp"], -24, 18),
        "upside.bmp": _bmp_size(plain["plain.bmp"], 24, -(2**31)),
        "offset.bmp": plain["plain.bmp"][:10] + b"\xff\xff\xff\x7f" + plain["plain.bmp"][14:],
        "colours.bmp": plain["palette.bmp"][:46] + b"\xff\xff\xff\x7f" + plain["palette.bmp"][50:],
        "rle.bmp": _bmp_rle(),
        "bomb.jxl": _jxl_bomb(),
        "bomb.avif": _ispe(plain["plain.avif"]),
        "bomb.heic": _ispe(plain["plain.heic"]),
        "boxes.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0\0\0\x08free" * 500_000,
        "boxes.jxl": b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x08free" * 500_000,
        "brotli.jxl": _jxl_brotli(plain["plain.jxl"]),
        "bomb.gif": plain["still.gif"][:6] + b"\xff\xff\xff\xff" + plain["still.gif"][10:],
        "sensor.tif": _tiff(262, value=32803),
        "empty.png": b"",
        "zeros.png": bytes(5000),
        "text.jpg": b"This is a letter.\n" * 50,
        "page.png": b"<html><body>404 Not Found</body></html>",
        "script.png": b"#!/bin/sh\nrm -rf /\n",
        "archive.png": _zip({"a.txt": b"x"}),
        "video.png": b"\0\0\0\x18ftypisom\0\0\0\0isommp41" + bytes(100),
        "playlist.png": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
        "vector.png": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run\n",
    }
    for name, other in (
        ("plain.png", "tif"),
        ("plain.jpg", "png"),
        ("plain.webp", "bmp"),
        ("deep.tif", "jpg"),
    ):
        lying[f"other-name.{other}"] = plain[name]
    return lying


def _png(width: int, height: int, bits: int, colour: int, packed: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        png_chunk(kind, body) for kind, body in ((b"IHDR", head), (b"IDAT", packed), (b"IEND", b""))
    )


def _jpeg_size(data: bytes, height: int, width: int) -> bytes:
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def _jpeg_scans(data: bytes, count: int) -> bytes:
    """The last scan over and over: each costs a pass over the picture."""
    at = data.rfind(b"\xff\xda")
    return _jpeg_size(data[:at] + data[at:-2] * count + data[-2:], 4000, 4000)


def _jpeg_segment(data: bytes, marker: int, body: bytes) -> bytes:
    return data[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + data[2:]


def _jpeg_icc(data: bytes) -> bytes:
    for part in (255, 1, 7, 1):
        data = _jpeg_segment(data, 0xE2, b"ICC_PROFILE\0" + bytes((part, 3)) + b"x" * 60000)
    return data


def _jpeg_exif(data: bytes, block: bytes) -> bytes:
    return _jpeg_segment(data, 0xE1, b"Exif\0\0" + block)


def _circular_exif() -> bytes:
    """Every pointer of every directory leads back to the first one."""
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, 8) for tag in (0x8769, 0x8825, 0xA005))
    return b"II*\0\x08\0\0\0" + b"\3\0" + fields + struct.pack("<I", 8)


def _many_pointers() -> bytes:
    """5,000 pointers of one directory to itself, thrice deep."""
    fields = struct.pack("<HHII", 0x8769, 4, 1, 8) * 5000
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 5000) + fields + bytes(4)


def _huge_exif() -> bytes:
    """Counts and offsets at the end of what 32 bits hold; an orientation of 65535 numbers."""
    fields = [
        (0x0112, 3, 65535, 8),
        (0x010F, 2, 2**32 - 1, 2**32 - 1),
        (0x8769, 4, 2**31, 0),
        (0x011A, 5, 1, 8),
    ]
    packed = b"".join(struct.pack("<HHII", *field) for field in fields)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(fields)) + packed + b"\xff\xff\xff\xff"


def _webp_size(data: bytes) -> bytes:
    """A lossless WebP that says 16384x16384 in its head; the data stay those of a small picture."""
    at = data.index(b"VP8L") + 9
    return data[:at] + struct.pack("<I", (16383 << 14) | 16383) + data[at + 4 :]


def _webp_canvas(data: bytes) -> bytes:
    """Small moving pictures on a canvas of 16384x16384."""
    at = data.index(b"VP8X") + 12
    return data[:at] + b"\xff\x3f\0\xff\x3f\0" + data[at + 6 :]


def _tiff_overlapping() -> bytes:
    """A picture, then tables of 65,535 entries that begin a few bytes after each other, in a chain."""
    body = bytearray(by_tifffile(scene(), photometric="rgb"))
    first = struct.unpack_from("<I", body, 4)[0]
    struct.pack_into("<I", body, first + 2 + 12 * struct.unpack_from("<H", body, first)[0], len(body))
    start, table = len(body), 2 + 12 * 65535
    body += b"\xff" * 1_200_000
    for at in range(start, len(body) - table - 4, 12):
        struct.pack_into("<I", body, at + table, at + 12)
    return bytes(body)


def _tiff_strips(count: int, *, compression: int, shared: int = 0) -> bytes:
    """A strip for each row of one pixel; shared: all are the same one, of so many bytes."""
    strip = zlib.compress(b"a") if compression == 8 else b"a"
    body = (strip + bytes(shared)) if shared else strip * count
    size = len(body) if shared else len(strip)
    offsets = np.zeros(count, "<u4") + 8 if shared else np.arange(count, dtype="<u4") * size + 8
    counts = np.full(count, size, "<u4")
    extra = {259: compression, 278: 1, 273: offsets.tobytes(), 279: counts.tobytes()}
    return tiff_file(1, count, body, extra)


def _tiff_part(marker: bytes, code: str, behind: int) -> bytes:
    """A JPEG in a strip that declares 60000x60000."""
    data = bytearray(by_tifffile(scene(), photometric="rgb", compression="jpeg"))
    struct.pack_into(code, data, data.index(marker) + behind, 60000, 60000)
    return bytes(data)


def _tiff_j2k() -> bytes:
    """A JPEG 2000 in a strip that declares 60000x60000."""
    data = bytearray(by_tifffile(scene(), photometric="rgb", compression="jpeg2000"))
    struct.pack_into(">II", data, data.index(b"\xff\x4f\xff\x51") + 8, 60000, 60000)
    return bytes(data)


def _tiff(*tags: int, value: int) -> bytes:
    """A plain TIFF with one number of some tags forged."""
    data = bytearray(by_tifffile(scene(), photometric="rgb"))
    first = struct.unpack_from("<I", data, 4)[0]
    for index in range(struct.unpack_from("<H", data, first)[0]):
        at = first + 2 + 12 * index
        if struct.unpack_from("<H", data, at)[0] in tags:
            struct.pack_into("<HII", data, at + 2, 4, 1, value)
    return bytes(data)


def _tiled(side: int) -> bytes:
    data = bytearray(by_tifffile(scene(), photometric="rgb", tile=(16, 16)))
    first = struct.unpack_from("<I", data, 4)[0]
    for index in range(struct.unpack_from("<H", data, first)[0]):
        at = first + 2 + 12 * index
        if struct.unpack_from("<H", data, at)[0] in (322, 323):
            struct.pack_into("<HII", data, at + 2, 4, 1, side)
    return bytes(data)


def _tiff_chain(pages: int) -> bytes:
    """Directories by the thousand, each pointing to the next."""
    fields = struct.pack("<HHII", 256, 4, 1, 24) + struct.pack("<HHII", 257, 4, 1, 18)
    size = 2 + len(fields) + 4
    tables = [
        struct.pack("<H", 2) + fields + struct.pack("<I", 8 + size * (page + 1) if page + 1 < pages else 0)
        for page in range(pages)
    ]
    return b"II*\0\x08\0\0\0" + b"".join(tables)


def _tiff_deflated(packed: bytes) -> bytes:
    """One deflated strip that inflates to far more than the picture it belongs to."""
    values = {256: 24, 257: 18, 258: 8, 259: 8, 262: 1, 273: 150, 277: 1, 278: 18, 279: len(packed)}
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(values)) + fields + bytes(4)
    return head.ljust(150, b"\0") + packed


def _ispe(data: bytes) -> bytes:
    """Every size that the boxes declare becomes 60000x60000."""
    parts = data.split(b"ispe\0\0\0\0")
    return b"ispe\0\0\0\0".join(
        [parts[0], *(struct.pack(">II", 60000, 60000) + part[8:] for part in parts[1:])]
    )


def _jxl_bomb() -> bytes:
    """A head that says 2^30 x 2^30, and no more."""
    return b"\xff\x0a" + struct.pack("<Q", 3 << 1 | (2**30 - 1) << 3 | 1 << 33 | 1 << 36) + bytes(100)


def _jxl_brotli(codestream: bytes) -> bytes:
    """EXIF that inflates to 300 MB, in front of a sound picture."""
    packed = imagecodecs.brotli_encode(bytes(300_000_000))
    box = struct.pack(">I4s", 12 + len(packed), b"brob") + b"Exif" + packed
    head = b"\0\0\0\x0cJXL \r\n\x87\n" + struct.pack(">I4s4sI4s", 20, b"ftyp", b"jxl ", 0, b"jxl ")
    return head + box + struct.pack(">I4s", 8 + len(codestream), b"jxlc") + codestream


def _bmp_size(data: bytes, width: int, height: int) -> bytes:
    return data[:18] + struct.pack("<ii", width, height) + data[26:]


def _bmp_rle() -> bytes:
    """Run lengths that jump far outside the picture they declare."""
    head = struct.pack("<IiiHHIIiiII", 40, 300, 300, 1, 8, 1, 0, 0, 0, 256, 0)
    body = b"\0\2\xff\xff" * 2000 + b"\0\1"
    return b"BM" + struct.pack("<IHHI", 14 + 40 + 1024 + len(body), 0, 0, 1078) + head + bytes(1024) + body


class Payload:
    """Runs a command when unpickled; the command leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"\"{sys.executable}\" -c \"open(r'{self.trace}', 'w')\"",)


class Opening:
    """Opens a file for writing when unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.trace), "w")


def malicious_checkpoints(trace: Path) -> dict[str, bytes]:
    """Pickles that would run something, in every wrapping torch.load knows; trace is where it would show."""
    harmless = torch.zeros(3)
    files = {f"{kind.__name__}.pth": saved({"params": {"w": kind(trace)}}) for kind in (Payload, Opening)}
    files["values.pth"] = saved({"params": {"w": harmless}, "more": Payload(trace)})
    stream = io.BytesIO()
    torch.save({"params": Payload(trace)}, stream, _use_new_zipfile_serialization=False)
    files["legacy.pth"] = stream.getvalue()
    files["bare.pth"] = pickle.dumps(Payload(trace))
    files["bare2.pth"] = pickle.dumps(Payload(trace), protocol=0)
    files["evaluated.pth"] = _program(b"cbuiltins\neval\n(S'open(%r, \"w\")'\ntR." % str(trace).encode())
    files["executed.pth"] = _program(b"c__builtin__\nexec\n(S'open(%r, \"w\")'\ntR." % str(trace).encode())
    files["stacked.pth"] = _program(
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x20"
        + f'echo > "{trace}"'.encode().ljust(32)[:32]
        + b"\x85R."
    )
    files["inside.pth"] = _program(b"cos\nsystem\n(S'echo'\ntR.", inner="x/y/data.pkl")
    files["two.pth"] = _zip({"a/data.pkl": pickle.dumps({}), "b/data.pkl": pickle.dumps(Payload(trace))})
    files["code.pth"] = _zip(
        {"a/data.pkl": pickle.dumps({}), "a/constants.pkl": pickle.dumps(Payload(trace)), "a/code/x.py": b"1"}
    )
    return files


def _program(pickled: bytes, inner: str = "archive/data.pkl") -> bytes:
    return _zip({inner: pickled, inner.replace("data.pkl", "version"): b"3\n"})


def _zip(members: dict[str, bytes], *, packed: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return stream.getvalue()


def lying_models() -> dict[str, bytes]:
    """Model files that declare what they do not hold, or hold what no model does; all must be refused."""
    good = tiny_model()
    length = struct.unpack_from("<Q", good)[0]
    header = json.loads(good[8 : 8 + length])
    state = tiny_network().state_dict()

    def with_config(**values: object) -> bytes:
        about = json.loads(header["__metadata__"]["emt"])
        about["config"] |= values
        return with_header(header | {"__metadata__": {"emt": json.dumps(about)}})

    def with_header(entries: object) -> bytes:
        text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
        return struct.pack("<Q", len(text)) + text + good[8 + length :]

    def with_state(**values: torch.Tensor) -> bytes:
        return safetensors.torch.save(state | values, metadata=header["__metadata__"])

    first = next(name for name in header if name != "__metadata__")
    one = header[first]
    huge = {**one, "shape": [2**40], "data_offsets": [0, 2**42]}
    return {
        "length.safetensors": struct.pack("<Q", 2**63) + good[8:],
        "longer.safetensors": struct.pack("<Q", length + 10**6) + good[8:],
        "deep-json.safetensors": with_header(b'{"__metadata__":{"emt":' + b"[" * 200_000 + b"}}"),
        "deep-entry.safetensors": with_header({"__metadata__": {"emt": "[" * 100_000}}),
        "twice.safetensors": with_header(b'{"a":1,"a":2}'),
        "list.safetensors": with_header(b"[]"),
        "huge-tensor.safetensors": with_header(header | {first: huge}),
        "overlap.safetensors": with_header(header | {first: {**one, "data_offsets": [0, 4]}}),
        "backwards.safetensors": with_header(header | {first: {**one, "data_offsets": [400, 0]}}),
        "dtype.safetensors": with_header(header | {first: {**one, "dtype": "F8_E4M3"}}),
        "words.safetensors": with_header(header | {first: {**one, "dtype": "object"}}),
        "scale.safetensors": with_config(scale=7),
        "blocks.safetensors": with_config(blocks=4096, layers=1),
        "dims.safetensors": with_config(dim=4096, heads=1),
        "digits.safetensors": with_config(dim=10**400),
        "window.safetensors": with_config(windows=[[128, 129], [4, 8]]),
        "windows.safetensors": with_config(windows=[[4096, 4], [3, 4093]]),
        "shift.safetensors": with_config(shifts=[[-4096, 4096], [2, 4]]),
        "nan.safetensors": with_state(
            **{first: torch.full(state[first].shape, float("nan")).to(state[first].dtype)}
        )
        if state[first].is_floating_point()
        else good[:100],
        "infinite.safetensors": with_state(**{"head.weight": state["head.weight"] / 0}),
        "int.safetensors": with_state(**{"head.weight": state["head.weight"].to(torch.int64)}),
        "complex.safetensors": with_state(**{"head.weight": state["head.weight"].to(torch.complex64)}),
        "shape.safetensors": with_state(**{"head.weight": state["head.weight"].flatten()}),
        "extra.safetensors": with_state(strange=torch.zeros(3)),
        "packed.pth": _zip({"archive/data.pkl": bytes(10**8)}, packed=True),
        "huge-program.pth": _zip({"archive/data.pkl": bytes(6 << 20)}),
        "no-program.pth": _zip({"archive/version": b"3"}),
        "huge-storage.pth": _program(_storage_claim(2**40)),
        "million-globals.pth": _program(b"(" + b"ccollections\nOrderedDict\n0" * 150_000 + b"t."),
        "nested.pth": _program(b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b"."),
        "memo.pth": _program(b"\x80\x02]q\x00" + b"r\xff\xff\xff\x7f" * 100 + b"."),
        "long-int.pth": _program(b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\1" * 100 + b"."),
        "empty.safetensors": b"",
        "text.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "page.pth": b"<!DOCTYPE html><html>log in</html>",
        "zeros.pth": bytes(100_000),
        "EMT_LSR_x4.pth": released_model(),
    }


def _storage_claim(count: int) -> bytes:
    """A program for one tensor whose storage is said to hold a number of floats."""
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0" + b"0X\x03\0\0\0cpu"
    number = b"\x8a\x06" + count.to_bytes(6, "little")
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number + b"tQK\0(" + number + b"t(K\1t\x89"
    return b"\x80\x02}X\x06\0\0\0params}X\1\0\0\0w" + tensor + b"ccollections\nOrderedDict\n)RtRss."

"""How a video can be encoded: codecs and containers, pixel formats, and what of the source they keep."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
import av.error

from emt_cli.errors import UsageError
from emt_cli.media.video.colour import Colour
from emt_cli.media.video.encoders import ENCODERS, HARDWARE, Encoder
from emt_cli.media.video.side_data import Hdr

SEGMENT_SUFFIX = ".segment"
"""Of files that join() takes: NUT, which keeps any time base exactly, or for ProRes MOV."""
FORMATS = {".nut": "nut", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""ffmpeg's muxers by the suffix of a file."""


@dataclass(frozen=True)
class Encoding:
    """How frames are compressed."""

    codec: str | None = None
    """h264, hevc, av1, ffv1, prores, or a hardware encoder's name; None is h264, and hevc above 8 bits."""
    crf: int | None = None
    """Constant quality, less is better; None is the codec's faithful default (18 for h264)."""
    preset: str | None = None
    """The encoder's own name of a speed; None is one that leaves most of the machine to the network."""
    pix_fmt: str | None = None
    """ffmpeg's name; None is 4:2:0 of the source's depth (4:4:4 in ffv1 and for odd sizes)."""

    def name(self, bits: int) -> str:
        """Return the codec's name for sources of so many bits."""
        return self.codec or ("h264" if bits == 8 else "hevc")


ANIMATION = Encoding("ffv1", pix_fmt="bgra")
"""Of the segments of an animated GIF, WebP or PNG: lossless, with transparency."""


def encoders() -> list[str]:
    """Return the names Encoding.codec can have on this machine: all codecs, and the hardware that opens."""
    return [*(name for name in ENCODERS if _opens(name)), *(name for name in HARDWARE if _opens(name))]


def choose_pix_fmt(encoding: Encoding, *, width: int, height: int, bits: int) -> tuple[str, str | None]:
    """Return the pixel format to encode in and, where it is not what one expects, a note.

    4:2:0 cannot have an odd width or height; such a size is encoded as 4:4:4, so that not a pixel is lost.
    UsageError for a format that the codec does not have, or that cannot hold the size.
    """
    name = encoding.name(bits)
    encoder = find_encoder(name)
    if width < encoder.least_width:
        raise UsageError(f"{width}x{height} is too narrow for {name}; take --codec h264 or ffv1")
    if width > encoder.largest[0] or height > encoder.largest[1]:
        most = "{}x{}".format(*encoder.largest)
        raise UsageError(f"{width}x{height} is too large for {name} ({most} at most); take hevc or ffv1")
    if encoding.pix_fmt is not None:
        if encoding.pix_fmt not in encoder.pixel_formats():
            known = ", ".join(encoder.pixel_formats())
            raise UsageError(f"--pix-fmt {encoding.pix_fmt}: {name} has {known}")
        subsampled = av.VideoFormat(encoding.pix_fmt, 8, 8)
        if (width % 2 and subsampled.chroma_width() < 8) or (height % 2 and subsampled.chroma_height() < 8):
            raise UsageError(
                f"--pix-fmt {encoding.pix_fmt}: {width}x{height} is odd; take an even size or a 4:4:4 format"
            )
        return encoding.pix_fmt, None
    usual = encoder.formats[0 if bits == 8 else 1 if bits <= 10 else 2]
    sub_x, sub_y = ("420" in usual or "422" in usual or usual in ("nv12", "p010le")), "422" not in usual
    if "444" in usual or not ((width % 2 and sub_x) or (height % 2 and sub_x and sub_y)):
        return usual, None
    kinds = (f for f in encoder.pixel_formats() if f.startswith("yuv444p"))
    full = next((f for f in kinds if depth(f) == depth(usual)), None)
    if full is None:
        raise UsageError(f"{width}x{height} is odd, which {name} cannot hold; take an even size or h264")
    return full, f"{width}x{height} is odd: encoded as 4:4:4, which some players do not show"


def depth(pix_fmt: str) -> int:
    """Return the bits of a sample, by ffmpeg's name of a pixel format."""
    return max(part.bits for part in av.VideoFormat(pix_fmt).components)


def encoded_colour(encoding: Encoding, colour: Colour, *, bits: int) -> Colour:
    """Return the colours a source is encoded in: its own, except where the codec or the format has none such.

    RGB becomes BT.709 once it is YUV, YUV loses its matrix once it is RGB, and ProRes knows no full range.
    """
    if (encoding.pix_fmt or "").startswith(("gbr", "rgb", "bgr")):
        return replace(colour, matrix="gbr", range="pc")
    if colour.matrix == "gbr":
        return replace(colour, matrix="bt709", range="tv")
    if encoding.name(bits) == "prores":
        return replace(colour, range="tv")
    return colour


def kept_hdr(encoding: Encoding, hdr: Hdr | None, *, bits: int) -> tuple[Hdr | None, str | None]:
    """Return the HDR10 metadata that a result will have and, where some of the source's are lost, a note."""
    name = encoding.name(bits)
    kept = find_encoder(name).kept_hdr(hdr)
    if kept == hdr:
        return kept, None
    if find_encoder(name).takes_hdr:
        return kept, "what is said of the mastering display will be missing from the result: it is incomplete"
    if encoding is ANIMATION:
        return (
            kept,
            "HDR10 metadata will be missing from the result: animations hold none; an .mp4 keeps them",
        )
    return kept, f"HDR10 metadata will be missing from the result: {name} holds none; --codec hevc keeps them"


def find_encoder(name: str) -> Encoder:
    """Return an encoder by one of the names encoders() tells; raises UsageError."""
    known = ENCODERS | HARDWARE
    if name not in known or not _opens(name):
        raise UsageError(f"--codec {name}: not on this machine; there are {', '.join(encoders())}")
    return known[name]


@functools.cache
def _opens(name: str) -> bool:
    """Try an encoder with one small frame: drivers and devices show themselves only then."""
    encoder = (ENCODERS | HARDWARE)[name]
    if encoder.encoder not in av.codecs_available:
        return False
    if name in ENCODERS:
        return True
    try:
        context: Any = av.CodecContext.create(encoder.encoder, "w")
        context.width, context.height, context.pix_fmt = 256, 256, encoder.formats[0]
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        frame = av.VideoFrame(256, 256, encoder.formats[0])
        frame.pts = 0
        context.encode(frame)
        context.encode(None)
    except (av.error.FFmpegError, ValueError, OSError):
        return False
    return True

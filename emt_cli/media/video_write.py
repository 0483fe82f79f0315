"""Encode RGB frames to a video file of one stream, each at its exact time."""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import numpy as np

from emt_cli.errors import OutputError, UsageError
from emt_cli.media.colour import (
    FLAGS,
    WHITE_16,
    Colour,
    add_half_a_step,
    chroma_location,
    code_points,
    stretch,
    swscale_matrix,
)
from emt_cli.media.encoders import ENCODERS, HARDWARE, Encoder
from emt_cli.media.files import new_file
from emt_cli.media.samples import Pixels, convert
from emt_cli.media.side_data import Hdr
from emt_cli.media.video_filters import filter_chain

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
    encoder = _encoder(name)
    if width < encoder.least_width:
        raise UsageError(f"{width}x{height} is too narrow for {name}; take --codec h264 or ffv1")
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
    full = next((f for f in kinds if _depth(f) == _depth(usual)), None)
    if full is None:
        raise UsageError(f"{width}x{height} is odd, which {name} cannot hold; take an even size or h264")
    return full, f"{width}x{height} is odd: encoded as 4:4:4, which some players do not show"


def _depth(pix_fmt: str) -> int:
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
    kept = _encoder(name).kept_hdr(hdr)
    if kept == hdr:
        return kept, None
    if _encoder(name).takes_hdr:
        return kept, "what is said of the mastering display will be missing from the result: it is incomplete"
    if encoding is ANIMATION:
        return (
            kept,
            "HDR10 metadata will be missing from the result: animations hold none; an .mp4 keeps them",
        )
    return kept, f"HDR10 metadata will be missing from the result: {name} holds none; --codec hevc keeps them"


_PAST_END = 64
"""Bytes that ffmpeg may read beyond a picture: a vector of the widest processors."""
_LATEST = 3600
"""Seconds by which no packet is decoded before it is shown."""


class VideoWriter:
    """Write frames to a file that appears under its name only when the block ends well.

    path: its suffix names the container; of .nut, .mov and .mp4 the times are exact, of .mkv to 1 ms.
    width, height: of the frames. sar: a pixel's width over its height. time_base: the unit of PTS in
    seconds. rate: frames per second on the average, for the encoder's decisions only. colour: what is
    written and tagged. bits: of the source, 8 or more. hdr: static metadata to keep. The file begins with a
    keyframe and needs no other (closed GOPs). OutputError when it cannot be written, UsageError for
    impossible settings.
    """

    def __init__(
        self,
        path: Path,
        encoding: Encoding,
        *,
        width: int,
        height: int,
        sar: Fraction,
        time_base: Fraction,
        rate: Fraction | None,
        colour: Colour,
        bits: int,
        hdr: Hdr | None = None,
    ) -> None:
        self.path = path
        self.width, self.height = width, height
        self.pix_fmt, _ = choose_pix_fmt(encoding, width=width, height=height, bits=bits)
        self.time_base = time_base
        self.colour = encoded_colour(encoding, colour, bits=bits)
        self._tags = code_points(self.colour)
        layout = av.VideoFormat(self.pix_fmt)
        rgb = self.colour.matrix == "gbr"
        self._white = 65535 if rgb else WHITE_16
        self._depth, self._full = _depth(self.pix_fmt), not rgb and self.colour.range == "pc"
        self._alpha = any(part.is_alpha for part in layout.components)
        self._name = encoding.name(bits)
        self._encoder = _encoder(self._name)
        preset = encoding.preset
        if self._name == "prores" and "444" in self.pix_fmt and preset is None:
            preset = "4444"  # other profiles drop transparency and half of the colours without a word
        self._options = self._encoder.options(encoding.crf, preset, self.colour, hdr)
        self._sar, self._rate = sar, rate
        self._graphs: dict[str, Any] = {}
        self._cleanup = contextlib.ExitStack()
        self._last: int | None = None
        self._decoded: int | None = None

    def __enter__(self) -> VideoWriter:
        suffix = self.path.suffix.lower()
        format = FORMATS.get(suffix)
        options = {"avoid_negative_ts": "disabled"}
        if suffix == SEGMENT_SUFFIX:
            format = "mov" if self._encoder.encoder == "prores_ks" else "nut"
        if format in ("mov", "mp4"):
            # The unit of edit lists, which tell a late start, is the movie's.
            scale = str(self.time_base.denominator)
            options |= {"video_track_timescale": scale, "movie_timescale": scale}
        if format is None:
            raise OutputError(f"{self.path}: not a container that is written; take .mkv, .mp4 or .mov")
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(new_file(self.path, overwrite=True))
            self._container = av.open(
                stream,
                "w",
                format=format,
                options=options,
            )
            try:
                self._stream = self._open()
            except av.error.FFmpegError as error:
                raise UsageError(
                    f"{self._name} does not take {self.width}x{self.height} {self.pix_fmt} with this --crf"
                    f" and --preset ({error.strerror})"
                ) from error
            self._cleanup = stack.pop_all()
        return self

    def write(self, pixels: Pixels, pts: int, alpha: Pixels | None = None) -> None:
        """Add a frame: RGB (h, w, 3), uint8, uint16 or float32 of 0..1, shown at pts, later than the last.

        alpha: (h, w) of the same type, kept by pixel formats that have it, None where all is opaque.
        """
        if pixels.shape != (self.height, self.width, 3):
            raise ValueError(f"a frame of shape {pixels.shape} in a video of {self.width}x{self.height}")
        if self._last is not None and pts <= self._last:
            raise ValueError(f"PTS {pts} after {self._last}")
        self._last = pts
        if pixels.dtype.kind == "f":
            pixels = convert(pixels, "uint16")
        if self._full and pixels.dtype == np.uint8:
            pixels = pixels.astype(np.uint16) << 8
        elif pixels.dtype == np.uint16:
            pixels = stretch(pixels, 0, 65535, to=self._white)
        if self._full:
            pixels = add_half_a_step(pixels, self.colour, self._depth)
        kind = "rgb24" if pixels.dtype == np.uint8 else "rgb48le"
        if alpha is not None and self._alpha:
            pixels = np.dstack((pixels, convert(alpha, pixels.dtype)))
            kind = "rgba" if pixels.dtype == np.uint8 else "rgba64le"
        frame = av.VideoFrame.from_numpy_buffer(_padded(pixels), kind)
        frame.pts, frame.time_base = pts, self.time_base
        graph = self._graphs.get(kind)
        if graph is None:
            graph = self._graphs[kind] = self._graph(kind)
        graph.vpush(frame)
        encoded = graph.vpull()
        # ProRes takes its tags from the frames.
        encoded.colorspace, encoded.color_range, encoded.color_primaries, encoded.color_trc = self._tags
        self._mux(encoded)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._cleanup as stack:
            try:
                if kind is None:
                    self._mux(None)
                    self._container.close()
            except BaseException as failure:
                # The container writes its end when it is dropped; let it do so before the file goes.
                with contextlib.suppress(Exception):
                    self._container.close()
                stack.__exit__(type(failure), failure, failure.__traceback__)
                raise
            if kind is not None:
                with contextlib.suppress(Exception):
                    self._container.close()
                stack.__exit__(kind, error, trace)

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                late = None if packet.dts is None else (packet.pts - packet.dts) * packet.time_base
                if late is None or not 0 <= late < _LATEST:
                    # What x265 says of fewer frames than it looks ahead is whatever lay in its memory.
                    packet.dts = packet.pts - 100 if self._decoded is None else self._decoded + 1
                self._decoded = packet.dts
                self._container.mux(packet)
        except (av.error.ArgumentError, av.error.ExternalError) as error:
            raise OutputError(f"{self.path}: {self._name} failed ({error.strerror}); try again") from error

    def _open(self) -> Any:
        # SVT-AV1 talks to the terminal by itself unless told not to.
        os.environ.setdefault("SVT_LOG", "1")
        stream: Any = self._container.add_stream(
            self._encoder.encoder, rate=self._rate or 25, options=self._options
        )
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, self.pix_fmt
        context = stream.codec_context
        context.time_base = stream.time_base = self.time_base
        context.sample_aspect_ratio = self._sar
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = self._tags
        context.open()
        return stream

    def _graph(self, kind: str) -> Any:
        options = {"in_range": "pc", "out_range": self.colour.range, "flags": FLAGS}
        if self.colour.matrix != "gbr":
            location = chroma_location(self.colour, self._encoder.encoder)
            options |= {"out_color_matrix": swscale_matrix(self.colour.matrix), "out_chroma_loc": location}
        filters = (("scale", options), ("format", {"pix_fmts": self.pix_fmt}))
        return filter_chain(self.width, self.height, kind, self.time_base, *filters)


def _padded(pixels: Pixels) -> Pixels:
    """Copy pixels to where ffmpeg may read a little past their end, as its fast code does."""
    buffer = np.empty(pixels.nbytes + _PAST_END, np.uint8)
    copy: Pixels = buffer[: pixels.nbytes].view(pixels.dtype).reshape(pixels.shape)
    copy[...] = pixels
    return copy


def _encoder(name: str) -> Encoder:
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

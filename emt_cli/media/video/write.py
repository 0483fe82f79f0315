"""Encode RGB frames to a video file of one stream, each at its exact time."""

from __future__ import annotations

import contextlib
import mmap
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import numpy as np

from emt_cli.errors import OutputError, UsageError
from emt_cli.media.files import new_file
from emt_cli.media.samples import Pixels, convert
from emt_cli.media.video.codecs import (
    FORMATS,
    SEGMENT_SUFFIX,
    Encoding,
    choose_pix_fmt,
    depth,
    encoded_colour,
    find_encoder,
)
from emt_cli.media.video.colour import (
    FLAGS,
    WHITE_16,
    Colour,
    add_half_a_step,
    chroma_location,
    code_points,
    stretch,
    swscale_matrix,
)
from emt_cli.media.video.filters import filter_chain
from emt_cli.media.video.side_data import Hdr

_PAST_END = 64
"""Bytes that ffmpeg may read beyond a picture: a vector of the widest processors."""
_LATEST = 3600
"""Seconds by which no packet is decoded before it is shown."""


class VideoWriter:
    """Write frames to a file that appears under its name only when the block ends well.

    path: its suffix names the container; of .nut, .mov and .mp4 the times are exact, of .mkv to 1 ms.
    width, height: of the frames. sar: a pixel's width over its height. time_base: the unit of PTS in
    seconds; files count in one of its numerator's parts, since MP4 knows no other units. rate: frames per
    second on the average, for the encoder's decisions only. colour: what is written and tagged. bits: of
    the source, 8 or more. hdr: static metadata to keep. The file begins with a keyframe and needs no other
    (closed GOPs). OutputError when it cannot be written, UsageError for impossible settings.
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
        self.time_base = Fraction(1, time_base.denominator)
        self._ticks = time_base.numerator
        self.colour = encoded_colour(encoding, colour, bits=bits)
        self._tags = code_points(self.colour)
        layout = av.VideoFormat(self.pix_fmt)
        rgb = self.colour.matrix == "gbr"
        self._white = 65535 if rgb else WHITE_16
        self._depth, self._full = depth(self.pix_fmt), not rgb and self.colour.range == "pc"
        self._alpha = any(part.is_alpha for part in layout.components)
        self._name = encoding.name(bits)
        self._encoder = find_encoder(self._name)
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
        frame.pts, frame.time_base = pts * self._ticks, self.time_base
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
    """Return pixels, or a copy, where ffmpeg may read a little past their end, as its fast code does."""
    left_of_page = -(pixels.ctypes.data + pixels.nbytes) % mmap.PAGESIZE
    if pixels.flags.c_contiguous and left_of_page >= _PAST_END:  # which can be read as a whole
        return pixels
    buffer = np.empty(pixels.nbytes + _PAST_END, np.uint8)
    copy: Pixels = buffer[: pixels.nbytes].view(pixels.dtype).reshape(pixels.shape)
    copy[...] = pixels
    return copy

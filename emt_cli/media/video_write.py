"""Encode RGB frames to a video file of one stream, each at its exact time."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import av.filter
import numpy as np

from emt_cli.errors import OutputError
from emt_cli.media.colour import FLAGS, Colour
from emt_cli.media.samples import Pixels, convert
from emt_cli.media.video import Hdr

ENCODERS = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "ffv1": "ffv1", "prores": "prores_ks"}


@dataclass(frozen=True)
class Encoding:
    """How frames are compressed."""

    codec: str = "h264"
    """h264, hevc, av1, ffv1, prores, or the name of an encoder that encoders() lists."""
    crf: int | None = None
    """Constant quality, lower is better; None is a faithful default of the codec."""
    preset: str | None = None
    pix_fmt: str | None = None
    """ffmpeg's name; None chooses by the depth."""


def encoders() -> list[str]:
    """Return the names Encoding.codec can have here."""
    return [name for name, encoder in ENCODERS.items() if encoder in av.codecs_available]


class VideoWriter:
    """Write frames to a file that appears under its name when the block ends well."""

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
        self.pix_fmt = encoding.pix_fmt or ("yuv420p" if bits == 8 else "yuv420p10le")
        self.time_base = time_base
        self.colour = colour
        self._encoding, self._sar, self._rate = encoding, sar, rate
        self._temporary = path.with_name(f".emt-{secrets.token_hex(8)}{path.suffix}")
        self._graphs: dict[str, Any] = {}

    def __enter__(self) -> VideoWriter:
        try:
            self._container = av.open(str(self._temporary), "w", options={"avoid_negative_ts": "disabled"})
        except (OSError, av.error.FFmpegError) as error:
            raise OutputError(f"{self.path}: cannot be written ({error})") from error
        codec = ENCODERS.get(self._encoding.codec, self._encoding.codec)
        options = {"crf": str(self._encoding.crf or 16), "preset": self._encoding.preset or "medium"}
        self._stream: Any = self._container.add_stream(codec, rate=self._rate or 25, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = self.width, self.height, self.pix_fmt
        self._stream.codec_context.time_base = self.time_base
        self._stream.time_base = self.time_base
        self._stream.codec_context.sample_aspect_ratio = self._sar
        return self

    def write(self, pixels: Pixels, pts: int) -> None:
        """Add one frame: RGB (h, w, 3), uint8, uint16 or float32 of 0..1; pts in the writer's time base."""
        kind = "rgb24" if pixels.dtype == np.uint8 else "rgb48le"
        if pixels.dtype.kind == "f":
            pixels = convert(pixels, "uint16")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), kind)
        frame.pts, frame.time_base = pts, self.time_base
        graph = self._graphs.get(kind)
        if graph is None:
            graph = self._graphs[kind] = self._graph(kind)
        graph.vpush(frame)
        self._container.mux(self._stream.encode(graph.vpull()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            if kind is None:
                self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _graph(self, kind: str) -> Any:
        graph = av.filter.Graph()
        matrix = "bt2020" if self.colour.matrix == "bt2020nc" else self.colour.matrix
        nodes = [
            graph.add_buffer(width=self.width, height=self.height, format=kind, time_base=self.time_base),
            graph.add(
                "scale",
                in_range="pc",
                out_range=self.colour.range,
                out_color_matrix=matrix,
                out_chroma_loc="left",
                flags=FLAGS,
            ),
            graph.add("format", self.pix_fmt),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        return graph

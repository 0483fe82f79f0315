"""What decoded frames go through on their way to RGB: ffmpeg's filters, turned upright."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import av.filter
import numpy as np

from emt_cli.media.samples import Pixels
from emt_cli.media.video.colour import FLAGS, WHITE_16, chroma_location, stretch, swscale_matrix, white_of
from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.timestamps import Timed

_UNSPECIFIED = 2  # of H.273's code points


def deinterlaced(frames: Iterator[Timed], info: VideoInfo) -> Generator[Timed, None, None]:
    """Yield one frame for each, its fields brought to one time by ffmpeg's bwdif."""
    graph: Any = None
    shape: tuple[object, ...] | None = None
    durations: dict[int, int | None] = {}

    def ready() -> Iterator[Timed]:
        while True:
            try:
                frame = graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            pts = round(frame.pts * frame.time_base / info.time_base)
            yield Timed(frame, pts, durations.pop(pts, None))

    for timed in frames:
        frame = timed.frame
        if shape != (frame.width, frame.height, frame.format.name):
            if graph is not None:
                graph.vpush(None)
                yield from ready()
            shape = (frame.width, frame.height, frame.format.name)
            # A file that marks some frames as interlaced is believed about the others.
            which = "interlaced" if info.interlaced else "all"
            graph = _chain_of(frame, info, ("bwdif", {"mode": "send_frame", "deint": which}))
        frame.pts, frame.time_base = timed.pts, info.time_base
        durations[timed.pts] = timed.duration
        graph.vpush(frame)
        yield from ready()
    if graph is not None:
        graph.vpush(None)
        yield from ready()


class Converter:
    """From decoded frames to upright RGB; keeps swscale's context while the frames stay alike."""

    def __init__(self, info: VideoInfo, *, alpha: bool) -> None:
        self._info, self._alpha = info, alpha
        self._graph: Any = None
        self._shape: tuple[object, ...] | None = None
        colour = info.colour
        self._options = {"in_range": colour.range, "out_range": "pc", "flags": FLAGS}
        if colour.matrix != "gbr":
            self._options["in_color_matrix"] = swscale_matrix(colour.matrix)
            self._options["in_chroma_loc"] = chroma_location(colour, info.codec)
        deep = info.dtype == "uint16"
        self._format = ("rgba64le" if deep else "rgba") if alpha else "rgb48le" if deep else "rgb24"
        self._low, self._white = 0, white_of(info.bits, colour) if deep else 255
        if info.pixel_format.startswith(("gray", "ya")) and colour.range == "tv":
            # swscale takes gray for full range, whatever it is told.
            self._low, self._white = (4096, 60160) if deep else (16, 235)

    def pixels(self, frame: av.video.frame.VideoFrame) -> tuple[Pixels, Pixels | None]:
        """Return RGB (h, w, 3) and, where it is asked for and not opaque, alpha (h, w), both upright."""
        if self._shape != (frame.width, frame.height, frame.format.name):
            self._shape = (frame.width, frame.height, frame.format.name)
            scale, format = ("scale", self._options), ("format", {"pix_fmts": self._format})
            self._graph = _chain_of(frame, self._info, scale, format)
        # Only matrix and range are converted; swscale balks at some of the rest.
        frame.color_primaries = frame.color_trc = _UNSPECIFIED
        self._graph.vpush(frame)
        rgb = self._graph.vpull().to_ndarray()
        full = 65535 if rgb.dtype == np.uint16 else 255
        alpha = None
        if self._alpha:
            rgb, alpha = rgb[..., :3], np.ascontiguousarray(rgb[..., 3])
            if full == 65535:
                alpha[alpha >= WHITE_16] = full  # what was 8 bits once, or is YUV, is shifted up and no more
            alpha = None if alpha.min() == full else self._upright(alpha)
        return self._upright(stretch(rgb, self._low, self._white, to=full)), alpha

    def _upright(self, pixels: Pixels) -> Pixels:
        turned = np.rot90(pixels, -self._info.rotation // 90)
        return np.ascontiguousarray(turned[:, ::-1] if self._info.mirrored else turned)


def filter_chain(
    width: int, height: int, pix_fmt: str, time_base: Fraction, *filters: tuple[str, dict[str, str]]
) -> Any:
    """Return a chain of ffmpeg's filters, by name with options, for frames of this kind."""
    graph = av.filter.Graph()
    graph.threads = 1  # a frame takes a millisecond; the cores belong to the network
    nodes = [
        graph.add_buffer(width=width, height=height, format=av.VideoFormat(pix_fmt), time_base=time_base)
    ]
    nodes += [graph.add(name, **options) for name, options in filters]
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes).configure()
    return graph


def _chain_of(frame: Any, info: VideoInfo, *filters: tuple[str, dict[str, str]]) -> Any:
    return filter_chain(frame.width, frame.height, frame.format.name, info.time_base, *filters)

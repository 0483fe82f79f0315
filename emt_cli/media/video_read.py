"""Decode a video to upright RGB frames, each with its exact time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import av
import av.error
import av.filter
import numpy as np

from emt_cli.media.colour import FLAGS
from emt_cli.media.samples import Pixels
from emt_cli.media.video import VideoInfo, choose_stream, open_container


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video."""

    pixels: Pixels
    """RGB (h, w, 3), upright: uint8 of 8-bit videos, uint16 with full scale 65535 of deeper ones."""
    pts: int
    """When it is shown, in the file's time base."""
    duration: int | None
    """How long, where the file says."""


class VideoReader:
    """The frames of a video file, in the order they are shown."""

    def __init__(self, info: VideoInfo, *, deinterlace: bool = False) -> None:
        self.info = info
        self.deinterlace = deinterlace
        self.damage: list[str] = []
        """What was lost while decoding, in words with times."""

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def frames(self, start: int | None = None, end: int | None = None) -> Iterator[Frame]:
        """Yield the decodable frames with start <= pts < end; the same pixels whatever start is."""
        with open_container(self.info.path) as container:
            stream = choose_stream(container, self.info.path)
            graph, size = None, None
            for frame in _decode(container, stream, self.damage):
                if frame.pts is None or (start is not None and frame.pts < start):
                    continue
                if end is not None and frame.pts >= end:
                    return
                if size != (frame.width, frame.height, frame.format.name):
                    graph = _graph(frame, self.info, self.deinterlace)
                    size = (frame.width, frame.height, frame.format.name)
                assert graph is not None
                graph.vpush(frame)
                converted = graph.vpull()
                yield Frame(self._upright(converted.to_ndarray()), frame.pts, frame.duration or None)

    def _upright(self, pixels: Pixels) -> Pixels:
        turned = np.rot90(pixels, -self.info.rotation // 90)
        return np.ascontiguousarray(turned[:, ::-1] if self.info.mirrored else turned)


def timestamps(info: VideoInfo) -> list[int]:
    """Return the PTS of every frame that can be decoded, in order, in the file's time base."""
    with open_container(info.path) as container:
        stream = choose_stream(container, info.path)
        return [frame.pts for frame in _decode(container, stream, []) if frame.pts is not None]


def _decode(container: Any, stream: Any, damage: list[str]) -> Iterator[Any]:
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.FFmpegError as error:
            with contextlib.suppress(TypeError):
                damage.append(f"{float(packet.pts * packet.time_base):.3f} s: {error.strerror}")


def _graph(frame: Any, info: VideoInfo, deinterlace: bool) -> Any:
    graph = av.filter.Graph()
    nodes = [
        graph.add_buffer(
            template=None,
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=info.time_base,
        )
    ]
    yuv = info.colour.matrix != "gbr"
    nodes.append(
        graph.add(
            "scale",
            in_range=info.colour.range,
            out_range="pc",
            flags=FLAGS,
            **({"in_color_matrix": _swscale_matrix(info.colour.matrix)} if yuv else {}),
        )
    )
    nodes.append(graph.add("format", "rgb24" if info.bits == 8 else "rgb48le"))
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes).configure()
    return graph


def _swscale_matrix(matrix: str) -> str:
    return "bt2020" if matrix == "bt2020nc" else matrix

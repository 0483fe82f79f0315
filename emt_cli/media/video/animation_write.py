"""Frames to animated GIF, WebP and PNG, with their exact times, through Pillow."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from emt_cli.errors import OutputError
from emt_cli.media.files import new_file
from emt_cli.media.picture.png import SIGNATURE
from emt_cli.media.samples import Pixels
from emt_cli.media.video.animation import SUFFIXES, AnimationFormat

_LONGEST = {"GIF": 65535, "WEBP": 16383, "PNG": 2**31 - 1}
"""Pixels of a side."""
_LONGEST_SHOWN = {"GIF": Fraction(65535, 100), "WEBP": Fraction(2**24 - 1, 1000), "PNG": Fraction(65535)}
"""Seconds for which one frame can be shown."""


def write_animation(
    target: Path, frames: Callable[[], Iterator[Pixels]], durations: Sequence[Fraction], *, loop: int | None
) -> list[str]:
    """Write frames, RGBA uint8 (h, w, 4), shown for so many seconds each; returns notes for people.

    frames: gives them from the beginning each time it is called. loop: how often it is played, 0 for ever,
    None once. GIF keeps 255 colours a frame, clear or opaque, and times to 10 ms, WebP 1 ms, PNG fractions of
    16 bits; rounded ends of frames add up to the whole. Frames equal to the one before may be merged with it.
    OutputError when it cannot be written, or is too large or too slow for the format.
    """
    format = SUFFIXES[target.suffix.lower()]
    tick = Fraction(1, 100) if format == "GIF" else Fraction(1, 1000)
    ends = [round(end / tick) for end in itertools.accumulate(durations)]
    shown = [max(1, end - start) * int(1000 * tick) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    first = next(frames())
    height, width = first.shape[:2]
    if max(width, height) > _LONGEST[format]:
        raise OutputError(
            f"{target}: {width}x{height} does not fit into {format}; choose .mp4, or a smaller size"
        )
    check_durations(target, durations)
    prepare = _gif_frame if format == "GIF" else Image.fromarray
    following = _Following(frames, prepare)
    options: dict[str, Any] = {"disposal": 2} if format == "GIF" else {}
    if format == "WEBP":
        options = {"quality": 95, "method": 4, "loop": 1 if loop is None else loop}
    elif format == "PNG":
        # Pillow merges frames equal to the one before; it would also write delays, but short ones alone.
        options, shown = {"loop": 1 if loop is None else loop}, [0] * len(shown)
    elif loop is not None:
        options["loop"] = loop
    with new_file(target, overwrite=True) as stream:
        try:
            prepare(first).save(
                stream,
                format,
                save_all=True,
                append_images=following,
                duration=shown,
                **options,
            )
            if format == "PNG":
                _write_delays(stream, following.merged(durations))
        except (OverflowError, struct.error) as error:
            raise _too_slow(target, format) from error
        except (ValueError, RuntimeError) as error:
            raise OutputError(f"{target}: could not be written ({error}); choose .mp4") from error
    return ["GIF keeps 255 colours a frame"] if format == "GIF" else []


def check_durations(target: Path, durations: Iterable[Fraction]) -> None:
    """Raise OutputError if a frame is shown for more seconds than an animation can say."""
    format = SUFFIXES[target.suffix.lower()]
    if max(durations, default=Fraction(0)) > _LONGEST_SHOWN[format]:
        raise _too_slow(target, format)


def _too_slow(target: Path, format: AnimationFormat) -> OutputError:
    longest = f"{float(_LONGEST_SHOWN[format]):g} s"
    return OutputError(f"{target}: shows a picture for longer than {format} can say ({longest}); choose .mp4")


@dataclass(frozen=True)
class _Following:
    """All frames but the first as pictures; Pillow goes through them once or twice."""

    frames: Callable[[], Iterator[Pixels]]
    prepare: Callable[[Pixels], Image.Image]
    repeats: set[int] = field(default_factory=set)
    """Places of frames that are equal to the one before."""

    def __iter__(self) -> Iterator[Image.Image]:
        for place, (before, frame) in enumerate(itertools.pairwise(self.frames()), 1):
            if np.array_equal(before, frame):
                self.repeats.add(place)
            yield self.prepare(frame)

    def merged(self, durations: Sequence[Fraction]) -> list[Fraction]:
        """Return the durations of frames where repeats are one with the frame before."""
        found: list[Fraction] = []
        for place, duration in enumerate(durations):
            if place in self.repeats:
                found[-1] += duration
            else:
                found.append(duration)
        return found


def _gif_frame(pixels: Pixels) -> Image.Image:
    """Return a frame of 255 colours of its own, dithered, with a 256th for what is mostly clear."""
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    palette = picture.quantize(255, method=Image.Quantize.MEDIANCUT)
    frame = picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    clear = pixels[..., 3] < 128
    if not clear.any():
        return frame
    indices = np.asarray(frame).copy()
    indices[clear] = 255
    made = Image.fromarray(indices, "P")
    made.putpalette([*(frame.getpalette() or [])[:765], 0, 0, 0])
    made.info["transparency"] = 255
    return made


def _write_delays(stream: IO[bytes], durations: Sequence[Fraction]) -> None:
    """Put delays, fractions of a second, into an animated PNG; a picture that does not move has none.

    ValueError unless there is one for each of its frames.
    """
    stream.flush()
    stream.seek(len(SIGNATURE))
    found = []
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"fcTL":
            found.append(stream.tell())
        stream.seek(length + 4, 1)
    late = Fraction(0)
    for place, duration in zip(found, durations if found else (), strict=True):
        stream.seek(place)
        body = bytearray(stream.read(26))
        delay = _fraction(max(duration - late, min(duration, Fraction(1, 1000))))
        late += delay - duration
        struct.pack_into(">HH", body, 20, delay.numerator, delay.denominator)
        stream.seek(place)
        stream.write(body + struct.pack(">I", zlib.crc32(body, zlib.crc32(b"fcTL"))))
    stream.seek(0, 2)


def _fraction(seconds: Fraction) -> Fraction:
    """Return the nearest fraction whose parts have 16 bits each; OverflowError if there is none."""
    if seconds > _LONGEST_SHOWN["PNG"]:
        raise OverflowError
    return seconds.limit_denominator(65535) if seconds <= 1 else 1 / (1 / seconds).limit_denominator(65535)

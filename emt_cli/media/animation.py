"""Animated GIF, WebP and PNG as videos: the same facts, frames and exact times, through Pillow."""

from __future__ import annotations

import contextlib
import itertools
import math
import mmap
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from emt_cli.errors import InputError, OutputError
from emt_cli.media.colour import Colour
from emt_cli.media.decode import readable_damage
from emt_cli.media.files import new_file
from emt_cli.media.formats import check_input
from emt_cli.media.pictures import MAX_PIXELS
from emt_cli.media.png import SIGNATURE
from emt_cli.media.samples import Pixels
from emt_cli.media.video import Stream, VideoInfo

AnimationFormat = Literal["GIF", "WEBP", "PNG"]

SUFFIXES: dict[str, AnimationFormat] = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG"}
"""File name suffixes, and Pillow's name of the format."""
_CONTAINERS: dict[str, AnimationFormat] = {"gif": "GIF", "webp": "WEBP", "apng": "PNG"}
_LONGEST = {"GIF": 65535, "WEBP": 16383, "PNG": 2**31 - 1}
MOST_FRAMES, MOST_PIXELS = 100_000, 1 << 32
"""Frames of an animation, and pixels of them all; a small file can claim any number."""
_LONGEST_SHOWN = {"GIF": Fraction(65535, 100), "WEBP": Fraction(2**24 - 1, 1000), "PNG": Fraction(65535)}
"""Seconds for which one frame can be shown."""
_UNSAID = Fraction(1, 10)
"""Seconds that players show a frame for which the file says 0."""
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, UnidentifiedImageError)


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame of an animation."""

    pixels: Pixels
    """RGB uint8 (h, w, 3)."""
    alpha: Pixels | None
    """uint8 (h, w), or None where everything is opaque."""
    pts: int
    duration: int


def animation_format(path: Path) -> AnimationFormat | None:
    """Return which kind of animation or picture a file's first bytes show, or None for anything else."""
    with path.open("rb") as stream:
        head = stream.read(12)
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(SIGNATURE):
        return "PNG"
    return "WEBP" if head[:4] == b"RIFF" and head[8:] == b"WEBP" else None


def probe_animation(path: Path, format: AnimationFormat, *, still: bool = False) -> VideoInfo:
    """Read what an animation says of itself; InputError when it is damaged, or a still picture.

    still: one is taken for an animation of one frame.
    """
    durations: list[Fraction] = []
    alpha = False
    with _open(path, format, still=still) as image:
        size, loop = image.size, image.info.get("loop")
        for frame in _frames(image):
            durations.append(_duration(frame))
            alpha = alpha or _alpha(frame) is not None
    time_base = Fraction(1, math.lcm(1000, *(duration.denominator for duration in durations)))
    if time_base.denominator > 10**9:
        time_base = Fraction(1, 1_000_000)
    total = sum(durations, Fraction(0))
    container = next(name for name, known in _CONTAINERS.items() if known == format)
    return VideoInfo(
        path=path,
        container=container,
        stream=0,
        track=0,
        codec=container,
        width=size[0],
        height=size[1],
        sar=Fraction(1),
        rotation=0,
        mirrored=False,
        time_base=time_base,
        start_pts=0,
        rate=len(durations) / total,
        frames=len(durations),
        duration=total,
        declares_end=True,
        bits=8,
        pixel_format="rgba" if alpha else "rgb24",
        colour=Colour("gbr", "pc", "bt709", "iec61966-2-1"),
        interlaced=False,
        hdr=None,
        alpha=alpha,
        streams=(Stream(0, "video", container),),
        chapters=0,
        animation=True,
        loop=loop if loop is None else int(loop),
    )


def read_animation(info: VideoInfo) -> Iterator[Picture]:
    """Yield the frames of an animation, whole pictures each; InputError when it is damaged."""
    pts = Fraction(0)
    with _open(info.path, _CONTAINERS[info.container]) as image:
        for frame in _frames(image):
            duration = _duration(frame)
            start, end = round(pts / info.time_base), round((pts + duration) / info.time_base)
            pixels = np.asarray(frame.convert("RGBA"))
            yield Picture(np.ascontiguousarray(pixels[..., :3]), _alpha(frame), start, end - start)
            pts += duration


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
    ends = [round(end / tick) for end in _sums(durations)]
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


def _sums(durations: Sequence[Fraction]) -> list[Fraction]:
    ends, end = [], Fraction(0)
    for duration in durations:
        end += duration
        ends.append(end)
    return ends


@contextlib.contextmanager
def _open(path: Path, format: AnimationFormat, *, still: bool = False) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=(format,)) as image:
            height, width = gif_extent(path) if format == "GIF" else (image.height, image.width)
            check_input(str(path), height=height, width=width, max_pixels=MAX_PIXELS)
            with readable_damage(str(path)):
                count = getattr(image, "n_frames", 1)
            if count > MOST_FRAMES or count * height * width > MOST_PIXELS:
                raise InputError(
                    f"{path}: {count:,} frames of {width}x{height} are too many; make it a video"
                )
            if count < 2 and not still:
                raise InputError(f"{path}: a picture that does not move; see `emt upscale`")
            yield image
    except _DAMAGE as error:
        raise InputError(f"{path}: its data are damaged or cut short; get an undamaged copy") from error


def gif_extent(path: Path) -> tuple[int, int]:
    """Return height and width that hold all frames of a GIF, which Pillow grows the picture to.

    A frame should lie inside the picture, but the 16 bits of its place and size can say anything.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        at = 13 + _colours(flags)
        while at < len(data) and data[at] != 0x3B:
            kind, at = data[at], at + 1
            if kind == 0x2C:  # an image
                left, top, w, h, flags = struct.unpack_from("<HHHHB", data, at)
                width, height = max(width, left + w), max(height, top + h)
                at += 10 + _colours(flags)
            elif kind == 0x21:  # an extension
                at += 1
            else:
                continue
            while at < len(data) and data[at]:
                at += 1 + data[at]
            at += 1
    return height, width


def _colours(flags: int) -> int:
    """Return the bytes of a GIF's table of colours."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _frames(image: Any) -> Iterator[Image.Image]:
    # A PNG's picture for viewers that know no animation is not a frame of it.
    first = 1 if image.info.get("default_image") else 0
    for index in range(first, getattr(image, "n_frames", 1)):
        with readable_damage(str(image.filename)):
            image.seek(index)
            image.load()
        yield image


def _duration(frame: Image.Image) -> Fraction:
    """Return how many seconds a frame is shown; PNG's fractions are exact again after Pillow's float."""
    milliseconds = frame.info.get("duration", 0)
    return Fraction(milliseconds / 1000).limit_denominator(65535) or _UNSAID


def _alpha(frame: Image.Image) -> Pixels | None:
    if not frame.has_transparency_data:
        return None
    alpha: Pixels = np.asarray(frame.convert("RGBA").getchannel("A"))
    return alpha if alpha.min() < 255 else None


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

"""Animated GIF, WebP and PNG read as videos: the same facts, frames and exact times, through Pillow."""

from __future__ import annotations

import contextlib
import itertools
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from emt_cli.errors import InputError
from emt_cli.media.picture.decode import readable_damage
from emt_cli.media.picture.formats import check_input
from emt_cli.media.picture.gif import Outline, read_outline
from emt_cli.media.picture.head import read_head, read_kind
from emt_cli.media.picture.io import MAX_PIXELS
from emt_cli.media.picture.pillow import open_image
from emt_cli.media.picture.png import SIGNATURE
from emt_cli.media.samples import Kind, Pixels
from emt_cli.media.video.colour import Colour
from emt_cli.media.video.info import Stream, VideoInfo

AnimationFormat = Literal["GIF", "WEBP", "PNG"]

SUFFIXES: dict[str, AnimationFormat] = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG"}
"""File name suffixes, and Pillow's name of the format."""
_CONTAINERS: dict[str, AnimationFormat] = {"gif": "GIF", "webp": "WEBP", "apng": "PNG"}
MOST_FRAMES, MOST_PIXELS = 100_000, 1 << 32
"""Frames of an animation, and pixels of them all; a small file can claim any number."""
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
    """Read what an animation says of itself, as far as it can be decoded.

    still: a picture is taken for an animation of one frame. InputError where it is none, or no frame can be
    decoded.
    """
    durations: list[Fraction] = []
    alpha, broken = False, ""
    with _open(path, format, still=still) as image:
        size, loop = image.size, image.info.get("loop")
        count = getattr(image, "n_frames", 1) - ("default_image" in image.info)
        frames = _frames(image)
        while True:
            try:
                frame = next(frames, None)
                if frame is None:
                    break
                durations.append(_duration(frame))
                alpha = alpha or _alpha(frame) is not None
            except (InputError, *_DAMAGE):
                if not durations:
                    raise
                lost = f"the last {count - len(durations)} of {count} frames"
                broken = f"{float(sum(durations)):.3f} s: {lost} cannot be decoded"
                break
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
        broken=broken,
        kind="plain" if still else _kind(path),
    )


def read_animation(info: VideoInfo) -> Iterator[Picture]:
    """Yield the frames of an animation that probe_animation() found, whole pictures each."""
    pts = Fraction(0)
    with _open(info.path, _CONTAINERS[info.container]) as image:
        for frame in itertools.islice(_frames(image), info.frames):
            duration = _duration(frame)
            start, end = round(pts / info.time_base), round((pts + duration) / info.time_base)
            pixels = np.asarray(frame.convert("RGBA"))
            yield Picture(np.ascontiguousarray(pixels[..., :3]), _alpha(frame), start, end - start)
            pts += duration


@contextlib.contextmanager
def _open(path: Path, format: AnimationFormat, *, still: bool = False) -> Iterator[Image.Image]:
    try:
        with open_image(path, format) as image:
            # Pillow grows the picture to hold all frames.
            outline = gif_outline(path) if format == "GIF" else image
            height, width = outline.height, outline.width
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


def _kind(path: Path) -> Kind:
    """Tell the kind by the first picture, as of a file that does not move."""
    try:
        kind = read_kind(path, read_head(path))
    except InputError:  # cut short, but enlarged as far as it goes
        return "plain"
    return "coarse video" if kind == "coarse" else kind


def gif_outline(path: Path) -> Outline:
    """Return what the blocks of a GIF tell, without a frame decoded; struct.error for a file cut short."""
    with path.open("rb") as stream:
        return read_outline(stream)


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

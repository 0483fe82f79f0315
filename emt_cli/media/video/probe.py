"""Open video files, and read what they say of themselves."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from math import floor
from pathlib import Path
from typing import Any, cast

import av
import av.container
import av.error
import av.video.frame

from emt_cli.errors import InputError
from emt_cli.media.video.animation import animation_format, probe_animation
from emt_cli.media.video.coarse import TELL_QUANTIZERS, is_coarse
from emt_cli.media.video.codecs import FORMATS
from emt_cli.media.video.colour import CONVERTIBLE, guess_colour
from emt_cli.media.video.dolby_vision import dolby_vision
from emt_cli.media.video.info import Stream, StreamKind, VideoInfo
from emt_cli.media.video.mp4 import is_cut_short, sample_entries
from emt_cli.media.video.side_data import has_alpha_aside, hdr, left_out, orientation

# Only real containers are opened: a playlist or a list of files (hls, dash, concat, image2, ...) would name
# other files and addresses, and only the file asked for is ever read.
_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,nut,ogg,mxf,gxf,wtv,rm,ivf,dv,y4m,yuv4mpegpipe"
    ",h264,hevc,vvc,av1,obu,m4v,mpegvideo,mjpeg,vc1,vc1test,swf,nsv,bink,smk,film_cpk,nuv,r3d,roq,vmd,avs,cavsvideo"
    ",dirac"
)
OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _DEMUXERS}


_CLOCKS = ("mpegts", "mpeg")
"""Demuxers of containers whose times say nothing of where a file begins."""
_BARE = ("h264", "hevc", "vvc", "m4v", "mpegvideo", "vc1", "cavsvideo", "dirac", "obu")
"""Demuxers of pictures without a container."""
_FAR = 60
"""Seconds from 0 at which no time line begins on purpose."""
_LOOKED_AT = 8
"""Frames that are decoded to learn what a video brings along."""


def probe(path: Path) -> VideoInfo:
    """Read what a video file says of itself, decoding its first frame.

    Neither the network nor another file is touched, whatever the file names. InputError: not a video, no
    video stream, no frame that can be decoded, an unknown codec, colours of a kind that is not converted.
    """
    format = animation_format(path) if path.is_file() else None
    if format is not None:
        return probe_animation(path, format)
    with open_container(path) as container:
        stream = choose_stream(container, path)
        frames = _first_frames(container, stream, path)
        frame = frames[0]
        layout = frame.format
        rgb = layout.is_rgb or layout.has_palette
        bits = max(component.bits for component in layout.components)
        rotation, mirrored = orientation(frame)
        turned = rotation in (90, 270)
        width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
        sar = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
        full = layout.name.startswith("yuvj")
        context = stream.codec_context
        colour = guess_colour(
            frame.colorspace if frame.colorspace != 2 else context.colorspace,
            2 if full else frame.color_range or context.color_range,
            frame.color_primaries if frame.color_primaries != 2 else context.color_primaries,
            frame.color_trc if frame.color_trc != 2 else context.color_trc,
            height=height,
            rgb=rgb,
        )
        if colour.matrix not in CONVERTIBLE:
            raise InputError(
                f"{path}: its colours are {colour.matrix}, which is not converted; re-encode it as bt709"
            )
        dolby = dolby_vision(path, container.format.name, stream.id)
        if dolby is not None and dolby.alone:
            raise InputError(
                f"{path}: its colours are Dolby Vision's own (profile {dolby.profile}), which is not"
                " converted; convert it to HDR10 first"
            )
        time_base = cast(Fraction, stream.time_base)
        origin = _origin(container, frame.pts, time_base)
        own = _own_duration(stream)
        rate = _plain_rate(stream, bare=container.format.name in _BARE)
        return VideoInfo(
            path=path,
            container=container.format.name,
            stream=stream.index,
            track=stream.id,
            codec=context.codec.canonical_name,
            width=width,
            height=height,
            sar=1 / sar if turned else sar,
            rotation=rotation,
            mirrored=mirrored,
            time_base=time_base,
            start_pts=stream.start_time,
            rate=rate,
            frames=stream.frames or None,
            duration=own or _container_duration(container),
            declares_end=own is not None
            or (len(container.streams) == 1 and container.format.name != "mpegts"),
            bits=8 if bits <= 8 else 10 if bits <= 10 else 12 if bits <= 12 else 16,
            pixel_format=layout.name,
            colour=colour,
            interlaced=frame.interlaced_frame,
            hdr=hdr(frame),
            alpha=any(component.is_alpha for component in layout.components),
            streams=_streams(container, path),
            chapters=len(container.chapters()),
            tags=dict(container.metadata),
            origin=origin,
            left_out=left_out(stream, frames, dolby=dolby is not None),
            kind="coarse video" if is_coarse(frames) else "plain",
        )


def file_url(path: Path) -> str:
    """Return the address by which ffmpeg takes any name for a file's, never for a protocol or an option."""
    return f"file:{path.resolve()}"


def input_arguments(info: VideoInfo) -> list[str]:
    """Return the ffmpeg program's arguments that open a video, and no other file or address."""
    demuxer = info.container.split(",")[0]
    return ["-protocol_whitelist", "file", "-f", demuxer, "-i", file_url(info.path)]


@contextlib.contextmanager
def open_container(path: Path) -> Iterator[av.container.InputContainer]:
    """Open a video file without ever touching another file or the network; InputError where that fails."""
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {reason}; name a video file")
    try:
        container = av.open(file_url(path), options=OPEN_OPTIONS, metadata_errors="replace")
    except av.error.FFmpegError as error:
        if is_cut_short(path):
            raise InputError(
                f"{path}: is cut short, and its index stood at its end; get the whole file"
            ) from error
        raise InputError(f"{path}: not a video this program can read; convert it to MP4 or MKV") from error
    with container:
        yield container


def choose_stream(container: av.container.InputContainer, path: Path) -> Any:
    """Return the best video stream that is not an attached picture, ready to be decoded."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise InputError(f"{path}: has no video stream; `emt upscale` takes pictures")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise InputError(f"{path}: its codec is unknown; convert it to H.264 or HEVC first")
    stream.thread_type = "SLICE"
    return stream


def open_decoder(stream: Any) -> Any:
    """Return what decodes a stream: its own decoder, or libvpx where VP8 or VP9 has transparency aside.

    That is a video of its own, beside each packet, which ffmpeg's decoders do not look at.
    """
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.codec.canonical_name)
    if name is None or name not in av.codecs_available or not has_alpha_aside(stream):
        return stream.codec_context
    return av.CodecContext.create(name, "r")


def _first_frames(container: Any, stream: Any, path: Path) -> list[av.video.frame.VideoFrame]:
    """Return the first frame and some more, for not every frame brings along what others do."""
    frames: list[av.video.frame.VideoFrame] = []
    decoder = open_decoder(stream)
    decoder.options = TELL_QUANTIZERS
    with contextlib.suppress(av.error.FFmpegError):
        for packet in container.demux(stream):
            with contextlib.suppress(av.error.FFmpegError):
                frames += decoder.decode(packet)
            if len(frames) >= _LOOKED_AT:
                break
    if not frames:
        raise InputError(f"{path}: no frame can be decoded; get an undamaged copy")
    return frames


def _origin(container: Any, first: int | None, time_base: Fraction) -> int:
    """Return the PTS that becomes time 0: where the earliest stream begins, if the file's clock has no 0.

    MPEG streams carry a broadcast's clock, and pieces of live streams begin far from 0. Other files keep
    their time line, unless it begins before 0, as MP4 without the edit list that would undo it: no container
    that is written can say that (MKV has no such times, players of MP4 drop them). Sound that begins before
    0 by itself is only what its decoder starts on, and stays there.
    """
    starts = [
        one.start_time * one.time_base
        for one in container.streams
        if one.start_time is not None
        and one.type in ("video", "audio", "subtitle")
        and not one.disposition & av.stream.Disposition.attached_pic
    ]
    begin = floor(min(starts, default=Fraction(0)) / time_base)
    if first is not None and first < 0:
        return min(first, begin)
    if first is not None:
        begin = min(first, begin)
    return begin if container.format.name in _CLOCKS or begin * time_base > _FAR else 0


def _own_duration(stream: Any) -> Fraction | None:
    if stream.duration:
        return cast(Fraction, stream.duration * stream.time_base)
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    return int(match[1]) * 3600 + int(match[2]) * 60 + Fraction(match[3]) if match else None


def _plain_rate(stream: Any, *, bare: bool) -> Fraction | None:
    """Return the usual rate that a container's rounded one stands for: 60000/1001 for 19001/317.

    bare: no container says anything, and ffmpeg's average is 25 whatever the pictures say.
    """
    rates = [stream.average_rate, stream.guessed_rate, stream.base_rate]
    if bare:
        rates.insert(0, stream.guessed_rate)
    # Some formats tell the unit of time instead.
    rate: Fraction | None = next((rate for rate in rates if rate and 0 < rate <= 1000), None)
    if rate is None:
        return None
    for plain in (Fraction(round(rate)), Fraction(round(rate * 1001 / 1000) * 1000, 1001)):
        if plain and abs(rate / plain - 1) < Fraction(1, 100_000):
            return plain
    return rate


def _container_duration(container: Any) -> Fraction | None:
    return Fraction(container.duration, 1_000_000) if container.duration else None


def _streams(container: Any, path: Path) -> tuple[Stream, ...]:
    unknown = any(stream.codec_context is None for stream in container.streams)
    entries = sample_entries(path) if unknown and container.format.name.startswith("mov") else {}
    return tuple(_stream(stream, entries.get(stream.id, "")) for stream in container.streams)


def _stream(stream: Any, entry: str) -> Stream:
    kinds: tuple[StreamKind, ...] = ("video", "audio", "subtitle", "attachment")
    kind: StreamKind = next((known for known in kinds if known == stream.type), "data")
    context = stream.codec_context
    return Stream(
        index=stream.index,
        kind=kind,
        codec=context.codec.canonical_name if context is not None else "",
        language=stream.metadata.get("language"),
        disposition=tuple(str(flag.name) for flag in av.stream.Disposition if flag & stream.disposition),
        tags=dict(stream.metadata),
        codec_tag=_codec_tag(context) if context is not None else entry,
        muxers=tuple(filter(partial(_takes, stream), dict.fromkeys(FORMATS.values()))),
    )


def _takes(stream: Any, muxer: str) -> bool:
    """Whether a muxer takes a copy of a stream: it is asked."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError, NotImplementedError):
        return False
    return True


def _codec_tag(context: Any) -> str:
    """Return the four characters; empty for tags that are numbers, as those of sound in AVI and WMV."""
    try:
        return str(context.codec_tag)
    except UnicodeDecodeError:
        return ""

"""Which streams of a source a container can hold, and so which container a result gets."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from emt_cli.atomic import temporary_folder
from emt_cli.media.video.animation import SUFFIXES as ANIMATIONS
from emt_cli.media.video.codecs import FORMATS
from emt_cli.media.video.info import Stream, VideoInfo
from emt_cli.media.video.probe import input_arguments

_CODECS = {
    "mp4": ("h264", "hevc", "av1"),
    "mov": ("h264", "hevc", "av1", "prores"),
    "webm": ("av1",),
    "matroska": ("h264", "hevc", "av1", "prores", "ffv1"),
}
"""The video codecs that players expect in a container."""


_TEXTS = {"wvtt": "WebVTT", "stpp": "TTML"}
"""Subtitles of MP4 that ffmpeg takes for data, by the container's name of them."""


@dataclass(frozen=True)
class StreamMapping:
    """Where a source's streams go: the file of the result, and what becomes of all but the video."""

    target: Path
    streams: tuple[int, ...] = ()
    """Indices of those that go into the result."""
    as_text: tuple[int, ...] = ()
    """Those among them that become SubRip: MP4's own timed text, which only MP4 holds."""
    covers: tuple[int, ...] = ()
    """Those among them that are pictures which MKV keeps as attachments, at the end."""
    notes: tuple[str, ...] = ()
    """What is changed or left out, for people."""


def map_streams(
    info: VideoInfo, target: Path, codec: str = "h264", *, empty: Collection[int] = ()
) -> StreamMapping:
    """Say which file to write, MKV in place of a container that cannot hold everything, and what goes in.

    codec: of the video, as Encoding.name() tells it. empty: streams without packets, as survey() tells them.
    """
    animation = ANIMATIONS.get(target.suffix.lower())
    if animation is not None:
        return StreamMapping(target, notes=tuple(_animation_notes(info, animation)))
    target, held, notes = _choose_container(info, target, codec, empty)
    matroska = FORMATS[target.suffix.lower()] == "matroska"
    as_text = []
    for stream in info.streams:
        if stream.index in held or stream.index == info.stream:
            continue
        if stream.codec == "mov_text" and matroska:
            as_text.append(stream.index)
            notes.append(f"stream {stream.index}: MP4's timed text becomes SubRip, as MKV needs")
        elif not _told_otherwise(stream, info):
            why = "has no packets" if stream.index in empty else "cannot be copied"
            notes.append(f"stream {stream.index}: {_words(stream)} {why}, and is left out")
    covers = [s.index for s in info.streams if "attached_pic" in s.disposition and s.index in held]
    return StreamMapping(
        target,
        streams=tuple(sorted({*held, *as_text})),
        as_text=tuple(as_text),
        covers=tuple(covers) if matroska else (),
        notes=tuple(notes),
    )


def _choose_container(
    info: VideoInfo, target: Path, codec: str, empty: Collection[int]
) -> tuple[Path, set[int], list[str]]:
    """Return the file to write, the streams it holds beside the video, and a note where it became MKV."""
    muxer = FORMATS.get(target.suffix.lower())
    matroska = target.with_suffix(".mkv")
    notes = []
    if muxer is None or muxer == "nut":
        notes = [f"{target.suffix or target.name} is not a container that is written: {matroska.name}"]
    elif codec.partition("_")[0] not in _CODECS[muxer]:
        notes = [f"{target.suffix} does not hold {codec}: {matroska.name} instead"]
    else:
        held = {one.index for one in info.streams if _holds(muxer, one, info, empty)}
        left = [one for one in info.streams if one.index not in held and one.index != info.stream]
        missing = [
            one
            for one in left
            if one.index not in empty and (one.codec == "mov_text" or _holds("matroska", one, info, empty))
        ]
        if muxer == "matroska" or not missing:
            return target, held, []
        words = ", ".join(dict.fromkeys(map(_words, missing)))
        notes = [f"{target.suffix} does not hold {words}: {matroska.name} instead"]
    return matroska, {one.index for one in info.streams if _holds("matroska", one, info, empty)}, notes


def _animation_notes(info: VideoInfo, animation: str) -> list[str]:
    others = [stream for stream in info.streams if stream.index != info.stream and stream.kind != "data"]
    words = ", ".join(dict.fromkeys(map(_words, others)))
    notes = [f"an animation holds no {words}: left out"] if others else []
    if animation == "GIF" and not info.animation and info.rate is not None and info.rate > 50:
        notes.append("GIF players show at most 50 frames a second, and this would play slower; choose .webp")
    return notes


def _told_otherwise(stream: Stream, info: VideoInfo) -> bool:
    """Whether a stream only says what chapters and tags, which are carried, say as well."""
    chapters = stream.codec_tag in ("text", "tx3g") and info.chapters > 0
    return stream.kind == "data" and (chapters or "timecode" in stream.tags)


def _words(stream: Stream) -> str:
    if stream.kind == "attachment":
        return "attachments"
    if stream.codec_tag in _TEXTS:
        return f"{_TEXTS[stream.codec_tag]} subtitles ({stream.codec_tag})"
    return f"{stream.kind} {stream.codec or stream.codec_tag}".strip()


def _holds(muxer: str, stream: Stream, info: VideoInfo, empty: Collection[int]) -> bool:
    """Whether a container of a muxer holds a stream, other than the video itself."""
    if info.animation or stream.index == info.stream or _told_otherwise(stream, info):
        return False
    attached = stream.kind == "attachment" or "attached_pic" in stream.disposition
    if attached and muxer == "matroska":
        return True
    if stream.kind == "attachment" or (muxer in ("mp4", "mov") and stream.index in empty):
        return False
    if muxer == "mp4" and stream.codec == "mp2":
        return False  # MP4 has one name for it and MP3, and players take it for that
    if stream.kind == "data":  # elsewhere it would become a track without packets
        return info.container.startswith("mov") and _ffmpeg_takes(stream, info, muxer)
    return muxer in stream.muxers or _ffmpeg_takes(stream, info, muxer)


def _ffmpeg_takes(stream: Stream, info: VideoInfo, muxer: str) -> bool:
    """Ask the ffmpeg that will do it: in MKV it keeps older codecs as well, such as Windows Media's."""
    if stream.kind not in ("audio", "video", "data"):
        return False
    with temporary_folder() as folder:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *input_arguments(info)]
        command += ["-map", f"0:{stream.index}", "-c", "copy", "-t", "0.1", "-f", muxer, f"{folder}/trial"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return done.returncode == 0

"""Which streams of a source a container can hold, and so which container a result gets."""

from __future__ import annotations

import io
import subprocess
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import imageio_ffmpeg

from emt_cli.atomic import temporary_folder
from emt_cli.media.video.animation import SUFFIXES as ANIMATIONS
from emt_cli.media.video.codecs import FORMATS
from emt_cli.media.video.probe import Stream, VideoInfo, input_arguments, open_container

_CODECS = {
    "mp4": ("h264", "hevc", "av1"),
    "mov": ("h264", "hevc", "av1", "prores"),
    "webm": ("av1",),
    "matroska": ("h264", "hevc", "av1", "prores", "ffv1"),
}
"""The video codecs that players expect in a container."""


@dataclass(frozen=True)
class StreamMapping:
    """What becomes of a source's other streams."""

    streams: tuple[int, ...]
    """Indices of those that go into the result."""
    as_text: tuple[int, ...]
    """Those among them that become SubRip: MP4's own timed text, which only MP4 holds."""
    covers: tuple[int, ...]
    """Those among them that are pictures which MKV keeps as attachments, at the end."""
    notes: list[str]
    """What is changed or left out, for people."""


def container_for(target: Path, info: VideoInfo, codec: str = "h264") -> tuple[Path, list[str]]:
    """Return the file to write and notes: MKV in place of a container that cannot hold everything.

    codec: of the video, as Encoding.name() tells it.
    """
    animation = ANIMATIONS.get(target.suffix.lower())
    if animation is not None:
        return target, _animation_notes(info, animation)
    muxer = FORMATS.get(target.suffix.lower())
    matroska = target.with_suffix(".mkv")
    if muxer is None or muxer == "nut":
        return matroska, [
            f"{target.suffix or target.name} is not a container that is written: {matroska.name}"
        ]
    if codec.partition("_")[0] not in _CODECS[muxer]:
        return matroska, [f"{target.suffix} does not hold {codec}: {matroska.name} instead"]
    held = _held(info, muxer)
    more = _held(info, "matroska") | {s.index for s in info.streams if s.codec == "mov_text"}
    missing = [s for s in info.streams if s.index in more - held and not s.empty]
    if missing and muxer != "matroska":
        words = ", ".join(dict.fromkeys(_words(stream) for stream in missing))
        return matroska, [f"{target.suffix} does not hold {words}: {matroska.name} instead"]
    return target, []


def _animation_notes(info: VideoInfo, animation: str) -> list[str]:
    others = [stream for stream in info.streams if stream.index != info.stream and stream.kind != "data"]
    words = ", ".join(dict.fromkeys(_words(stream) for stream in others))
    notes = [f"an animation holds no {words}: left out"] if others else []
    if animation == "GIF" and not info.animation and info.rate is not None and info.rate > 50:
        notes.append("GIF players show at most 50 frames a second, and this would play slower; choose .webp")
    return notes


def map_streams(info: VideoInfo, target: Path) -> StreamMapping:
    """Say what becomes of the other streams of a source in a container chosen by container_for()."""
    if target.suffix.lower() in ANIMATIONS:
        return StreamMapping((), (), (), [])
    muxer = FORMATS[target.suffix.lower()]
    held = _held(info, muxer)
    notes, as_text = [], []
    for stream in info.streams:
        if stream.index in held or stream.index == info.stream:
            continue
        if stream.codec == "mov_text" and muxer == "matroska":
            as_text.append(stream.index)
            notes.append(f"stream {stream.index}: MP4's timed text became SubRip, as MKV needs")
        elif not _told_otherwise(stream, info):
            why = "has no packets" if stream.empty else "cannot be copied"
            notes.append(f"stream {stream.index}: {_words(stream)} {why}, and is left out")
    covers = [s.index for s in info.streams if "attached_pic" in s.disposition and s.index in held]
    return StreamMapping(
        streams=tuple(sorted({*held, *as_text})),
        as_text=tuple(as_text),
        covers=tuple(covers) if muxer == "matroska" else (),
        notes=notes,
    )


def _told_otherwise(stream: Stream, info: VideoInfo) -> bool:
    """Whether a stream only says what chapters and tags, which are carried, say as well."""
    chapters = stream.codec in ("bin_data", "") and info.chapters > 0 and info.container.startswith("mov")
    return stream.kind == "data" and (chapters or "timecode" in stream.tags)


def _words(stream: Stream) -> str:
    if stream.kind == "attachment":
        return "attachments"
    return f"{stream.kind} {stream.codec or stream.codec_tag}".strip()


def _held(info: VideoInfo, muxer: str) -> set[int]:
    """Return the indices of the streams, without the video itself, that a muxer takes: it is asked."""
    held: set[int] = set()
    if info.animation:
        return held
    with open_container(info.path) as container:
        for stream in info.streams:
            if stream.index == info.stream or _told_otherwise(stream, info):
                continue
            attached = stream.kind == "attachment" or "attached_pic" in stream.disposition
            if attached and muxer == "matroska":
                held.add(stream.index)
                continue
            if stream.kind == "attachment" or (muxer in ("mp4", "mov") and stream.empty):
                continue
            if muxer == "mp4" and stream.codec == "mp2":
                continue  # MP4 has one name for it and MP3, and players take it for that
            if stream.kind == "data" and not info.container.startswith("mov"):
                continue  # it would become a track without packets
            if stream.kind == "data" and not _ffmpeg_takes(stream, info, muxer):
                continue
            try:
                with av.open(io.BytesIO(), "w", format=muxer) as trial:
                    trial.add_stream_from_template(container.streams[stream.index], opaque=True)
                    trial.start_encoding()
                held.add(stream.index)
            except (av.error.FFmpegError, ValueError, NotImplementedError):
                if _ffmpeg_takes(stream, info, muxer):
                    held.add(stream.index)
    return held


def _ffmpeg_takes(stream: Stream, info: VideoInfo, muxer: str) -> bool:
    """Ask the ffmpeg that will do it: in MKV it keeps older codecs as well, such as Windows Media's."""
    if stream.kind not in ("audio", "video", "data"):
        return False
    with temporary_folder() as folder:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *input_arguments(info)]
        command += ["-map", f"0:{stream.index}", "-c", "copy", "-t", "0.1", "-f", muxer, f"{folder}/trial"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return done.returncode == 0

"""MP4's timed text as SubRip, which MKV holds, and what both of them say when."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg

from emt_cli.errors import OutputError
from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.probe import input_arguments, open_container

_MARKUP = re.compile(r"</?(b|i|u|s|font)\b[^>]*>|\{\\[^}]*}")
"""How SubRip says bold, colours and places, which timed text keeps beside the text."""


@dataclass(frozen=True)
class Cue:
    """One text on the screen."""

    start: Fraction
    """In seconds, as end is."""
    end: Fraction
    text: str
    """Without markup; its lines without blanks at their ends."""


def write_subrip(info: VideoInfo, index: int, target: Path, begin: Fraction, end: Fraction | None) -> None:
    """Write a stream of timed text as an MKV of SubRip, of what is shown from begin to end (seconds).

    begin becomes time 0; texts that the cut goes through keep what lies within. OutputError.
    """
    whole = target.with_suffix(".whole")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", "-copyts"]
    command += [*input_arguments(info), "-map", f"0:{index}", "-c", "srt", "-f", "matroska", f"file:{whole}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise OutputError(f"{info.path}: the subtitles of stream {index} could not be converted; try again")
    with open_container(whole) as source, av.open(str(target), "w", format="matroska") as output:
        stream: Any = output.add_stream_from_template(source.streams[0], opaque=True)
        output.start_encoding()
        for packet in source.demux():
            if not packet.size or packet.pts is None:
                continue
            first = round(begin / packet.time_base)
            last = packet.pts + (packet.duration or 0) - first
            last = last if end is None else min(last, round(end / packet.time_base) - first)
            start = max(packet.pts - first, 0)
            if start < last:
                packet.pts = packet.dts = start
                packet.duration, packet.stream = last - start, stream
                output.mux(packet)


def read_cues(info: VideoInfo, index: int) -> list[Cue]:
    """Return the texts of a stream of timed text (3GPP TS 26.245) or SubRip, but not those that are empty."""
    cues = []
    with open_container(info.path) as container:
        stream = container.streams[index]
        timed = info.streams[index].codec == "mov_text"
        for packet in container.demux(stream):
            data = bytes(packet)
            text = _plain(_timed_text(data) if timed else data.decode(errors="replace"))
            if text and packet.pts is not None:
                start, tick = packet.pts, packet.time_base
                cues.append(Cue(start * tick, (start + (packet.duration or 0)) * tick, text))
    return cues


def _timed_text(sample: bytes) -> str:
    """Return the text of a sample: its length, its characters in UTF-8 or UTF-16, then boxes of styles."""
    text = sample[2 : 2 + int.from_bytes(sample[:2], "big")]
    utf_16 = text.startswith((b"\xfe\xff", b"\xff\xfe"))
    return text.decode("utf-16" if utf_16 else "utf-8", errors="replace")


def _plain(text: str) -> str:
    lines = _MARKUP.sub("", text).splitlines()
    return "\n".join(line.strip() for line in lines).strip()

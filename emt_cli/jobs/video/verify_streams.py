"""Check the streams beside the picture of a finished video against its source: packets, texts, files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import zip_longest
from typing import Any

from emt_cli.jobs.video.check import Check
from emt_cli.media.video.containers import StreamMapping
from emt_cli.media.video.info import Stream, VideoInfo
from emt_cli.media.video.packets import Packets, find_place, greatest_delay
from emt_cli.media.video.probe import open_container
from emt_cli.media.video.subtitles import Cue, read_cues

_NEAR = Fraction(2, 1000)
"""Seconds within which texts begin and end at the same time: MKV keeps both to 1 ms."""


def check_streams(
    source: VideoInfo,
    made: VideoInfo,
    theirs: Mapping[int, Packets],
    ours: Mapping[int, Packets],
    carried: StreamMapping,
    shift: Fraction,
    *,
    whole: bool,
    until: Fraction | None,
) -> list[Check]:
    """Compare all streams that were carried; theirs and ours are the packets of source and result.

    shift, whole: as verify() takes them. until: seconds of the source from which on it was cut off.
    """
    checks = []
    for name, before, after in _pairs(source, made, carried):
        if before is None or after is None:
            checks.append(
                Check(name, False, before.codec if before else "none", after.codec if after else "none")
            )
        elif before.index in carried.as_text or (before.codec == "mov_text" and not whole):
            # A cut of timed text gets empty ones of the muxer's in between.
            checks.append(_check_text(name, (source, before), (made, after), shift, until))
        elif before.kind == "attachment":
            expected, found = _attached(source, before), _attached(made, after)
            checks.append(Check(name, expected == found, expected, found))
        else:
            packets = theirs[before.index], ours[after.index]
            if "default" not in before.disposition and made.container.startswith("mov"):
                # MP4 makes one stream of each kind the default one, if no other is.
                after = replace(
                    after, disposition=tuple(mark for mark in after.disposition if mark != "default")
                )
            checks.append(_check_stream(name, (before, after), packets, shift, whole=whole))
    return checks


def _check_text(
    name: str,
    source: tuple[VideoInfo, Stream],
    made: tuple[VideoInfo, Stream],
    shift: Fraction,
    until: Fraction | None,
) -> Check:
    """Check SubRip against the timed text it was made of, or timed text that was cut: words and times."""
    before, after = (read_cues(info, stream.index) for info, stream in (source, made))
    if made[1].codec == "mov_text":  # what is copied begins with a text of its own
        before = [cue for cue in before if cue.start >= shift]
    before, after = _shown(before, shift, until), _shown(after, Fraction(0), until and until - shift)
    expected, found = (
        f"{stream.language or 'und'}, {len(cues)} texts"
        for (_, stream), cues in ((source, before), (made, after))
    )
    if [cue.text for cue in before] != [cue.text for cue in after]:
        return Check(name, False, expected, f"{found}, other words")
    if any(
        max(abs(one.start - other.start), abs(one.end - other.end)) > _NEAR
        for one, other in zip(before, after, strict=True)
    ):
        return Check(name, False, expected, f"{found}, at other times")
    return Check(name, expected == found, expected, f"{found}, same words")


def _shown(cues: list[Cue], begin: Fraction, end: Fraction | None) -> list[Cue]:
    """Return what is shown of texts between two times, counted from the first one."""
    clipped = [
        Cue(max(cue.start, begin) - begin, (cue.end if end is None else min(cue.end, end)) - begin, cue.text)
        for cue in cues
    ]
    return [cue for cue in clipped if cue.end > cue.start]


def _attached(info: VideoInfo, stream: Stream) -> str:
    """Return an attached file's name, length and the beginning of its hash."""
    with open_container(info.path) as container:
        attached: Any = container.streams[stream.index]
        data: bytes = attached.data or b""
    digest = hashlib.sha256(data).hexdigest()[:8]
    return f"{stream.tags.get('filename', '')}, {len(data)} bytes, {digest}"


def _pairs(
    source: VideoInfo, made: VideoInfo, carried: StreamMapping
) -> Iterable[tuple[str, Stream | None, Stream | None]]:
    """Put the other streams of both files side by side: the first audio with the first audio, and so on."""
    for kind in ("video", "audio", "subtitle", "attachment", "data"):
        before = [one for one in source.streams if one.kind == kind and one.index in carried.streams]
        after = [one for one in made.streams if one.kind == kind and one.index != made.stream]
        if kind == "data":  # muxers add tracks of their own for chapters and time codes
            after = after[: len(before)]
        most = max(len(before), len(after))
        for index, pair in enumerate(zip_longest(before, after)):
            name = "picture" if kind == "video" else kind
            yield (name if most == 1 else f"{name} {index + 1}", *pair)


def _check_stream(
    name: str,
    streams: tuple[Stream, Stream],
    packets: tuple[Packets, Packets],
    shift: Fraction,
    *,
    whole: bool,
) -> Check:
    """Check one copied stream: codec, language, disposition, bytes of each packet and its time."""
    if {stream.codec for stream in streams} == {"mp2", "mp3"}:
        streams = streams[0], replace(streams[1], codec=streams[0].codec)  # MP4 has one name for both
    expected, found = (_words(*both) for both in zip(streams, packets, strict=True))
    if expected.split(", ")[:-1] != found.split(", ")[:-1]:
        return Check(name, False, expected, found)
    place = find_place(*packets, whole=whole)
    if place is None:
        return Check(name, False, expected, f"{found}, other bytes")
    late = greatest_delay(*packets, place, shift)
    if late:
        return Check(name, False, expected, f"{found}, {float(late) * 1000:.1f} ms off")
    return Check(name, True, expected, f"{found}, same bytes")


def _words(stream: Stream, packets: Packets) -> str:
    language = stream.language if stream.language not in (None, "und") else ""
    marks = " ".join(stream.disposition)
    return ", ".join(
        [*filter(None, (stream.codec or stream.codec_tag, language, marks)), f"{len(packets)} packets"]
    )

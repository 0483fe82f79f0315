"""Check a finished video against its source: frames, times, streams, tags, colours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

from emt_cli.errors import InputError
from emt_cli.jobs.video.check import Check, same, short
from emt_cli.jobs.video.verify_streams import check_streams
from emt_cli.media.video.animation import SUFFIXES as ANIMATIONS
from emt_cli.media.video.animation import probe_animation
from emt_cli.media.video.colour import Colour
from emt_cli.media.video.containers import StreamMapping
from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.mp4 import track_durations
from emt_cli.media.video.packets import Packets, read_packets
from emt_cli.media.video.probe import open_container, probe
from emt_cli.media.video.read import survey
from emt_cli.media.video.side_data import Hdr

_WRITERS_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "handler_name"}
_WRITERS_TAGS |= {"vendor_id", "creation_time", "bps", "number_of_frames", "number_of_bytes"}
"""Tags that tell of the file itself, not of what is shown; every muxer writes its own."""


def verify(
    source: VideoInfo,
    theirs: Mapping[int, Packets],
    result: Path,
    *,
    times: Sequence[Fraction],
    size: tuple[int, int],
    colour: Colour,
    hdr: Hdr | None,
    carried: StreamMapping,
    shift: Fraction = Fraction(0),
    whole: bool = True,
    end: int | None = None,
    alpha: bool = False,
) -> list[Check]:
    """Compare a result with its source and return every check that was made.

    theirs: the source's packets, by stream. times: of the frames the result must have, in seconds of the
    source. colour, hdr: what they were encoded in and with. carried: the other streams it was to get. shift:
    seconds by which the result starts earlier than the source. whole: nothing was cut off, so that every
    packet of the other streams must be there; else those that are there must follow on each other in the
    source. end: PTS of the source from which on it was cut off. alpha: the source's transparency was to be
    kept.
    """
    try:
        format = ANIMATIONS.get(result.suffix.lower())
        made = probe_animation(result, format, still=True) if format else probe(result)
    except InputError as error:
        return [Check("readable", False, "yes", str(error).removeprefix(f"{result}: "))]
    if made.broken:
        return [Check("readable", False, "yes", made.broken)]
    shown = [time - shift for time in times]
    checks = [same("size", f"{size[0]}x{size[1]}", f"{made.width}x{made.height}")]
    last = _last_duration(source, theirs, times, end)
    if made.animation:
        return [*checks, *_check_animation(made, shown, last)]
    ours, _ = read_packets(made)
    checks = [
        *_check_frames(ours[made.stream], shown),
        _check_duration(made, ours[made.stream], shown, last),
        *checks,
        same("pixel aspect", source.sar, made.sar),
        _check_colour(colour, made.colour),
    ]
    if hdr is not None:
        checks.append(Check("HDR metadata", _close(hdr, made.hdr), _hdr(hdr), _hdr(made.hdr)))
    if alpha:
        checks.append(same("transparency", "kept", "kept" if made.alpha else "lost"))
    checks += [Check(name, True, "left out", "left out, as said") for name in source.left_out]
    if source.animation:
        return checks
    until = None if end is None else source.seconds(end)
    checks += check_streams(source, made, theirs, ours, carried, shift, whole=whole, until=until)
    if whole:
        checks.append(same("chapters", _chapters(source.path, shift), _chapters(result)))
    checks += _check_tags(source.tags, made.tags)
    return checks


def _check_frames(packets: Packets, times: Sequence[Fraction]) -> list[Check]:
    """Check number and times of the frames, to half a tick of the result's clock, and how long they last."""
    found = sorted(time * packets.tick for time in packets.times)
    checks = [same("frames", len(times), len(found))]
    wrong = [
        (index, one, other)
        for index, (one, other) in enumerate(zip(times, found, strict=False))
        if abs(one - other) > packets.tick / 2
    ]
    if wrong:
        index, one, other = wrong[0]
        there = f"{len(wrong)} differ; frame {index}: {float(other):.6f} s, not {float(one):.6f} s"
    else:
        there = "all equal"
    expected = f"{len(times)} from {float(times[0]):.3f} to {float(times[-1]):.3f} s" if times else "none"
    checks.append(Check("frame times", not wrong and len(times) == len(found), expected, there))
    return checks


def _last_duration(
    source: VideoInfo, theirs: Mapping[int, Packets], times: Sequence[Fraction], end: int | None
) -> Fraction:
    """Return how long the last frame is to be shown, in seconds: to a cut, else as in the source."""
    if end is not None:
        return source.seconds(end) - times[-1]
    distances = sorted(after - before for before, after in pairwise(times))
    usual = distances[len(distances) // 2] if distances else 1 / (source.rate or Fraction(25))
    if source.animation:
        return (source.duration or times[-1]) - times[-1] or usual
    return source.last_duration(times[-1], theirs[source.stream].last_duration() or usual)


def _check_duration(made: VideoInfo, packets: Packets, times: Sequence[Fraction], last: Fraction) -> Check:
    """Check how long the video is, from its first frame to the end of its last one, to half a frame.

    MP4's packets tell how long each is decoded, not how long its frame is shown, but its tracks tell that.
    """
    expected = times[-1] - times[0] + last
    found = (max(packets.times) - min(packets.times)) * packets.tick + (packets.last_duration() or last)
    if made.container.startswith("mov"):
        begins = min(packets.times) * packets.tick
        found = track_durations(made.path).get(made.track, found + begins) - begins
    close = abs(found - expected) <= last / 2 + packets.tick
    return Check("duration", close, f"{float(expected):.3f} s", f"{float(found):.3f} s")


def _check_animation(made: VideoInfo, times: Sequence[Fraction], last: Fraction) -> list[Check]:
    """Check the frames of an animation, which begins at once and shows equal frames as one, to a tick.

    Where all are equal only a still picture is left, which shows the same for good.
    """
    if made.frames == 1:
        return [Check("frames", True, str(len(times)), "1, a still picture: all frames are equal")]
    tick = Fraction(1, 100 if made.container == "gif" else 1000)
    # PNG has fractions of 16 bits.
    tick = max(tick, *((after - before) / 65535 for before, after in pairwise([*times, times[-1] + last])))
    found = [made.seconds(pts) for pts in survey(made).times]
    wanted = [Fraction(0), *times[1:]]
    wrong = [time for time in found if min(abs(time - one) for one in wanted) > tick]
    merged = len(times) - len(found)
    words = "all equal" if not merged else f"all equal, {merged} merged with the frame before"
    end, length = times[-1] + last, made.duration or Fraction(0)
    return [
        Check("frames", 0 <= merged < len(times), str(len(times)), str(len(found))),
        Check("frame times", not wrong, "to a tick", f"{len(wrong)} differ" if wrong else words),
        Check("duration", abs(end - length) <= tick, f"{float(end):.3f} s", f"{float(length):.3f} s"),
    ]


def _check_colour(before: Colour, after: Colour) -> Check:
    """Check the colour tags; what the source left unsaid, the result must say."""
    names = (
        ("primaries", "transfer") if after.matrix == "gbr" else ("matrix", "range", "primaries", "transfer")
    )
    silent = [name for name in names if name in after.guessed]
    expected, found = (" ".join(getattr(one, name) for name in names) for one in (before, after))
    return Check("colour", expected == found and not silent, expected, found + _untagged(silent))


def _untagged(names: Sequence[str]) -> str:
    return f" ({', '.join(names)} not tagged)" if names else ""


def _close(before: Hdr, after: Hdr | None) -> bool:
    """Whether two say the same, to the coarsest steps in which codecs keep it: those of HEVC and of AV1."""
    if after is None or before.light_level != after.light_level:
        return False
    first, other = (
        [*chain.from_iterable(hdr.primaries or ()), *(hdr.luminance or ())] for hdr in (before, after)
    )
    steps = [Fraction(1, 50_000)] * 8 + [Fraction(1, 10_000), Fraction(1, 256)]
    pairs = zip(first, other, steps, strict=False)
    return len(first) == len(other) and all(abs(one - two) <= step for one, two, step in pairs)


def _hdr(hdr: Hdr | None) -> str:
    """Return mastering display and light levels in words."""
    if hdr is None:
        return "none"
    words = []
    if hdr.primaries is not None:
        words.append(" ".join(f"{float(x):.3f},{float(y):.3f}" for x, y in hdr.primaries))
    if hdr.luminance is not None:
        words.append(f"{float(hdr.luminance[0]):.4g} to {float(hdr.luminance[1]):.4g} cd/m²")
    if hdr.light_level is not None:
        words.append("MaxCLL {}, MaxFALL {}".format(*hdr.light_level))
    return "; ".join(words)


def _chapters(path: Path, shift: Fraction = Fraction(0)) -> str:
    with open_container(path) as container:
        chapters = container.chapters()
    words = [
        f"{float(one['start'] * one['time_base'] - shift):.2f} {one['metadata'].get('title', '')}".strip()
        for one in chapters
        if one["time_base"] is not None
    ]
    return "; ".join(words) or "none"


def _check_tags(source: Mapping[str, str], made: Mapping[str, str]) -> list[Check]:
    """Check that each tag of the source that tells of its content is in the result."""
    before, after = _tags(source), _tags(made)
    lost = {name: value for name, value in before.items() if after.get(name) != value}
    found = "; ".join(f"{name}: {after.get(name, 'none')}" for name in lost) or "the same"
    expected = "; ".join(f"{name}: {value}" for name, value in (lost or before).items()) or "none"
    return [Check("tags", not lost, short(expected), short(found))]


def _tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    lower = {name.lower(): value for name, value in tags.items()}
    return {name: _plain(name, value) for name, value in lower.items() if name not in _WRITERS_TAGS}


def _plain(name: str, value: str) -> str:
    """Return a tag's value as MP4 keeps it: tracks and discs are numbers there, 3 of 12 and not 03/12."""
    number = re.fullmatch(r"0*(\d+)(?:/0*(\d+))?", value) if name in ("track", "disc") else None
    return value if number is None else "/".join(part for part in number.groups() if part)

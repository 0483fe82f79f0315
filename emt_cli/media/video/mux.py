"""Put encoded segments together, and beside them every other stream of the source."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from math import ceil, floor
from pathlib import Path

import av.error
import imageio_ffmpeg

from emt_cli.atomic import temporary_folder
from emt_cli.errors import OutputError
from emt_cli.media.files import new_file
from emt_cli.media.samples import Pixels
from emt_cli.media.video.animation import SUFFIXES as ANIMATIONS
from emt_cli.media.video.animation_write import write_animation
from emt_cli.media.video.codecs import FORMATS
from emt_cli.media.video.colour import Colour
from emt_cli.media.video.concat import StreamOrder, feed, pipe_format, put_in_order
from emt_cli.media.video.containers import StreamMapping
from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.mp4 import add_location
from emt_cli.media.video.probe import file_url, input_arguments, open_container, probe
from emt_cli.media.video.subtitles import write_subrip

_FOLLOWS = re.compile("Error (submitting|muxing|writing|opening|while)|Task finished|Terminating")
"""Of what ffmpeg says once something has failed already."""
_STALE = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS", "ENCODER", "ROTATE", "ALPHA_MODE")
"""Beginnings of a stream's tags that are no longer true once it is encoded again, or cut."""
_OWN_TAGS = {"encoder", "creation_time", "major_brand", "minor_version", "compatible_brands", "timecode"}
_PLAIN_TAGS = {"mov": {*_OWN_TAGS, "title", "artist", "album", "comment", "genre", "date", "copyright"}}
_PLAIN_TAGS["mp4"] = {*_PLAIN_TAGS["mov"], "album_artist", "composer", "description", "synopsis", "lyrics"}
_PLAIN_TAGS["mp4"] |= {"show", "episode_id", "network", "track", "disc", "grouping"}
"""Tags that a muxer keeps under names every player knows."""


def join(
    segments: Sequence[Path],
    info: VideoInfo,
    target: Path,
    plan: StreamMapping,
    *,
    start: int | None = None,
    end: int | None = None,
    colour: Colour | None = None,
) -> list[str]:
    """Write target: the segments one after the other, and the source's other streams, all by stream copy.

    segments: files of VideoWriter of one encoding, in order, with the source's PTS counted from its origin.
    info: of the source. target: of plan's kind; replaced when it is there. plan: what becomes of the other
    streams. start, end: PTS of a cut; the other streams are cut there as well, and the result's time 0 is
    start. colour: VideoWriter.colour, which some codecs (FFV1) do not say themselves; None asks the segments.
    Returns notes for people. OutputError when it cannot be written, or the segments do not fit together.
    """
    origin = info.origin if start is None else start
    if target.suffix.lower() in ANIMATIONS:
        return _animate(segments, info, target, origin, end)
    with new_file(target, overwrite=True) as file, temporary_folder() as folder:
        video, order = probe(segments[0]), put_in_order(segments, info, origin)
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-copyts"]
        command += ["-f", pipe_format(video.codec), "-i", "pipe:0"]
        if not info.animation:  # of which nothing else is to be had
            command += _source(info, origin, seek=start is not None)
        for index in plan.as_text:
            begin, over = info.seconds(origin), None if end is None else info.seconds(end)
            write_subrip(info, index, folder / f"{index}.mkv", begin, over)
            command += ["-i", file_url(folder / f"{index}.mkv")]
        last = order.last_duration(info, end)
        back = f"-({order.dts_offset})"
        own = sum(index < info.stream for index in plan.streams if index not in plan.covers)
        command += _streams(plan, info, start, end) + _covers(plan, info, folder)
        command += _colour(own, colour or video.colour)
        command += [
            f"-bsf:{own}",
            f"setts=pts=PTS{back}:dts=DTS{back}:duration=round({float(last):.9f}/TB)",
        ]
        command += _container(target, info)
        if video.codec == "hevc" and FORMATS[target.suffix.lower()] in ("mp4", "mov"):
            command += [f"-tag:{own}", "hvc1"]  # Apple's players know no other
        if end is not None:
            command += ["-t", f"{float(info.seconds(end - origin)):.6f}"]
        _run([*command, f"file:{file.name}"], order, video.codec, target)
        place = _location(info).get("location")
        if place is not None and FORMATS[target.suffix.lower()] in ("mp4", "mov"):
            languages = [name.partition("-")[2] for name in _location(info)]
            add_location(Path(file.name), place, max(languages) or "und")
    return []


def _animate(
    segments: Sequence[Path], info: VideoInfo, target: Path, origin: int, end: int | None
) -> list[str]:
    """Write the frames of segments (of any lossless encoding) as an animated GIF, WebP or PNG."""
    order = put_in_order(segments, info, origin)
    seconds = [pts * order.tick for pts in order.times]
    last = order.last_duration(info, end)
    # An animation begins at once: what comes before the first frame belongs to it.
    ends = [*seconds[1:], seconds[-1] + last]
    durations = [after - before for before, after in zip([Fraction(0), *seconds[1:]], ends, strict=True)]
    loop = info.loop if info.animation else 0
    return write_animation(target, partial(_pictures, segments), durations, loop=loop)


def _pictures(segments: Sequence[Path]) -> Iterator[Pixels]:
    """Yield the frames of segments as RGBA uint8 (h, w, 4)."""
    for segment in segments:
        with open_container(segment) as source:
            for frame in source.decode(video=0):
                yield frame.to_ndarray(format="rgba")


def _source(info: VideoInfo, origin: int, *, seek: bool) -> list[str]:
    """Return ffmpeg's arguments that open the source, and no other file.

    Its times are moved so that the PTS origin is 0. seek: reading begins a little before.
    """
    arguments: list[str] = []
    if origin:
        seconds = info.seconds(origin)
        arguments = ["-itsoffset", f"{float(-seconds):.6f}"]
        if seek and seconds > 20:
            arguments += ["-seek_timestamp", "1", "-ss", str(floor(seconds) - 10)]
    return [*arguments, *input_arguments(info)]


def _streams(plan: StreamMapping, info: VideoInfo, start: int | None, end: int | None) -> list[str]:
    """Return ffmpeg's arguments that choose the streams, in the source's order, and describe them."""
    if info.animation:
        return ["-c", "copy", "-map", "0:v:0"]
    arguments = ["-c", "copy", "-map_metadata:g", "1:g", "-map_chapters", "1"]
    place = 0
    for stream in info.streams:
        own = stream.index == info.stream
        if not own and (stream.index not in plan.streams or stream.index in plan.covers):
            continue
        text = 2 + plan.as_text.index(stream.index) if stream.index in plan.as_text else None
        arguments += ["-map", "0:v:0" if own else f"1:{stream.index}" if text is None else f"{text}:0"]
        arguments += [f"-map_metadata:s:{place}", f"1:s:{stream.index}"]
        arguments += [f"-disposition:{place}", "+".join(stream.disposition) or "0"]
        if own or start is not None or end is not None:
            for tag in stream.tags:
                if tag.upper().startswith(_STALE):
                    arguments += [f"-metadata:s:{place}", f"{tag}="]
        if not own and start is not None and stream.kind != "video":
            arguments += [f"-copypriorss:{place}", "0"]  # nothing from before the start
        place += 1
    return arguments


def _covers(plan: StreamMapping, info: VideoInfo, folder: Path) -> list[str]:
    """Return ffmpeg's arguments that attach pictures; copied into MKV they would be videos of a frame."""
    arguments: list[str] = []
    place = len(plan.streams) - len(plan.covers) + 1
    for index in plan.covers:
        stream = next(stream for stream in info.streams if stream.index == index)
        kind = {"mjpeg": "jpeg"}.get(stream.codec, stream.codec)
        tags = {"filename": f"cover.{kind.replace('jpeg', 'jpg')}", "mimetype": f"image/{kind}"}
        tags |= {name: value for name, value in stream.tags.items() if name in tags}
        path = folder / str(index)
        with open_container(info.path) as container:
            packet = next(packet for packet in container.demux(container.streams[index]) if packet.size)
            path.write_bytes(bytes(packet))
        arguments += ["-attach", file_url(path)]
        for name, value in tags.items():
            arguments += [f"-metadata:s:{place}", f"{name}={value}"]
        place += 1
    return arguments


def _colour(place: int, colour: Colour) -> list[str]:
    """Return ffmpeg's arguments that tag a stream; some codecs (FFV1) do not say it themselves."""
    matrix = "rgb" if colour.matrix == "gbr" else colour.matrix
    values = {"colorspace": matrix, "color_range": colour.range}
    values |= {"color_primaries": colour.primaries, "color_trc": colour.transfer}
    names = {"bt470m": "gamma22", "bt470bg": "gamma28"}
    values["color_trc"] = names.get(colour.transfer, colour.transfer)
    return [part for name, value in values.items() for part in (f"-{name}:{place}", value)]


def _container(target: Path, info: VideoInfo) -> list[str]:
    muxer = FORMATS[target.suffix.lower()]
    # What MP4 says of itself is no tag of the video.
    brands = [tag for tag in info.tags if tag in ("major_brand", "minor_version", "compatible_brands")]
    arguments = [part for tag in brands for part in ("-metadata", f"{tag}=")]
    arguments += ["-f", muxer, "-max_interleave_delta", "0", "-avoid_negative_ts", "disabled"]
    if muxer in ("mp4", "mov"):
        scale = info.time_base.denominator
        # Edit lists, which hold a late start, count in the unit of the whole movie: a multiple, and so fine
        # that sound starts at its exact sample.
        movie = scale * max(1, ceil(Fraction(1_000_000, scale)))
        arguments += ["-video_track_timescale", str(scale), "-movie_timescale", str(movie)]
        location = _location(info)
        arguments += [part for tag in location for part in ("-metadata", f"{tag}=")]
        if not {tag.lower() for tag in info.tags} <= _PLAIN_TAGS[muxer] | set(location):
            arguments += ["-movflags", "use_metadata_tags"]
    return arguments


def _location(info: VideoInfo) -> dict[str, str]:
    """Return where a video was filmed, under ffmpeg's names: location, and once more with its language."""
    tags = {name.lower(): value for name, value in info.tags.items()}
    return {name: value for name, value in tags.items() if re.fullmatch(r"location(-[a-z]{3})?", name)}


def _run(command: list[str], order: StreamOrder, codec: str, target: Path) -> None:
    """Run ffmpeg, feeding it the segments."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        said: list[bytes] = []
        listener = threading.Thread(target=lambda pipe: said.append(pipe.read()), args=(process.stderr,))
        listener.start()
        try:
            # A pipe that closes early means that ffmpeg has failed and says why.
            with contextlib.suppress(BrokenPipeError, av.error.BrokenPipeError), process.stdin as pipe:
                feed(order, pipe, codec)
        except BaseException:
            process.kill()
            raise
        finally:
            listener.join()
    if process.returncode:
        why = _reason(b"".join(said))
        raise OutputError(f"{target}: could not be put together ({why}); try again, or name an .mkv with -o")


def _reason(said: bytes) -> str:
    """Return the line in which ffmpeg says why it failed: the first of a part of it, not of its own."""
    lines = [re.sub(r"^(\[[^]]+] *)+", "", line) for line in said.decode(errors="replace").splitlines()]
    causes = [line for line in lines if "rror" in line and not _FOLLOWS.match(line)]
    return next(iter(causes or lines[-1:]), "ffmpeg failed")

"""Segments and the source's other streams in one file, as another build of ffmpeg reads it."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import clips
import imageio_ffmpeg
import pytest

from emt_cli.errors import OutputError
from emt_cli.media.video.codecs import SEGMENT_SUFFIX, Encoding
from emt_cli.media.video.containers import StreamMapping, map_streams
from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.mux import join
from emt_cli.media.video.probe import probe
from emt_cli.media.video.read import VideoReader, survey
from emt_cli.media.video.write import VideoWriter

SOURCES: dict[str, Callable[[Path], object]] = {
    "plain.mp4": lambda path: clips.clip(path, "-bf", "3", audio=True),
    "film.mp4": lambda path: clips.clip(path, rate="24000/1001"),
    "sport.mkv": lambda path: clips.clip(path, rate="60000/1001"),
    "vfr.mp4": clips.vfr,
    "vfr.mkv": clips.vfr,
    "late.ts": clips.offset,
    "late.mp4": clips.offset,
    "late.mkv": clips.offset,
    "old.avi": lambda path: clips.clip(path, "-bf", "2", codec=("-c:v", "mpeg4", "-q:v", "3")),
    "deep.mov": lambda path: clips.clip(path, codec=("-c:v", "prores_ks")),
}


def copy(
    info: VideoInfo,
    target: Path,
    *,
    codec: str | None = None,
    length: int = 7,
    start: int | None = None,
    end: int | None = None,
) -> list[str]:
    """Decode a video, encode it in segments, and join them; returns the notes."""
    encoding = Encoding(codec)
    chosen = [
        pts for pts in survey(info).times if (start is None or pts >= start) and (end is None or pts < end)
    ]
    bounds = [*chosen[::length], end]
    segments = []
    with VideoReader(info) as reader:
        for number, (first, last) in enumerate(itertools.pairwise(bounds)):
            segments.append(target.parent / f"{number}{SEGMENT_SUFFIX}")
            with VideoWriter(
                segments[-1], encoding, width=info.width, height=info.height, sar=info.sar,
                time_base=info.time_base, rate=info.rate, colour=info.colour, bits=info.bits, hdr=info.hdr,
            ) as writer:  # fmt: skip
                for frame in reader.frames(first, last):
                    writer.write(frame.pixels, frame.pts - info.origin)
    plan = map_streams(info, target, codec or "h264")
    assert plan.target == target
    notes = join(segments, info, target, plan, start=start, end=end, colour=writer.colour)
    for segment in segments:
        segment.unlink()
    return [*plan.notes, *notes]


def tick_of(target: Path, info: VideoInfo) -> Fraction:
    """Return the unit of times in a result: MKV counts milliseconds, MP4 whole parts of a second."""
    return Fraction(1, 1000 if target.suffix == ".mkv" else info.time_base.denominator)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *((name, ".mp4") for name in SOURCES),
        *((name, ".mkv") for name in ("plain.mp4", "vfr.mkv", "late.ts", "late.mkv", "sport.mkv")),
        ("late.mp4", ".mov"),
        ("deep.mov", ".mov"),
    ],
)
def test_every_frame_keeps_its_exact_time(tmp_path: Path, name: str, suffix: str) -> None:
    source, target = tmp_path / name, tmp_path / f"out{suffix}"
    SOURCES[name](source)
    info = probe(source)
    # The clock of MPEG-TS has no 0 of its own: the earliest stream begins there.
    expected = [time - info.seconds(info.origin) for time in clips.times(source)]

    copy(info, target)

    found = clips.times(target)
    tick = tick_of(target, info)
    assert len(found) == len(expected)
    assert max(abs(one - other) for one, other in zip(found, expected, strict=True)) <= tick / 2
    if suffix != ".mkv" or name.endswith("mkv"):
        assert found == expected


@pytest.mark.parametrize(
    ("codec", "length"),
    [("h264", 1), ("hevc", 1), ("hevc", 4), ("av1", 4), ("ffv1", 4), ("prores", 4), ("av1", 50)],
)
def test_segments_of_any_length_and_codec_join_seamlessly(tmp_path: Path, codec: str, length: int) -> None:
    source = clips.vfr(tmp_path / "vfr.mp4")
    info = probe(source)
    target = map_streams(info, tmp_path / "out.mp4", codec).target

    copy(info, target, codec=codec, length=length)

    tick = tick_of(target, info)
    pairs = zip(clips.times(target), clips.times(source), strict=True)
    assert all(abs(one - other) <= tick / 2 for one, other in pairs)
    assert "smpte170m" in clips.facts(target)
    assert probe(target).colour.guessed == ()


def test_decoding_times_in_mp4_rise_and_the_video_lasts_as_long(tmp_path: Path) -> None:
    source, target = clips.vfr(tmp_path / "vfr.mp4"), tmp_path / "out.mp4"

    copy(probe(source), target)

    text = clips.ffmpeg("-v", "error", "-copyts", "-i", target, "-c", "copy", "-f", "framehash", "-")
    decoded = [int(line.split(",")[1]) for line in text.splitlines() if line.startswith("0,")]
    assert all(after > before for before, after in itertools.pairwise(decoded))
    assert probe(target).duration == probe(source).duration


@pytest.mark.parametrize("name", ["all.mkv", "plain.mp4", "late.ts"])
def test_every_other_stream_is_copied_packet_for_packet(tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    (clips.every_stream if name == "all.mkv" else SOURCES[name])(source)
    target = tmp_path / ("out.mkv" if name != "plain.mp4" else "out.mp4")

    info = probe(source)

    copy(info, target)

    begin = info.seconds(info.origin)
    streams = ["0:a:0", "0:a:1", "0:s:0", "0:s:1", "0:s:2"] if name == "all.mkv" else ["0:a"]
    for stream in streams:
        before, after = clips.packets(source, stream), clips.packets(target, stream)
        assert len(after) == len(before)
        assert all(
            abs(one.time + begin - other.time) < Fraction(1, 1000)
            for one, other in zip(after, before, strict=True)
        )
        if name != "late.ts":  # whose sound has a header in every packet
            assert [one.digest for one in after] == [one.digest for one in before]


def test_languages_titles_dispositions_chapters_fonts_and_tags_are_kept(tmp_path: Path) -> None:
    source, target = clips.every_stream(tmp_path / "all.mkv"), tmp_path / "out.mkv"

    copy(probe(source), target)

    before, after = probe(source), probe(target)
    for one, other in zip(before.streams, after.streams, strict=True):
        assert (other.kind, other.language, other.tags.get("title")) == (
            one.kind,
            one.language,
            one.tags.get("title"),
        )
        if one.kind != "video":
            assert (other.codec, other.disposition) == (one.codec, one.disposition)
    assert after.chapters == 2
    assert "Chapter #0:1: start 1.000000, end 2.000000" in clips.facts(target)
    assert after.tags["title"] == "A film"
    font = tmp_path / "out.ttf"
    clips.ffmpeg(
        "-dump_attachment:t:0", font, "-i", target, "-frames:v", "1", "-map", "0:v", "-f", "null", "-"
    )
    assert font.read_bytes() == (tmp_path / "font.ttf").read_bytes()


def test_cover_picture_stays_a_cover_picture(tmp_path: Path) -> None:
    picture, plain, source = tmp_path / "cover.png", tmp_path / "plain.mp4", tmp_path / "film.mp4"
    clips.ffmpeg("-f", "lavfi", "-i", "color=red:size=32x32", "-frames:v", "1", picture)
    clips.clip(plain)
    cover = ("-map", "0", "-map", "1", "-c", "copy", "-disposition:v:1", "attached_pic")
    clips.ffmpeg("-i", plain, "-i", picture, *cover, source)

    for target in (tmp_path / "out.mp4", tmp_path / "out.mkv"):
        copy(probe(source), target)
        attached = [stream for stream in probe(target).streams if "attached_pic" in stream.disposition]
        assert [stream.codec for stream in attached] == ["png"]
        assert len(clips.times(target)) == 25


def test_hdr10_survives_the_whole_way(tmp_path: Path) -> None:
    source, target = clips.hdr10(tmp_path / "hdr.mp4"), tmp_path / "out.mp4"

    copy(probe(source), target)

    before, after = probe(source), probe(target)
    assert (after.hdr, after.colour, after.bits) == (before.hdr, before.colour, 10)
    assert "hvc1" in clips.facts(target)
    assert "yuv420p10le(tv, bt2020nc/bt2020/smpte2084" in clips.facts(target)


def test_rotation_is_gone_once_the_pixels_are_upright(tmp_path: Path) -> None:
    source, target = clips.rotated(tmp_path / "turned.mp4", 90), tmp_path / "out.mp4"

    copy(probe(source), target)

    assert "rotation of" in clips.facts(source)
    assert "rotation of" not in clips.facts(target)
    assert (probe(target).width, probe(target).height) == (96, 64)


@pytest.mark.parametrize("name", ["plain.mp4", "all.mkv"])
def test_cut_begins_at_zero_and_takes_the_sound_along(tmp_path: Path, name: str) -> None:
    source, target = tmp_path / name, tmp_path / f"out{Path(name).suffix}"
    (clips.every_stream if name == "all.mkv" else SOURCES[name])(source)
    info = probe(source)
    times = survey(info).times
    start, end = times[6], times[16]

    copy(info, target, start=start, end=end)

    begin = info.seconds(start)
    assert clips.times(target) == [info.seconds(pts) - begin for pts in times[6:16]]
    whole = {packet.digest: packet.time for packet in clips.packets(source, "0:a:0")}
    sound = clips.packets(target, "0:a:0")
    assert 15 <= len(sound) <= 25
    assert all(abs(whole[packet.digest] - begin - packet.time) < Fraction(1, 900) for packet in sound)
    assert sound[0].time < Fraction(3, 100)
    assert sound[-1].time < info.seconds(end) - begin
    if name == "all.mkv":
        assert re.findall(r"Chapter #0:\d: start (\S+), end (\S+)", clips.facts(target))[0] == (
            "0.000000",
            "0.400000",
        )


def test_mp4_gives_way_to_mkv_where_it_cannot_hold_a_stream(tmp_path: Path) -> None:
    everything = probe(clips.every_stream(tmp_path / "all.mkv"))
    plain = probe(clips.clip(tmp_path / "plain.mp4", audio=True))

    assert map_streams(plain, tmp_path / "out.mp4") == StreamMapping(tmp_path / "out.mp4", streams=(1,))
    mapping = map_streams(everything, tmp_path / "out.mp4")
    assert mapping.target == tmp_path / "out.mkv"
    assert "subtitle ass" in mapping.notes[0]
    assert "attachments" in mapping.notes[0]
    assert map_streams(plain, tmp_path / "out.mp4", "ffv1").target.suffix == ".mkv"
    assert map_streams(plain, tmp_path / "out.avi").target.suffix == ".mkv"
    assert map_streams(plain, tmp_path / "out.webm", "av1").target.suffix == ".mkv"


def test_timed_text_of_mp4_becomes_subrip_in_mkv(tmp_path: Path) -> None:
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,200 --> 00:00:00,900\nHello\n")
    plain, source = clips.clip(tmp_path / "plain.mp4"), tmp_path / "text.mp4"
    clips.ffmpeg("-i", plain, "-i", words, "-map", "0", "-map", "1", "-c", "copy", "-c:s", "mov_text", source)
    info = probe(source)

    assert map_streams(info, tmp_path / "out.mp4").notes == ()
    notes = copy(info, tmp_path / "out.mkv")

    assert "SubRip" in notes[0]
    assert clips.packets(tmp_path / "out.mkv", "0:s:0")[0].time == Fraction(1, 5)
    assert "Hello" in clips.ffmpeg("-v", "error", "-i", tmp_path / "out.mkv", "-f", "srt", "-")


def test_timecode_track_is_no_reason_for_a_note(tmp_path: Path) -> None:
    info = probe(clips.clip(tmp_path / "code.mov", "-timecode", "01:00:00:00"))

    assert [stream.kind for stream in info.streams] == ["video", "data"]
    assert map_streams(info, tmp_path / "out.mov").notes == ()
    copy(info, tmp_path / "out.mov")
    assert "01:00:00:00" in clips.facts(tmp_path / "out.mov")


def test_unknown_tags_of_phones_are_kept_in_mp4(tmp_path: Path) -> None:
    tags = ("-movflags", "use_metadata_tags", "-metadata", "com.apple.quicktime.make=Somebody")
    info = probe(clips.clip(tmp_path / "phone.mp4", *tags))

    copy(info, tmp_path / "out.mp4")

    assert probe(tmp_path / "out.mp4").tags["com.apple.quicktime.make"] == "Somebody"


def test_segments_of_other_settings_are_refused(tmp_path: Path) -> None:
    info = probe(clips.clip(tmp_path / "plain.mp4"))
    segments = []
    for number, (width, crf) in enumerate(((96, 14), (48, 14))):
        segments.append(tmp_path / f"{number}{SEGMENT_SUFFIX}")
        with VideoWriter(
            segments[-1], Encoding(crf=crf), width=width, height=64, sar=info.sar, time_base=info.time_base,
            rate=info.rate, colour=info.colour, bits=8,
        ) as writer:  # fmt: skip
            frame = next(iter(VideoReader(info).frames()))
            writer.write(frame.pixels[:, :width], number * 512)

    with pytest.raises(OutputError, match="another encoder"):
        join(segments, info, tmp_path / "out.mp4", map_streams(info, tmp_path / "out.mp4"))

    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="the program that fails is a shell script")
def test_failure_of_ffmpeg_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = probe(clips.clip(tmp_path / "plain.mp4"))
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho first >&2\necho 'no such luck' >&2\nexit 1\n")
    program.chmod(0o755)
    before = set(tmp_path.iterdir())
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(program))

    with pytest.raises(
        OutputError, match=r"could not be put together \(no such luck\); try again, or name an .mkv with -o$"
    ):
        copy(info, tmp_path / "out.mp4")

    assert {path for path in tmp_path.iterdir() if path.suffix != SEGMENT_SUFFIX} == before


@pytest.mark.parametrize("name", ["source.mov", "source.mp4", "source.mkv"])
@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_where_it_was_filmed_keeps_its_text(tmp_path: Path, name: str, suffix: str) -> None:
    place = ("-metadata", "location=+12.34567-098.76543+123.456/")
    info = probe(clips.clip(tmp_path / name, *place, size="32x32", seconds=0.2))
    target = tmp_path / f"out{suffix}"

    copy(info, target)

    before, after = (
        {tag.lower(): value for tag, value in found.tags.items() if tag.lower().startswith("location")}
        for found in (info, probe(target))
    )
    assert before == after
    assert "location" in after
    if suffix != ".mkv":  # what follows the boxes is still in its place
        assert clips.times(target) == clips.times(info.path)


@pytest.mark.parametrize(("suffix", "track"), [(".mp4", "3/12"), (".mov", "03/12"), (".mkv", "03/12")])
def test_tags_of_an_album_survive(tmp_path: Path, suffix: str, track: str) -> None:
    tags = ("-metadata", "track=03/12", "-metadata", "title=One", "-metadata", "composer=Somebody")
    info = probe(clips.clip(tmp_path / "source.mkv", *tags, size="32x32", seconds=0.2))
    target = tmp_path / f"out{suffix}"

    copy(info, target)

    found = {name.lower(): value for name, value in probe(target).tags.items()}
    assert (found["track"], found["title"], found["composer"]) == (track, "One", "Somebody")

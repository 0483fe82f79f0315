"""Decoded frames: every one, at its exact time, in the right colours, the same wherever reading starts."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest

from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.probe import probe
from emt_cli.media.video.read import Frame, VideoReader, survey

CLIPS: dict[str, Callable[[Path], object]] = {
    "plain.mp4": lambda path: clips.clip(path, "-bf", "3"),
    "film.mp4": lambda path: clips.clip(path, rate="24000/1001"),
    "sport.mkv": lambda path: clips.clip(path, rate="60000/1001"),
    "vfr.mp4": clips.vfr,
    "vfr.mkv": clips.vfr,
    "late.ts": clips.offset,
    "late.mp4": clips.offset,
    "late.mkv": clips.offset,
    "mpeg2.ts": lambda path: clips.clip(path, "-bf", "2", codec=("-c:v", "mpeg2video", "-q:v", "3")),
    "old.avi": lambda path: clips.clip(path, "-bf", "2", codec=("-c:v", "mpeg4", "-q:v", "3")),
    "vp9.webm": lambda path: clips.clip(path, codec=("-c:v", "libvpx-vp9", "-cpu-used", "8")),
    "av1.mkv": lambda path: clips.clip(path, codec=("-c:v", "libsvtav1", "-preset", "12")),
    "hdr.mp4": clips.hdr10,
    "sizes.mkv": clips.size_change,
    "cut.mkv": lambda path: cut(path),
    "edited.mp4": lambda path: edited(path),
}


@pytest.mark.parametrize("name", CLIPS)
def test_frames_and_their_times_are_those_of_ffmpeg(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    CLIPS[name](path)
    expected = clips.times(path)

    info = probe(path)
    with VideoReader(info) as reader:
        found = [info.seconds(frame.pts) for frame in reader.frames()]

    assert found == expected
    assert [info.seconds(pts) for pts in survey(info).times] == expected
    assert reader.damage == []


@pytest.mark.parametrize(
    ("name", "options", "codec"),
    [
        ("closed.mp4", ("-g", "12", "-bf", "2"), clips.X264),
        ("open.mkv", ("-g", "12", "-bf", "3", "-x264-params", "open-gop=1"), ("-c:v", "libx264")),
        ("refresh.mkv", ("-g", "12", "-x264-params", "intra-refresh=1"), ("-c:v", "libx264")),
        ("hevc.mkv", ("-x265-params", "keyint=12:open-gop=1:log-level=none"), clips.X265),
        ("mpeg2.ts", ("-g", "12", "-bf", "2"), ("-c:v", "mpeg2video", "-q:v", "3")),
    ],
)
@pytest.mark.parametrize("deinterlace", [False, True])
def test_pixels_do_not_depend_on_where_reading_starts(
    tmp_path: Path, name: str, options: tuple[str, ...], codec: tuple[str, ...], deinterlace: bool
) -> None:
    info = probe(clips.clip(tmp_path / name, *options, codec=codec, seconds=3))
    with VideoReader(info, deinterlace=deinterlace) as reader:
        whole = [_digest(frame) for frame in reader.frames()]
    times = [pts for pts, _ in whole]

    for start in (1, 11, 12, 13, 30, 38, 61, 70):
        with VideoReader(info, deinterlace=deinterlace) as reader:
            part = [_digest(frame) for frame in reader.frames(times[start], times[start + 4])]
        assert part == whole[start : start + 4]


def test_segments_read_one_after_the_other_are_the_whole(tmp_path: Path) -> None:
    info = probe(clips.clip(tmp_path / "clip.mp4", "-g", "12", "-bf", "3", seconds=2))
    times = survey(info).times
    with VideoReader(info) as reader:
        whole = [_digest(frame) for frame in reader.frames()]

    bounds = [*times[::7], None]
    with VideoReader(info) as reader:
        parts = [
            _digest(frame) for start, end in itertools.pairwise(bounds) for frame in reader.frames(start, end)
        ]

    assert parts == whole


@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv422p", "yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("range", ["tv", "pc"])
@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc"])
def test_colour_bars_are_within_two_levels(tmp_path: Path, matrix: str, range: str, pix_fmt: str) -> None:
    path = tmp_path / "bars.mkv"
    colours = clips.bars(path, matrix, range, pix_fmt=pix_fmt)

    info = probe(path)
    found = bar_colours(info)

    assert (info.colour.matrix, info.colour.range) == (matrix, range)
    assert np.abs(found - colours).max() <= (0.35 if pix_fmt.endswith("10le") else 1.01)


def test_chroma_is_taken_from_where_the_standard_puts_it(tmp_path: Path) -> None:
    """By MPEG-2 a chroma sample lies on an even column, not half a pixel to its right as in JPEG."""
    ramp = np.tile(np.linspace(60, 190, 64), (32, 1))
    luma = np.full((32, 64), 128, np.uint8).tobytes()
    sited = np.rint(ramp[::2, ::2]).astype(np.uint8).tobytes()  # chroma samples at even columns
    neutral = np.full((16, 32), 128, np.uint8).tobytes()
    raw, path = tmp_path / "edge.yuv", tmp_path / "edge.mkv"
    raw.write_bytes((luma + neutral + sited) * 3)
    tags = ("-colorspace", "bt709", "-color_range", "tv")
    clips.ffmpeg(
        "-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", "64x32", *tags, "-i", raw,
        "-c:v", "libx264", "-qp", "0", *tags, path,
    )  # fmt: skip

    with VideoReader(probe(path)) as reader:
        red = next(iter(reader.frames())).pixels[16, 4:-4, 0].astype(float)

    expected = 1.164384 * (128 - 16) + 1.792741 * (ramp[0, 4:-4] - 128)
    assert np.abs(red - expected).mean() < 1.0


def test_deep_video_keeps_its_levels(tmp_path: Path) -> None:
    path = tmp_path / "ramp.mkv"
    raw = tmp_path / "ramp.yuv"
    levels = np.arange(64, 64 + 256, dtype=np.uint16)  # 256 neighbouring 10-bit levels
    luma = np.tile(levels, (16, 1))
    raw.write_bytes((luma.tobytes() + np.full((16, 512), 512, np.uint16).tobytes()) * 2)
    tags = ("-colorspace", "bt709", "-color_range", "tv")
    clips.ffmpeg(
        "-f", "rawvideo", "-pix_fmt", "yuv444p10le", "-video_size", "256x16", *tags, "-i", raw,
        "-c:v", "ffv1", *tags, path,
    )  # fmt: skip

    with VideoReader(probe(path)) as reader:
        gray = next(iter(reader.frames())).pixels[8, :, 1]

    assert gray.dtype == np.uint16
    assert len(np.unique(gray)) == 256
    expected = (levels - 64.0) / 876 * 65535
    assert np.abs(gray - expected).max() < 33  # half a 10-bit level


@pytest.mark.parametrize(
    "pix_fmt", ["gray", "bgr0", "yuv444p", "yuv411p", "yuva420p", "gbrp10le", "yuv422p12le"]
)
def test_any_layout_of_samples_becomes_rgb(tmp_path: Path, pix_fmt: str) -> None:
    path = clips.clip(tmp_path / "any.mkv", "-pix_fmt", pix_fmt, codec=("-c:v", "ffv1"), seconds=0.2)
    reference = clips.clip(tmp_path / "rgb.mkv", "-pix_fmt", "bgr0", codec=("-c:v", "ffv1"), seconds=0.2)

    pixels = next(iter(VideoReader(probe(path)).frames())).pixels
    expected = next(iter(VideoReader(probe(reference)).frames())).pixels.astype(float)

    deep = pixels.dtype == np.uint16
    difference = np.abs(
        pixels / (257 if deep else 1)
        - (expected.mean(axis=2, keepdims=True) if pix_fmt == "gray" else expected)
    )
    assert np.median(difference) < (40 if pix_fmt == "gray" else 5)


def test_change_of_size_is_given_as_it_is(tmp_path: Path) -> None:
    info = probe(clips.size_change(tmp_path / "sizes.mkv"))

    with VideoReader(info) as reader:
        shapes = [frame.pixels.shape for frame in reader.frames()]

    assert shapes == [(64, 96, 3)] * 10 + [(80, 128, 3)] * 10


def test_deinterlacing_keeps_count_and_times_and_removes_combs(tmp_path: Path) -> None:
    bars = "geq=lum='if(lt(mod(X-8*N,48),24),200,40)':cb=128:cr=128,interlace=lowpass=off"
    fields = ("-vf", bars, "-flags", "+ilme+ildct", "-x264-params", "tff=1")
    info = probe(clips.clip(tmp_path / "fields.mp4", *fields, rate="50"))

    with VideoReader(info) as reader:
        before = list(reader.frames())
    with VideoReader(info, deinterlace=True) as reader:
        after = list(reader.frames())

    assert [frame.pts for frame in after] == [frame.pts for frame in before]
    assert _comb(after[10]) < _comb(before[10]) / 3


def test_truncated_file_gives_what_is_there_and_says_where_it_ends(tmp_path: Path) -> None:
    whole = clips.clip(tmp_path / "whole.mkv", "-g", "12", seconds=4)
    short = tmp_path / "short.mkv"
    short.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])

    info = probe(short)
    with VideoReader(info) as reader:
        found = [info.seconds(frame.pts) for frame in reader.frames()]

    assert found == clips.times(short)
    assert 40 < len(found) < 70
    assert any("4.000 s long" in text for text in reader.damage)


@pytest.mark.parametrize("name", ["damaged.mkv", "damaged.mp4", "damaged.ts"])
def test_damage_in_the_middle_is_told_with_its_time_and_the_rest_read(tmp_path: Path, name: str) -> None:
    whole = clips.clip(tmp_path / f"whole{Path(name).suffix}", "-g", "12", "-bf", "2", seconds=4)
    path = clips.damaged(tmp_path / name, whole)

    info = probe(path)
    with VideoReader(info) as reader:
        found = [frame.pts for frame in reader.frames()]

    assert found == sorted(set(found))
    assert 75 <= len(found) <= 100
    assert found[-1] >= survey(probe(whole)).times[-2]
    assert reader.damage
    first = info.seconds(info.start_pts or 0)
    assert all(first + 1 < Fraction(text.split()[0]) < first + 4 for text in reader.damage)


def test_damage_elsewhere_is_not_told(tmp_path: Path) -> None:
    whole = clips.clip(tmp_path / "whole.mp4", "-g", "12", seconds=4)
    info = probe(clips.damaged(tmp_path / "damaged.mp4", whole))
    times = survey(info).times

    with VideoReader(info) as reader:
        early = list(reader.frames(None, times[30]))

    assert len(early) == 30
    assert reader.damage == []


def edited(path: Path) -> None:
    """Write the end of a video; packets before it are there to decode, not to show (an edit list)."""
    whole = path.with_name("whole.mp4")
    clips.clip(whole, "-bf", "2", "-g", "250")
    clips.ffmpeg("-ss", "0.5", "-i", whole, "-c", "copy", path)


def cut(path: Path) -> None:
    """Make a clip that begins in the middle of another one, between two keyframes."""
    whole = clips.clip(path.with_name("whole.mkv"), "-g", "5", seconds=2)
    clips.ffmpeg("-ss", "0.6", "-i", whole, "-c", "copy", path)


def bar_colours(info: VideoInfo) -> np.ndarray:
    """Return the mean colours (8, 3) of a clip of bars, in 0..255."""
    with VideoReader(info) as reader:
        pixels = next(iter(reader.frames())).pixels
    scale = 255 if pixels.dtype == np.uint8 else 65535
    height, width = pixels.shape[:2]
    bars = pixels[height // 4 : -height // 4].reshape(-1, 8, width // 8, 3)
    inner = bars[:, :, width // 32 : -width // 32]
    return np.asarray(inner.mean(axis=(0, 2)) * 255 / scale)


def _digest(frame: Frame) -> tuple[int, str]:
    return frame.pts, hashlib.md5(np.ascontiguousarray(frame.pixels)).hexdigest()


def _comb(frame: Frame) -> float:
    rows = frame.pixels.astype(float)
    return float(np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean())

"""What VideoWriter writes, as another build of ffmpeg reads it; and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import clips
import numpy as np
import pytest
from own_peak import needs_account, run_code

from emt_cli.errors import OutputError, UsageError
from emt_cli.media.video.codecs import Encoding, choose_pix_fmt, encoders, find_encoder
from emt_cli.media.video.colour import Colour
from emt_cli.media.video.probe import probe
from emt_cli.media.video.read import VideoReader
from emt_cli.media.video.side_data import Hdr
from emt_cli.media.video.write import VideoWriter

HD = Colour("bt709", "tv", "bt709", "bt709")
UHD = Colour("bt2020nc", "tv", "bt2020", "smpte2084")
CODECS = ("h264", "hevc", "av1", "ffv1", "prores")
MASTERING = Hdr(
    ((Fraction(34, 50), Fraction(16, 50)), (Fraction(13250, 50000), Fraction(69, 100)),
     (Fraction(15, 100), Fraction(6, 100)), (Fraction(15635, 50000), Fraction(16450, 50000))),
    (Fraction(5, 1000), Fraction(1000)), (1000, 400),
)  # fmt: skip


def write(
    path: Path, frames: Sequence[np.ndarray], times: Sequence[int] | None = None, **changes: Any
) -> Path:
    """Write frames of 25 a second as HD, or with changes."""
    height, width = frames[0].shape[:2]
    settings: dict[str, Any] = {
        "encoding": Encoding(),
        "width": width,
        "height": height,
        "sar": Fraction(1),
        "time_base": Fraction(1, 12800),
        "rate": Fraction(25),
        "colour": HD,
        "bits": 8 if frames[0].dtype == np.uint8 else 10,
    } | changes
    with VideoWriter(path, settings.pop("encoding"), **settings) as writer:
        for frame, pts in zip(frames, times or [512 * index for index in range(len(frames))], strict=True):
            writer.write(frame, pts)
    return path


def pictures(count: int = 8, height: int = 64, width: int = 96) -> list[np.ndarray]:
    """Make smooth pictures that move."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [
        np.stack([np.sin(x / 15 + n / 5), np.cos(y / 11), np.sin((x + y) / 19)], axis=2) for n in range(count)
    ]
    return [np.rint(127.5 + 100 * wave).astype(np.uint8) for wave in waves]


def deep(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [frame.astype(np.uint16) * 257 for frame in frames]


def read(path: Path) -> np.ndarray:
    """Return all frames (n, h, w, 3) as the other ffmpeg converts them by the file's own tags, carefully."""
    raw = path.with_suffix(".raw")
    flags = "scale=flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp:in_chroma_loc=left,format=rgb24"
    clips.ffmpeg("-i", path, "-vf", flags, "-f", "rawvideo", "-pix_fmt", "rgb24", raw)
    match = re.search(r"Video: .*?, (\d+)x(\d+)", clips.facts(path))
    assert match
    return np.frombuffer(raw.read_bytes(), np.uint8).reshape(-1, int(match[2]), int(match[1]), 3)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("range", ["tv", "pc"])
@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc"])
def test_colours_and_tags_arrive_in_every_codec(tmp_path: Path, codec: str, range: str, matrix: str) -> None:
    frames = pictures(3)
    colour = Colour(matrix, range, "bt709", "bt709")
    path = tmp_path / ("out.mkv" if codec == "ffv1" else "out.mov")
    if codec == "av1":
        path = path.with_suffix(".mp4")

    write(path, frames, encoding=Encoding(codec), colour=colour)

    if codec != "prores":  # without a full range
        tags = "bt709" if matrix == "bt709" else f"{matrix}/bt709/bt709"
        assert f"({range}, {tags}" in clips.facts(path)
    error = np.abs(read(path).astype(int) - np.stack(frames))
    assert error.mean() < 2
    assert np.abs((read(path).astype(int) - np.stack(frames)).mean(axis=(0, 1, 2))).max() < 0.7


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_pixels_of_every_type_mean_the_same(tmp_path: Path, kind: str) -> None:
    frames = pictures(3)
    given = {"uint8": frames, "uint16": deep(frames), "float32": [f.astype(np.float32) / 255 for f in frames]}

    path = write(tmp_path / "out.mkv", given[kind], encoding=Encoding("ffv1"), bits=8)

    assert np.abs(read(path).astype(int) - np.stack(frames)).max() <= 3


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "prores"])
def test_ten_bits_in_are_ten_bits_out(tmp_path: Path, codec: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 512).astype(np.uint16)[None, :, None], (64, 1, 3))
    path = tmp_path / "out.mp4" if codec != "prores" else tmp_path / "out.mov"

    write(path, [ramp] * 3, encoding=Encoding(codec, crf=4 if codec != "prores" else None))
    with VideoReader(probe(path)) as reader:
        found = next(iter(reader.frames())).pixels

    assert found.dtype == np.uint16
    assert len(np.unique(found[32, :, 1])) > 350
    assert np.abs(found.astype(int) - ramp).mean() < 150
    assert abs(int(found[32, -4, 1]) - 65535) < 700


def test_deep_white_and_black_are_the_legal_levels(tmp_path: Path) -> None:
    flat = [np.full((32, 32, 3), value, np.uint16) for value in (0, 65535)]

    path = write(tmp_path / "out.mkv", flat, encoding=Encoding("ffv1"))

    raw = tmp_path / "out.yuv"
    clips.ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "yuv444p10le", raw)
    luma = np.frombuffer(raw.read_bytes(), np.uint16).reshape(2, 3, 32, 32)[:, 0, 16, 16]
    assert luma.tolist() == [64, 940]


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1"])
@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "out.segment"])
def test_every_time_is_exact(tmp_path: Path, name: str, codec: str) -> None:
    if (codec == "ffv1" and name in ("out.mp4", "out.mov")) or (codec, name) == ("av1", "out.mov"):
        pytest.skip("not held there")
    tick = Fraction(1, 1000) if name.endswith("mkv") else Fraction(1, 90000)
    times = [index * index * 31 + index * 40 + 1400 for index in range(20)]

    path = write(tmp_path / name, pictures(20), times, time_base=tick, encoding=Encoding(codec))

    assert clips.times(path) == [pts * tick for pts in times]
    info = probe(path)
    with VideoReader(info) as reader:
        assert [info.seconds(frame.pts) for frame in reader.frames()] == [pts * tick for pts in times]


@pytest.mark.parametrize("codec", CODECS)
def test_file_begins_with_a_keyframe_and_needs_no_other(tmp_path: Path, codec: str) -> None:
    path = write(tmp_path / "out.segment", pictures(30), encoding=Encoding(codec))

    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]

    assert packets[0].is_keyframe
    assert min(packet.pts for packet in packets) == packets[0].pts
    assert len(clips.times(path)) == 30


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_hdr_metadata_are_read_back_by_the_other_ffmpeg(tmp_path: Path, codec: str) -> None:
    path = write(tmp_path / "out.mp4", deep(pictures(3)), encoding=Encoding(codec), colour=UHD, hdr=MASTERING)

    said = clips.ffmpeg("-i", path, "-vf", "showinfo", "-frames:v", "1", "-f", "null", "-")
    assert "bt2020nc/bt2020/smpte2084" in clips.facts(path)
    line = said.split("Mastering display metadata", 1)[1].split("\n")[0]
    numbers = [float(number) for number in re.findall(r"\d+\.\d+", line)]
    expected = [0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.005, 1000.0]
    assert numbers == pytest.approx(expected, abs=2e-4)
    assert re.search(r"MaxCLL=1000, MaxFALL=400", said)
    assert probe(path).colour.transfer == "smpte2084"


def test_sample_aspect_is_written(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mp4", pictures(3), sar=Fraction(128, 117))

    assert "SAR 128:117" in clips.facts(path)


@pytest.mark.parametrize(
    ("codec", "bits", "expected"),
    [
        ("h264", 8, "yuv444p"),
        ("hevc", 8, "yuv444p"),
        ("hevc", 10, "yuv444p10le"),
        ("hevc", 12, "yuv444p12le"),
        ("prores", 8, "yuv444p10le"),
    ],
)
def test_odd_sizes_keep_the_usual_depth(codec: str, bits: int, expected: str) -> None:
    assert choose_pix_fmt(Encoding(codec), width=97, height=63, bits=bits)[0] == expected


def test_odd_sizes_lose_no_pixel_and_are_noted() -> None:
    assert choose_pix_fmt(Encoding("h264"), width=96, height=64, bits=8) == ("yuv420p", None)
    assert choose_pix_fmt(Encoding("hevc"), width=96, height=64, bits=12) == ("yuv420p12le", None)

    pix_fmt, note = choose_pix_fmt(Encoding("h264"), width=97, height=65, bits=8)

    assert pix_fmt == "yuv444p"
    assert note is not None
    assert "97x65" in note


@pytest.mark.parametrize(("codec", "bits"), [("h264", 8), ("h264", 10), ("hevc", 10), ("ffv1", 8)])
def test_odd_size_is_encoded_as_it_is(tmp_path: Path, codec: str, bits: int) -> None:
    frames = pictures(3, 65, 97) if bits == 8 else deep(pictures(3, 65, 97))

    path = write(tmp_path / "out.mkv", frames, encoding=Encoding(codec))

    assert (probe(path).width, probe(path).height, probe(path).bits) == (97, 65, bits)


@pytest.mark.parametrize(
    ("encoding", "size", "words"),
    [
        (Encoding("vhs"), (96, 64), "--codec vhs: not on this machine; there are h264"),
        (Encoding("h264", pix_fmt="rgb48le"), (96, 64), "--pix-fmt rgb48le: h264 has yuv420p"),
        (Encoding("h264", pix_fmt="yuv420p"), (97, 64), "97x64 is odd"),
        (Encoding("av1"), (97, 64), "97x64 is odd, which av1 cannot hold"),
        (Encoding("h264", preset="swift"), (96, 64), "--preset"),
        (Encoding("hevc", preset="swift"), (96, 64), "--preset"),
    ],
)
def test_impossible_settings_are_usage_errors(
    tmp_path: Path, encoding: Encoding, size: tuple[int, int], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        write(tmp_path / "out.mkv", pictures(1, size[1], size[0]), encoding=encoding)

    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_writing_is_broken_off(tmp_path: Path) -> None:
    writer = VideoWriter(
        tmp_path / "out.mp4", Encoding(), width=96, height=64, sar=Fraction(1), time_base=Fraction(1, 25),
        rate=None, colour=HD, bits=8,
    )  # fmt: skip

    with pytest.raises(KeyboardInterrupt), writer:  # noqa: PT012 - what ends the block is part of it
        writer.write(pictures(1)[0], 0)
        raise KeyboardInterrupt

    assert list(tmp_path.iterdir()) == []


def test_unknown_container_and_missing_folder_are_output_errors(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not a container"):
        write(tmp_path / "out.wmv", pictures(1))
    with pytest.raises(OutputError, match="folder does not exist"):
        write(tmp_path / "no" / "out.mkv", pictures(1))


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for codec in ("h264", "hevc", "av1", "ffv1"):
        runs = [
            write(tmp_path / f"{run}.segment", pictures(12), encoding=Encoding(codec)).read_bytes()
            for run in range(4)
        ]
        assert len(set(runs)) == 1, codec


def test_listed_encoders_are_those_that_open() -> None:
    assert encoders()[:5] == list(CODECS)


@pytest.mark.parametrize(("codec", "size"), [("h264", (16384, 64)), ("av1", (64, 8704))])
def test_the_largest_sizes_of_encoders_are_known(codec: str, size: tuple[int, int], tmp_path: Path) -> None:
    def write(width: int, height: int) -> None:
        still = np.zeros((height, width, 3), np.uint8)
        settings = {"sar": Fraction(1), "time_base": Fraction(1, 25), "rate": Fraction(25), "bits": 8}
        colour = Colour("bt709", "tv", "bt709", "bt709")
        with VideoWriter(
            tmp_path / "a.mkv", Encoding(codec), width=width, height=height, colour=colour, **settings
        ) as writer:
            writer.write(still, 0)

    write(*size)

    with pytest.raises(UsageError, match=f"too large for {codec}"):
        write(*(side + 2 if side > 64 else side for side in size))


def test_hevc_is_refused_for_widths_at_which_its_encoder_breaks_the_heap() -> None:
    with pytest.raises(UsageError, match="too narrow for hevc"):
        choose_pix_fmt(Encoding(), width=48, height=96, bits=10)

    assert choose_pix_fmt(Encoding("hevc"), width=64, height=32, bits=8) == ("yuv420p", None)


ENCODES = """
import sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from emt_cli.media.video.codecs import Encoding
from emt_cli.media.video.colour import Colour
from emt_cli.media.video.write import VideoWriter
from own_peak import own_peak

path, codec, preset, bits = sys.argv[1:]
facts = dict(width=640, height=360, sar=Fraction(1), time_base=Fraction(1, 25), rate=Fraction(25))
facts |= dict(colour=Colour("bt709", "tv", "bt709", "bt709"), bits=int(bits))
frame = np.zeros((360, 640, 3), np.uint8 if bits == "8" else np.uint16)
frame[:] = np.linspace(0, np.iinfo(frame.dtype).max, 640)[None, :, None]
before = own_peak(reset=True)
with VideoWriter(Path(path), Encoding(codec, None, preset or None, None), **facts) as writer:
    for index in range(70):
        frame[:, 8 * index : 8 * index + 40] = 200
        writer.write(frame, index)
print(own_peak() - before)
"""


@pytest.mark.slow
@needs_account
@pytest.mark.parametrize(
    ("codec", "preset", "bits"),
    [
        ("h264", None, 8),
        ("h264", "veryslow", 8),
        ("h264", None, 10),
        ("hevc", None, 8),
        ("hevc", None, 10),
        ("hevc", "slow", 8),
        ("av1", None, 8),
        ("av1", "4", 10),
        ("ffv1", None, 12),
        ("prores", None, 10),
    ],
)
def test_an_encoder_takes_no_more_memory_than_is_planned_for(
    tmp_path: Path, codec: str, preset: str | None, bits: int
) -> None:
    done = run_code(ENCODES, str(tmp_path / "a.mkv"), codec, preset or "", str(bits))

    assert done.returncode == 0, done.stderr
    planned = 640 * 360 * find_encoder(codec).held_bytes(preset, bits)
    assert 0.1 * planned < int(done.stdout) < planned + (8 << 20)  # some for the libraries themselves


def test_times_are_kept_in_clocks_whose_tick_is_no_part_of_a_second(tmp_path: Path) -> None:
    tick = Fraction(1001, 30000)

    path = write(tmp_path / "ntsc.mkv", pictures(4), [0, 1, 2, 5], time_base=tick, rate=1 / tick)

    with av.open(str(path)) as container:
        shown = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert [round(time / tick, 1) for time in shown] == [0, 1, 2, 5]

"""Animated GIF, WebP and PNG as videos, in and out, against Pillow and ffmpeg."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest
from PIL import Image

from emt_cli.errors import InputError, OutputError
from emt_cli.media.video.animation import gif_outline
from emt_cli.media.video.animation_write import write_animation
from emt_cli.media.video.codecs import ANIMATION, SEGMENT_SUFFIX, Encoding
from emt_cli.media.video.containers import map_streams
from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.mux import join
from emt_cli.media.video.probe import probe
from emt_cli.media.video.read import VideoReader, survey
from emt_cli.media.video.write import VideoWriter

SUFFIXES = (".gif", ".webp", ".png")


def drawn(index: int, *, clear: bool = True) -> np.ndarray:
    """Make frame of 40x30 with few colours and, at its upper left, a clear corner."""
    frame = np.zeros((30, 40, 4), np.uint8)
    frame[..., 0] = np.arange(40) // 8 * 40
    frame[..., 1] = index * 40
    frame[..., 2] = 99
    frame[..., 3] = 255
    if clear:
        frame[:10, :10, 3] = 0
    return frame


def animation(path: Path, *, clear: bool = True, durations: tuple[int, ...] = (50, 70, 110, 20, 200)) -> Path:
    """Write an animation with Pillow, played three times."""
    frames = [Image.fromarray(drawn(index, clear=clear)) for index in range(len(durations))]
    options = (
        {"disposal": 2} if path.suffix == ".gif" else {"lossless": True} if path.suffix == ".webp" else {}
    )
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=list(durations), loop=3, **options)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_drawn_animations_are_told_from_filmed_ones(tmp_path: Path, photo: np.ndarray, suffix: str) -> None:
    frames = [Image.fromarray(np.roll(photo, shift, axis=1)) for shift in range(3)]
    lossless = {"lossless": True} if suffix == ".webp" else {}
    frames[0].save(tmp_path / f"filmed{suffix}", save_all=True, append_images=frames[1:], **lossless)

    assert probe(animation(tmp_path / f"drawn{suffix}")).kind == "drawn"
    assert probe(tmp_path / f"filmed{suffix}").kind == "plain"


def test_an_animated_webp_may_be_saved_coarsely(tmp_path: Path, photo: np.ndarray) -> None:
    frames = [Image.fromarray(np.roll(photo, shift, axis=1)) for shift in range(3)]
    for quality in (20, 95):
        path = tmp_path / f"{quality}.webp"
        frames[0].save(path, save_all=True, append_images=frames[1:], quality=quality)
    board = np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.full((20, 20), 255)).astype(np.uint8)
    boards = [Image.fromarray(board), Image.fromarray(255 - board)]
    boards[0].save(tmp_path / "board.webp", save_all=True, append_images=boards[1:], quality=20)

    assert probe(tmp_path / "20.webp").kind == "coarse video"
    assert probe(tmp_path / "95.webp").kind == "plain"
    assert probe(tmp_path / "board.webp").kind == "drawn"


def copy(info: VideoInfo, target: Path, encoding: Encoding = ANIMATION) -> list[str]:
    """Decode, encode in segments of two frames, and join."""
    bounds = [*survey(info).times[::2], None]
    segments = []
    with VideoReader(info) as reader:
        for number, (start, end) in enumerate(itertools.pairwise(bounds)):
            segments.append(target.parent / f"{number}{SEGMENT_SUFFIX}")
            with VideoWriter(
                segments[-1], encoding, width=info.width, height=info.height, sar=info.sar,
                time_base=info.time_base, rate=info.rate, colour=info.colour, bits=info.bits,
            ) as writer:  # fmt: skip
                for frame in reader.frames(start, end):
                    writer.write(frame.pixels, frame.pts, frame.alpha)
    return join(segments, info, target, map_streams(info, target), colour=writer.colour)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_animation_is_described_and_read_frame_by_frame(tmp_path: Path, suffix: str) -> None:
    info = probe(animation(tmp_path / f"in{suffix}"))

    with VideoReader(info) as reader:
        frames = list(reader.frames())

    assert (info.animation, info.loop, info.frames, info.alpha) == (True, 3, 5, True)
    assert (info.width, info.height, info.duration) == (40, 30, Fraction(45, 100))
    assert [info.seconds(frame.pts) * 1000 for frame in frames] == [0, 50, 120, 230, 250]
    assert [frame.pts for frame in frames] == survey(info).times
    for index, frame in enumerate(frames):
        assert frame.alpha is not None
        np.testing.assert_array_equal(frame.alpha, drawn(index)[..., 3])
        solid = frame.alpha > 0
        np.testing.assert_array_equal(frame.pixels[solid], drawn(index)[solid][:, :3])


def test_only_the_frames_asked_for_are_given(tmp_path: Path) -> None:
    info = probe(animation(tmp_path / "in.gif"))
    times = survey(info).times

    with VideoReader(info) as reader:
        assert [frame.pts for frame in reader.frames(times[1], times[3])] == times[1:3]


@pytest.mark.parametrize("to", SUFFIXES)
@pytest.mark.parametrize("source", SUFFIXES)
def test_times_loops_and_transparency_go_from_format_to_format(tmp_path: Path, source: str, to: str) -> None:
    info = probe(animation(tmp_path / f"in{source}"))
    target = tmp_path / f"out{to}"

    copy(info, target)

    with Image.open(target) as image:
        durations, pictures = [], []
        for index in range(image.n_frames):
            image.seek(index)
            image.load()
            durations.append(image.info["duration"])
            pictures.append(np.asarray(image.convert("RGBA")))
        assert durations == [50, 70, 110, 20, 200]
        assert image.info["loop"] == 3
    for index, picture in enumerate(pictures):
        np.testing.assert_array_equal(picture[..., 3], drawn(index)[..., 3])
        solid = picture[..., 3] > 0
        difference = np.abs(picture[solid][:, :3].astype(int) - drawn(index)[solid][:, :3])
        assert difference.mean() < (4 if to == ".webp" else 0.01)


def test_delays_of_png_are_exact_fractions(tmp_path: Path) -> None:
    frames = [drawn(index) for index in range(4)]
    thirds = [Fraction(1, 30), Fraction(1001, 24000), Fraction(1, 3), Fraction(2)]

    write_animation(tmp_path / "out.png", lambda: iter(frames), thirds, loop=0)

    info = probe(tmp_path / "out.png")
    ends = [info.seconds(pts) for pts in survey(info).times]
    assert ends == [0, *itertools.accumulate(thirds[:-1])]
    assert info.duration == sum(thirds)


def test_png_shows_frames_for_longer_than_a_minute_and_merged_ones_exactly(tmp_path: Path) -> None:
    frames = [drawn(index) for index in (0, 1, 1, 2, 3)]
    durations = [Fraction(70_001, 1000), Fraction(1, 30), Fraction(1, 30), Fraction(4000), Fraction(1, 3)]

    write_animation(tmp_path / "out.png", lambda: iter(frames), durations, loop=0)

    info = probe(tmp_path / "out.png")
    found = [info.seconds(pts) for pts in survey(info).times]
    wanted = [Fraction(0), durations[0], sum(durations[:3]), sum(durations[:4])]
    assert max(abs(one - other) for one, other in zip(found, wanted, strict=True)) < Fraction(1, 1000)
    assert abs((info.duration or 0) - sum(durations)) < Fraction(1, 1000)


@pytest.mark.parametrize(("suffix", "seconds"), [(".gif", 656), (".webp", 16_778), (".png", 65_536)])
@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_shown_for_longer_than_the_format_can_say_is_refused_in_a_line(
    tmp_path: Path, suffix: str, seconds: int, parts: int
) -> None:
    frames = [drawn(0), *[drawn(1)] * parts, drawn(2)]
    durations = [Fraction(1), *[Fraction(seconds, parts)] * parts, Fraction(1)]
    if suffix == ".webp" and parts == 2:
        pytest.skip("WebP keeps equal frames apart")

    with pytest.raises(OutputError, match=r"out\.\w+: shows a picture for longer .*; choose \.mp4$"):
        write_animation(tmp_path / f"out{suffix}", lambda: iter(frames), durations, loop=0)

    assert list(tmp_path.iterdir()) == []


def test_rounded_delays_of_gif_do_not_drift(tmp_path: Path) -> None:
    frames = [drawn(index % 6) for index in range(25)]

    write_animation(
        tmp_path / "out.gif", lambda: iter(frames), [Fraction(1, 24)] * 24 + [Fraction(1)], loop=0
    )

    info = probe(tmp_path / "out.gif")
    assert info.duration == Fraction(2)
    found = [info.seconds(pts) for pts in survey(info).times]
    assert all(abs(time - Fraction(index, 24)) <= Fraction(1, 200) for index, time in enumerate(found))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_video_becomes_an_animation(tmp_path: Path, suffix: str) -> None:
    source = clips.clip(tmp_path / "in.mp4", rate="24000/1001", audio=True)
    info = probe(source)
    mapping = map_streams(info, tmp_path / f"out{suffix}")
    target = mapping.target

    copy(info, target)

    assert "audio aac" in mapping.notes[0]
    found = probe(target)
    assert found.loop == 0
    assert abs((found.duration or 0) - Fraction(1001, 1000)) <= Fraction(1, 100)
    moving = clips.ffmpeg("-i", target, "-f", "null", "-") if suffix == ".gif" else ""
    assert suffix != ".gif" or "frame=   24" in moving


def test_animation_becomes_a_video(tmp_path: Path) -> None:
    info = probe(animation(tmp_path / "in.gif", clear=False))
    mapping = map_streams(info, tmp_path / "out.mp4")
    target = mapping.target

    copy(info, target, Encoding("h264"))

    assert mapping.notes == ()
    assert [time * 1000 for time in clips.times(target)] == [0, 50, 120, 230, 250]
    assert probe(target).duration == Fraction(45, 100)
    assert probe(target).colour.matrix == "bt709"


def test_frames_without_a_duration_are_shown_as_players_do(tmp_path: Path) -> None:
    info = probe(animation(tmp_path / "in.gif", durations=(0, 0, 50)))

    assert [info.seconds(pts) for pts in survey(info).times] == [0, Fraction(1, 10), Fraction(2, 10)]


def test_still_picture_of_png_is_no_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(drawn(index)) for index in range(3)]
    frames[0].save(tmp_path / "in.png", save_all=True, append_images=frames, duration=100, default_image=True)

    info = probe(tmp_path / "in.png")

    assert (info.frames, len(survey(info).times)) == (3, 3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_animation_without_a_whole_frame_is_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    path = animation(tmp_path / f"in{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // (2 if suffix == ".webp" else 8)])

    with pytest.raises(InputError, match="in") as caught:
        list(VideoReader(probe(path)).frames())

    assert "\n" not in str(caught.value)


def test_too_large_for_the_format_is_said_before_anything_is_written(tmp_path: Path) -> None:
    wide = np.zeros((2, 17000, 4), np.uint8)

    with pytest.raises(OutputError, match="17000x2 does not fit into WEBP"):
        write_animation(tmp_path / "out.webp", lambda: iter([wide, wide]), [Fraction(1)] * 2, loop=0)

    assert list(tmp_path.iterdir()) == []


def test_gif_whose_frame_lies_far_outside_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """Pillow would grow the picture to hold the frame: 65535x65535 and more, of four bytes each."""
    path = animation(tmp_path / "a.gif")
    data = bytearray(path.read_bytes())
    second = data.index(b"\x2c", data.index(b"\x2c") + 20)
    data[second + 1 : second + 9] = b"\xff" * 8
    path.write_bytes(bytes(data))

    assert gif_outline(path).width == 131070
    with pytest.raises(InputError, match="over the limit"):
        probe(path)


def test_small_gif_of_very_many_large_frames_is_refused_before_they_are_decoded(tmp_path: Path) -> None:
    size = (4000).to_bytes(2, "little") * 2
    frame = b"\x2c\0\0\0\0" + size + b"\0\x02\x02\x4c\x01\0"
    (tmp_path / "many.gif").write_bytes(b"GIF89a" + size + b"\x80\0\0" + bytes(6) + 2000 * frame + b";")

    with pytest.raises(InputError, match=r"2,000 frames of 4000x4000 are too many"):
        probe(tmp_path / "many.gif")


def test_extent_of_an_ordinary_gif_is_its_size(tmp_path: Path) -> None:
    outline = gif_outline(animation(tmp_path / "a.gif"))

    assert (outline.height, outline.width, outline.ends) == (30, 40, True)


@pytest.mark.parametrize("end", range(13, 200, 3))
def test_cut_gif_is_an_input_error(tmp_path: Path, end: int) -> None:
    path = animation(tmp_path / "a.gif")
    path.write_bytes(path.read_bytes()[:end])

    with pytest.raises(InputError):
        probe(path)

"""Animated pictures as videos and videos as animated pictures; transparency."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import clips
import numpy as np
import pytest
from PIL import Image, ImageSequence

from emt_cli.errors import OutputError, UsageError
from emt_cli.jobs.target import Target
from emt_cli.jobs.video.plan import VideoJob
from emt_cli.jobs.video.task import Settings
from emt_cli.media.video.probe import probe
from emt_cli.media.video.read import VideoReader

LOSSLESS = {"codec": "ffv1", "pix_fmt": "bgr0"}


def frames_of(path: Path) -> list[np.ndarray]:
    with VideoReader(probe(path)) as reader:
        return [frame.pixels for frame in reader.frames()]


def moving_cat(path: Path, photo: np.ndarray) -> Path:
    """An animation of 4 frames, one of them twice, with a clear edge that grows; each shown its own time."""
    frames = []
    for step in (0, 1, 1, 3):
        alpha = np.full(photo.shape[:2], 255, np.uint8)
        alpha[:, : 20 + 8 * step] = 0
        frames.append(Image.fromarray(np.dstack((np.roll(photo, 5 * step, 1), alpha))[:48, :64]))
    options = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=[100, 50, 70, 300], loop=0, **options
    )
    return path


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_stays_one_with_its_times_and_transparency(
    tmp_path: Path, photo: np.ndarray, suffix: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = moving_cat(tmp_path / f"cat{suffix}", photo)

    facts = enlarge(source)

    assert facts["verified"], facts["checks"]
    with Image.open(facts["output"]) as image:
        shown = [frame.info["duration"] for frame in ImageSequence.all_frames(image)]
        first = np.asarray(ImageSequence.all_frames(image, lambda frame: frame.convert("RGBA"))[0])
    assert sum(shown) == 520
    assert first.shape == (96, 128, 4)
    assert first[:, :36, 3].max() == 0
    assert first[:, 44:, 3].min() == 255


def test_an_animation_becomes_a_video_on_black(
    tmp_path: Path, photo: np.ndarray, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = moving_cat(tmp_path / "cat.webp", photo)

    facts = enlarge(source, tmp_path / "cat.mp4")

    assert facts["verified"], facts["checks"]
    assert any("transparent is shown on black" in note for note in facts["notes"])
    assert frames_of(tmp_path / "cat.mp4")[0][:, :36].max() < 12


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_a_video_becomes_an_animation(
    tmp_path: Path, suffix: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / "clip.mp4", size="32x32", seconds=0.4)

    facts = enlarge(source, tmp_path / f"clip{suffix}")

    assert facts["verified"], facts["checks"]
    with Image.open(facts["output"]) as image:
        assert sum(frame.info["duration"] for frame in ImageSequence.all_frames(image)) == 400


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_equal_frames_may_be_merged_down_to_a_still_picture(
    tmp_path: Path, suffix: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / "clip.mp4", size="32x32", seconds=0.2, picture="color")

    facts = enlarge(source, tmp_path / f"clip{suffix}")

    assert facts["verified"], facts["checks"]
    with Image.open(facts["output"]) as image:
        assert (getattr(image, "n_frames", 1), image.size) == (1, (64, 64))


@pytest.mark.parametrize(
    ("codec", "preset", "suffix"),
    [(None, None, ".mp4"), ("h264", "medium", ".mp4"), ("hevc", "fast", ".mov"), ("h264", None, ".mkv")],
)
def test_uneven_frames_in_any_order_of_decoding_are_shown_as_long(
    tmp_path: Path,
    photo: np.ndarray,
    enlarge: Callable[..., dict[str, Any]],
    codec: str | None,
    preset: str | None,
    suffix: str,
) -> None:
    frames = [Image.fromarray(np.roll(photo, 9 * step, 1)) for step in range(10)]
    durations = [100, 50, 70, 300, 40, 20, 200, 30, 400, 90]
    source = tmp_path / "cat.png"
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=durations)

    facts = enlarge(source, tmp_path / f"cat{suffix}", codec=codec, preset=preset)

    assert facts["verified"], facts["checks"]
    assert "Duration: 00:00:01.30" in clips.facts(tmp_path / f"cat{suffix}")


CLEAR = {
    ".mov": ("-pix_fmt", "yuva444p10le", "-c:v", "prores_ks", "-profile:v", "4444"),
    "8.webm": ("-pix_fmt", "yuva420p", "-c:v", "libvpx", "-auto-alt-ref", "0"),
    "9.webm": ("-pix_fmt", "yuva420p", "-c:v", "libvpx-vp9", "-auto-alt-ref", "0"),
}
"""Videos with transparency: beside the colours, and in VP8 and VP9 as a video of its own."""


@pytest.mark.parametrize("kind", CLEAR)
@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [("prores", "yuva444p10le"), ("ffv1", "yuva444p10le"), ("ffv1", "bgra"), (None, None)],
)
def test_transparency_is_kept_by_formats_that_hold_it_and_else_its_loss_is_said(
    tmp_path: Path,
    kind: str,
    codec: str | None,
    pix_fmt: str | None,
    enlarge: Callable[..., dict[str, Any]],
) -> None:
    source = tmp_path / f"clear{kind}"
    left = "format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='if(lt(X,32),0,255)'"
    clips.clip(source, "-vf", left, size="64x48", seconds=0.1, codec=CLEAR[kind])

    facts = enlarge(source, codec=codec, pix_fmt=pix_fmt)

    assert facts["verified"], facts["checks"]
    said = any("its transparency is left out; --codec" in note for note in facts["notes"])
    assert said == (pix_fmt is None)
    if pix_fmt is not None:
        raw = tmp_path / "alpha.raw"
        clips.ffmpeg("-i", facts["output"], "-vf", "alphaextract,format=gray", "-f", "rawvideo", raw)
        alpha = np.fromfile(raw, np.uint8).reshape(-1, 96, 128)
        assert alpha[..., 8:48].max() <= 2
        assert alpha[..., 80:].min() >= 253


def test_options_of_video_codecs_are_refused_for_animations(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / "clip.mp4", size="32x32", seconds=0.2)

    with pytest.raises(UsageError, match=r"--crf is for videos"):
        enlarge(source, tmp_path / "clip.gif", crf=20)


def test_a_frame_too_long_for_a_gif_is_refused_before_the_work(tmp_path: Path, model: str) -> None:
    source = tmp_path / "slow.webp"
    pictures = [Image.new("RGB", (32, 32), (9 * index, 0, 0)) for index in range(3)]
    pictures[0].save(source, save_all=True, append_images=pictures[1:], duration=[9, 700_000, 9])

    with pytest.raises(OutputError, match=r"longer than GIF can say \(655.35 s\); choose .mp4"):
        VideoJob(Settings(target=Target(2), model=model)).open(source, tmp_path / "slow.gif")


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_a_damaged_animation_is_enlarged_as_far_as_it_goes(
    tmp_path: Path, photo: np.ndarray, suffix: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    whole = moving_cat(tmp_path / f"cat{suffix}", photo)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.85)])

    expected, facts = enlarge(whole), enlarge(cut)
    tolerated = enlarge(cut, tolerant=True)
    before = enlarge(cut, tmp_path / f"before{suffix}", end=Fraction(1, 10))

    assert [check["name"] for check in facts["checks"] if not check["passed"]] == ["source"]
    assert facts["output"].endswith(f".unverified{suffix}")
    assert "cannot be decoded" in facts["damage"][0]
    assert any("it is damaged" in note for note in facts["notes"])
    assert tolerated["verified"]
    assert before["verified"], before["checks"]
    assert before["damage"] == []
    with Image.open(expected["output"]) as one, Image.open(facts["output"]) as other:
        sequences = [
            ImageSequence.all_frames(image, lambda frame: frame.convert("RGBA")) for image in (one, other)
        ]
    assert 1 < len(sequences[1]) < len(sequences[0])
    for left, right in zip(*sequences, strict=False):
        np.testing.assert_array_equal(np.asarray(left), np.asarray(right))


def test_a_gif_that_ends_between_two_frames_is_said_to_lack_its_end(
    tmp_path: Path, photo: np.ndarray, model: str
) -> None:
    whole, cut = moving_cat(tmp_path / "cat.gif", photo), tmp_path / "cut.gif"
    data = whole.read_bytes()
    cut.write_bytes(data[: data.rindex(b"\x21\xf9\x04")])
    job = VideoJob(Settings(target=Target(2), model=model))

    tasks = [job.open(path) for path in (whole, cut)]

    said = [any("no end mark" in note for note in task.notes) for task in tasks]
    assert said == [False, True]
    assert len(tasks[1].times) == len(tasks[0].times) - 1

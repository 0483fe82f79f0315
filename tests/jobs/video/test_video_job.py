"""What becomes of a video: frames, times, streams, duplicates, parts, colours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import clips
import numpy as np
import pytest
from PIL import Image

from emt_cli.engine.torch.network import weights_of
from emt_cli.engine.upscaler import Upscaler
from emt_cli.errors import InputError
from emt_cli.jobs.target import Target
from emt_cli.jobs.video.duplicates import RecentFrames
from emt_cli.jobs.video.plan import VideoJob, _part
from emt_cli.jobs.video.run import run_video
from emt_cli.jobs.video.task import Settings
from emt_cli.media.resize import resize
from emt_cli.media.video.codecs import Encoding, kept_hdr
from emt_cli.media.video.probe import probe
from emt_cli.media.video.read import VideoReader
from emt_cli.media.video.side_data import Hdr
from emt_cli.model.emt import EMT
from emt_cli.steps import finish

LOSSLESS = {"codec": "ffv1", "pix_fmt": "bgr0"}


def frames_of(path: Path) -> list[np.ndarray]:
    with VideoReader(probe(path)) as reader:
        return [frame.pixels for frame in reader.frames()]


def test_every_frame_is_enlarged_and_shown_at_its_time(
    tmp_path: Path, tiny_network: EMT, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / "clip.mp4", size="64x48", seconds=0.4)
    upscaler = Upscaler(weights_of(tiny_network))

    facts = enlarge(source, **LOSSLESS, segment=4)

    result = Path(facts["output"])
    assert result == tmp_path / "clip_x2.mkv"
    assert facts["verified"], facts["checks"]
    assert clips.times(result) == clips.times(source)
    for before, after in zip(frames_of(source), frames_of(result), strict=True):
        np.testing.assert_array_equal(after, upscaler.upscale(before))
    assert [path.name for path in tmp_path.iterdir()].count(".clip_x2.mkv.emt-work") == 0


@pytest.mark.parametrize("make", [clips.vfr, clips.offset])
def test_odd_times_survive(
    tmp_path: Path, make: Callable[[Path], Path], enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = make(tmp_path / "odd.mp4")

    facts = enlarge(source, segment=7)

    assert facts["verified"], facts["checks"]
    assert clips.times(Path(facts["output"])) == clips.times(source)


@pytest.mark.parametrize("suffix", [".264", ".265", ".266"])
def test_pictures_without_a_container_have_their_own_rate(
    tmp_path: Path, suffix: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    codec = {".264": clips.X264, ".265": clips.X265, ".266": ("-c:v", "libvvenc", "-preset", "faster")}[
        suffix
    ]
    source = clips.clip(tmp_path / f"bare{suffix}", rate="10", seconds=0.5, size="64x64", codec=codec)

    facts = enlarge(source)

    assert facts["verified"], facts["checks"]
    assert facts["rate"] == "10"


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("rate", ["1000000/33333", "100/667", "150001/10000"])
def test_units_of_time_of_more_than_one_part_keep_every_time(
    tmp_path: Path, rate: str, suffix: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    codec = ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p")
    seconds, path = float(9 / Fraction(rate)), tmp_path / "odd.avi"
    source = clips.clip(path, rate=rate, seconds=seconds, codec=codec, size="32x32", audio=True)
    assert probe(source).time_base.numerator > 1

    facts = enlarge(source, tmp_path / f"result{suffix}", segment=4)

    assert facts["verified"], facts["checks"]
    result = probe(Path(facts["output"]))
    assert result.time_base.numerator == 1
    for time, found in both(clips.times(source), clips.times(result.path)):
        assert abs(found - time) <= result.time_base / 2


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_video_that_begins_before_time_0_is_shown_later_with_its_sound(
    tmp_path: Path, suffix: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.wrapping(tmp_path / "wrapping.ts")

    facts = enlarge(source, tmp_path / f"result{suffix}", segment=9)

    assert facts["verified"], facts["checks"]
    assert any("all of it is shown 1.1" in note for note in facts["notes"])
    result = Path(facts["output"])
    pictures = {after - before for before, after in both(clips.times(source), clips.times(result))}
    heard = ([packet.time for packet in clips.packets(path, "0:a:0")] for path in (source, result))
    sounds = {after - before for before, after in both(*heard)}
    assert min(clips.times(source)) < -1
    assert max(pictures | sounds) - min(pictures | sounds) <= Fraction(1, 1000)
    assert 0 <= min(clips.times(result)) < Fraction(1, 10)


@pytest.mark.parametrize("seconds", ["1.4", "26000"])
@pytest.mark.parametrize("end", [None, Fraction(4, 5)])
def test_a_broadcast_begins_at_0_with_its_sound_beside_it(
    tmp_path: Path, seconds: str, end: Fraction | None, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.offset(tmp_path / "broadcast.ts", seconds)

    facts = enlarge(source, tmp_path / "result.mkv", segment=9, end=end)

    assert facts["verified"], facts["checks"]
    starts = [
        (clips.times(path)[0], clips.packets(path, "0:a:0")[0].time)
        for path in (source, tmp_path / "result.mkv")
    ]
    assert min(starts[0]) > 1
    assert min(starts[1]) == 0
    assert abs((starts[1][0] - starts[1][1]) - (starts[0][0] - starts[0][1])) <= Fraction(1, 1000)


def test_a_live_recording_that_begins_hours_late_begins_at_0(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.offset(tmp_path / "live.mkv", "7200")

    facts = enlarge(source)

    assert facts["verified"], facts["checks"]
    assert min(clips.times(source)) >= 7200
    assert min(clips.times(Path(facts["output"]))) < Fraction(1, 10)


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_a_clock_that_starts_anew_is_refused_before_the_work_with_its_place(
    tmp_path: Path, suffix: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    parts = [clips.offset(tmp_path / f"{seconds}{suffix}", seconds) for seconds in ("20", "10")]
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))

    with pytest.raises(InputError, match=r"clock starts anew 0\.9\d\d s after its first picture"):
        enlarge(joined)

    assert not list(tmp_path.glob("*_x2*"))
    mended = tmp_path / "mended.mkv"
    clips.ffmpeg("-i", joined, "-c", "copy", mended)
    assert suffix != ".ts" or enlarge(mended)["verified"]


@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
def test_places_and_numbers_of_tracks_count_as_kept(
    tmp_path: Path, suffix: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    tags = ("-metadata", "location=+12.34567-098.76543+123.456/", "-metadata", "track=03/12")
    source = clips.clip(tmp_path / "phone.mkv", *tags, size="32x32", seconds=0.2)

    facts = enlarge(source, tmp_path / f"result{suffix}")

    assert facts["verified"], facts["checks"]


def with_sound(path: Path, *sound: str) -> Path:
    """A tiny clip with sound of a codec, and timed text."""
    texts = path.with_name("texts.srt")
    texts.write_text("1\n00:00:00,000 --> 00:00:00,200\nHello\n")
    text = "srt" if path.suffix == ".mkv" else "mov_text"
    clips.ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=32x32:duration=0.4", "-f", "lavfi", "-i", "sine=duration=0.4",
        "-i", texts, *clips.X264, "-c:a", *sound, "-c:s", text, path,
    )  # fmt: skip
    return path


@pytest.mark.parametrize(("name", "written"), [("film.mkv", ".mkv"), ("film.mp4", ".mkv")])
def test_mp2_sound_goes_into_mkv_which_is_said_before_the_work(
    tmp_path: Path, model: str, name: str, written: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = with_sound(tmp_path / name, "mp2")
    target = tmp_path / ("result.mkv" if name == "film.mp4" else "result.mp4")

    task = VideoJob(Settings(target=Target(2), model=model)).open(source, target)
    facts = enlarge(source, target)

    assert task.target.suffix == written
    assert any("result.mkv instead" in note or "becomes SubRip" in note for note in task.notes)
    assert facts["verified"], facts["checks"]
    assert "Audio: mp2" in clips.facts(task.target)


def silent_track(path: Path) -> Path:
    """A clip whose first sound track has no packet, and whose second one has all."""
    source = clips.clip(path.with_name("sound.mp4"), size="32x32", seconds=0.4, audio=True)
    with av.open(str(source)) as plain, av.open(str(path), "w") as target:
        picture, sound = plain.streams.video[0], plain.streams.audio[0]
        streams = {picture.index: target.add_stream_from_template(picture)}
        target.add_stream_from_template(sound)
        streams[sound.index] = target.add_stream_from_template(sound)
        for packet in [packet for packet in plain.demux() if packet.size]:
            packet.stream = streams[packet.stream_index]
            target.mux(packet)
    return path


@pytest.mark.parametrize(("suffix", "tracks"), [(".mkv", 2), (".mp4", 1), (".mov", 1)])
def test_a_track_without_packets_is_no_loss_and_its_absence_is_said_before_the_work(
    tmp_path: Path, model: str, suffix: str, tracks: int, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source, target = silent_track(tmp_path / "silent.mkv"), tmp_path / f"result{suffix}"

    task = VideoJob(Settings(target=Target(2), model=model)).open(source, target)
    facts = enlarge(source, target)

    assert facts["verified"], facts["checks"]
    said = "stream 1: audio aac has no packets, and is left out"
    assert (said in task.notes, facts["notes"].count(said)) == ((tracks == 1), int(tracks == 1))
    assert clips.facts(target).count("Audio: aac") == tracks


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_data_of_a_broadcast_cannot_be_copied_which_is_said_before_the_work(
    tmp_path: Path, model: str, suffix: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    data, source, target = tmp_path / "data.bin", tmp_path / "data.ts", tmp_path / f"result{suffix}"
    data.write_bytes(bytes(2000))
    film = clips.clip(tmp_path / "film.mp4", size="32x32", seconds=0.4)
    clips.ffmpeg("-i", film, "-f", "data", "-i", data, "-map", "0:v", "-map", "1", "-c", "copy", source)

    task = VideoJob(Settings(target=Target(2), model=model)).open(source, target)
    facts = enlarge(source, target)

    assert task.target == target
    assert any(note.endswith("cannot be copied, and is left out") for note in task.notes)
    assert facts["verified"], facts["checks"]


def test_a_part_of_a_video_that_begins_before_time_0_begins_at_0(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.wrapping(tmp_path / "wrapping.ts")

    facts = enlarge(source, tmp_path / "part.mkv", start=Fraction(1, 2), end=Fraction(1))

    assert facts["verified"], facts["checks"]
    assert facts["frames"] == 12
    assert clips.times(tmp_path / "part.mkv")[0] <= Fraction(1, 25)


@pytest.mark.skipif(sys.platform == "win32", reason="file names hold no colon there")
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_relative_names_with_a_colon_are_files_and_no_protocols(
    tmp_path: Path, suffix: str, enlarge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clips.clip(tmp_path / "clip.mp4", size="32x32", seconds=0.2).rename(tmp_path / "Movie: x.mp4")
    monkeypatch.chdir(tmp_path)

    facts = enlarge(Path("Movie: x.mp4"), Path(f"a:b{suffix}"), segment=3)

    assert facts["verified"], facts["checks"]
    assert (tmp_path / f"a:b{suffix}").is_file()


def both(before: list[Fraction], after: list[Fraction]) -> list[tuple[Fraction, Fraction]]:
    return list(zip(before, after, strict=True))


def test_copied_sound_has_the_same_packets_at_the_same_times(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / "sound.mp4", size="32x32", audio=True)

    result = Path(enlarge(source)["output"])

    assert clips.packets(result, "0:a:0") == clips.packets(source, "0:a:0")


@pytest.mark.parametrize("before", [".ts", ".mp4"])
def test_sound_of_another_container_is_recognised_as_the_same(
    tmp_path: Path, before: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / f"sound{before}", size="32x32", audio=True)

    facts = enlarge(source, tmp_path / "sound.mkv")

    assert facts["verified"], facts["checks"]


def test_every_stream_of_a_rich_file_passes_its_check(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.every_stream(tmp_path / "rich.mkv")

    checks = {check["name"]: check for check in enlarge(source)["checks"]}

    expected = {
        "source",
        "frames",
        "frame times",
        "duration",
        "size",
        "pixel aspect",
        "colour",
        "chapters",
        "tags",
    }
    expected |= {"audio 1", "audio 2", "subtitle 1", "subtitle 2", "subtitle 3", "attachment"}
    assert expected <= set(checks)
    assert [name for name, check in checks.items() if not check["passed"]] == []


@pytest.mark.parametrize(
    ("target", "size"), [(Target(2.5), (120, 160)), (Target(width=150), (112, 150)), (Target(1.33), (64, 84))]
)
def test_any_size_is_reached_and_both_sides_are_even(
    tmp_path: Path, target: Target, size: tuple[int, int], enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / "clip.mp4", size="64x48", seconds=0.2)

    facts = enlarge(source, target=target)

    info = probe(Path(facts["output"]))
    assert (info.height, info.width) == size
    assert facts["verified"], facts["checks"]


def test_equal_frames_are_computed_once_and_the_result_is_the_same(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clips.clip(
        tmp_path / "still.mkv", "-vf", "fps=5,fps=25", "-qp", "0", size="32x32", codec=("-c:v", "libx264")
    )
    saving = enlarge(source, tmp_path / "saving.mkv", **LOSSLESS)
    monkeypatch.setattr(RecentFrames, "find", lambda *_: None)
    plain = enlarge(source, tmp_path / "plain.mkv", **LOSSLESS)

    assert (saving["frames"], saving["computed"], saving["duplicates"]) == (25, 5, 20)
    assert (plain["frames"], plain["computed"]) == (25, 25)
    assert clips.shown(Path(saving["output"])) == clips.shown(Path(plain["output"]))


def test_frames_of_another_size_are_brought_to_the_first_ones(
    tmp_path: Path, tiny_network: EMT, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.size_change(tmp_path / "change.mkv")

    facts = enlarge(source, **LOSSLESS)

    assert "frames of 128x80 were brought to the size of the others" in facts["notes"]
    before, after = frames_of(source)[-1], frames_of(Path(facts["output"]))[-1]
    assert before.shape == (80, 128, 3)
    large = Upscaler(weights_of(tiny_network)).upscale(before, dtype=np.float32)
    np.testing.assert_allclose(after, np.clip(resize(large, 128, 192) * 255, 0, 255), atol=0.51)


def test_a_part_is_cut_out_with_its_sound(tmp_path: Path, enlarge: Callable[..., dict[str, Any]]) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32", seconds=2, audio=True)

    facts = enlarge(source, **LOSSLESS, start=Fraction(1, 2), end=Fraction(6, 5))

    result = Path(facts["output"])
    wanted = [frame for frame in clips.shown(source) if Fraction(1, 2) <= frame.time < Fraction(6, 5)]
    shown = clips.times(result)
    assert facts["verified"], facts["checks"]
    assert len(shown) == len(wanted) == 17
    assert [time - shown[0] for time in shown] == [frame.time - wanted[0].time for frame in wanted]
    sound = clips.packets(source, "0:a:0")
    inside = [packet.digest for packet in clips.packets(result, "0:a:0")]
    assert inside == [packet.digest for packet in sound if packet.digest in set(inside)]
    assert 0.6 < len(inside) * 1024 / 48000 < 0.8


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webp"])
@pytest.mark.parametrize(("start", "end", "count"), [(None, 50, 3), (None, 6, 1), (15, 60, 1), (10, 86, 3)])
def test_the_last_frame_before_a_cut_is_shown_until_it(
    tmp_path: Path,
    photo: np.ndarray,
    enlarge: Callable[..., dict[str, Any]],
    suffix: str,
    start: int | None,
    end: int,
    count: int,
) -> None:
    frames = [Image.fromarray(np.roll(photo, 9 * step, 1)) for step in range(5)]
    durations = [100, 50, 700, 40, 300]
    source, result = tmp_path / "cat.png", tmp_path / f"part{suffix}"
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=durations)
    first = None if start is None else Fraction(start, 100)

    facts = enlarge(source, result, start=first, end=Fraction(end, 100))

    assert facts["verified"], facts["checks"]
    assert facts["frames"] == count
    if count > 1 or suffix != ".webp":
        assert probe(result).duration == Fraction(end - (start or 0), 100)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("make", [clips.vfr, clips.offset])
def test_a_cut_right_after_a_frame_shortens_it(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]], make: Callable[[Path], Path], suffix: str
) -> None:
    source = make(tmp_path / "source.mp4")
    times = clips.times(source)
    end = times[9] - times[0] + Fraction(1, 100)

    facts = enlarge(source, tmp_path / f"part{suffix}", end=end)

    over = probe(tmp_path / f"part{suffix}").end
    assert facts["verified"], facts["checks"]
    assert facts["frames"] == 10
    assert over is not None
    assert abs(over - times[0] - end) <= Fraction(1, 1000)


@pytest.mark.parametrize(
    ("start", "end", "part"),
    [("1/2", "1", "0m00.5s-0m01s"), (None, "3/4", "0m00s-0m00.75s"), ("1/2", None, "0m00.5s-end")],
)
def test_a_part_is_not_taken_for_the_whole(
    tmp_path: Path, start: str | None, end: str | None, part: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32")
    first, last = (None if seconds is None else Fraction(seconds) for seconds in (start, end))

    facts = enlarge(source, start=first, end=last)

    assert facts["output"] == str(tmp_path / f"clip_x2_{part}.mkv")
    assert facts["verified"], facts["checks"]


def test_hours_stand_in_the_name_of_a_part() -> None:
    assert _part(Fraction(3600), Fraction(7384)) == "_1h00m00s-2h03m04s"


@pytest.mark.skipif(sys.platform == "win32", reason="paths are short there")
def test_a_name_may_have_as_many_bytes_as_the_file_system_takes(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32", seconds=0.2)
    target = tmp_path / ("\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 125 + "x.mkv")

    facts = enlarge(source, target)

    assert facts["verified"], facts["checks"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mkv", target.name]
    assert len(target.name.encode()) == 255


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_an_end_a_hair_past_a_frame_is_at_that_frame(
    tmp_path: Path, suffix: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / "clip.mp4", size="32x32", audio=True)

    facts = enlarge(source, tmp_path / f"result{suffix}", end=Fraction(4001, 10000))

    assert facts["verified"], facts["checks"]
    assert facts["frames"] == 10


def test_a_preview_is_the_middle_under_another_name(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32", seconds=2)

    facts = enlarge(source, preview=Fraction(2, 5))

    assert facts["output"] == str(tmp_path / "clip_x2_preview.mkv")
    assert facts["frames"] == 10
    assert facts["verified"], facts["checks"]


def test_a_comparison_shows_bicubic_and_the_result(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="160x96", seconds=0.2)

    facts = enlarge(source, **LOSSLESS, compare=True)

    assert facts["compare"] == str(tmp_path / "clip_x2_compare.mkv")
    small, large, both = (frames_of(Path(p))[-1] for p in (source, facts["output"], facts["compare"]))
    bar = both.shape[0] - large.shape[0]
    plain = np.rint(np.clip(resize(small.astype(np.float32), 192, 320), 0, 255))
    np.testing.assert_array_equal(both[bar : bar + 192, -320:][:, : large.shape[1]], large)
    np.testing.assert_allclose(both[bar : bar + 192, :320], plain, atol=1)  # halves round either way
    assert clips.times(Path(facts["compare"])) == clips.times(source)


@pytest.mark.parametrize("codec", ["ffv1", "prores", "hevc", "av1"])
def test_colour_tags_are_the_sources_whatever_the_codec(
    tmp_path: Path, codec: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    tags = ["-colorspace", "smpte170m", "-color_primaries", "smpte170m", "-color_trc", "smpte170m"]
    source = clips.clip(tmp_path / "clip.mkv", "-pix_fmt", "yuv420p", *tags, size="64x400", seconds=0.1)

    facts = enlarge(source, codec=codec)

    assert facts["verified"], facts["checks"]
    colour = probe(Path(facts["output"])).colour
    assert (colour.matrix, colour.primaries, colour.transfer) == ("smpte170m",) * 3


@pytest.mark.parametrize(
    ("codec", "kept"), [("hevc", True), ("av1", True), ("h264", True), ("prores", False), ("ffv1", False)]
)
def test_hdr_metadata_are_kept_or_their_loss_is_said_before(
    tmp_path: Path, model: str, codec: str, *, kept: bool
) -> None:
    source = clips.hdr10(tmp_path / "hdr.mkv", "-t", "0.2")
    job = VideoJob(Settings(target=Target(2), model=model, codec=codec))

    task = job.open(source)
    facts = finish(run_video(job, task))

    assert facts["verified"], facts["checks"]
    assert (probe(task.target).hdr is not None) == kept
    assert any("HDR10 metadata will be missing" in note for note in task.notes) != kept
    assert any(check["name"] == "HDR metadata" for check in facts["checks"]) == kept


def test_an_incomplete_mastering_display_is_left_out_and_that_is_said() -> None:
    incomplete = Hdr(luminance=(Fraction(1, 200), Fraction(1000)), light_level=(1000, 400))

    kept, note = kept_hdr(Encoding("hevc"), incomplete, bits=10)

    assert kept == Hdr(light_level=(1000, 400))
    assert note is not None
    assert "incomplete" in note


def test_several_devices_keep_the_order(tmp_path: Path, model: str) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32")
    job = VideoJob(Settings(target=Target(2), model=model, **LOSSLESS))
    one = finish(run_video(job, job.open(source, tmp_path / "one.mkv")))
    job.networks.devices = ["cpu"] * 3
    three = finish(run_video(job, job.open(source, tmp_path / "three.mkv")))

    assert clips.shown(Path(one["output"])) == clips.shown(Path(three["output"]))


@pytest.mark.parametrize(
    "codec", [("-c:v", "libx264", "-preset", "ultrafast", "-bf", "3"), ("-c:v", "mpeg4", "-bf", "2")]
)
def test_frames_of_avi_that_are_out_of_order_get_their_times(
    tmp_path: Path, codec: tuple[str, ...], enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / "clip.avi", size="32x32", codec=codec, audio=True)

    facts = enlarge(source)

    assert facts["verified"], facts["checks"]
    assert clips.times(Path(facts["output"])) == clips.times(source)


def test_windows_media_sound_goes_into_mkv(tmp_path: Path, enlarge: Callable[..., dict[str, Any]]) -> None:
    source = tmp_path / "clip.wmv"
    made = ["-f", "lavfi", "-i", "testsrc2=size=32x32:duration=0.4", "-f", "lavfi", "-i", "sine=duration=0.4"]
    clips.ffmpeg(*made, "-c:v", "wmv2", "-c:a", "wmav2", source)

    facts = enlarge(source)

    assert facts["verified"], facts["checks"]
    sounds = [[one.digest for one in clips.packets(Path(p), "0:a:0")] for p in (source, facts["output"])]
    assert sounds[0] == sounds[1]


def test_frames_that_are_shown_for_seconds_are_no_damage(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / "slides.mp4", size="32x32", rate="1/3", seconds=9)

    facts = enlarge(source)

    assert facts["verified"], facts["checks"]
    assert facts["damage"] == []


@pytest.mark.parametrize(
    ("name", "codec"), [("clip.avi", ("-c:v", "mpeg4", "-bf", "2")), ("clip.wmv", ("-c:v", "wmv2"))]
)
def test_old_containers_become_mkv_with_their_sound(
    tmp_path: Path, name: str, codec: tuple[str, ...], enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / name, size="32x32", seconds=0.4, codec=codec, audio=True)

    facts = enlarge(source)

    assert facts["output"] == str(tmp_path / "clip_x2.mkv")
    assert facts["verified"], facts["checks"]
    assert [check["name"] for check in facts["checks"]].count("audio") == 1


@pytest.mark.parametrize("name", ["all.mkv", "sound.mp4", "sound.ts", "sound.avi"])
def test_a_video_is_opened_twice_before_the_work_starts(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = tmp_path / name
    if name == "all.mkv":
        clips.every_stream(source)
    else:
        clips.clip(source, audio=True)
    opened: list[str] = []
    open_file, process = av.open, subprocess.Popen

    def counted_open(file: Any, *arguments: Any, **options: Any) -> Any:
        opened.extend([file] if str(source) in str(file) else [])
        return open_file(file, *arguments, **options)

    def counted_process(command: list[str], *arguments: Any, **options: Any) -> Any:
        opened.extend([command[0]] if str(source) in " ".join(command) else [])
        return process(command, *arguments, **options)

    monkeypatch.setattr(av, "open", counted_open)
    monkeypatch.setattr(subprocess, "Popen", counted_process)

    VideoJob(Settings(target=Target(2), model=model)).open(source)

    assert len(opened) == 2

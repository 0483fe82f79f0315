"""Videos that are damaged, jobs that fail or are stopped, and what cannot be done."""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import clips
import pytest

from emt_cli.engine.upscaler import Upscaler
from emt_cli.errors import (
    DeviceError,
    EmtError,
    InputError,
    OutputError,
    OutputExistsError,
    StoppedError,
    UsageError,
)
from emt_cli.jobs.target import Target
from emt_cli.jobs.video import run as video_run
from emt_cli.jobs.video.plan import VideoJob
from emt_cli.jobs.video.segments import WorkFolder, work_path
from emt_cli.jobs.video.task import Settings
from emt_cli.media.video.write import VideoWriter

LOSSLESS = {"codec": "ffv1", "pix_fmt": "bgr0"}


def threads_left() -> list[str]:
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith(("emt-read", "emt-write", "emt-work"))
    ]


def test_what_was_damaged_is_reported_and_the_rest_is_kept(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]]
) -> None:
    healthy = clips.clip(tmp_path / "healthy.mkv", "-g", "5", size="64x64", seconds=2)
    source = clips.damaged(tmp_path / "damaged.mkv", healthy)

    strict = enlarge(source, segment=10)
    tolerant = enlarge(source, segment=10, tolerant=True)

    assert not strict["verified"]
    assert strict["output"] == str(tmp_path / "damaged_x2.unverified.mkv")
    assert Path(strict["output"]).exists()
    assert [check["name"] for check in strict["checks"] if not check["passed"]] == ["source"]
    assert strict["damage"] or strict["lost"]
    assert tolerant["verified"]
    assert tolerant["output"] == str(tmp_path / "damaged_x2.mkv")
    assert clips.times(Path(tolerant["output"])) == clips.times(Path(strict["output"]))


def test_unverified_results_replace_nothing(tmp_path: Path, enlarge: Callable[..., dict[str, Any]]) -> None:
    healthy = clips.clip(tmp_path / "healthy.mkv", "-g", "5", size="64x64", seconds=2)
    source = clips.damaged(tmp_path / "damaged.mkv", healthy)
    there = tmp_path / "damaged_x2.unverified.mkv"
    there.write_text("precious")

    facts = enlarge(source, segment=10)

    assert facts["output"] == str(tmp_path / "damaged_x2.unverified-2.mkv")
    assert there.read_text() == "precious"
    assert enlarge(source, segment=10, overwrite=True)["output"] == str(there)


def lose_a_frame(segments: list[Path]) -> None:
    """Write a segment again without the frame that is shown last."""
    path = segments[0]
    small = path.with_name("less.nut")
    with av.open(str(path)) as source, av.open(str(small), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux() if packet.size]
        last = max(packet.pts for packet in packets)
        for packet in packets:
            if packet.pts < last:
                packet.stream = stream
                target.mux(packet)
    small.replace(path)


def test_a_result_that_lacks_a_frame_fails_and_gets_another_name(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clips.clip(tmp_path / "clip.mp4", size="32x32", seconds=0.4)
    join = video_run.join

    def careless(segments: list[Path], *arguments: Any, **options: Any) -> list[str]:
        lose_a_frame(segments)
        return join(segments, *arguments, **options)

    monkeypatch.setattr(video_run, "join", careless)

    facts = enlarge(source)

    failed = [check["name"] for check in facts["checks"] if not check["passed"]]
    assert failed == ["frames", "frame times", "duration"]
    assert facts["output"] == str(tmp_path / "clip_x2.unverified.mp4")
    assert not (tmp_path / "clip_x2.mp4").exists()


def test_sound_that_comes_late_fails(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32", seconds=0.4, audio=True)
    join = video_run.join

    def late(segments: list[Path], info: Any, target: Path, *plan: Any, **options: Any) -> list[str]:
        notes = join(segments, info, target, *plan, **options)
        shifted = target.with_name("late.mkv")
        clips.ffmpeg(
            "-i", target, "-itsoffset", "0.1", "-i", target, "-map", "0:v", "-map", "1:a",
            "-c", "copy", shifted,
        )  # fmt: skip
        shifted.replace(target)
        return notes

    monkeypatch.setattr(video_run, "join", late)

    facts = enlarge(source)

    (failed,) = [check for check in facts["checks"] if not check["passed"]]
    assert failed["name"] == "audio"
    assert "100.0 ms off" in failed["found"]


def test_a_full_disk_keeps_the_work_and_the_same_job_goes_on(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32")
    whole = enlarge(source, tmp_path / "whole.mkv", segment=5)
    write, written = VideoWriter.write, 0

    def full(self: VideoWriter, *arguments: Any) -> None:
        nonlocal written
        written += 1
        if written > 13:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, *arguments)

    monkeypatch.setattr(VideoWriter, "write", full)
    with pytest.raises(OutputError, match=r"no room left on the disk.*same command goes on"):
        enlarge(source, tmp_path / "out.mkv", segment=5)
    assert threads_left() == []
    monkeypatch.undo()

    facts = enlarge(source, tmp_path / "out.mkv", segment=5)

    assert facts["resumed"] == 10
    assert clips.shown(tmp_path / "out.mkv") == clips.shown(Path(whole["output"]))


def at_the_twelfth_frame(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    steps, calls = Upscaler.steps, 0

    def counted(self: Upscaler, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 12:
            happens()
        return steps(self, *arguments, **options)

    monkeypatch.setattr(Upscaler, "steps", counted)


@pytest.mark.parametrize(
    "change", ["removed", "replaced", "appended to", "replaced before the sound is taken"]
)
def test_a_source_that_changes_ends_the_job_and_what_was_made_of_it_before_is_kept(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32", audio=True)
    other = clips.clip(tmp_path / "other.mkv", size="32x32", picture="smptebars", audio=True)
    data, whole = source.read_bytes(), enlarge(source, tmp_path / "whole.mkv", segment=5)
    join = video_run.join

    def late(*arguments: Any, **options: Any) -> list[str]:
        source.write_bytes(other.read_bytes())
        return join(*arguments, **options)

    if change == "replaced before the sound is taken":
        monkeypatch.setattr(video_run, "join", late)
    changes = {
        "removed": source.unlink,
        "replaced": lambda: source.write_bytes(other.read_bytes()),
        "appended to": lambda: source.write_bytes(data + b"more"),
    }
    at_the_twelfth_frame(monkeypatch, changes.get(change, lambda: None))
    with pytest.raises(InputError, match="was changed or removed while it was being enlarged"):
        enlarge(source, tmp_path / "out.mkv", segment=5)
    monkeypatch.undo()
    source.write_bytes(data)

    facts = enlarge(source, tmp_path / "out.mkv", segment=5)

    assert facts["resumed"] in (5, 10, 25)
    assert clips.shown(tmp_path / "out.mkv") == clips.shown(Path(whole["output"]))
    assert clips.packets(tmp_path / "out.mkv", "0:a:0") == clips.packets(source, "0:a:0")


def test_work_that_somebody_changed_is_told_and_made_again(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32")
    first = tmp_path / ".clip_x2.mkv.emt-work" / "result-000000.segment"
    at_the_twelfth_frame(monkeypatch, lambda: first.write_bytes(b"junk"))
    with pytest.raises(OutputError, match="was changed or removed meanwhile; the same command"):
        enlarge(source, segment=5)
    monkeypatch.undo()

    facts = enlarge(source, segment=5)

    assert (facts["verified"], facts["resumed"]) == (True, 20)


def test_work_left_by_a_kill_after_the_result_had_its_name_is_removed(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = clips.clip(tmp_path / "clip.mkv", size="32x32"), tmp_path / "out.mkv"
    with monkeypatch.context() as killed:
        killed.setattr(WorkFolder, "clear", lambda self: None)
        enlarge(source, target, segment=5)
    made = clips.shown(target)
    assert work_path(target).is_dir()

    with pytest.raises(OutputExistsError):
        enlarge(source, target, segment=5)

    assert not work_path(target).exists()
    assert clips.shown(target) == made


def test_unfinished_work_for_a_new_result_stays_beside_the_old_one(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = clips.clip(tmp_path / "clip.mkv", size="32x32"), tmp_path / "out.mkv"
    enlarge(source, target, segment=6)
    with monkeypatch.context() as stopped:
        at_the_twelfth_frame(stopped, lambda: (_ for _ in ()).throw(DeviceError("cpu: gone")))
        with pytest.raises(DeviceError):
            enlarge(source, target, segment=5, overwrite=True)

    with pytest.raises(OutputExistsError):
        enlarge(source, target, segment=5)

    assert enlarge(source, target, segment=5, overwrite=True)["resumed"] > 0


def test_a_source_of_another_date_is_the_same(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32")
    at_the_twelfth_frame(monkeypatch, lambda: os.utime(source, (1, 1)))

    assert enlarge(source, segment=5)["verified"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DeviceError("cpu: gone"), "cpu: gone"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "needs more memory than is free"),
    ],
)
def test_a_failure_of_the_network_comes_out_with_a_name_and_leaves_nothing_running(
    tmp_path: Path,
    enlarge: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    words: str,
) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32")
    monkeypatch.setattr(Upscaler, "steps", lambda *_, **__: (_ for _ in ()).throw(error))

    with pytest.raises(DeviceError, match=f"^{re.escape(str(source))}: {words}"):
        enlarge(source)

    assert threads_left() == []
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_job_after_the_frame_at_hand(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32")
    steps, calls = Upscaler.steps, 0

    def signalled(self: Upscaler, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 12:
            os.kill(os.getpid(), number)
        return steps(self, *arguments, **options)

    monkeypatch.setattr(Upscaler, "steps", signalled)
    before = signal.getsignal(number)
    with pytest.raises(StoppedError, match=r"1[05] of 25 frames are kept in \.clip_x2\.mkv\.emt-work"):
        enlarge(source, segment=5)
    monkeypatch.undo()

    assert calls < 20
    assert signal.getsignal(number) is before
    assert enlarge(source, segment=5)["resumed"] in (10, 15)


def test_damage_in_a_transport_stream_is_reported(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]]
) -> None:
    healthy = clips.clip(tmp_path / "healthy.ts", "-g", "10", seconds=2, audio=True)
    source = clips.damaged(tmp_path / "damaged.ts", healthy)

    facts = enlarge(source)

    assert not facts["verified"]
    assert facts["damage"]


def test_what_no_encoder_can_be_given_is_said_before_and_after(
    tmp_path: Path, model: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.captioned(tmp_path / "captioned.ts")

    task = VideoJob(Settings(target=Target(2), model=model)).open(source)
    facts = enlarge(source)

    said = "closed captions inside the picture stream will be missing from the result"
    assert said in task.notes
    assert said in facts["notes"]
    assert ("closed captions inside the picture stream", "left out, as said") in [
        (check["name"], check["found"]) for check in facts["checks"]
    ]


def test_other_settings_are_refused_until_told_to_begin_again(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32")
    monkeypatch.setattr(video_run, "join", lambda *_, **__: (_ for _ in ()).throw(OutputError("x: full")))
    with pytest.raises(OutputError):
        enlarge(source, segment=5, crf=20)
    monkeypatch.undo()

    with pytest.raises(UsageError, match=r"other settings \(crf 20\)"):
        enlarge(source, segment=5, crf=24)
    with pytest.raises(UsageError, match=r"other settings .*precision"):
        enlarge(source, segment=5, crf=20, precision="bf16")

    assert enlarge(source, segment=5, crf=24, overwrite=True)["resumed"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": Fraction(5)}, "no frame lies there; the video lasts"),
        ({"codec": "realvideo"}, "not in this build"),
        ({"target": Target(9)}, "beyond 4 times"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(
    tmp_path: Path, settings: dict[str, Any], message: str, enlarge: Callable[..., dict[str, Any]]
) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32", seconds=0.2)

    with pytest.raises(EmtError, match=message):
        enlarge(source, **settings)

    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]


def test_too_small_a_disk_is_noticed_before_the_work(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clips.clip(tmp_path / "clip.mkv", size="32x32", seconds=0.2)
    usage = SimpleNamespace(total=10**9, used=10**9, free=1000)
    monkeypatch.setattr("emt_cli.jobs.video.plan.shutil.disk_usage", lambda _: usage)

    with pytest.raises(OutputError, match=r"needs about .* make room"):
        enlarge(source, codec="ffv1")


@pytest.mark.parametrize("length", [250, 255])
def test_a_source_of_the_longest_name_gets_a_result(
    tmp_path: Path, length: int, enlarge: Callable[..., dict[str, Any]]
) -> None:
    short = clips.clip(tmp_path / "clip.mp4", size="32x32", seconds=0.2)
    source = short.rename(tmp_path / ("é" * ((length - 4) // 2) + "n" * (length % 2) + ".mp4"))

    facts = enlarge(source, compare=True)

    assert facts["verified"]
    assert Path(facts["output"]).name.endswith("é_x2.mp4")
    assert Path(facts["compare"]).is_file()


def test_a_name_that_is_too_long_is_one_clear_line(tmp_path: Path, model: str) -> None:
    source = clips.clip(tmp_path / "clip.mp4", size="32x32", seconds=0.2)

    with pytest.raises(OutputError, match="the name is too long"):
        VideoJob(Settings(target=Target(2), model=model)).open(source, tmp_path / f"{'n' * 252}.mp4")


def test_a_stream_that_cannot_be_read_ends_the_video_there(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]]
) -> None:
    silent, texts, source = tmp_path / "silent.mp4", tmp_path / "a.srt", tmp_path / "a.mp4"
    clips.clip(silent, size="32x32")
    texts.write_text("1\n00:00:00,500 --> 00:00:00,900\n<b>Hello</b> & <i>you</i>\nline two\n")
    clips.ffmpeg("-i", silent, "-i", texts, "-c:v", "copy", "-c:s", "mov_text", source)
    data = source.read_bytes()
    # Closed captions, by their name; ffmpeg takes nothing else than captions there.
    source.write_bytes(data.replace(b"tx3g", b"c608").replace(b"\0\0\0\0sbtl", b"\0\0\0\0clcp"))

    facts = enlarge(source)

    assert not facts["verified"]
    assert "reading ended early" in facts["damage"][0]

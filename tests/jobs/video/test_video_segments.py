"""Segments of a video job, the folder that keeps finished ones, and frames that were seen before."""

from __future__ import annotations

import json
from array import array
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from emt_cli.errors import UsageError
from emt_cli.jobs.video.duplicates import RecentFrames
from emt_cli.jobs.video.segments import (
    Done,
    Segment,
    pending_runs,
    plan_segments,
    segment_file,
    segment_length,
    work_folder,
    work_path,
)
from emt_cli.jobs.video.verify import _check_frames
from emt_cli.media.video.packets import Packets

KEY = {"input": "a" * 64, "crf": 18, "codec": "h264"}


def finish(target: Path, index: int, *, key: dict[str, object] = KEY) -> None:
    """Finish one segment of a job."""
    segment = plan_segments(range(0, 100, 10), 4)[index]
    with work_folder(target, key, {}, restart=False, count=3) as work:
        path = segment_file(work.folder, segment, "result", ".mkv")
        path.write_bytes(bytes([index]) * 100)
        work.finish(segment, Done(segment.times, {"result": path.name}, 3, ()))


def done(target: Path, *, key: dict[str, object] = KEY, restart: bool = False) -> list[int]:
    """Segments that a job goes on with."""
    with work_folder(target, key, {}, restart=restart, count=3) as work:
        return sorted(work.done)


def test_segments_cover_all_time_and_hold_every_frame_once() -> None:
    times = [3, 7, 8, 20, 21, 22, 40]

    segments = plan_segments(times, 3, end=50)

    assert [(part.start, part.end) for part in segments] == [(None, 20), (20, 40), (40, 50)]
    assert [time for part in segments for time in part.times] == times


def test_neighbours_that_are_not_done_are_read_in_one_go() -> None:
    segments = plan_segments(range(60), 10)

    runs = pending_runs(segments, {1: None, 4: None})

    assert [[segment.index for segment in run] for run in runs] == [[0], [2, 3], [5]]


@pytest.mark.parametrize(("height", "width", "frames"), [(144, 176, 240), (272, 640, 96), (2160, 3840, 24)])
def test_a_segment_is_about_a_minute_of_work(height: int, width: int, frames: int) -> None:
    assert segment_length(height, width) == frames


def test_finished_segments_are_found_again(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    finish(target, 0)
    finish(target, 2)

    with work_folder(target, KEY, {}, restart=False, count=3) as work:
        assert sorted(work.done) == [0, 2]
        assert work.done[2] == Done((80, 90), {"result": "result-000002.mkv"}, 3, ())
        assert [path.read_bytes()[0] for path in work.files("result")] == [0, 2]


@pytest.mark.parametrize("harm", ["change", "remove", "cut"])
def test_a_segment_whose_file_was_harmed_is_made_again(tmp_path: Path, harm: str) -> None:
    target = tmp_path / "out.mkv"
    finish(target, 0)
    finish(target, 1)
    file = work_path(target) / "result-000001.mkv"
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(b"x" * 100 if harm == "change" else file.read_bytes()[:50])

    assert done(target) == [0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("segment", "0"),
        ("segment", [0]),
        ("segment", -1),
        ("segment", 3),
        ("files", None),
        ("files", {"result": 3}),
        ("files", {"result": "../result-000000.mkv"}),
        ("files", {"result": "/etc/passwd"}),
        ("sha256", []),
        ("sha256", {}),
        ("times", 5),
        ("times", ["x"]),
        ("computed", "3"),
        ("damage", None),
        ("notes", 1.5),
    ],
)
def test_a_segment_whose_record_was_forged_is_made_again(tmp_path: Path, field: str, value: object) -> None:
    target = tmp_path / "clip.mkv"
    finish(target, 0)
    journal = work_path(target) / "journal.jsonl"
    start, record = (json.loads(line) for line in journal.read_text().splitlines())

    journal.write_text(json.dumps(start) + "\n" + json.dumps(record | {field: value}) + "\n")

    assert done(target) == []


@pytest.mark.parametrize("start", [{"key": 3}, {"key": []}, {}, {"key": KEY, "format": 1, "tile": -1}])
def test_work_whose_beginning_was_forged_begins_again(tmp_path: Path, start: dict[str, object]) -> None:
    target = tmp_path / "clip.mkv"
    finish(target, 0)
    journal = work_path(target) / "journal.jsonl"
    journal.write_text(json.dumps(start) + "\n" + journal.read_text().splitlines()[1] + "\n")

    with work_folder(target, KEY, {"tile": 64}, restart=False, count=3) as work:
        assert (work.done, work.start["tile"]) == ({}, 64)


def test_work_with_other_settings_is_refused_in_words_and_replaced_when_told(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    finish(target, 0)

    with pytest.raises(UsageError, match=r"other settings \(crf 18\).*-y to begin again"):
        done(target, key=KEY | {"crf": 20})
    with pytest.raises(UsageError, match="another input"):
        done(target, key=KEY | {"input": "b" * 64})

    assert done(target) == [0]
    assert done(target, key=KEY | {"crf": 20}, restart=True) == []


def test_restarting_with_the_same_settings_goes_on(tmp_path: Path) -> None:
    finish(tmp_path / "out.mkv", 0)

    assert done(tmp_path / "out.mkv", restart=True) == [0]


def test_half_written_files_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    finish(target, 0)
    stray = work_path(target) / "result-000001.mkv"
    stray.write_bytes(b"half")

    assert done(target) == [0]
    assert not stray.exists()


def test_two_jobs_on_one_result_exclude_each_other(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"

    with work_folder(target, KEY, {}, restart=False, count=3), pytest.raises(UsageError, match="another emt"):
        done(target)
    with work_folder(target, KEY, {}, restart=False, count=3), pytest.raises(UsageError, match="another emt"):
        done(target)


def test_a_folder_without_finished_work_disappears(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"

    done(target)

    assert list(tmp_path.iterdir()) == []


def test_what_was_noted_at_the_start_is_found_again(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    segment = Segment(0, None, None, (1,))
    with work_folder(target, KEY, {"tile": 128}, restart=False, count=3) as work:
        work.finish(segment, Done((), {}, 0, ("all was lost",)))

    with work_folder(target, KEY, {"tile": 256}, restart=False, count=3) as work:
        assert work.start["tile"] == 128
        assert work.done[0].damage == ("all was lost",)


def test_only_exactly_equal_frames_are_duplicates(photo: np.ndarray) -> None:
    recent: RecentFrames[str] = RecentFrames(2)
    recent.add(photo, "photo")
    almost = photo.copy()
    almost[0, 0, 0] ^= 1

    assert recent.find(photo.copy()) == "photo"
    assert recent.find(almost) is None
    assert recent.find(photo[:, :-1]) is None


def test_frames_seen_too_long_ago_are_forgotten(photo: np.ndarray) -> None:
    recent: RecentFrames[int] = RecentFrames(2)
    for shift in range(3):
        recent.add(np.roll(photo, shift, 1), shift)

    assert recent.find(photo) is None
    assert recent.find(np.roll(photo, 1, 1)) == 1


@pytest.mark.parametrize(("late", "passed"), [(0, True), (1, False), (-1, False)])
def test_a_frame_that_is_a_tick_too_late_fails_the_verification(late: int, passed: bool) -> None:
    made = Packets(Fraction(1, 1000), times=array("q", [0, 40 + late, 80]))

    checks = _check_frames(made, [Fraction(index, 25) for index in range(3)])

    assert {check.name: check.passed for check in checks} == {"frames": True, "frame times": passed}

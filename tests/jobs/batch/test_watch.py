"""--watch takes what appears, once it is whole; earlier results, large pictures are not taken."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, current_thread, main_thread

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from emt_cli.cli import app
from emt_cli.jobs.batch.find import Findings, Selection, find_pictures
from emt_cli.jobs.batch.folder import BatchFolder
from emt_cli.jobs.batch.watch import Watch

OPTIONS = ["--model", "emt-lite"]


def emt(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, words), *OPTIONS])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    save(tmp_path / "photos/first.png")
    return tmp_path / "photos"


def save(path: Path, height: int = 8, width: int = 12) -> None:
    Image.fromarray(np.full((height, width, 3), 99, np.uint8)).save(path)


@pytest.fixture
def find(photos: Path) -> Callable[[], Findings]:
    into = BatchFolder(photos.parent / "out")
    return lambda: find_pictures([str(photos)], [], Selection(), into)


def test_a_picture_is_taken_once_it_has_stopped_growing(photos: Path, find: Callable[[], Findings]):
    stop, rounds = Event(), []
    known = find()
    save(photos / "whole.png")
    growing = photos / "growing.png"
    growing.write_bytes(b"1")

    def look() -> Findings:
        rounds.append(growing.stat().st_size)
        if len(rounds) <= 3:
            growing.write_bytes(b"1" * (len(rounds) + 1))
        if len(rounds) == 8:
            stop.set()
        return find()

    arrivals = Watch(look, known, interval=0.01).arrivals(stop)
    taken = [(len(rounds), {path.name for path in new}) for _, new in arrivals]

    assert taken == [(2, {"whole.png"}), (4, {"growing.png"})]


def test_a_picture_that_changes_is_taken_again(photos: Path, find: Callable[[], Findings]):
    stop = Event()
    arrivals = Watch(find, find(), interval=0.01).arrivals(stop)
    save(photos / "first.png", 10, 10)

    _, new = next(arrivals)
    stop.set()

    assert [path.name for path in new] == ["first.png"]
    assert list(arrivals) == []


@pytest.mark.slow
def test_watching_ends_with_ctrl_c_and_the_summary_of_all(photos: Path):
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += "from emt_cli.cli import main; main()"
    words = ["batch", str(photos), "-o", str(photos.parent / "out"), "--watch", "--json", *OPTIONS]
    with subprocess.Popen([sys.executable, "-c", script, *words], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        events = []
        for line in run.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == "note":
                save(photos / "second.png")
                (photos / "bad.png").write_text("no picture")
            if len(events) > 5 and {"done", "failed"} <= {event["event"] for event in events[4:]}:
                time.sleep(0.5)
                run.send_signal(signal.SIGINT)
                break
        events += [json.loads(line) for line in run.stdout]
    summary = events[-1]

    assert (summary["event"], summary["total"], summary["done"], summary["failed"]) == ("summary", 3, 2, 1)
    assert run.returncode == summary["exit_code"] == 3
    assert {path.name for path in (photos.parent / "out").glob("*.png")} == {"first_x4.png", "second_x4.png"}


def test_a_new_picture_never_replaces_the_result_of_another(photos: Path, find: Callable[[], Findings]):
    from emt_cli.jobs.batch.plan import plan_batch
    from emt_cli.jobs.batch.watch import only
    from emt_cli.jobs.picture.job import PictureJob
    from emt_cli.jobs.picture.task import Settings
    from emt_cli.jobs.target import Target

    Image.open(photos / "first.png").save(photos / "first.jpg")
    save(photos / "other.png")
    job = PictureJob(Settings(Target(2), model="emt-lite", format="png"))

    plan = only(
        plan_batch(find(), job, BatchFolder(photos.parent / "out")),
        {photos / "first.jpg", photos / "other.png"},
    )

    assert [item.source.name for item in plan.items] == ["other.png"]
    (failure,) = plan.failures
    assert "first.jpg: first_x2.png is another picture's result" in str(failure[1])


def test_results_of_emt_upscale_beside_their_sources_are_not_taken(photos: Path):
    save(photos / "wide.jpg", 8, 16)
    assert emt("upscale", photos / "first.png", "--compare").exit_code == 0
    assert emt("upscale", photos / "wide.jpg", "--long-side", "40").exit_code == 0
    save(photos / "second_x2.png")  # there is no second.png
    save(photos / "first_x3.png")  # not three times as large
    save(photos / "wide_8x4.png", 4, 8)  # a smaller version, made elsewhere

    result = emt("batch", photos, "-o", photos.parent / "out", "--scale", "2", "--dry-run")

    taken = {Path(line).name for line in result.stdout.splitlines()}
    assert taken == {"first_x2.png", "wide_x2.jpg", "second_x2_x2.png", "first_x3_x2.png", "wide_8x4_x2.png"}
    assert "passed over: 3 files written by earlier runs" in result.stderr


def test_pictures_that_are_large_enough_are_skipped_and_counted(photos: Path):
    save(photos / "large.png", 10, 40)
    out = photos.parent / "out"

    result = emt("batch", photos, "-o", out, "--long-side", "40", "--json")

    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert [(Path(e["input"]).name, e["reason"]) for e in events if e["event"] == "skipped"] == [
        ("large.png", "large")
    ]
    assert (events[-1]["done"], events[-1]["skipped"]) == (1, 1)


def test_pictures_above_a_size_are_left_out_on_request(photos: Path):
    save(photos / "large.png", 10, 41)
    save(photos / "just.png", 10, 40)

    result = emt("batch", photos, "-o", photos.parent / "out", "--skip-larger", "40", "--dry-run")

    assert sorted(Path(line).name for line in result.stdout.splitlines()) == ["first_x4.png", "just_x4.png"]
    assert "1 large enough" in result.stderr


def test_planning_looks_at_pixels_of_no_picture_that_is_left_out_and_of_one_at_a_time(
    photos: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, side in (("a.jpg", 160), ("b.jpg", 160), ("large.jpg", 200)):
        save(photos / name, side, side)
    looked = []
    monkeypatch.setattr(
        "emt_cli.media.picture.kind.looks_drawn",
        lambda luma: bool(looked.append((luma.shape, current_thread()))),
    )
    words = ["batch", str(photos), "-o", str(photos.parent / "out"), "--skip-larger", "160", "--dry-run"]

    assert CliRunner().invoke(app, words).exit_code == 0

    assert set(looked) == {((160, 160), main_thread())}


def test_a_batch_gives_coarse_jpeg_and_drawings_to_their_models_and_tells_how_many(photos: Path):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
    noise.save(photos / "low.jpg", quality=50)
    noise.save(photos / "high.jpg", quality=95)
    Image.new("RGB", (40, 40), "white").save(photos / "plain.png")
    board = np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.full((20, 20), 255)).astype(np.uint8)
    Image.fromarray(board).save(photos / "board.jpg", quality=50)
    words = ["batch", str(photos), "-o", str(photos.parent / "out")]

    plan = CliRunner().invoke(app, [*words, "--dry-run"])
    result = CliRunner().invoke(app, [*words, "--json"])

    events = [json.loads(line) for line in result.stdout.splitlines()]
    models = {Path(e["input"]).name: e["model"] for e in events if e["event"] == "done"}
    assert models == {
        "low.jpg": "emt-photo", "high.jpg": "emt-lite", "first.png": "emt-art", "plain.png": "emt-art",
        "board.jpg": "emt-art",
    }  # fmt: skip
    assert "(1 by emt-photo, as they were saved coarsely; 3 by emt-art, as they seem to be drawn)" in (
        plan.stderr
    )
    assert json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout.splitlines()[-1])["skipped"] == 5

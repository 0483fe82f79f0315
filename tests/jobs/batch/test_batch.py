"""`emt batch`: trees in, trees out; resume, refusals, reports, kills."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from emt_cli.cli import app
from emt_cli.engine.upscaler import Upscaler
from emt_cli.errors import OutputError
from emt_cli.jobs.batch.folder import BatchFolder, Shard
from emt_cli.jobs.batch.local import Room
from emt_cli.jobs.batch.stages import Opened, PictureWork, Written
from emt_cli.jobs.journal import read_journal

EMT = [sys.executable, "-m", "emt_cli"]
OPTIONS = ["--model", "emt-lite", "--scale", "2"]
JOURNAL = ".emt-batch-1of1.jsonl"


def batch(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    """Run `emt batch` in this process, with the bundled model at x2."""
    return CliRunner().invoke(app, ["batch", *OPTIONS, *map(str, arguments)], input=stdin)


def tree(folder: Path) -> dict[str, bytes]:
    """All visible files below a folder, and what is in them."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def events(result: Result) -> dict[str, list[dict[str, Any]]]:
    """What --json printed, by the kind of event."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for line in result.stdout.splitlines():
        event = json.loads(line)
        kinds.setdefault(event["event"], []).append(event)
    return kinds


@pytest.fixture
def photos(tmp_path: Path, photo: np.ndarray) -> Path:
    """A folder of three small pictures."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(photo[:20, :30]).save(folder / "a.png")
    Image.fromarray(photo[30:50, :30]).save(folder / "b.jpg", quality=95)
    Image.fromarray(photo[:24, 40:60]).save(folder / "sub" / "c.webp")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_a_tree_becomes_a_larger_tree_with_the_bytes_of_emt_upscale(photos: Path, out: Path) -> None:
    result = batch(photos, "-r", "-o", out)

    assert result.exit_code == 0, result.stderr
    made = tree(out)
    assert sorted(made) == ["a_x2.png", "b_x2.jpg", "sub/c_x2.webp"]
    assert sorted(result.stdout.splitlines()) == sorted(str(out / name) for name in made)
    CliRunner().invoke(app, ["upscale", *OPTIONS, str(photos / "a.png"), "-o", str(out / "single.png")])
    assert made["a_x2.png"] == (out / "single.png").read_bytes()


def test_memory_that_a_library_lacks_is_no_mistake_of_the_program(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> object:
        raise RuntimeError("OpenCV: Insufficient memory: Failed to allocate 9 bytes")

    monkeypatch.setattr("emt_cli.jobs.batch.stages.read_picture", full)

    result = batch(photos / "a.png", "-o", out)

    assert "a.png: needs more memory than is free" in result.stderr
    assert "mistake" not in result.stderr


def test_the_same_command_again_does_nothing(photos: Path, out: Path) -> None:
    batch(photos, "-r", "-o", out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*_x2.*")}

    again = batch(photos, "-r", "-o", out, "--json")

    assert again.exit_code == 0
    assert {event["reason"] for event in events(again)["skipped"]} == {"done"}
    assert events(again)["summary"][0]["skipped"] == 3
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*_x2.*")} == before


def test_dates_are_kept_and_the_results_still_known(photos: Path, out: Path) -> None:
    for path in photos.rglob("*.*"):
        os.utime(path, ns=(10**18, 10**18 + 7))

    batch(photos, "-r", "-o", out, "--keep-dates")
    again = batch(photos, "-r", "-o", out, "--keep-dates", "--json")

    results = [path for path in out.rglob("*_x2.*") if path.is_file()]
    assert results
    assert {path.stat().st_mtime_ns for path in results} == {10**18 + 7}
    assert events(again)["summary"][0]["done"] == 0


def test_a_changed_source_is_redone_even_with_the_same_size_and_time(
    photos: Path, out: Path, photo: np.ndarray
) -> None:
    source = photos / "a.bmp"
    Image.fromarray(photo[:20, :30]).save(source)
    batch(photos, "-o", out)
    before, times = tree(out), source.stat()
    Image.fromarray(photo[20:40, :30]).save(source)
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))

    again = batch(photos, "-o", out, "--json")

    assert again.exit_code == 0, again.stderr
    assert [event["input"] for event in events(again)["done"]] == [str(source)]
    changed = {name for name, data in tree(out).items() if data != before[name]}
    assert changed == {"a_x2.bmp"}


def test_other_settings_are_not_taken_for_the_same(photos: Path, out: Path) -> None:
    batch(photos, "-o", out, "--name", "{stem}{ext}")
    before = tree(out)

    again = batch(photos, "-o", out, "--name", "{stem}{ext}", "--quality", "50", "--json")

    assert len(events(again)["done"]) == 2
    assert len(tree(out)["b.jpg"]) < len(before["b.jpg"])


def test_results_in_another_precision_are_made_again(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emt_cli.engine.precision.has_bf16_kernels", lambda: False)
    batch(photos, "-o", out, "--precision", "bf16")

    single = batch(photos, "-o", out, "--precision", "fp32", "--json")
    chosen = batch(photos, "-o", out, "--precision", "auto", "--json")

    assert len(events(single)["done"]) == 2
    assert len(events(chosen)["skipped"]) == 2, "auto is fp32 where there are no kernels for bf16"


def test_a_result_that_was_damaged_or_removed_is_made_again(photos: Path, out: Path) -> None:
    batch(photos, "-r", "-o", out)
    whole = tree(out)
    (out / "a_x2.png").unlink()
    (out / "b_x2.jpg").write_bytes(whole["b_x2.jpg"][:-1])

    again = batch(photos, "-r", "-o", out, "-y", "--json")

    assert sorted(Path(event["output"]).name for event in events(again)["done"]) == ["a_x2.png", "b_x2.jpg"]
    assert tree(out) == whole


def test_files_of_others_are_left_alone(photos: Path, out: Path) -> None:
    out.mkdir()
    (out / "a_x2.png").write_bytes(b"precious")

    refused = batch(photos, "-o", out, "--json")

    assert refused.exit_code == 3
    assert [event["exit_code"] for event in events(refused)["failed"]] == [6]
    assert (out / "a_x2.png").read_bytes() == b"precious"
    skipped = batch(photos, "-o", out, "--skip-existing", "--json")
    assert skipped.exit_code == 0
    assert {event["reason"] for event in events(skipped)["skipped"]} == {"exists"}
    assert batch(photos, "-o", out, "-y").exit_code == 0
    assert Image.open(out / "a_x2.png").size == (60, 40)


def test_a_result_edited_by_hand_is_not_replaced(photos: Path, out: Path) -> None:
    batch(photos, "-o", out)
    (out / "a_x2.png").write_bytes(b"edited")

    again = batch(photos, "-o", out)

    assert again.exit_code == 3
    assert (out / "a_x2.png").read_bytes() == b"edited"


def test_results_beside_their_sources_are_not_enlarged_again(photos: Path) -> None:
    for _ in range(3):
        assert batch(photos, "-r", "-o", photos).exit_code == 0

    names = ["a.png", "a_x2.png", "b.jpg", "b_x2.jpg", "sub/c.webp", "sub/c_x2.webp"]
    assert sorted(tree(photos)) == names


def test_a_source_is_never_replaced_by_its_own_result(photos: Path) -> None:
    before = tree(photos)

    result = batch(photos, "-o", photos, "--name", "{stem}{ext}", "-y")

    assert result.exit_code == 2
    assert tree(photos) == before


def test_collisions_are_all_named_before_the_start(photos: Path, out: Path) -> None:
    shutil.copy(photos / "a.png", photos / "b.png")
    shutil.copy(photos / "a.png", photos / "A.bmp")

    result = batch(photos, "-o", out, "--format", "png")

    assert result.exit_code == 2
    for name in ("a.png", "A.bmp", "b.png", "b.jpg"):
        assert str(photos / name) in result.stderr
    assert not tree(out)


def break_files(folder: Path, photo: np.ndarray) -> int:
    """Fill a folder with files that are no whole pictures, each in its own way; return how many."""
    image = Image.fromarray(photo)
    for kind in ("png", "jpg", "webp", "tif", "bmp"):
        whole = folder / f"whole.{kind}"
        image.save(whole)
        data = whole.read_bytes()
        whole.unlink()
        for cut in (0, 1, 10, 30, 60, len(data) // 3, len(data) * 9 // 10):
            (folder / f"cut {cut}.{kind}").write_bytes(data[:cut])
        (folder / f"zeros.{kind}").write_bytes(bytes(5000))
        (folder / f"text.{kind}").write_text("no picture")
        (folder / f"gif.{kind}").write_bytes(b"GIF89a" + bytes(50))
    nan = np.full((9, 9, 3), np.nan, np.float32)
    import tifffile

    tifffile.imwrite(folder / "nan.tif", nan, photometric="rgb")
    return len(list(folder.iterdir()))


def test_pictures_broken_in_fifty_ways_do_not_stop_the_others(
    photos: Path, out: Path, photo: np.ndarray, tmp_path: Path
) -> None:
    count = break_files(photos / "sub", photo) - 1
    assert count > 50

    result = batch(photos, "-r", "-o", out, "--report", tmp_path / "report.json", "--json")

    kinds = events(result)
    assert result.exit_code == 3
    assert len(kinds["failed"]) == count
    assert {event["exit_code"] for event in kinds["failed"]} == {8}
    assert not any("mistake of the program" in event["message"] for event in kinds["failed"])
    assert sorted(tree(out)) == ["a_x2.png", "b_x2.jpg", "sub/c_x2.webp"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["emt_batch"]["failed"] == count
    assert len(report["pictures"]) == count + 3


def test_only_broken_pictures_are_exit_code_4_and_no_pictures_8(tmp_path: Path, out: Path) -> None:
    (tmp_path / "in").mkdir()
    empty = batch(tmp_path / "in", "-o", out)
    (tmp_path / "in" / "a.png").write_bytes(b"")
    broken = batch(tmp_path / "in", "-o", out)

    assert (empty.exit_code, broken.exit_code) == (8, 4)
    assert "holds no pictures" in empty.stderr


def test_a_mistake_of_the_program_ends_one_picture_only(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emt_cli.jobs.batch import stages as work

    encode = work.encode_picture

    def fail(*arguments: Any, name: str, **options: Any) -> Any:
        if name.endswith("a_x2.png"):
            raise ZeroDivisionError("oops")
        return encode(*arguments, name=name, **options)

    monkeypatch.setattr(work, "encode_picture", fail)

    result = batch(photos, "-o", out, "--json")

    (failed,) = events(result)["failed"]
    assert result.exit_code == 3
    assert "ZeroDivisionError" in failed["message"]
    assert "Traceback" in failed["trace"]
    assert list(tree(out)) == ["b_x2.jpg"]
    assert not list(out.glob(".emt-*.tmp"))


def test_lists_of_odd_names_come_through_standard_input(tmp_path: Path, photos: Path, out: Path) -> None:
    names = ["-y.png", "sp ace.png", "new\nline.png", "🐈.png", "{stem}.png", "%s*?.png"]
    if os.name != "nt":
        names.append("caf\udce9.png")
    for name in names:
        shutil.copy(photos / "a.png", photos / "sub" / name)
    listed = b"".join(os.fsencode(photos / "sub" / name) + b"\0" for name in names)

    result = batch("-", "-0", "-o", out, "--base", photos, stdin=listed)

    assert result.exit_code == 0, result.stderr
    assert sorted(tree(out)) == sorted(f"sub/{name.removesuffix('.png')}_x2.png" for name in names)


def test_a_list_file_takes_a_path_on_each_line(photos: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{photos / 'a.png'}\n\n{photos / 'missing.png'}\n")

    result = batch("--list", tmp_path / "list.txt", "-o", out, "--json")

    assert [event["exit_code"] for event in events(result)["failed"]] == [8]
    assert list(tree(out)) == ["a_x2.png"]


def test_options_of_upscale_hold_for_all_pictures(photos: Path, out: Path) -> None:
    result = batch(photos, "-o", out, "--format", "png", "--compare", "--suffix", "-big", "--json")

    assert result.exit_code == 0, result.stderr
    names = ["a-big.png", "a-big_compare.png", "b-big.png", "b-big_compare.png"]
    assert sorted(tree(out)) == names
    assert batch(photos, "-o", out, "--format", "png", "--compare", "--suffix", "-big").stdout == ""


def test_dry_run_tells_time_and_disk_and_writes_nothing(photos: Path, out: Path) -> None:
    result = batch(photos, "-r", "-o", out, "--dry-run", "--json")

    (plan,) = events(result)["plan"]
    assert result.exit_code == 0
    assert not out.exists()
    assert plan["pending"] == 3
    assert plan["seconds"] > 0
    batch(photos, "-r", "-o", out)
    written = sum(map(len, tree(out).values()))
    assert written / 3 < plan["disk"] < written * 3


def test_a_disk_without_room_is_refused_before_the_start(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BatchFolder, "free", lambda folder: 1000)

    result = batch(photos, "-o", out)

    assert result.exit_code == 4
    assert "1 kB are free; make room" in result.stderr
    assert not tree(out)


def test_a_disk_that_gets_full_ends_the_run_and_the_same_command_goes_on(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        shutil.copy(photos / "a.png", photos / f"more{number:02}.png")
    fsync, room = os.fsync, [16]

    def sync(descriptor: int) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", sync)
    full = batch(photos, "-r", "-o", out, "-j", "1")
    monkeypatch.undo()
    some = tree(out)

    assert full.exit_code == 3
    assert "the disk is full" in full.stderr
    assert 0 < len(some) < 20
    assert not list(out.rglob(".emt-*.tmp"))
    again = batch(photos, "-r", "-o", out, "--json")
    assert again.exit_code == 0
    assert len(events(again)["skipped"]) == len(some)
    assert len(tree(out)) == 43


def test_of_pictures_that_meet_a_full_disk_together_one_is_told_and_the_others_are_left(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        shutil.copy(photos / "a.png", photos / f"more{number}.png")
    together = threading.Barrier(4)

    def write(self: PictureWork, opened: Opened, *rest: object) -> Written:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(2)
        target = opened.item.target
        raise OutputError(f"{target}: no room left") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PictureWork, "write", write)
    full = batch(photos, "-o", out, "-j", "4")

    assert full.exit_code == 4
    assert full.stderr.count("emt: error:") == 1
    assert "the disk is full; 7 pictures left" in full.stderr
    assert not tree(out)


def test_reports_are_tables_too_and_never_replace_other_files(
    photos: Path, out: Path, tmp_path: Path
) -> None:
    (photos / "bad.png").write_text("no picture")
    report = tmp_path / "report.csv"

    for _ in range(2):
        assert batch(photos, "-o", out, "--report", report).exit_code == 3

    rows = list(csv.DictReader(report.open(newline="")))
    assert sorted(row["status"] for row in rows) == ["failed", "skipped", "skipped"]
    (tmp_path / "mine.csv").write_text("my,own,table\n")
    assert batch(photos, "-o", out, "--report", tmp_path / "mine.csv").exit_code == 6
    assert batch(photos, "-o", out, "--report", tmp_path / "report.txt").exit_code == 2


def test_shards_share_the_work_and_leave_nothing_out(photos: Path, out: Path) -> None:
    for number in range(20):
        shutil.copy(photos / "a.png", photos / f"more{number:02}.png")

    counts = []
    for number in (1, 2, 3):
        result = batch(photos, "-r", "-o", out, "--shard", f"{number}/3", "--json")
        counts.append(len(events(result)["done"]))

    assert sum(counts) == 23
    assert min(counts) > 2
    assert len(tree(out)) == 23
    whole = batch(photos, "-r", "-o", out, "--json")
    assert len(events(whole)["skipped"]) == 23, "whatever the parts were"


def test_a_comparison_that_somebody_has_replaced_is_left_alone(photos: Path, out: Path) -> None:
    assert batch(photos / "a.png", "-o", out, "--compare").exit_code == 0
    (compared,) = out.glob("*_compare.png")
    compared.write_bytes(b"mine")

    result = batch(photos / "a.png", "-o", out, "--compare")

    assert result.exit_code != 0
    assert "exists already and is not from this batch" in result.stderr
    assert compared.read_bytes() == b"mine"


def test_a_plan_counts_what_has_changed_as_pending(photos: Path, out: Path) -> None:
    def pending(*options: str) -> int:
        (plan,) = events(batch(photos, "-r", "-o", out, "--dry-run", "--json", *options))["plan"]
        return int(plan["pending"])

    assert pending() == 3
    assert batch(photos, "-r", "-o", out).exit_code == 0
    assert pending() == 0
    assert pending("--tta") == 3, "other settings"
    shutil.copy(photos / "b.jpg", photos / "copy.jpg")
    os.utime(photos / "b.jpg", (1e9, 1e9))
    assert pending() == 2, "a new one, and one that may have changed"


def test_the_better_model_is_pointed_out_once_and_not_where_one_was_named(photos: Path, out: Path) -> None:
    words = ["batch", str(photos), "-r", "-o", str(out), "--scale", "2", "--dry-run"]

    chosen, named = (CliRunner().invoke(app, [*words, *more]) for more in ([], ["--model", "emt-lite"]))

    assert chosen.stderr.count("`emt models pull emt`") == 1
    assert "models pull" not in named.stderr


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--json",)])
def test_a_shard_without_pictures_says_so_and_succeeds(
    photos: Path, out: Path, options: tuple[str, ...]
) -> None:
    results = [batch(photos, "-o", out, "--shard", f"{number}/5", *options) for number in range(1, 6)]

    empty = [result for result in results if "none of the 2 pictures falls into it" in result.output]
    assert [result.exit_code for result in results] == [0] * 5
    assert len(empty) in (3, 4)
    nothing = batch(photos / "sub", "-o", out, "--shard", "1/5", "--include", "*.png", *options)
    assert nothing.exit_code == 8, "no picture at all is still a mistake"


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "1/", "-1/3"])
def test_shards_that_are_none_are_refused(photos: Path, out: Path, shard: str) -> None:
    result = batch(photos, "-o", out, f"--shard={shard}")

    assert result.exit_code == 2
    assert "--shard" in result.stderr


def test_several_devices_share_the_pictures(photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    from emt_cli.jobs.batch.stages import PictureWork

    for number in range(12):
        shutil.copy(photos / "a.png", photos / f"more{number:02}.png")
    assert batch(photos, "-r", "-o", out.with_name("one")).exit_code == 0
    used: set[tuple[str, int]] = set()
    both = threading.Barrier(2, timeout=30)
    enlarge = PictureWork.enlarge

    def watched(self: PictureWork, opened: Any, index: int = 0) -> Any:
        if not any(index == other for _, other in used):
            used.add((threading.current_thread().name, index))
            both.wait()  # each device has begun a picture before either ends one
        return enlarge(self, opened, index)

    monkeypatch.setattr(PictureWork, "enlarge", watched)
    monkeypatch.setattr("emt_cli.jobs.networks.choose_devices", lambda names: ["cpu"] * 2)

    result = batch(photos, "-r", "-o", out)

    assert result.exit_code == 0, result.stderr
    assert {index for _, index in used} == {0, 1}
    assert len({name for name, _ in used}) == 2
    assert tree(out) == tree(out.with_name("one"))


def test_small_pictures_of_one_size_share_a_batch_where_it_is_faster(
    photos: Path, photo: np.ndarray, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        Image.fromarray(photo[number : number + 20, :30]).save(photos / f"like-{number}.png")
    alone = batch("--engine", "torch", "-r", photos, "-o", out)
    assert alone.exit_code == 0, alone.stderr
    sizes: list[int] = []
    together = Upscaler.upscale_batch

    def watched(self: Upscaler, images: list[np.ndarray], **options: Any) -> Any:
        sizes.append(len(images))
        return together(self, images, **options)

    def slow(self: Upscaler, *arguments: Any, **options: Any) -> Any:
        time.sleep(0.3)  # long enough for the others to be read
        return steps(self, *arguments, **options)

    steps = Upscaler.steps
    monkeypatch.setattr(Upscaler, "steps", slow)
    monkeypatch.setattr(Upscaler, "upscale_batch", watched)
    monkeypatch.setattr(Upscaler, "batch_size", lambda self, height, width: 3 if width == 30 else 1)
    shared = batch("--engine", "torch", "-r", photos, "-o", out.with_name("shared"), "-j", "4")

    assert shared.exit_code == 0, shared.stderr
    assert sizes
    assert set(sizes) <= {2, 3}
    one, other = out, out.with_name("shared")
    assert tree(one).keys() == tree(other).keys()
    for name in tree(one):
        pair = [np.asarray(Image.open(folder / name), np.int16) for folder in (one, other)]
        assert np.abs(pair[0] - pair[1]).max() <= (1 if name.endswith("png") else 8), name


def test_the_output_of_several_inputs_must_be_named_and_be_a_folder(photos: Path) -> None:
    assert batch(photos, photos / "sub").exit_code == 2
    assert batch(photos, "-o", photos / "a.png").exit_code == 2
    assert batch("-o", photos).exit_code == 2


def test_room_bounds_bytes_and_lets_a_large_one_in_alone() -> None:
    room, stop, inside, most = Room(100, 10), threading.Event(), [0], [0]
    lock = threading.Lock()

    def visit(size: int) -> None:
        assert room.take(size, stop)
        with lock:
            inside[0] += size
            most[0] = max(most[0], inside[0])
            alone = inside[0] == size
        time.sleep(0.002)
        with lock:
            assert size <= 100 or alone
            inside[0] -= size
        room.give(size)

    threads = [threading.Thread(target=visit, args=(size,)) for size in [30, 60, 250, 20, 50, 90, 120] * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)

    assert inside == [0]
    assert most == [250]


def test_pictures_under_way_stay_within_the_room_for_them(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emt_cli.jobs.batch import run

    for number in range(12):
        shutil.copy(photos / "a.png", photos / f"more{number:02}.png")
    held: list[int] = []
    take = Room.take

    def watched(self: Room, size: int, stop: threading.Event) -> bool:
        taken = take(self, size, stop)
        held.append(self._bytes)
        return taken

    monkeypatch.setattr(run, "room_for_pictures", lambda items, places, threads: Room(120_000, 99))
    monkeypatch.setattr(Room, "take", watched)

    result = batch(photos, "-o", out, "-j", "4")

    assert result.exit_code == 0
    assert 60_000 < max(held) <= 120_000


class Run:
    """A real process on many small pictures."""

    def __init__(self, photos: Path, out: Path, *more: str) -> None:
        command = [*EMT, "batch", *OPTIONS, str(photos), "-o", str(out), "-j", "1", *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_for(self, count: int) -> None:
        """Wait for so many lines of results."""
        assert self.process.stdout is not None
        for _ in range(count):
            assert self.process.stdout.readline(), self.process.stderr

    def end(self) -> tuple[str, str]:
        """Wait for the end."""
        return self.process.communicate(timeout=60)


@pytest.fixture
def many(photos: Path, photo: np.ndarray) -> Path:
    """A folder of 30 pictures."""
    folder = photos.parent / "many"
    folder.mkdir()
    for number in range(30):
        Image.fromarray(np.roll(photo, number, axis=0)).save(folder / f"{number:02}.png")
    return folder


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a Unix matter")
def test_after_kills_the_same_command_goes_on_to_the_same_results(many: Path, out: Path) -> None:
    straight = out.with_name("straight")
    assert batch(many, "-o", straight).exit_code == 0
    expected = tree(straight)
    for count in (3, 1, 6):
        run = Run(many, out)
        run.wait_for(count)
        run.process.send_signal(signal.SIGKILL)
        run.end()
        for name, data in tree(out).items():
            assert data == expected[name], "what is in its place is whole"

    last = batch(many, "-o", out, "--json")

    assert last.exit_code == 0, last.stderr
    assert len(events(last)["skipped"]) >= 10
    assert tree(out) == expected
    hidden = sorted(path.name for path in out.iterdir() if path.name.startswith("."))
    assert hidden == [JOURNAL]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_finishes_the_pictures_under_way(many: Path, out: Path, number: signal.Signals) -> None:
    run = Run(many, out)
    run.wait_for(2)
    run.process.send_signal(number)
    _, said = run.end()

    assert run.process.returncode == (-number if number == signal.SIGINT else 130)
    assert "stopping; the pictures under way are finished first" in said
    assert "go on with the same command" in said
    made = tree(out)
    assert 2 <= len(made) < 30
    assert {record["name"] for record in read_journal(out / JOURNAL)} == set(made)
    assert not list(out.glob(".emt-*.tmp"))


@pytest.mark.slow
def test_a_second_run_on_the_same_folder_is_refused_and_harms_nothing(many: Path, out: Path) -> None:
    run = Run(many, out)
    run.wait_for(1)

    second = batch(many, "-o", out)
    part = batch(many, "-o", out, "--shard", "1/2")

    assert run.process.poll() is None, "the first run was too quick for this test"
    run.end()
    assert (second.exit_code, part.exit_code) == (2, 2)
    assert "another run" in second.stderr
    assert run.process.returncode == 0
    assert len(tree(out)) == 30


def test_shards_run_side_by_side(photos: Path, out: Path) -> None:
    from emt_cli.errors import UsageError

    with BatchFolder(out, Shard(1, 2)).held(), BatchFolder(out, Shard(2, 2)).held():
        for shard in (Shard(), Shard(1, 2), Shard(1, 12)):
            with pytest.raises(UsageError, match="another run"), BatchFolder(out, shard).held():
                pass


def test_leftovers_of_killed_runs_are_removed_and_nothing_else(photos: Path, out: Path) -> None:
    (out / "sub").mkdir(parents=True)
    left = [out / "sub" / ".emt-batch-1of1-0123456789abcdef.tmp", out / ".emt-batch-2of3-0123.tmp"]
    others = [out / ".emt-0123456789abcdef.tmp", out / "sub" / "x.tmp"]
    for path in (*left, *others):
        path.write_bytes(b"half")

    batch(photos, "-o", out)

    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)


def test_a_disk_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)  # as of Q:\\ on Windows, whose parent it is

    with pytest.raises(OutputError, match="no such disk"):
        BatchFolder(Path("Q:/results")).free()

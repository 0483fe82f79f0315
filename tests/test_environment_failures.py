"""A machine with bad luck: no room, permission, terminal, home or streams; odd names, odd locales."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import corrupt_files
import numpy as np
import pytest
from campaign_disks import try_on_small_disk
from campaign_kills import yard
from PIL import Image
from processes import FORKS, Ended, emt, finish, start
from pytest_httpserver import HTTPServer

from emt_cli.assets import catalog

EMT = [sys.executable, "-m", "emt_cli"]
TRAINING = ["train", "--data", "pictures", "--steps", "3", "--accelerator", "cpu", "--out"]

posix = pytest.mark.skipif(os.name != "posix", reason="Unix has these")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a picture and a network that takes no time."""
    (tmp_path / "tiny.safetensors").write_bytes(corrupt_files.tiny_model())
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    return tmp_path


@pytest.fixture
def upscaling() -> list[str]:
    return ["upscale", "photo.png", "--model", "tiny.safetensors", "--scale", "2"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount(place, "size=64k")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def mount(place: Path, options: str) -> None:
    try:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip("only root of a Linux machine can make a small disk")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def settings() -> list[str]:
    """Of a network and patches that take no time."""
    tiny = vars(corrupt_files.TINY) | {"windows": [[8, 4], [4, 8]], "shifts": [[4, 2], [2, 4]], "heads": 1}
    pairs = [f"network.{key}={value}" for key, value in tiny.items()] + ["batch=1", "patch=8"]
    return [part for pair in pairs for part in ("--set", pair)]


def shell(line: str, work: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which $EMT stands for the program."""
    environment = {**os.environ, "EMT": " ".join(EMT), **env}
    return subprocess.run(
        ["sh", "-c", line], cwd=work, env=environment, capture_output=True, text=True, timeout=600
    )


def clean(ended: Ended | subprocess.CompletedProcess[str]) -> bool:
    return "Traceback" not in ended.stderr and "mistake" not in ended.stderr


# Disks


def test_full_disk_is_one_line_and_leaves_nothing(work: Path, disk: Path, upscaling: list[str]) -> None:
    (disk / "old.png").write_bytes(b"old")
    (disk / "filling").write_bytes(bytes(50_000))

    for name in ("new.png", "old.png"):
        ended = emt(*upscaling, "-y", "-o", f"disk/{name}", folder=work, talk=work / "talk")
        assert ended.code == 4
        assert ended.stderr.splitlines()[-1].endswith(
            "no room left on the disk; free some or choose another place"
        )

    assert names(disk) == ["filling", "old.png"]
    assert (disk / "old.png").read_bytes() == b"old"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "place", "size"),
    [
        ("upscale", "tmp", "size=4k"),
        ("batch", "out", "size=150k"),
        ("batch", "out", "nr_inodes=3"),
        ("video", "out", "size=60k"),
        ("video", "tmp", "nr_inodes=3"),
        ("train", "out", "size=150k"),
        ("train", "out", "size=1m"),
    ],
)
def test_with_a_small_disk_somewhere_a_command_ends_in_one_line_and_goes_on_with_room(
    work: Path, disk: Path, name: str, place: str, size: str
) -> None:
    pytest.importorskip("lightning_fabric" if name == "train" else "os")
    with yard(work / "yard", name) as site:
        site.run()
        whole = site.results()

        code, problems = try_on_small_disk(site, place, size, whole)

    assert problems == []
    assert code in (0, 4)


@pytest.mark.slow
def test_training_onto_a_full_disk_ends_in_one_line(work: Path, disk: Path) -> None:
    pytest.importorskip("lightning_fabric")
    (work / "pictures").mkdir()
    (work / "photo.png").rename(work / "pictures" / "photo.png")

    for filling in (0, 20_000, 40_000):
        (disk / "filling").write_bytes(bytes(filling))
        ended = emt(*TRAINING, f"disk/{filling}", *settings(), folder=work, talk=work / "talk")
        assert ended.code == 4, ended.stderr
        assert clean(ended)
        assert "No space" in ended.stderr or "room" in ended.stderr
        shutil.rmtree(disk / str(filling), ignore_errors=True)


def test_a_read_only_folder_is_one_line(work: Path, upscaling: list[str]) -> None:
    place = work / "readonly"
    place.mkdir()
    mount(place, "size=64k,ro")
    try:
        ended = emt(*upscaling, "-o", "readonly/a.png", folder=work, talk=work / "talk")
    finally:
        subprocess.run(["umount", str(place)], check=True)

    assert ended.code == 4
    assert "permission" in ended.stderr


def test_a_full_cache_is_one_line(work: Path, disk: Path, shared: Path) -> None:
    (disk / "filling").write_bytes(bytes(60_000))
    env = {"EMT_CACHE": str(disk)}

    ended = emt(
        "models", "pull", "emt", "--from", shared / "weights", folder=work, talk=work / "talk", env=env
    )

    assert ended.code == 4
    assert "EMT_CACHE" in ended.stderr
    assert names(disk) == ["filling"]


def test_a_cache_that_cannot_be_written_does_not_stop_upscaling(work: Path, upscaling: list[str]) -> None:
    (work / "file").write_bytes(b"")
    env = {"EMT_CACHE": str(work / "file" / "cache")}

    ended = emt(*upscaling, folder=work, talk=work / "talk", env=env)

    assert ended.code == 0, ended.stderr


# Inputs that vanish or change


def test_an_input_that_vanishes_is_told_and_the_others_go_on(work: Path, upscaling: list[str]) -> None:
    ended = emt(*upscaling, "gone.png", "-o", "out/", folder=work, talk=work / "talk")

    assert ended.code == 3
    assert names(work / "out") == ["photo_x2.png"]
    assert "gone.png: does not exist" in ended.stderr


@posix
def test_an_input_may_be_a_pipe(work: Path, upscaling: list[str]) -> None:
    os.mkfifo(work / "pipe.png")
    data = (work / "photo.png").read_bytes()
    writer = threading.Thread(target=lambda: (work / "pipe.png").write_bytes(data))
    writer.start()

    ended = emt("upscale", "pipe.png", *upscaling[2:], "-o", "a.png", folder=work, talk=work / "talk")
    writer.join()

    assert ended.code == 0, ended.stderr


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "/dev/urandom", "/"])
def test_a_device_is_no_picture_and_no_model(work: Path, name: str) -> None:
    if not Path(name).exists():
        pytest.skip("another system")

    for command in (["upscale", name, "-o", "a.png"], ["upscale", "photo.png", "--model", name]):
        ended = emt(*command, folder=work, talk=work / "talk")
        assert ended.code in (5, 8), ended.stderr
        assert clean(ended)


# Names


@posix
@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9 \xff.png",
        "größe 画像 🐈.png".encode(),
        b"new\nline.png",
        b"-s.png",
        b"$(touch x);`touch x`.png",
        b"'quote\".png",
        b" .png",
        b"[red]x[/red].png",
        b"\x1b[2J.png",
    ],
)
def test_any_name_is_a_name(work: Path, name: bytes, upscaling: list[str]) -> None:
    try:
        path = Path(os.fsdecode(os.fsencode(work) + b"/" + name))
        (work / "photo.png").rename(path)
    except OSError:
        pytest.skip("this file system does not hold such names")
    before = names(work)

    ended = emt("upscale", *upscaling[2:], "--", path.name, folder=work, talk=work / "talk")

    assert ended.code == 0, ended.stderr
    new = [other for other in names(work) if other not in (*before, "talk")]
    assert new == [f"{path.stem}_x2.png"]
    assert "\x1b" not in ended.stdout + ended.stderr
    assert len(ended.stdout.splitlines()) == 1


@pytest.mark.parametrize("length", [240, 251, 300, 5000])
def test_a_long_name_works_or_is_told_in_one_line(work: Path, length: int, upscaling: list[str]) -> None:
    name = "x" * length + ".png"
    with contextlib.suppress(OSError):  # asked for all the same
        (work / name).write_bytes((work / "photo.png").read_bytes())

    ended = emt("upscale", name, *upscaling[2:], folder=work, talk=work / "talk")

    assert ended.code == (0 if length == 240 else 4 if length == 251 else 8), ended.stderr
    assert clean(ended)
    assert not [path for path in names(work) if path.startswith(".emt-")]


@pytest.mark.parametrize("option", ["-o", "--model", "--format", "--device"])
def test_a_value_beyond_all_length_is_told_in_one_line(work: Path, option: str) -> None:
    ended = emt("upscale", "photo.png", option, "x" * 5000, folder=work, talk=work / "talk")

    assert ended.code in (2, 4, 5), ended.stderr
    assert clean(ended)


# Streams, terminals, locales, homes


@posix
@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_do_not_matter(work: Path, closed: str, upscaling: list[str]) -> None:
    done = shell(f"$EMT {' '.join(upscaling)} {closed}", work)

    assert done.returncode == 0, done.stderr
    with Image.open(work / "photo_x2.png") as image:
        assert image.size == (160, 120)


@posix
@pytest.mark.slow
def test_a_picture_for_a_closed_stdout_is_an_error(work: Path, upscaling: list[str]) -> None:
    done = shell(f"$EMT {' '.join(upscaling)} -o - >&-", work)

    assert done.returncode == 4
    assert clean(done)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
@pytest.mark.parametrize("command", ["", "models", "models --json", "--version", "upscale photo.png -o -"])
def test_a_full_stdout_is_an_error_in_one_line(work: Path, command: str) -> None:
    done = shell(f"$EMT {command} > /dev/full", work)

    assert done.returncode == 4, done.stderr
    assert clean(done)
    assert "no room" in done.stderr.lower() or "no space" in done.stderr.lower()


@posix
@pytest.mark.slow
def test_a_reader_that_goes_away_stops_the_talk_and_not_the_work(work: Path, upscaling: list[str]) -> None:
    for name in "abc":
        (work / f"{name}.png").write_bytes((work / "photo.png").read_bytes())

    done = shell(f"$EMT {' '.join(upscaling)} a.png b.png c.png -o out/ | true", work)

    assert clean(done)
    assert len(names(work / "out")) == 4


@posix
@pytest.mark.slow
@pytest.mark.parametrize(
    "env",
    [
        ["LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0"],
        ["PYTHONIOENCODING=ascii:strict"],
        ["LC_ALL=tr_TR.UTF-8"],
        [],
    ],
    ids=["C locale", "ASCII streams", "Turkish", "empty environment"],
)
def test_no_home_and_odd_locales_do_not_matter(work: Path, env: Sequence[str], upscaling: list[str]) -> None:
    (work / "photo.png").rename(work / "größe.png")
    command = ["env", "-i", *env, *EMT, "upscale", "größe.png", *upscaling[2:], "--verbose"]

    done = subprocess.run(command, cwd=work, capture_output=True, timeout=600)

    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert "größe_x2.png" in names(work)


@posix
@pytest.mark.slow
def test_no_colour_and_no_bar_without_a_terminal(work: Path, upscaling: list[str]) -> None:
    done = shell(f"FORCE_COLOR= TERM=xterm-256color $EMT {' '.join(upscaling)} --verbose", work)

    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr


@pytest.mark.skipif(not FORKS, reason="needs processes that start at once")
def test_two_processes_fill_one_cache_together(work: Path, shared: Path, httpserver: HTTPServer) -> None:
    file = catalog.RELEASED[2]
    httpserver.expect_request(f"/{file.name}").respond_with_data(
        (shared / "weights" / file.name).read_bytes()
    )
    env = {
        "EMT_CACHE": str(work / "cache"),
        "EMT_MIRROR": httpserver.url_for("").rstrip("/"),
        "NO_PROXY": "*",
    }
    talks = [work / f"talk{n}" for n in range(4)]

    command = ("models", "pull", "emt", "--scale", "4")
    processes = [start(*command, folder=work, talk=talk, env=env) for talk in talks]
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(finish, processes, talks))

    assert [one.code for one in ended] == [0] * 4, [one.stderr for one in ended]
    assert names(work / "cache") == [file.name]

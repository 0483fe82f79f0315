"""Commands killed at any moment: nothing is lost, nothing is half there, and the next run cleans up."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import corrupt_files
import numpy as np
import pytest
from campaign_kills import kill_again_and_again, yard
from PIL import Image
from processes import FORKS, emt, finish, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FORKS, reason="kills by the dozen need processes that start at once"),
]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a picture that takes a moment, and a network that takes none."""
    (tmp_path / "tiny.safetensors").write_bytes(corrupt_files.tiny_model())
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    (tmp_path / "out").mkdir()
    return tmp_path


def length(command: tuple[str, ...], work: Path) -> float:
    """Run a command twice and return the shorter time: the first may wait for what starts processes."""
    times = []
    for _ in range(2):
        (work / "out" / "photo_x2.png").unlink(missing_ok=True)
        began = time.perf_counter()
        assert emt(*command, folder=work, talk=work / "talk").code == 0
        times.append(time.perf_counter() - began)
    return min(times)


def moments(seconds: float, count: int, seed: int = 0) -> Iterator[float]:
    """Moments of a run that takes so long, early ones and late ones."""
    random = Random(seed)
    yield from (seconds * (index + random.random()) / count for index in range(count))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_upscale_killed_at_any_moment_leaves_no_half_result(work: Path, number: signal.Signals) -> None:
    command = ("upscale", "photo.png", "--model", "tiny.safetensors", "--scale", "2", "-o", "out/")
    seconds, whole = length(command, work), sha256(work / "out" / "photo_x2.png")
    (work / "out" / "photo_x2.png").unlink()
    codes = set()

    for moment in moments(seconds, 12):
        process = start(*command, folder=work, talk=work / "talk")
        time.sleep(moment)
        with contextlib.suppress(ProcessLookupError):  # it was quicker this time
            os.kill(process.pid or 0, number)
        ended = finish(process, work / "talk")
        codes.add(ended.code)
        assert "Traceback" not in ended.stderr
        if (result := work / "out" / "photo_x2.png").exists():
            assert sha256(result) == whole
            result.unlink()
        if number != signal.SIGKILL:
            assert names(work / "out") == []

    assert emt(*command, folder=work, talk=work / "talk").code == 0
    assert names(work / "out") == ["photo_x2.png"]
    assert sha256(work / "out" / "photo_x2.png") == whole
    assert codes & {-signal.SIGKILL, 143, 130, 129, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}


def test_overwriting_upscale_killed_at_any_moment_keeps_the_old_result_or_has_the_new(work: Path) -> None:
    command = (
        "upscale",
        "photo.png",
        "--model",
        "tiny.safetensors",
        "-s",
        "2",
        "-y",
        "-o",
        "out/photo_x2.png",
    )
    seconds, new = length(command, work), sha256(work / "out" / "photo_x2.png")
    result = work / "out" / "photo_x2.png"

    for moment in moments(seconds, 10, 1):
        result.write_bytes(b"old")
        process = start(*command, folder=work, talk=work / "talk")
        time.sleep(moment)
        process.kill()
        finish(process, work / "talk")
        assert result.read_bytes() == b"old" or sha256(result) == new

    assert emt(*command, folder=work, talk=work / "talk").code == 0
    assert names(work / "out") == ["photo_x2.png"]


@pytest.mark.parametrize("name", ["train", "pull", "batch-ray", "video-ray"])
def test_killed_again_and_again_a_command_ends_with_the_very_same_results(
    tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip("lightning_fabric" if name == "train" else "ray" if "ray" in name else "os")
    weights = request.getfixturevalue("shared") / "weights" if name == "pull" else None

    with yard(tmp_path, name, weights) as place:
        outcome = kill_again_and_again(place, 2 if "ray" in name else 8)

    assert outcome.problems == []

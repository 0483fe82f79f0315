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
from PIL import Image
from processes import FORKS, emt, finish, start
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from emt_cli.assets import catalog

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
    began = time.perf_counter()
    assert emt(*command, folder=work, talk=work / "talk").code == 0
    seconds, whole = time.perf_counter() - began, sha256(work / "out" / "photo_x2.png")
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
    began = time.perf_counter()
    assert emt(*command, folder=work, talk=work / "talk").code == 0
    seconds, new = time.perf_counter() - began, sha256(work / "out" / "photo_x2.png")
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


def test_training_killed_again_and_again_ends_with_the_very_same_model(work: Path) -> None:
    pytest.importorskip("lightning_fabric")
    (work / "pictures").mkdir()
    for name in "ab":
        Image.fromarray(corrupt_files.scene(48, 60)).save(work / "pictures" / f"{name}.png")
    tiny = vars(corrupt_files.TINY) | {"windows": [[8, 4], [4, 8]], "shifts": [[4, 2], [2, 4]]}
    pairs = [part for key, value in tiny.items() for part in ("--set", f"network.{key}={value}")]
    for key, value in (("batch", 1), ("patch", 8), ("checkpoint_every", 3), ("validate_every", 7)):
        pairs += ["--set", f"{key}={value}"]
    command = (
        "train",
        "--data",
        "pictures",
        "--val",
        "pictures",
        "--steps",
        "60",
        "--accelerator",
        "cpu",
        *pairs,
    )
    env = {"OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    assert emt(*command, "--out", "whole", folder=work, talk=work / "talk", env=env).code == 0
    seconds = time.perf_counter() - began
    kills = 0

    for moment in moments(seconds, 8, 2):
        process = start(
            *command, "--out", "run", "--resume", "auto", folder=work, talk=work / "talk", env=env
        )
        time.sleep(0.3 * seconds + 0.5 * moment)
        process.kill()
        ended = finish(process, work / "talk")
        kills += ended.code == -signal.SIGKILL
        assert ended.code in (0, -signal.SIGKILL), ended.stderr
    ended = emt(*command, "--out", "run", "--resume", "auto", folder=work, talk=work / "talk", env=env)

    assert kills
    assert (ended.code, ended.stdout) == (0, "run/best.safetensors\n"), ended.stderr
    assert weights(work / "run" / "last.safetensors") == weights(work / "whole" / "last.safetensors")
    assert [name for name in names(work / "run") if name.startswith(".emt-")] == []
    assert names(work / "run" / "checkpoints") == names(work / "whole" / "checkpoints")


def weights(path: Path) -> dict[str, bytes]:
    """The tensors of a model; its header tells of the time it took."""
    from emt_cli.engine.weights import load_weights

    return {name: tensor.tobytes() for name, tensor in load_weights(path).tensors.items()}


def test_pull_killed_at_any_moment_leaves_no_half_model(
    work: Path, shared: Path, httpserver: HTTPServer
) -> None:
    file = catalog.RELEASED[2]
    data = (shared / "weights" / file.name).read_bytes()

    def slowly(request: Request) -> Response:
        def pieces() -> Iterator[bytes]:
            for at in range(0, len(data), len(data) // 20):
                time.sleep(0.01)
                yield data[at : at + len(data) // 20]

        return Response(pieces(), headers={"Content-Length": str(len(data))})

    httpserver.expect_request(f"/{file.name}").respond_with_handler(slowly)
    cache = work / "cache"
    env = {"EMT_CACHE": str(cache), "EMT_MIRROR": httpserver.url_for("").rstrip("/"), "NO_PROXY": "*"}
    command = ("models", "pull", "emt", "--scale", "4")

    for moment in moments(1.5, 10, 3):
        process = start(*command, folder=work, talk=work / "talk", env=env)
        time.sleep(moment)
        process.kill()
        finish(process, work / "talk")
        found = [path for path in cache.glob("*") if not path.name.startswith(".emt-")]
        assert all(sha256(path) == file.sha256 for path in found)

    ended = emt(*command, folder=work, talk=work / "talk", env=env)
    assert (ended.code, ended.stdout) == (0, f"{cache / file.name}\n")
    assert names(cache) == [file.name]
    assert sha256(cache / file.name) == file.sha256

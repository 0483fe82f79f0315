"""Runs as processes: two that work together, and one that is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("lightning_fabric")
pytestmark = pytest.mark.slow

SETTINGS = {
    "network.scale": 2,
    "network.dim": 20,
    "network.layers": 3,
    "network.heads": 1,
    "network.windows": [[8, 4], [4, 8]],
    "network.shifts": [[4, 2], [2, 4]],
    "batch": 4,
    "patch": 12,
    "warmup": 2,
}


def start(pictures: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "emt_cli", "train", "--data", str(pictures), "--out", str(out)]
    command += ["--preset", "lite", "--accelerator", "cpu"]
    command += [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *options],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run(pictures: Path, out: Path, *options: str) -> None:
    process = start(pictures, out, *options)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


def first_worker(process: subprocess.Popen[str]) -> psutil.Process:
    """Return the first process that cuts patches, as soon as it begins."""
    for _ in range(30_000):
        assert process.poll() is None, process.communicate()
        for child in psutil.Process(process.pid).children():
            with contextlib.suppress(psutil.Error):  # it has ended
                if "spawn_main" in str(child.cmdline()):
                    return child
        time.sleep(0.002)
    raise AssertionError("no process began")


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def scores(out: Path) -> list[float]:
    return [line["loss"] for line in lines(out) if "loss" in line]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None
        time.sleep(0.1)
    raise AssertionError(f"{path} did not come")


@pytest.mark.parametrize("weight", [0, 1], ids=["alone", "with a discriminator"])
def test_two_processes_learn_what_one_does(tmp_path: Path, pictures: Path, weight: int):
    # Adam: Muon's products in bf16 would make more of the order of sums.
    keys = {
        "optimizer": "adam",
        "validate_every": 3,
        "discriminator.weight": weight,
        "discriminator.width": 4,
        "discriminator.learning_rate": 1e-3,
        "losses.sharpen": 0.5,
        "losses.grid_weight": 1,
    }
    options = ["--steps", "12", "--val", str(pictures)]
    options += [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]

    run(pictures, tmp_path / "one", *options, "--devices", "1")
    run(pictures, tmp_path / "two", *options, "--devices", "2")

    assert [line["processes"] for out in ("one", "two") for line in lines(tmp_path / out)[:1]] == [1, 2]
    assert scores(tmp_path / "two") == pytest.approx(scores(tmp_path / "one"), rel=2e-4)
    judged = [[line.get("loss_discriminator", 0) for line in lines(tmp_path / out)] for out in ("one", "two")]
    assert judged[1] == pytest.approx(judged[0], rel=2e-4)
    psnr = [[line["psnr"] for line in lines(tmp_path / out) if "psnr" in line] for out in ("one", "two")]
    assert psnr[1] == pytest.approx(psnr[0], abs=0.01)


def test_killed_run_goes_on_to_the_same_model(tmp_path: Path, pictures: Path):
    options = ("--steps", "150", "--set", "checkpoint_every=20")
    run(pictures, tmp_path / "whole", *options)
    process = start(pictures, tmp_path / "killed", *options)
    wait_for(tmp_path / "killed/checkpoints/step-00000040.pt", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed/last.safetensors").exists()

    run(pictures, tmp_path / "killed", *options, "--resume", "auto")

    assert scores(tmp_path / "killed")[1:] == scores(tmp_path / "whole")[1:]
    whole, killed = ((tmp_path / out / "last.safetensors").read_bytes() for out in ("whole", "killed"))
    assert tensors(whole) == tensors(killed)


@pytest.mark.parametrize("damage", ["bicubic", "photo"])
def test_patches_cut_by_other_processes_are_the_same(tmp_path: Path, pictures: Path, damage: str):
    options = ("--steps", "7", "--set", f"degradation={damage}")
    run(pictures, tmp_path / "threads", *options, "--workers", "0")
    run(pictures, tmp_path / "workers", *options, "--workers", "2")

    threads, workers = ((tmp_path / out / "last.safetensors").read_bytes() for out in ("threads", "workers"))
    assert tensors(threads) == tensors(workers)


def test_a_killed_process_that_cuts_patches_ends_the_run_in_one_line(tmp_path: Path, pictures: Path):
    options = ("--workers", "2", "--steps", "100000", "--set", "checkpoint_every=20")
    process = start(pictures, tmp_path / "run", *options)
    wait_for(tmp_path / "run/checkpoints/step-00000020.pt", process)
    workers = [
        child for child in psutil.Process(process.pid).children() if "spawn_main" in str(child.cmdline())
    ]
    assert len(workers) == 2

    workers[0].kill()
    _, said = process.communicate(timeout=120)

    assert process.returncode == 7, said
    assert "a process that cuts patches has ended" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not psutil.pid_exists(workers[1].pid) or workers[1].wait(30) is not None


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_stopped_run_saves_first_and_says_how_to_go_on(
    tmp_path: Path, pictures: Path, workers: str, sent: signal.Signals
):
    options = ("--steps", "100000", "--set", "checkpoint_every=100", "--workers", workers)
    process = start(pictures, tmp_path / "run", *options)
    wait_for(tmp_path / "run/checkpoints/step-00000100.pt", process)

    for child in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
        child.send_signal(sent)  # as a terminal and a cluster do
    _, said = process.communicate(timeout=60)

    assert process.returncode == (130 if sent == signal.SIGTERM else -signal.SIGINT)
    assert "--resume auto goes on from there" in said
    step = max(int(path.stem[5:]) for path in (tmp_path / "run/checkpoints").iterdir())
    assert lines(tmp_path / "run")[-1]["step"] == step


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_run_stopped_while_its_processes_begin_ends_as_any_other(
    tmp_path: Path, pictures: Path, sent: signal.Signals
):
    process = start(pictures, tmp_path / "run", "--steps", "100000", "--workers", "2")
    for child in (psutil.Process(process.pid), first_worker(process)):
        child.send_signal(sent)
    _, said = process.communicate(timeout=60)

    assert process.returncode == (130 if sent == signal.SIGTERM else -signal.SIGINT), said
    assert "--resume auto goes on from there" in said
    assert "Traceback" not in said


def test_a_killed_worker_ends_the_run_in_one_line_with_the_way_to_go_on(tmp_path: Path, pictures: Path):
    options = ("--devices", "2", "--steps", "100000", "--set", "checkpoint_every=20")
    process = start(pictures, tmp_path / "run", *options)
    wait_for(tmp_path / "run/checkpoints/step-00000020.pt", process)
    children = psutil.Process(process.pid).children()
    (worker,) = (child for child in children if "--preset" in child.cmdline())

    worker.kill()
    _, said = process.communicate(timeout=120)

    assert process.returncode == 7, said
    assert "another process of the run has ended" in said.splitlines()[-1]
    assert "--resume auto" in said.splitlines()[-1]
    assert "Traceback" not in said


def tensors(model: bytes) -> bytes:
    """Return a safetensors file without its header, which says how long the run took."""
    return model[8 + int.from_bytes(model[:8], "little") :]

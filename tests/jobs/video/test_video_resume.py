"""A job that is killed, again and again, gives the same video in the end as one that is left alone."""

from __future__ import annotations

import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import clips
import processes
import pytest

from emt_cli.engine.weights import save_weights
from emt_cli.jobs.journal import read_journal
from emt_cli.jobs.video.segments import work_path
from emt_cli.model.emt import EMT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="Windows has neither of these signals"),
]

KILLS = 10


def start(model: Path, clip: Path, output: Path, *, talk: str = ".talk") -> BaseProcess:
    """Start `emt video` in a process of its own."""
    options = ["--model", model, "--scale", "2", "--codec", "ffv1", "--segment", "6"]
    return processes.start(
        "video", clip, "-o", output, *options,
        folder=clip.parent, talk=output.with_suffix(talk), env={"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def end(process: BaseProcess, output: Path) -> processes.Ended:
    """Wait for its end."""
    return processes.finish(process, output.with_suffix(".talk"))


@pytest.fixture
def model(tmp_path: Path, tiny_network: EMT) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, tiny_network.config, tiny_network.state_dict(), {"name": "tiny"})
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip with B-frames and sound that takes the tiny network some seconds."""
    return clips.clip(tmp_path / "clip.mkv", "-bf", "2", "-g", "20", size="192x144", seconds=4, audio=True)


def works(process: BaseProcess, output: Path) -> bool:
    """Wait until a job has begun to work; False if it has ended before."""
    while process.is_alive() and not work_path(output).exists():
        time.sleep(0.01)
    return process.is_alive()


def assert_same(killed: Path, whole: Path, clip: Path) -> None:
    assert clips.shown(killed) == clips.shown(whole)
    assert clips.times(killed) == clips.times(clip)
    assert clips.packets(killed, "0:a:0") == clips.packets(clip, "0:a:0")
    assert not work_path(killed).exists()


def test_kills_at_random_moments_change_nothing(tmp_path: Path, model: Path, clip: Path) -> None:
    whole, killed = tmp_path / "whole.mkv", tmp_path / "killed.mkv"
    process = start(model, clip, whole)
    began = time.monotonic() if works(process, whole) else 0
    ended = end(process, whole)
    length = time.monotonic() - began
    assert ended.code == 0, ended.stderr
    chance = random.Random(5)

    kills, kept, most = 0, 0, 0
    while kills < KILLS or not killed.exists():
        process = start(model, clip, killed)
        if kills < KILLS and works(process, killed):
            time.sleep(chance.uniform(0, length))
            process.kill()
        ended = end(process, killed)
        assert ended.code in (0, -signal.SIGKILL), ended.stderr
        kills += ended.code == -signal.SIGKILL
        before, kept = kept, len(read_journal(work_path(killed) / "journal.jsonl"))
        assert kept >= before or killed.exists(), "finished segments were lost"
        most = max(most, kept)
        if killed.exists():
            if ended.code == -signal.SIGKILL:  # after the result had its name, before the end
                assert end(start(model, clip, killed), killed).code == 6, "a finished result was made again"
            assert_same(killed, whole, clip)
            if kills < KILLS:
                killed.unlink()
                kept = 0

    assert most > 1, "no kill found finished work"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_process_with_130_and_words_on_how_to_go_on(
    tmp_path: Path, model: Path, clip: Path, number: int
) -> None:
    output = tmp_path / "out.mkv"
    process = start(model, clip, output)
    assert works(process, output)
    time.sleep(0.3)
    os.kill(process.pid or 0, number)
    ended = end(process, output)

    assert ended.code == (-number if number == signal.SIGINT else 130), ended.stderr
    assert "the same command goes on from there" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not output.exists()


def test_a_second_process_on_the_same_result_is_refused(tmp_path: Path, model: Path, clip: Path) -> None:
    output = tmp_path / "out.mkv"
    first = start(model, clip, output)
    assert works(first, output)

    refused = processes.finish(start(model, clip, output, talk=".second"), output.with_suffix(".second"))
    ended = end(first, output)

    assert refused.code == 2
    assert "another emt is making it" in refused.stderr
    assert ended.code == 0, ended.stderr


def test_memory_does_not_grow_with_the_length_of_a_clip(tmp_path: Path, model: Path) -> None:
    # Both are long enough to fill all queues.
    short = clips.clip(tmp_path / "short.mp4", size="160x120", seconds=15)
    long = clips.clip(tmp_path / "long.mp4", size="160x120", seconds=45)
    worker = processes.Worker(tmp_path / "worker", memory=4 << 30, seconds=200)

    def grown(clip: Path) -> int:
        arguments = ("video", str(clip), "--model", str(model), "--scale", "2", "--segment", "25")
        ended = worker.run(processes.command, *arguments, folder=tmp_path)
        assert ended.code == 0, ended.stderr
        return ended.grown

    grown(clips.clip(tmp_path / "first.mp4", size="160x120", seconds=2))
    little, much = grown(short), grown(long)
    worker.close()

    assert much < little + (12 << 20)

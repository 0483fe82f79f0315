"""A video on real Ray clusters of two nodes on this machine: the same as one made without, whatever dies.

Ray and PyAV share no process here: the cluster lives in the test's, `emt video` in one of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import clips
import pytest

from emt_cli.engine.weights import save_weights
from emt_cli.jobs.journal import read_journal
from emt_cli.jobs.video.segments import work_path
from emt_cli.model.emt import EMT

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

SEGMENTS = 10


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_network: EMT) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_weights(path, tiny_network.config, tiny_network.state_dict(), {"name": "tiny"})
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with B-frames, open GOPs that no segment fits and sound, of SEGMENTS segments."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return clips.clip(
        path, "-bf", "3", "-g", "33", "-x264-params", "open-gop=1", size="256x192", seconds=8, audio=True
    )


@pytest.fixture(scope="module")
def local(clip: Path, model: Path) -> Path:
    """What the clip becomes without Ray."""
    path = clip.with_name("local.mkv")
    done = subprocess.run(command(clip, model, path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A cluster of two nodes with one processor each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def command(clip: Path, model: Path, output: Path, *more: str) -> list[str]:
    options = ["--model", str(model), "--scale", "2", "--segment", "20", "-o", str(output), "--json"]
    return [sys.executable, "-m", "emt_cli", "video", str(clip), *options, *more]


def start(clip: Path, model: Path, output: Path, cluster: Any) -> subprocess.Popen[str]:
    """Start `emt video` on the cluster, and wait for its third segment."""
    process = subprocess.Popen(
        command(clip, model, output, "--ray", cluster.address),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while kept(output) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


def kept(output: Path) -> int:
    """Segments that are noted as finished."""
    return sum("segment" in record for record in read_journal(work_path(output) / "journal.jsonl"))


def assert_same(output: Path, local: Path, clip: Path) -> None:
    assert clips.shown(output) == clips.shown(local)
    assert clips.times(output) == clips.times(clip)
    assert clips.packets(output, "0:v:0") == clips.packets(local, "0:v:0")
    assert clips.packets(output, "0:a:0") == clips.packets(clip, "0:a:0")
    assert not work_path(output).exists()


def test_a_node_dies_and_the_video_is_the_one_of_a_local_run(
    tmp_path: Path, clip: Path, model: Path, local: Path, nodes: Any
) -> None:
    output = tmp_path / "out.mkv"

    process = start(clip, model, output, nodes)
    victim = next(node for node in nodes.list_all_nodes() if not node.head)
    nodes.remove_node(victim, allow_graceful=False)
    stdout, stderr = process.communicate(timeout=200)

    assert process.returncode == 0, stderr
    events = [json.loads(line) for line in stdout.splitlines()]
    assert events[-1]["verified"], events[-1]["checks"]
    assert events[-1]["resumed"] == 0
    assert_same(output, local, clip)


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_stopped_killed_and_without_its_cluster_it_goes_on_with_what_is_done(
    tmp_path: Path, clip: Path, model: Path, local: Path, nodes: Any
) -> None:
    output = tmp_path / "out.mkv"

    process = start(clip, model, output, nodes)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == -signal.SIGINT, stderr
    assert "the same command goes on from there" in stderr
    assert "Traceback" not in stderr
    stopped = kept(output)
    assert 3 <= stopped < SEGMENTS

    process = start(clip, model, output, nodes)
    process.kill()
    process.communicate(timeout=100)
    killed = kept(output)
    assert stopped <= killed < SEGMENTS

    done = subprocess.run(command(clip, model, output), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["resumed"] == 20 * killed
    assert_same(output, local, clip)


def test_nodes_that_see_another_file_are_named_before_the_work(
    tmp_path: Path, clip: Path, model: Path
) -> None:
    from emt_cli.jobs.cluster.shared_storage import Mark
    from emt_cli.jobs.target import Target
    from emt_cli.jobs.video.on_ray import VideoWorker, VideoWorkers
    from emt_cli.jobs.video.plan import VideoJob
    from emt_cli.jobs.video.task import Settings

    job = VideoJob(Settings(target=Target(2), model=str(model)))
    task = job.open(clip, tmp_path / "out.mkv")
    probe = tmp_path / "probe"
    probe.write_text("another")
    mark = Mark(probe, "token", tmp_path.parent, "0.0.1")
    order = VideoWorkers(job.settings, task, 64, "0" * 64, ("bf16 kernels",), tmp_path, mark, 1)
    expected = (
        "0.0.1 where",
        "another folder",
        "another file there",
        "weights are others",
        "in bf16 kernels;",
    )

    problems = VideoWorker(order, 1).problems()

    assert len(problems) == len(expected)
    for problem, words in zip(problems, expected, strict=True):
        assert words in problem


def test_a_worker_counts_its_own_memory_not_the_drivers(
    tmp_path: Path, clip: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emt_cli.jobs.cluster.shared_storage import Mark
    from emt_cli.jobs.target import Target
    from emt_cli.jobs.video.on_ray import VideoWorker, VideoWorkers
    from emt_cli.jobs.video.plan import VideoJob
    from emt_cli.jobs.video.task import Settings

    monkeypatch.setattr("emt_cli.engine.native.runner.cpu_threads", lambda: 2)
    job = VideoJob(Settings(target=Target(2), model=str(model), engine="native"))
    task = replace(job.open(clip, tmp_path / "out.mkv"), memory=1 << 60)  # of a driver with many GPUs
    mark = Mark(tmp_path / "probe", "token", tmp_path.parent, "0.0.1")
    order = VideoWorkers(job.settings, task, 64, "0" * 64, ("fp32",), tmp_path, mark, 1)

    assert VideoWorker(order, 2).task.places == (0, 0)

"""Work on real Ray clusters of several nodes on this machine: nothing lost, whatever dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from typer.testing import CliRunner

from emt_cli.cli import app
from emt_cli.commands.defaults import ConfiguredCommand
from emt_cli.commands.options import RayCommand
from emt_cli.errors import DeviceError, UsageError
from emt_cli.jobs.cluster.scheduler import LOCAL, Completed, Share, connected, spread

EMT = [sys.executable, "-m", "emt_cli"]
OPTIONS = ["--model", "emt-lite", "--scale", "2"]
RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]

ray = pytest.importorskip("ray")
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests


class Squarer:
    """Squares numbers; some of them kill it."""

    def __init__(self, cpus: int, *, problem: str = "", deadly: int = -1, once: str = "") -> None:
        self.problem, self.deadly, self.once = problem, deadly, once

    def problems(self) -> list[str]:
        return [self.problem] if self.problem else []

    def __call__(self, number: int) -> int:
        if number == self.deadly and not (self.once and Path(self.once).exists()):
            if self.once:
                Path(self.once).touch()
            os._exit(1)
        if number == 13:
            raise ValueError("thirteen")
        return number * number


@pytest.fixture(scope="module")
def one_machine() -> Iterator[None]:
    """A cluster of this machine alone."""
    with connected(LOCAL):
        yield


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at sockets as Linux shows them")
def test_a_cluster_of_its_own_is_closed_to_others_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import os, psutil, stat, sys; from pathlib import Path;"
        "from emt_cli.jobs.cluster.scheduler import LOCAL, connected\n"
        "with connected(LOCAL):\n"
        "    import ray; ray.get(ray.remote(lambda: 1).remote())\n"
        "    me = psutil.Process()\n"
        "    sockets = [s for p in [me, *me.children(recursive=True)] for s in p.net_connections('tcp')]\n"
        "    print(sorted({s.laddr.ip for s in sockets if s.status == 'LISTEN'}))\n"
        "    folder = Path(ray._private.worker._global_node.get_temp_dir_path()).parent\n"
        "    print(oct(folder.stat().st_mode & 0o777))\n"
        "print(folder.exists(), 'RAY_AUTH_TOKEN' in os.environ, os.listdir(Path.home()))\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)

    listening, mode, after = done.stdout.splitlines()
    assert set(json.loads(listening.replace("'", '"'))) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, (
        done.stderr
    )
    assert mode == "0o700"
    assert after == "False False []"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="clusters of several machines need Linux")
@pytest.mark.parametrize("token", [False, True], ids=["without a token", "with a token"])
def test_the_recipe_for_several_machines_works_after_a_run_on_one(
    photos: Path, tmp_path: Path, token: bool
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "EMT_CACHE": str(tmp_path / "cache")}
    emt = [*EMT, "batch", *OPTIONS, str(photos), "-q"]
    alone = subprocess.run([*emt, "-o", str(tmp_path / "alone"), "--ray"], env=environment)
    environment["RAY_TMPDIR"] = f"/tmp/emt-test-{os.getpid()}"
    if token:
        environment["RAY_AUTH_MODE"] = "token"
        subprocess.run([*RAY, "get-auth-token", "--generate"], env=environment, check=True)
    head = ["start", "--head", "--port=6390", "--num-cpus=2", "--include-dashboard=false"]
    subprocess.run([*RAY, *head], env=environment, check=True)
    try:
        command = [*emt, "-o", str(tmp_path / "both"), "--ray", "127.0.0.1:6390"]
        both = subprocess.run(command, env=environment, capture_output=True, text=True)
    finally:
        _stop_ray(tmp_path)

    assert (alone.returncode, both.returncode) == (0, 0), both.stderr
    assert pictures(tmp_path / "both") == pictures(tmp_path / "alone")


def _stop_ray(home: Path) -> None:
    """End the processes of this test's cluster, and no other's."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HOME", "").startswith(str(home)):
                process.kill()


def results(make: Any, count: int = 12, said: list[str] | None = None) -> dict[int, Any]:
    """Spread the squaring of numbers, and return what came back of each."""
    say = (said if said is not None else []).append
    events = spread(range(count), make, share=Share(), stop=threading.Event(), say=say)
    back = [event for event in events if isinstance(event, Completed)]
    assert len({event.item for event in back}) == len(back), "each once"
    return {event.item: event.error or event.result for event in back}


@pytest.mark.slow
def test_every_item_comes_back_once(one_machine: None) -> None:
    assert results(Squarer) == {number: number * number for number in range(12)}


@pytest.mark.slow
def test_an_error_ends_its_item_alone(one_machine: None) -> None:
    back = results(Squarer, 16)

    assert isinstance(back[13], ValueError)
    assert sum(isinstance(value, int) for value in back.values()) == 15


@pytest.mark.slow
def test_an_item_whose_worker_died_is_done_again(one_machine: None, tmp_path: Path) -> None:
    make = partial(Squarer, deadly=5, once=str(tmp_path / "died"))

    assert results(make) == {number: number * number for number in range(12)}
    assert (tmp_path / "died").exists()


@pytest.mark.slow
def test_an_item_that_kills_every_worker_is_given_up(one_machine: None) -> None:
    back = results(partial(Squarer, deadly=5))

    assert isinstance(back[5], DeviceError)
    assert sum(isinstance(value, int) for value in back.values()) == 11


@pytest.mark.slow
def test_nodes_that_cannot_do_the_work_are_named_before_it(one_machine: None) -> None:
    with pytest.raises(UsageError, match=r"node .*: no storage here"):
        results(partial(Squarer, problem="no storage here"))


@pytest.mark.slow
def test_a_stop_hands_out_nothing_more(one_machine: None) -> None:
    stop = threading.Event()
    back = 0

    for event in spread(range(10**6), Squarer, share=Share(), stop=stop, say=print):
        if isinstance(event, Completed):
            back += 1
            stop.set()

    assert 1 <= back < 100


def test_addresses_where_nothing_answers_are_refused_at_once() -> None:
    start = time.perf_counter()

    with pytest.raises(DeviceError, match=r"127\.0\.0\.1:1"), connected("127.0.0.1:1"):
        pass

    assert time.perf_counter() - start < 20


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (["--ray", "photos"], ["--ray=local", "photos"]),
        (["photos", "--ray"], ["photos", "--ray=local"]),
        (["--ray", "-q"], ["--ray=local", "-q"]),
        (["--ray", "head:6379"], ["--ray", "head:6379"]),
        (["--ray", "auto"], ["--ray", "auto"]),
        (["--ray=ray://h:1"], ["--ray=ray://h:1"]),
        (["--", "--ray"], ["--", "--ray"]),
    ],
)
def test_ray_may_stand_alone(given: list[str], seen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    monkeypatch.setattr(ConfiguredCommand, "parse_args", lambda self, ctx, args: parsed.extend(args) or [])

    RayCommand("x").parse_args(None, given)

    assert parsed == seen


@pytest.fixture
def photos(tmp_path: Path, photo: np.ndarray) -> Path:
    """A folder of 24 pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(24):
        Image.fromarray(np.tile(np.roll(photo, number, axis=0), (2, 2, 1))).save(folder / f"{number:02}.png")
    return folder


def pictures(folder: Path) -> dict[str, bytes]:
    """The visible files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes with one processor each."""
    from ray.cluster_utils import Cluster

    if ray.is_initialized():
        ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def start(photos: Path, out: Path, cluster: Any) -> subprocess.Popen[str]:
    """Start `emt batch` on the cluster, and wait for its third result."""
    command = [*EMT, "batch", *OPTIONS, str(photos), "-o", str(out), "--ray", cluster.address, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(3):
        while '"event": "done"' not in (line := process.stdout.readline()):
            assert line, process.stderr and process.stderr.read()
    return process


@pytest.mark.slow
def test_a_node_dies_and_every_result_is_the_one_of_a_local_run(
    photos: Path, tmp_path: Path, nodes: Any
) -> None:
    local = CliRunner().invoke(app, ["batch", *OPTIONS, str(photos), "-o", str(tmp_path / "local")])
    assert local.exit_code == 0, local.stderr

    process = start(photos, tmp_path / "out", nodes)
    victim = next(node for node in nodes.list_all_nodes() if not node.head)
    nodes.remove_node(victim, allow_graceful=False)
    stdout, stderr = process.communicate(timeout=120)

    assert process.returncode == 0, stderr
    assert json.loads(stdout.splitlines()[-1])["done"] == 24
    assert pictures(tmp_path / "out") == pictures(tmp_path / "local")
    assert not list((tmp_path / "out").glob(".emt-*.tmp"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_after_a_stop_and_the_end_of_the_cluster_the_same_command_goes_on(
    photos: Path, tmp_path: Path, nodes: Any
) -> None:
    out = tmp_path / "out"
    process = start(photos, out, nodes)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    stopped = len(pictures(out))
    assert 3 <= stopped < 24

    process = start(photos, out, nodes)
    for node in nodes.list_all_nodes():
        node.kill_all_processes(check_alive=False, allow_graceful=False)
    stdout, stderr = process.communicate(timeout=120)

    assert process.returncode == 7, stderr
    summary = json.loads(stdout.splitlines()[-1])
    assert "the cluster is gone" in summary["message"]
    assert summary["left"] > 0
    some = len(pictures(out))
    assert stopped < some < 24
    last = CliRunner().invoke(app, ["batch", *OPTIONS, str(photos), "-o", str(out), "--json"])
    summary = json.loads(last.stdout.splitlines()[-1])
    assert last.exit_code == 0
    assert summary["skipped"] >= some
    assert len(pictures(out)) == 24
    assert not list(out.glob(".emt-*.tmp"))

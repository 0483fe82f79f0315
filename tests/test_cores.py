"""Threads: as many as are asked for, and no more than are granted."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from queue import SimpleQueue

import numpy as np
import pytest

from emt_cli import cores
from emt_cli.cores import cpu_threads
from emt_cli.engine.native.runner import NativeRunner
from emt_cli.engine.native.turns import Turn
from emt_cli.engine.torch.network import weights_of
from emt_cli.media.samples import in_order
from emt_cli.model.emt import EMT
from emt_cli.steps import finish

AFFINITY = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no taskset on this system")


@pytest.mark.parametrize(
    ("asked", "threads"), [("1", 1), ("3", 3), ("3,2", 3), ("99", 4), ("many", 4), ("", 4)]
)
def test_omp_num_threads_counts_up_to_what_is_there(
    monkeypatch: pytest.MonkeyPatch, asked: str, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr("emt_cli.cores.psutil.cpu_count", lambda logical: 4)
    monkeypatch.setattr("emt_cli.cores.group_cores", lambda: 1 << 60)
    monkeypatch.setattr(cores, "_threads", None)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)

    assert cpu_threads() == threads


def test_a_container_s_share_of_the_processors_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr("emt_cli.cores.psutil.cpu_count", lambda logical: 64)
    monkeypatch.setattr("emt_cli.cores.group_cores", lambda: 3)
    monkeypatch.setattr(cores, "_threads", None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    assert cpu_threads() == 3


@AFFINITY
def test_a_process_tied_to_one_processor_computes_with_one_thread() -> None:
    code = "from emt_cli.cores import cpu_threads; print(cpu_threads())"
    one = min(os.sched_getaffinity(0))
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {one}),
    )

    assert int(done.stdout) == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_the_network_and_encoders_start_as_many_threads(
    tiny_network: EMT, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(cores, "_threads", threads)
    at_work: set[int] = set()
    together = threading.Barrier(threads)

    def work(_: int) -> None:
        at_work.add(threading.get_ident())
        together.wait(10)  # all of them are there, and no thread does two pieces

    free: SimpleQueue[int] = SimpleQueue()
    for number in range(threads):
        free.put(number)
    finish(NativeRunner(weights_of(tiny_network)).share_out([Turn([work] * threads, 0, 1)], free))
    kernels, at_work = at_work, set()
    list(in_order(work, range(threads)))

    assert len(kernels) == len(at_work) == threads


def test_the_answer_does_not_depend_on_the_threads_granted(
    tiny_network: EMT, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []
    for threads in (1, 16):
        monkeypatch.setattr(cores, "_threads", threads)
        answers.append(NativeRunner(weights_of(tiny_network))(photo.astype(np.float32)))

    np.testing.assert_array_equal(*answers)

"""The batches of a run, cut ahead of its steps: by threads, or by processes where a GPU would wait."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from emt_cli.cores import allowed_cores
from emt_cli.stop import ENDING
from emt_cli.training.config import TrainConfig
from emt_cli.training.dataset import Patches, PictureMix
from emt_cli.training.degradation_mix import make_degradation
from emt_cli.training.start import Place

AHEAD = 4
"""Batches that lie ready, for each process that cuts them."""
MOST_WORKERS = 8
"""Processes beside a GPU unless more are asked for."""
WORKER_LOST = re.compile(r"DataLoader worker .*(exited unexpectedly|killed by signal)", re.DOTALL)
"""What PyTorch's error says when one of them is gone."""


def workers_for(place: Place, device: torch.device) -> int:
    """Return how many processes cut the patches of one device.

    Beside a processor that computes there are none unless asked for: they would take from it what they give.
    """
    if place.workers is not None:
        return place.workers
    if device.type == "cpu":
        return 0
    # Not cpu_threads(): launchers have shared the threads out by then.
    return min(MOST_WORKERS, max(1, allowed_cores() // place.devices - 1))


class Cut(Dataset[Patches]):
    """One process's part of the batch of each step."""

    def __init__(self, config: TrainConfig, store: PictureMix, rank: int, processes: int) -> None:
        self.config, self.store = config, store
        share = config.batch // processes
        self.part = slice(rank * share, (rank + 1) * share)
        self.degrade = make_degradation(config)

    def __getitem__(self, step: int) -> Patches:
        """Cut the batch of a step, counted from 0: the same in whatever process."""
        config = self.config
        return self.store.draw(
            config.seed, step, batch=config.batch, side=config.patch, part=self.part, degrade=self.degrade
        )


@contextmanager
def cut_ahead(cut: Cut, step: int, *, workers: int = 0) -> Iterator[Iterator[Patches]]:
    """Yield the batches of a step and of all that follow; workers: processes, 0 for threads of this one."""
    steps = range(step, cut.config.steps)
    if not workers:
        pool = ThreadPoolExecutor(AHEAD)
        try:
            yield _by_threads(cut, steps, pool)
        finally:
            pool.shutdown(cancel_futures=True)
        return
    # More processes than there are cores were asked for.
    warnings.filterwarnings("ignore", "This DataLoader will create")
    loader = DataLoader(
        cut,
        batch_size=None,
        sampler=steps,
        num_workers=min(workers, max(1, len(steps))),
        prefetch_factor=AHEAD,
        worker_init_fn=_begin_worker,
        multiprocessing_context="spawn",  # a fork would inherit threads and the GPU's state
    )
    with _no_signals():
        batches: Any = iter(loader)
    try:
        yield batches
    finally:
        batches._shutdown_workers()  # what its __del__ calls, which waits for whoever holds it after an error
        for worker in batches._workers:  # those that wait for a dead one's lock; they ignore SIGTERM
            worker.kill()


@contextmanager
def _no_signals() -> Iterator[None]:
    """Hold back what ends a run, also in processes begun meanwhile, which soon ignore it."""
    if sys.platform == "win32":
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # which would let signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _by_threads(cut: Cut, steps: range, pool: ThreadPoolExecutor) -> Iterator[Patches]:
    waiting: dict[int, Future[Patches]] = {}
    for step in steps:
        for ahead in steps[step - steps.start :][:AHEAD]:
            if ahead not in waiting:
                waiting[ahead] = pool.submit(cut.__getitem__, ahead)
        yield waiting.pop(step).result()


def _begin_worker(number: int) -> None:
    """Leave signals to the process that trains, which stops with a checkpoint; end when it has ended."""
    for sent in ENDING:  # they go to all of a job's processes, as a rule
        signal.signal(sent, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(0)


def _end_with_parent() -> None:
    """End at once where no one reads any more: batches wait in a pipe that is full."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(0)

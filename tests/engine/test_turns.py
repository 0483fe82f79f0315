"""Pieces of work in turns: in which order, on which memory, and what an error or a stop leaves undone."""

from __future__ import annotations

import time
from functools import partial
from queue import SimpleQueue

import pytest

from emt_cli.engine.native.runner import NativeRunner
from emt_cli.engine.native.turns import Turn
from emt_cli.engine.torch.network import weights_of
from emt_cli.model.emt import EMT
from emt_cli.steps import finish

THREADS = 3


@pytest.fixture
def runner(tiny_network: EMT) -> NativeRunner:
    return NativeRunner(weights_of(tiny_network), threads=THREADS)


def slots() -> SimpleQueue[int]:
    free: SimpleQueue[int] = SimpleQueue()
    for slot in range(THREADS):
        free.put(slot)
    return free


def test_a_piece_begins_when_the_turns_it_waits_for_are_through_and_has_memory_of_its_own(
    runner: NativeRunner,
) -> None:
    after = [0, 0, 1, 1, 4, 3, 6, 7]
    ended, in_use, early, shared = [], [], [], []

    def piece(number: int, slot: int) -> None:
        early.extend(turn for turn in range(after[number]) if ended.count(turn) < 2)
        shared.extend([slot] if slot in in_use else [])
        in_use.append(slot)
        time.sleep(0.001 * (1 + number % 3))
        in_use.remove(slot)
        ended.append(number)

    turns = [
        Turn([partial(piece, number)] * 2, first, number / len(after)) for number, first in enumerate(after)
    ]
    finish(runner.share_out(turns, slots()))

    assert sorted(ended) == sorted([*range(len(after))] * 2)
    assert not early
    assert not shared


def test_an_error_in_a_piece_is_raised_and_ends_what_has_not_begun(runner: NativeRunner) -> None:
    begun = []

    def piece(number: int, _: int) -> None:
        begun.append(number)
        if number == 4:
            raise ValueError("piece 4")
        time.sleep(0.001)

    turns = [Turn([partial(piece, number)], max(0, number - 2), 0) for number in range(1000)]
    with pytest.raises(ValueError, match="piece 4"):
        finish(runner.share_out(turns, slots()))

    assert 4 in begun
    assert len(begun) < 1000


def test_closed_work_begins_no_piece_any_more(runner: NativeRunner) -> None:
    begun = []

    def piece(number: int, _: int) -> None:
        begun.append(number)
        time.sleep(0.01)

    turns = [Turn([partial(piece, number)], 0, 0) for number in range(300)]
    steps = runner.share_out(turns, slots())
    next(steps)
    steps.close()
    count = len(begun)
    time.sleep(0.05)

    assert len(begun) == count < 300

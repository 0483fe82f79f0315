"""How much of an enlargement runs on all threads, and what that means for more of them (Amdahl's law).

    python tests/parallel_share.py [emt-lite] [512x512,1000x1000 ...]

Of each picture: the time outside of what is shared out among threads is serial; within it, threads wait for
strips beside theirs and for the last piece. One thread tells what the work is, two what sharing it costs. The
speed-up on n threads is estimated from the serial share alone: (serial + parallel) / (serial + parallel / n).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from PIL import Image

from emt_cli.cores import set_cpu_threads
from emt_cli.engine.native.runner import NativeRunner
from emt_cli.engine.native.turns import Piece, Turn
from emt_cli.engine.upscaler import Upscaler
from emt_cli.steps import Steps

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
ROUNDS = 7


class Watch:
    """Counts the seconds in which work of any picture is shared out, and those of all pieces together."""

    def __init__(self) -> None:
        self.shared = self.pieces = self.since = 0.0
        self.pictures = 0
        self.lock = threading.Lock()
        original = NativeRunner.share_out

        def share_out(runner: NativeRunner, turns: Sequence[Turn], free: SimpleQueue[int]) -> Steps[None]:
            def timed(piece: Piece, slot: int) -> None:
                began = time.thread_time()
                try:
                    piece(slot)
                finally:
                    taken = time.thread_time() - began
                    with self.lock:
                        self.pieces += taken

            turns = [replace(turn, pieces=[partial(timed, piece) for piece in turn.pieces]) for turn in turns]
            with self.lock:
                self.since = self.since if self.pictures else time.perf_counter()
                self.pictures += 1
            try:
                yield from original(runner, turns, free)
            finally:
                with self.lock:
                    self.pictures -= 1
                    self.shared += 0 if self.pictures else time.perf_counter() - self.since

        NativeRunner.share_out = share_out  # type: ignore[method-assign]

    def begin(self) -> None:
        """Count from here on."""
        self.shared = self.pieces = 0.0


def measure(model: str, pixels: np.ndarray, threads: int, watch: Watch) -> tuple[float, float, float]:
    """Return the seconds of a picture, those outside of shared work, and those of all pieces together."""
    set_cpu_threads(threads)
    upscaler = Upscaler.from_model(model, device="cpu")
    upscaler.upscale(pixels)
    found = []
    for _ in range(ROUNDS):
        watch.begin()
        began = time.perf_counter()
        upscaler.upscale(pixels)
        taken = time.perf_counter() - began
        found.append((taken, taken - watch.shared, watch.pieces))
    return min(found)


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "emt-lite"
    sizes = (sys.argv[2] if len(sys.argv) > 2 else "160x96,640x272,512x512,1000x1000").split(",")
    photo, watch = Image.open(SAMPLES / "coffee.png").convert("RGB"), Watch()
    print(f"{model}: ms on one thread and on two, serial share, waiting on two,")
    print("speed-up measured on 2 and expected on 4, 8, 16, 64")
    for size in sizes:
        width, height = map(int, size.split("x"))
        pixels = np.asarray(photo.resize((width, height)))
        (one, serial, _), (two, serial_two, pieces) = (measure(model, pixels, n, watch) for n in (1, 2))
        waiting = 1 - pieces / (2 * (two - serial_two))
        expected = [one / (serial + (one - serial) / n) for n in (4, 8, 16, 64)]
        found = f"{size:>10} {1000 * one:7.1f} {1000 * two:7.1f}   {serial / one:5.1%}   {waiting:5.1%}"
        print(found, f" {one / two:5.2f} ", " ".join(f"{value:5.1f}" for value in expected))


if __name__ == "__main__":
    main()

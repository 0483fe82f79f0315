"""How much of the network's own speed `emt upscale` reaches with one picture, the program's start included.

    python tests/picture_throughput.py [4000x3000] [rounds] [model]

Network: the decoded picture through the Upscaler. Command: JPEG to JPEG, and to PNG, in a process of its own,
by the clock and with its memory. Rounds take turns, and the medians are compared.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from emt_cli import Upscaler
from emt_cli.media.picture.io import read_picture

SAMPLES = Path(__file__).resolve().parent.parent / "samples"


# A process of little memory in between: the system counts what a child shares with its parent at first.
MEASURE = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000)
"""


def command(source: Path, target: Path, model: str) -> tuple[float, float]:
    """Run emt upscale; return seconds, and megabytes of memory at most."""
    emt = [sys.executable, "-m", "emt_cli", "upscale", str(source), "--model", model, "--quiet", "-y"]
    measured = [sys.executable, "-S", "-c", MEASURE, *emt, "-o", str(target)]
    seconds, memory = subprocess.run(measured, capture_output=True, check=True).stdout.split()
    return float(seconds), float(memory)


def main() -> None:
    size = sys.argv[1] if len(sys.argv) > 1 else "4000x3000"
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    model = sys.argv[3] if len(sys.argv) > 3 else "emt-lite"
    width, height = map(int, size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "photo.jpg")
        photo = (
            Image.open(SAMPLES / "coffee.png")
            .convert("RGB")
            .resize((width, height), Image.Resampling.LANCZOS)
        )
        grain = np.random.default_rng(0).normal(0, 2, (height, width, 1))  # enlarged, it would be too smooth
        Image.fromarray(np.clip(photo + grain, 0, 255).astype(np.uint8)).save(source, quality=95)
        pixels = read_picture(source).pixels
        upscaler = Upscaler.from_model(model)
        upscaler.upscale(pixels[:64, :64])
        alone, whole = [], {"jpg": [], "png": []}
        for _ in range(rounds):
            began = time.perf_counter()
            upscaler.upscale(pixels)
            alone.append(time.perf_counter() - began)
            for kind, taken in whole.items():
                taken.append(command(source, Path(folder, f"large.{kind}"), model))
    network = median(alone)
    print(f"{size} to {4 * width}x{4 * height}, {model}, median of {rounds}")
    print(f"network alone           {network:6.2f} s")
    for kind, taken in whole.items():
        seconds, memory = (median(values) for values in zip(*taken, strict=True))
        share = f"{network / seconds:.1%} of its speed"
        print(f"emt upscale, JPEG to {kind} {seconds:6.2f} s, {share}, {memory:.0f} MB")


if __name__ == "__main__":
    main()

"""Whether a GPU answers what the CPU answers, and how fast: `make gpu-check`, or

    python tests/gpu_check.py [--device cuda] [--size 512x512] [model ...]

Checks of each model: fp16 and bf16 against fp32 on the CPU (at least 55 and 45 dB) and fp32 (90 dB), a batch
against single pictures, speed, memory, and a video from end to end. Without a GPU it says "not run"; with
`--device cpu` it runs all of it there. The exit status is 1 if anything disagrees.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
from PIL import Image

from emt_cli.assets.model_choice import find_model
from emt_cli.engine.device import gpu_may_be_here
from emt_cli.engine.peak import peak_memory
from emt_cli.engine.torch.runner import TorchRunner
from emt_cli.engine.weights import load_weights
from emt_cli.errors import ModelError
from emt_cli.jobs.target import Target
from emt_cli.jobs.video.plan import VideoJob
from emt_cli.jobs.video.run import run_video
from emt_cli.jobs.video.task import Settings
from emt_cli.steps import finish

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
LEAST = {"fp32": 90.0, "fp16": 55.0, "bf16": 45.0}
"""Decibels by which an answer must agree with that of the CPU in fp32."""


def has_gpu() -> bool:
    """Whether torch finds CUDA."""
    if not gpu_may_be_here():
        return False
    import torch

    return torch.cuda.is_available()


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR of two answers, 0..255."""
    error = float(np.mean((np.clip(a, 0, 255) - np.clip(b, 0, 255)).astype(np.float64) ** 2))
    return 99.0 if error == 0 else min(99.0, 10 * np.log10(255**2 / error))


def check_model(name: str, device: str, pixels: np.ndarray, small: np.ndarray) -> bool:
    """Compare and time a model in all precisions; small: a picture for parity, computed on the CPU, too."""
    weights = load_weights(find_model(name, 4).path)
    right = TorchRunner(weights, "cpu")(small)
    good = True
    for precision, least in LEAST.items():
        runner = TorchRunner(weights, device, precision)  # type: ignore[arg-type]
        agreement = decibels(runner(small), right)
        batch = decibels(runner.batch(np.stack([small, small[::-1].copy()]))[0], right)
        runner(pixels)
        with peak_memory(device) as peak:
            began = time.perf_counter()
            runner(pixels)
            taken = time.perf_counter() - began
        speed = pixels.shape[0] * pixels.shape[1] / taken / 1000
        fine = min(agreement, batch) >= least and not runner.used_fallback
        good &= fine
        verdict = "ok" if fine else f"WRONG: below {least} dB, or fp32 took over"
        found = f"{agreement:5.1f} dB, in a batch {batch:5.1f} dB"
        cost = f"{speed:9.1f} thousand px/s  {peak.bytes / 1e6:6.0f} MB"
        print(f"{name:16} {precision}  {found}  {cost}  {verdict}")
    return good


def check_video(name: str, device: str, frame: np.ndarray, count: int) -> bool:
    """Enlarge a clip of frames that move, from file to verified file."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.mp4")
        with av.open(str(clip), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = frame.shape[1], frame.shape[0], "yuv420p"
            for number in range(count):
                moved = np.ascontiguousarray(np.roll(frame, 3 * number, axis=1))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, "rgb24")))
            container.mux(stream.encode(None))
        began = time.perf_counter()
        job = VideoJob(Settings(target=Target(4), model=name, device=device, engine="torch"))
        facts = finish(run_video(job, job.open(clip, Path(folder, "large.mkv"))))
        rate = count / (time.perf_counter() - began)
    size = f"{frame.shape[1]}x{frame.shape[0]}"
    print(f"{name:16} video  {count} frames of {size}: {rate:.1f} a second, verified: {facts['verified']}")
    return bool(facts["verified"]) and facts["frames"] == count


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", default="512x512")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("models", nargs="*", default=["emt-lite", "emt"])
    arguments = parser.parse_args()
    if arguments.device != "cpu" and not has_gpu():
        print("not run: no GPU that torch can use")
        return 0
    width, height = map(int, arguments.size.split("x"))
    photo = Image.open(SAMPLES / "astronaut.png").convert("RGB").resize((width, height))
    frame = np.asarray(photo)
    pixels = frame.astype(np.float32)
    good = True
    for name in arguments.models:
        try:
            find_model(name, 4)
        except ModelError as error:
            print(f"{name:16} not run: {error}")
            continue
        good &= check_model(name, arguments.device, pixels, pixels[:160, :96].copy())
        good &= check_video(
            name, arguments.device, frame[: height // 4 * 2, : width // 4 * 2], arguments.frames
        )
    print("all agrees" if good else "something is WRONG")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

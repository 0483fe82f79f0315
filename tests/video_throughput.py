"""How much of the network's own speed `emt video` reaches, end to end.

    python tests/video_throughput.py clip.mp4 [frames] [rounds]    # 640x272 is what docs/speed.md tells of

Plain: frames that are decoded already, one after the other through the Upscaler, and thrown away. Job: the
same frames by the whole job, from opening the clip to the verified result. Rounds take turns, and the
best are compared. The processor time of both, ffmpeg's included, is what the rest of a busy machine does
not disturb.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from parallel_share import Watch

from emt_cli.cores import cpu_threads
from emt_cli.jobs.networks import Networks, NetworkSettings
from emt_cli.jobs.target import Target
from emt_cli.jobs.video.plan import VideoJob
from emt_cli.jobs.video.run import run_video
from emt_cli.jobs.video.task import Settings
from emt_cli.media.video.probe import probe
from emt_cli.media.video.read import VideoReader
from emt_cli.steps import finish


def clocks() -> np.ndarray:
    """Wall time, and processor time of this process and its children, in seconds."""
    return np.array([time.perf_counter(), sum(os.times()[:4])])


def main() -> None:
    clip = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    info = probe(clip)
    with VideoReader(info) as reader:
        frames = list(islice(reader.frames(), count + 1))
    pixels, end = (
        [frame.pixels for frame in frames[:count]],
        frames[count].pts if len(frames) > count else None,
    )
    length = None if end is None else info.seconds(end - frames[0].pts) - Fraction(1, 10**6)

    upscaler = Networks(NetworkSettings(model="emt-lite")).get(4)
    upscaler.upscale(pixels[0])
    watch = Watch()
    plain, whole, serial = [], [], []
    for _ in range(rounds):
        began = clocks()
        for frame in pixels:
            upscaler.upscale(frame)
        plain.append(clocks() - began)
        with tempfile.TemporaryDirectory() as folder:
            began = clocks()
            watch.begin()
            job = VideoJob(Settings(target=Target(4), model="emt-lite", end=length))
            facts = finish(run_video(job, job.open(clip, Path(folder) / "out.mkv")))
            whole.append(clocks() - began)
            serial.append(whole[-1][0] - watch.shared)
        assert facts["frames"] == facts["computed"] == len(pixels), facts
        assert facts["verified"], facts["checks"]

    (network, network_cpu), (job_time, job_cpu) = (np.min(times, axis=0) for times in (plain, whole))
    print(f"{info.width}x{info.height}, {len(pixels)} frames, best of {rounds}")
    print(f"network alone {len(pixels) / network:6.2f} frames a second")
    print(f"emt video     {len(pixels) / job_time:6.2f} frames a second, {network / job_time:.1%} of it")
    busy = job_cpu / job_time / cpu_threads()
    print(
        f"no frame is computed for {min(serial):.2f} s of its {job_time:.1f}; cores are busy for {busy:.1%}"
    )
    print(f"processor time {network_cpu / count:.2f} and {job_cpu / count:.2f} s a frame")


if __name__ == "__main__":
    main()

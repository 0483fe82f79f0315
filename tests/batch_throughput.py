"""Wall time of `emt batch` as a ratio to the pure inference time of its pictures.

python tests/batch_throughput.py [count] [png|jpg]     # pictures of 512x512, emt-lite x4; 20 and png
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from parallel_share import Watch
from PIL import Image

from emt_cli.cores import cpu_threads
from emt_cli.jobs.batch.find import Selection, find_pictures
from emt_cli.jobs.batch.folder import BatchFolder
from emt_cli.jobs.batch.local import default_threads, places_for_pictures, room_for_pictures, run_locally
from emt_cli.jobs.batch.plan import plan_batch
from emt_cli.jobs.batch.run import RunStats, run_batch
from emt_cli.jobs.batch.stages import PictureWork
from emt_cli.jobs.picture.job import PictureJob
from emt_cli.jobs.picture.task import Settings
from emt_cli.jobs.target import Target
from emt_cli.media.picture.io import read_picture

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
SIDE = 512


def make_pictures(folder: Path, count: int, kind: str) -> None:
    """Write photographs of 512x512, no two alike."""
    astronaut = np.array(Image.open(SAMPLES / "astronaut.png").convert("RGB").resize((SIDE, SIDE)))
    for number in range(count):
        turned = np.rot90(np.roll(astronaut, 37 * number, axis=number % 2), number)
        Image.fromarray(turned).save(folder / f"{number:04}.{kind}")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    kind = sys.argv[2] if len(sys.argv) > 2 else "png"
    job = PictureJob(Settings(Target(scale=4), model="emt-lite"))
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "in"), Path(folder, "out")
        source.mkdir()
        make_pictures(source, count, kind)
        upscaler = job.networks.get(4)
        decoded = [read_picture(path).pixels for path in sorted(source.iterdir())]
        upscaler.upscale(decoded[0])
        start, pure_cpu = time.perf_counter(), time.process_time()
        for pixels in decoded:
            upscaler.upscale(pixels)
        pure, pure_cpu = time.perf_counter() - start, time.process_time() - pure_cpu
        del decoded

        into, stop, watch = BatchFolder(output), threading.Event(), Watch()
        start, cpu = time.perf_counter(), time.process_time()
        with into.held():
            batch = plan_batch(find_pictures([str(source)], [], Selection(), into), job, into)
            stats, threads = RunStats(batch.total), default_threads(job.networks.devices)
            places = places_for_pictures(batch.items, job.networks)
            room = room_for_pictures(batch.items, len(places), threads)
            work = PictureWork(job, into)
            events = run_locally(batch.items, work, places=places, threads=threads, room=room, stop=stop)
            for _ in run_batch(batch, into, events, stop, stats):
                pass
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    assert stats.done == count
    busy = cpu / wall / cpu_threads()
    print(f"{count} pictures of {SIDE}x{SIDE}, {kind}, {upscaler.device}, {os.cpu_count()} cores")
    print(f"inference alone    {pure:7.2f} s")
    print(f"emt batch          {wall:7.2f} s  {wall / pure:.3f} of inference alone")
    print(f"no picture is computed for {1 - watch.shared / wall:.1%} of it; cores are busy for {busy:.1%}")
    print(f"processor time     {cpu:7.2f} s  {cpu / pure_cpu:.3f} of inference alone")


if __name__ == "__main__":
    main()

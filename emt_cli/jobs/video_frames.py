"""The frames of a video job on their way: read by segment, enlarged once, written to segment files."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace

import numpy as np

from emt_cli.jobs.duplicates import RecentFrames
from emt_cli.jobs.pictures import enlarge
from emt_cli.jobs.segments import Done, Segment, WorkFolder, pending_runs
from emt_cli.jobs.video import VideoJob, VideoTask
from emt_cli.jobs.video_cost import REMEMBERED
from emt_cli.media.compare import MovingComparison
from emt_cli.media.pictures import Picture
from emt_cli.media.samples import Pixels, full_scale
from emt_cli.media.video_read import Frame, VideoReader
from emt_cli.media.video_write import SEGMENT_SUFFIX, VideoWriter
from emt_cli.steps import finish

RESULT, COMPARE = "result", "compare"
"""The kinds of results."""


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame on its way, or the end of its segment."""

    segment: Segment
    frame: Frame | None
    damage: tuple[str, ...] = ()
    """What the decoder lost within the segment; given with its end."""


class _CutError(Exception):
    """The job is stopped before a segment ends."""


def read_shots(task: VideoTask, work: WorkFolder, *, deinterlace: bool) -> Generator[Shot, None, None]:
    """Yield the frames of all segments that are not there yet, and the end of each."""
    with VideoReader(task.info, deinterlace=deinterlace) as reader:
        for run in pending_runs(task.segments, dict(work.done)):
            heard, rest = len(reader.damage), iter(run)
            segment = next(rest)
            for frame in reader.frames(run[0].start, run[-1].end):
                while segment.end is not None and frame.pts >= segment.end:
                    yield Shot(segment, None, tuple(reader.damage[heard:]))
                    heard, segment = len(reader.damage), next(rest)
                yield Shot(segment, frame)
            yield Shot(segment, None, tuple(reader.damage[heard:]))
            for segment in rest:
                yield Shot(segment, None)


@dataclass(frozen=True, eq=False)
class Made:
    """A frame of a result."""

    pixels: Pixels
    """RGB (h, w, 3)."""
    alpha: Pixels | None = None
    """(h, w), where the result holds transparency and the frame has some."""

    @property
    def nbytes(self) -> int:
        """Bytes of all samples."""
        return int(self.pixels.nbytes) + (0 if self.alpha is None else int(self.alpha.nbytes))


class Enlarger:
    """Enlarges frames on free devices; the same pixels once."""

    def __init__(self, job: VideoJob, task: VideoTask) -> None:
        self.job, self.task = job, task
        plan = task.plan
        size = np.dtype(task.info.dtype).itemsize
        a_frame = 3 * size * (plan.height * plan.width + plan.out_height * plan.out_width)
        self.recent: RecentFrames[Future[dict[str, Made]]] = RecentFrames(
            max(1, min(8, REMEMBERED // a_frame))
        )
        self.free: queue.Queue[int] = queue.Queue()
        for index in range(len(job.networks.devices)):
            self.free.put(index)
        self.duplicates: set[int] = set()
        self.comparison = MovingComparison(plan.out_height, plan.out_width)

    def submit(self, executor: Executor, shot: Shot) -> Future[dict[str, Made]]:
        """Return the future of what a frame becomes, by kind of result."""
        if shot.frame is None:
            nothing: Future[dict[str, Made]] = Future()
            nothing.set_result({})
            return nothing
        pixels, alpha = shot.frame.pixels, shot.frame.alpha
        everything = pixels if alpha is None else np.dstack((pixels, alpha))
        future = self.recent.find(everything)
        if future is not None:
            self.duplicates.add(shot.frame.pts)
            return future
        future = executor.submit(self.enlarge, Picture(pixels, alpha))
        self.recent.add(everything, future)
        return future

    def enlarge(self, frame: Picture) -> dict[str, Made]:
        """Enlarge one frame, of any size, to the size of the result."""
        plan = replace(self.task.plan, height=frame.height, width=frame.width)
        index = self.free.get()
        try:
            large = finish(enlarge(frame, plan, lambda scale: self.job.networks.get(scale, index)))
        finally:
            self.free.put(index)
        pixels, alpha = large.pixels, large.alpha
        if alpha is not None and not self.task.transparent:
            opaque = alpha[..., None].astype(np.float32) / np.float32(full_scale(alpha.dtype))
            pixels, alpha = np.rint(pixels * opaque).astype(pixels.dtype), None
        made = {RESULT: Made(pixels, alpha)}
        if self.job.settings.compare:
            made[COMPARE] = Made(self.comparison.show(frame.pixels, pixels))
        return made


def write_segments(
    task: VideoTask,
    work: WorkFolder,
    segments: list[Segment],
    made: Iterator[tuple[Shot, dict[str, Made]]],
    enlarger: Enlarger,
) -> None:
    """Write segment after segment until all are there, or the frames stop coming."""
    for segment in segments:
        try:
            done = _write_segment(task, work, segment, made, enlarger)
        except _CutError:
            return
        work.finish(segment, done)


def _write_segment(
    task: VideoTask,
    work: WorkFolder,
    segment: Segment,
    made: Iterator[tuple[Shot, dict[str, Made]]],
    enlarger: Enlarger,
) -> Done:
    """Write the frames of one segment, each kind of result to its file."""
    times, notes, files = [], [], {}
    writers: dict[str, VideoWriter] = {}
    info, usual = task.info, (task.plan.height, task.plan.width)
    with contextlib.ExitStack() as stack:
        for shot, pictures in made:
            if shot.frame is None:
                damage = shot.damage
                break
            for kind, picture in pictures.items():
                if kind not in writers:
                    path = work.path(segment, kind, SEGMENT_SUFFIX)
                    files[kind] = path.name
                    writers[kind] = stack.enter_context(
                        VideoWriter(
                            path,
                            task.encoding,
                            width=picture.pixels.shape[1],
                            height=picture.pixels.shape[0],
                            sar=info.sar,
                            time_base=info.time_base,
                            rate=info.rate,
                            colour=info.colour,
                            bits=task.bits,
                            hdr=info.hdr,
                        )
                    )
                writers[kind].write(picture.pixels, shot.frame.pts, picture.alpha)
            times.append(shot.frame.pts)
            if shot.frame.pixels.shape[:2] != usual:
                height, width = shot.frame.pixels.shape[:2]
                notes.append(f"frames of {width}x{height} were brought to the size of the others")
        else:
            raise _CutError
    computed = sum(pts not in enlarger.duplicates for pts in times)
    enlarger.duplicates.difference_update(times)
    return Done(tuple(times), files, computed, damage, tuple(dict.fromkeys(notes)))

"""The frames of a video job on their way: read by segment, enlarged once, written to segment files."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import numpy as np

from emt_cli.jobs.picture.enlarge import enlarge
from emt_cli.jobs.pipeline import run_in_order
from emt_cli.jobs.video.cost import QUEUE, REMEMBERED
from emt_cli.jobs.video.duplicates import RecentFrames
from emt_cli.jobs.video.plan import VideoJob
from emt_cli.jobs.video.segments import Done, Segment, segment_file
from emt_cli.jobs.video.task import VideoTask
from emt_cli.media.compare import MovingComparison
from emt_cli.media.picture.io import Picture
from emt_cli.media.samples import Pixels, full_scale
from emt_cli.media.video.codecs import SEGMENT_SUFFIX
from emt_cli.media.video.read import Frame, VideoReader
from emt_cli.media.video.write import VideoWriter
from emt_cli.steps import finish

RESULT, COMPARE = "result", "compare"
"""The kinds of results."""


@dataclass(frozen=True, eq=False)
class InputFrame:
    """A frame on its way, or the end of its segment."""

    segment: Segment
    frame: Frame | None
    damage: tuple[str, ...] = ()
    """What the decoder lost within the segment; given with its end."""


class _CutError(Exception):
    """The job is stopped before a segment ends."""


def open_reader(job: VideoJob, task: VideoTask) -> VideoReader:
    """Return what gives a task's frames."""
    return VideoReader(task.info, deinterlace=job.settings.deinterlace, alpha=task.transparent)


def make_segments(
    reader: VideoReader,
    enlarger: Enlarger,
    folder: Path,
    runs: Sequence[Sequence[Segment]],
    keep: Callable[[Segment, Done], None],
    stop: Event,
) -> Generator[InputFrame, None, bool]:
    """Read, enlarge and write segments, yielding every entry that is handed to the writer.

    runs: of segments that follow on each other. keep is called, in the writer's thread, with each segment
    whose files are in the folder. When stop is set the frame at hand is finished; returns whether all is.
    """
    segments = [segment for run in runs for segment in run]
    return (
        yield from run_in_order(
            _read_frames(reader, runs),
            enlarger.submit,
            lambda outputs: _write_segments(enlarger, folder, segments, outputs, keep),
            workers=len(enlarger.task.places),
            limit=QUEUE,
            size=lambda entry: entry.frame.pixels.nbytes if entry.frame is not None else 0,
            stop=stop,
        )
    )


def _read_frames(reader: VideoReader, runs: Sequence[Sequence[Segment]]) -> Generator[InputFrame, None, None]:
    """Yield the frames of all segments, and the end of each."""
    for run in runs:
        heard, rest = len(reader.damage), iter(run)
        segment = next(rest)
        for frame in reader.frames(run[0].start, run[-1].end):
            while segment.end is not None and frame.pts >= segment.end:
                yield InputFrame(segment, None, tuple(reader.damage[heard:]))
                heard, segment = len(reader.damage), next(rest)
            yield InputFrame(segment, frame)
        yield InputFrame(segment, None, tuple(reader.damage[heard:]))
        for segment in rest:
            yield InputFrame(segment, None)


@dataclass(frozen=True, eq=False)
class OutputFrame:
    """A frame of a result."""

    pixels: Pixels
    """RGB (h, w, 3)."""
    alpha: Pixels | None = None
    """(h, w), where the result holds transparency and the frame has some."""


class Enlarger:
    """Enlarges frames on free devices; the same pixels once.

    free: those of task.places that nobody uses; None if nobody else uses any.
    """

    def __init__(self, job: VideoJob, task: VideoTask, free: queue.Queue[int] | None = None) -> None:
        self.job, self.task = job, task
        plan = task.plan
        size = np.dtype(task.info.dtype).itemsize
        a_frame = 3 * size * (plan.height * plan.width + plan.out_height * plan.out_width)
        self.recent: RecentFrames[Future[dict[str, OutputFrame]]] = RecentFrames(
            max(1, min(8, REMEMBERED // a_frame))
        )
        self.free = free_places(task) if free is None else free
        self.duplicates: set[int] = set()
        self.notes: set[str] = set()
        self.comparison = MovingComparison(plan.out_height, plan.out_width)

    @property
    def used_fallback(self) -> bool:
        """Whether half precision did not suffice for a frame."""
        networks = self.job.networks_for(self.task.info)
        return any(
            networks.get(scale, index).runner.used_fallback
            for scale in self.task.plan.passes
            for index in range(len(networks.devices))
        )

    def submit(self, executor: Executor, entry: InputFrame) -> Future[dict[str, OutputFrame]]:
        """Return the future of what a frame becomes, by kind of result."""
        if entry.frame is None:
            nothing: Future[dict[str, OutputFrame]] = Future()
            nothing.set_result({})
            return nothing
        pixels, alpha = entry.frame.pixels, entry.frame.alpha
        everything = pixels if alpha is None else np.dstack((pixels, alpha))
        future = self.recent.find(everything)
        if future is not None:
            self.duplicates.add(entry.frame.pts)
            return future
        future = executor.submit(self.enlarge, Picture(pixels, alpha))
        self.recent.add(everything, future)
        return future

    def enlarge(self, frame: Picture) -> dict[str, OutputFrame]:
        """Enlarge one frame, of any size, to the size of the result."""
        plan = replace(self.task.plan, height=frame.height, width=frame.width)
        networks = self.job.networks_for(self.task.info)
        index = self.free.get()
        try:
            large = finish(enlarge(frame, plan, lambda scale: networks.get(scale, index)))
        finally:
            self.free.put(index)
        self.notes.update(large.notes)
        pixels, alpha = large.pixels, large.alpha
        if alpha is not None and not self.task.transparent:
            opaque = alpha[..., None].astype(np.float32) / np.float32(full_scale(alpha.dtype))
            pixels, alpha = np.rint(pixels * opaque).astype(pixels.dtype), None
        outputs = {RESULT: OutputFrame(pixels, alpha)}
        if self.job.settings.compare:
            outputs[COMPARE] = OutputFrame(self.comparison.show(frame.pixels, pixels))
        return outputs


def free_places(task: VideoTask) -> queue.Queue[int]:
    """Return the places of a task's devices, to be taken and put back."""
    free: queue.Queue[int] = queue.Queue()
    for place in task.places:
        free.put(place)
    return free


def _write_segments(
    enlarger: Enlarger,
    folder: Path,
    segments: Sequence[Segment],
    outputs: Iterator[tuple[InputFrame, dict[str, OutputFrame]]],
    keep: Callable[[Segment, Done], None],
) -> None:
    """Write segment after segment until all are there, or the frames stop coming."""
    for segment in segments:
        try:
            done = _write_segment(enlarger, folder, segment, outputs)
        except _CutError:
            return
        keep(segment, done)


def _write_segment(
    enlarger: Enlarger,
    folder: Path,
    segment: Segment,
    outputs: Iterator[tuple[InputFrame, dict[str, OutputFrame]]],
) -> Done:
    """Write the frames of one segment, each kind of result to its file."""
    times, notes, files = [], [], {}
    writers: dict[str, VideoWriter] = {}
    task = enlarger.task
    info, usual = task.info, (task.plan.height, task.plan.width)
    with contextlib.ExitStack() as stack:
        for entry, pictures in outputs:
            if entry.frame is None:
                damage = entry.damage
                break
            for kind, picture in pictures.items():
                if kind not in writers:
                    path = segment_file(folder, segment, kind, SEGMENT_SUFFIX)
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
                writers[kind].write(picture.pixels, entry.frame.pts - info.origin, picture.alpha)
            times.append(entry.frame.pts)
            if entry.frame.pixels.shape[:2] != usual:
                height, width = entry.frame.pixels.shape[:2]
                notes.append(f"frames of {width}x{height} were brought to the size of the others")
        else:
            raise _CutError
    if enlarger.used_fallback:
        notes.append("half precision overflowed: computed in fp32 from there on")
    notes += sorted(enlarger.notes)
    computed = sum(pts not in enlarger.duplicates for pts in times)
    enlarger.duplicates.difference_update(times)
    return Done(tuple(times), files, computed, damage, tuple(dict.fromkeys(notes)))

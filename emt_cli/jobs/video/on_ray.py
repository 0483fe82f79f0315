"""Make a video on a Ray cluster: segments spread over its nodes; journal, joining and checks stay here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event

from emt_cli.assets.model_choice import absolute_model
from emt_cli.cores import set_cpu_threads
from emt_cli.errors import DeviceError
from emt_cli.jobs.cluster.scheduler import Completed, spread
from emt_cli.jobs.cluster.shared_storage import Mark, marked
from emt_cli.jobs.cluster.workers import Share
from emt_cli.jobs.video.cost import memory_of
from emt_cli.jobs.video.frames import Enlarger, free_places, make_segments, open_reader
from emt_cli.jobs.video.plan import VideoJob
from emt_cli.jobs.video.segments import Done, Segment, WorkFolder, pending_runs
from emt_cli.jobs.video.task import Settings, VideoTask
from emt_cli.media.video.read import VideoReader
from emt_cli.steps import Steps

_CONCURRENCY = 2
"""Segments a worker on a GPU or on several processors has at once: one is read while another is finished."""


@dataclass(frozen=True)
class VideoWorkers:
    """Makes workers on nodes, each of which must see the same files and have the same program and weights."""

    settings: Settings
    task: VideoTask
    tile: int
    digest: str
    """Of the weights of all passes."""
    precisions: tuple[str, ...]
    """What a CPU computes in where the command runs."""
    folder: Path
    """Where finished segments go."""
    mark: Mark
    """In it."""
    length: int
    """Bytes of the source."""

    def __call__(self, cpus: int) -> VideoWorker:
        """Make a worker with so many processors, or with a GPU for 0."""
        return VideoWorker(self, cpus)


class VideoWorker:
    """Makes segments on a node; raises EmtError when it lacks the model."""

    def __init__(self, order: VideoWorkers, cpus: int) -> None:
        if cpus:
            set_cpu_threads(cpus)
        self.order = order
        self.job = VideoJob(replace(order.settings, device="cpu" if cpus else "cuda"))
        networks = self.job.networks_for(order.task.info)
        places = networks.places(order.task.plan.passes, _memory(self.job, order.task))
        self.task = replace(order.task, places=places)
        self._free = free_places(self.task)
        self._readers: list[VideoReader] = []
        """Those not in use; each goes on where it is, since some files are only read from their beginning."""

    def problems(self) -> list[str]:
        """Say why this node cannot do the work: other files, another program, other weights."""
        order = self.order
        found = order.mark.problems()
        source = order.task.info.path
        try:
            length = source.stat().st_size
        except OSError:
            length = -1
        if length != order.length:
            what = "not there" if length < 0 else "another file there"
            found.append(f"{source} is {what}; mount the same storage at the same place on all nodes")
        networks = self.job.networks_for(order.task.info)
        if networks.digest(set(order.task.plan.passes)) != order.digest:
            found.append("the model's weights are others there; pull the same model on all nodes")
        found += networks.precision_problems(order.task.plan.passes, order.precisions)
        if not found:
            self.job.cut_into(order.task, order.tile)
        return found

    def __call__(self, item: Segment) -> Done:
        """Make one segment; another thread reads or writes another one meanwhile."""
        order, made = self.order, []
        try:
            reader = self._readers.pop()
        except IndexError:  # another thread may have taken the last
            reader = open_reader(self.job, self.task)
        enlarger = Enlarger(self.job, self.task, self._free)
        steps = make_segments(
            reader, enlarger, order.folder, [[item]], lambda _, done: made.append(done), Event()
        )
        for _ in steps:
            pass
        self._readers.append(reader)
        return made[0]


def _memory(job: VideoJob, task: VideoTask) -> Callable[[int], int]:
    """Return what tells how many bytes a task takes with so many frames enlarged at the same time."""
    networks, compare = job.networks_for(task.info), job.settings.compare
    return partial(memory_of, networks, task.info, task.plan, encoding=task.encoding, compare=compare)


def make_on_cluster(
    job: VideoJob,
    task: VideoTask,
    work: WorkFolder,
    stop: Event,
    *,
    cpus: int,
    say: Callable[[str], None],
) -> Steps[bool]:
    """Make the segments that are not there yet on the cluster this process is connected to.

    They have the same frames as those that make_here makes with the same engine and precision. When stop is
    set, the segments begun are finished. cpus: of a worker on a node without a GPU. say is told what happens
    to nodes. Raises what the work of a segment raises, UsageError and DeviceError as spread() does.
    """
    pending = [segment for run in pending_runs(task.segments, work.done) for segment in run]
    if not pending:
        return True
    done = sum(len(parts.times) for parts in work.done.values())
    folder, source = work.folder.absolute(), task.info.path.absolute()
    settings = replace(job.settings, model=absolute_model(job.settings.model))
    memory = _memory(job, task)(2 if cpus > 1 else 1)
    share = Share(cpus=cpus, gpus=settings.device != "cpu", memory=memory, concurrency=_CONCURRENCY)
    told = False
    with marked(folder, "probe-{token}", shown=folder.parent) as mark:
        order = VideoWorkers(
            settings=settings,
            task=replace(task, info=replace(task.info, path=source)),
            tile=int(work.start["tile"]),
            digest=job.networks_for(task.info).digest(set(task.plan.passes)),
            precisions=job.networks_for(task.info).cpu_precisions(task.plan.passes),
            folder=folder,
            mark=mark,
            length=source.stat().st_size,
        )
        for event in spread(pending, order, share=share, stop=stop, say=say):
            if stop.is_set() and not told:
                say("stopping; the segments that nodes have begun are finished first, Ctrl-C leaves them")
                told = True
            if isinstance(event, Completed):
                if isinstance(event.error, DeviceError):
                    raise DeviceError(f"{task.name}: {event.error}") from event.error
                if event.error is not None:
                    raise event.error
                assert event.result is not None
                work.finish(event.item, event.result)
                done += len(event.result.times)
            yield min(1.0, done / len(task.times))
    return len(work.done) == len(task.segments)

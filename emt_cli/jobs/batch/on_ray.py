"""Run a batch on a Ray cluster: the same steps as on this machine; the driver keeps journal and names."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock

from emt_cli.assets.model_choice import absolute_model
from emt_cli.atomic import unregister
from emt_cli.cores import set_cpu_threads
from emt_cli.errors import DeviceError
from emt_cli.jobs.batch.folder import BatchFolder
from emt_cli.jobs.batch.local import Ended, ItemEvent, Started, Tick
from emt_cli.jobs.batch.plan import Item
from emt_cli.jobs.batch.stages import Failure, PictureWork, Written, failure
from emt_cli.jobs.cluster.scheduler import Completed, spread
from emt_cli.jobs.cluster.shared_storage import Mark, marked
from emt_cli.jobs.cluster.workers import Share
from emt_cli.jobs.picture.job import PictureJob
from emt_cli.jobs.picture.task import Settings, compare_path

_LOOKED_AT = 20
"""Sources that each node looks for before the work."""


@dataclass(frozen=True)
class PictureWorkers:
    """Makes workers on nodes, each of which must see the same files and have the same program and weights."""

    settings: Settings
    into: BatchFolder
    digest: str
    """Of the weights of all scales in use."""
    precisions: tuple[str, ...]
    """What a CPU computes in where the command runs."""
    scales: tuple[int, ...]
    mark: Mark
    """In the output folder."""
    sources: tuple[Path, ...]

    def __call__(self, cpus: int) -> PictureWorker:
        """Make a worker with so many processors, or with a GPU for 0."""
        return PictureWorker(self, cpus)


class PictureWorker:
    """Enlarges pictures on a node; raises EmtError when it lacks the model."""

    def __init__(self, order: PictureWorkers, cpus: int) -> None:
        if cpus:
            set_cpu_threads(cpus)
        self.order = order
        settings = replace(order.settings, device="cpu" if cpus else "cuda")
        self.job = PictureJob(settings)
        self.work = PictureWork(self.job, order.into)
        self._device = Lock()

    def problems(self) -> list[str]:
        """Say why this node cannot do the work: other files, another program, other weights."""
        order = self.order
        found = order.mark.problems()
        unseen = [source for source in order.sources if not source.exists()]
        if unseen:
            found.append(f"{unseen[0]} is not there; mount the same storage at the same place on all nodes")
        if self.job.networks.digest(order.scales) != order.digest:
            found.append("the model's weights are others there; pull the same model on all nodes")
        found += self.job.networks.precision_problems(order.scales, order.precisions)
        return found

    def __call__(self, item: Item) -> Written | Failure | None:
        """Do all steps of a picture; other threads read and write while the network is at work."""
        result = self.work.whole(item, self._device)
        if isinstance(result, Written):
            for aside, _ in result.moves:
                unregister(aside)  # the driver puts it in its place
        return result


def run_on_cluster(
    items: Sequence[Item],
    job: PictureJob,
    into: BatchFolder,
    *,
    cpus: int,
    stop: Event,
    say: Callable[[str], None],
) -> Generator[ItemEvent, None, None]:
    """Enlarge items on the cluster this process is connected to, as run_locally does on this machine."""
    absolute = {str(item.source.absolute()): item for item in items}
    remote = [replace(item, source=item.source.absolute(), target=item.target.absolute()) for item in items]
    scales = tuple(job.networks.scales)
    settings = replace(job.settings, model=absolute_model(job.settings.model))
    looked_at = remote[:: max(1, len(remote) // _LOOKED_AT)]
    sources = tuple(item.source for item in looked_at if item.source.exists())
    memory = max((item.memory + item.network for item in items), default=0)
    share = Share(cpus=cpus, gpus=settings.device != "cpu", memory=memory)
    folder = BatchFolder(into.path.absolute(), into.shard)
    try:
        with marked(folder.path, folder.waiting_name("{token}"), shown=folder.path) as mark:
            digest, precisions = job.networks.digest(scales), job.networks.cpu_precisions(scales)
            order = PictureWorkers(settings, folder, digest, precisions, scales, mark, sources)
            for event in spread(remote, order, share=share, stop=stop, say=say):
                if event is None:
                    yield Tick(0.0)
                    continue
                item = absolute[str(event.item.source)]
                if isinstance(event, Completed):
                    yield Ended(item, _outcome(item, event))
                else:
                    yield Started(item)
    finally:
        into.remove_leftovers()  # of workers that died between writing and telling


def _outcome(item: Item, event: Completed[Item, Written | Failure | None]) -> Written | Failure | None:
    """Make what came back speak of files as this process names them."""
    if isinstance(event.error, DeviceError):
        return Failure(DeviceError(f"{item.source}: {event.error}"))
    if event.error is not None:
        return failure(event.error, item)
    result = event.result
    if isinstance(result, Written):
        result.facts.update({"input": str(item.source), "output": str(item.target)})
        if "compare" in result.facts:
            result.facts["compare"] = str(compare_path(item.target))
    return result

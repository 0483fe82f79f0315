"""Many pictures, planned before the first: what each becomes, where; or why it is skipped or fails."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from emt_cli.errors import EmtError, InputError, OutputExistsError, UsageError
from emt_cli.jobs.batch.find import Findings, Found
from emt_cli.jobs.batch.folder import BatchFolder, canonical
from emt_cli.jobs.batch.naming import Template, escaped, find_collisions
from emt_cli.jobs.networks import Networks
from emt_cli.jobs.picture.cost import Cost, cost_of
from emt_cli.jobs.picture.job import PictureJob
from emt_cli.jobs.picture.plan import Plan, name_ending
from emt_cli.jobs.picture.task import compare_path
from emt_cli.media.picture.formats import PictureFormat
from emt_cli.media.picture.head import Head, read_head, read_kind

_LOOKING = 8
"""Threads that look into files; disks on a network like to be asked several things at once."""


@dataclass(frozen=True)
class Item:
    """One picture of a batch: everything that whoever enlarges it needs to know."""

    source: Path
    target: Path
    name: str
    """The target relative to the output folder, with / between folders."""
    format: PictureFormat
    model: str
    key: str
    """Digest of the settings and weights that make the result what it is."""
    passes: tuple[int, ...]
    """Scales of the networks it goes through."""
    work: int
    """Pixels the networks will see."""
    memory: int
    """Bytes it takes outside the network, estimated."""
    network: int
    """Bytes the network takes beside it."""
    pixels: int
    """Of the result."""
    record: dict[str, Any] | None = None
    """What the journal says of a result that is whole and in its place."""
    replace: bool = False
    """Whether what lies in the target's place may be replaced."""


@dataclass(frozen=True)
class Skipped:
    """A picture that is left as it is, unread."""

    source: Path
    reason: Literal["exists", "large"]
    """Its result exists already, or it is large enough."""
    target: Path | None = None


@dataclass
class Batch:
    """A planned batch."""

    items: list[Item] = field(default_factory=list)
    failures: list[tuple[str, EmtError]] = field(default_factory=list)
    """Inputs that cannot be enlarged, known before the start."""
    skipped: list[Skipped] = field(default_factory=list)
    collisions: list[tuple[PurePosixPath, list[Path]]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Pictures in all."""
        return len(self.items) + len(self.skipped) + len(self.failures)

    @property
    def pending(self) -> list[Item]:
        """Items that are not done, as far as can be told without reading their sources."""
        return [item for item in self.items if not _seems_done(item)]


def plan_batch(
    findings: Findings,
    job: PictureJob,
    folder: BatchFolder,
    *,
    name: Template | None = None,
    skip_existing: bool = False,
    skip_larger: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Batch:
    """Look into all files and plan each; what cannot be enlarged is among the failures.

    Pictures that are as large as they would become are skipped, as are those with a side above skip_larger
    pixels. report is told how many files of how many have been looked into.
    """
    planner = _Planner(job, folder, name, skip_larger)
    batch = Batch(failures=[pair for pair in findings.failures if folder.shard.takes(pair[0])])
    planned: list[tuple[Found, Item | Skipped | EmtError]] = []
    with ThreadPoolExecutor(_LOOKING) as pool:
        heads = pool.map(planner.look, findings.pictures)
        for count, (found, head) in enumerate(zip(findings.pictures, heads, strict=True), 1):
            planned.append((found, planner.plan(found, head)))
            if report is not None and (count % 50 == 0 or count == len(findings.pictures)):
                report(count, len(findings.pictures))
    items = [item for _, item in planned if isinstance(item, Item)]
    sources = {canonical(item.source) for item in items}
    targets = [(PurePosixPath(item.name), item.source) for item in items]
    if job.settings.compare:
        targets += [(PurePosixPath(compare_path(Path(item.name)).as_posix()), item.source) for item in items]
    batch.collisions = find_collisions(targets)
    batch.collisions += [
        (PurePosixPath(item.name), [item.source]) for item in items if canonical(item.target) in sources
    ]
    for found, item in planned:
        if isinstance(item, EmtError):
            if folder.shard.takes(str(found.path)):
                batch.failures.append((str(found.path), item))
        elif isinstance(item, Skipped):
            if folder.shard.takes(str(found.path)):
                batch.skipped.append(item)
        elif folder.shard.takes(item.name):
            planner.settle(item, batch, skip_existing=skip_existing)
    return batch


class _Planner:
    """What planning one picture needs to know of the others."""

    def __init__(
        self, job: PictureJob, folder: BatchFolder, name: Template | None, skip_larger: int | None
    ) -> None:
        self.job = job
        self.skip_larger = skip_larger
        self.folder = folder
        self.name = name
        self.format = job.settings.format
        if name is not None and name.format is not None:
            if self.format not in (None, name.format):
                raise UsageError(f"--name {name.text}: its ending does not fit --format {self.format}")
            self.format = name.format
        self.records = {record["name"]: record for record in folder.records()}  # the newest of each
        self._costs: dict[tuple[Networks, int, int, bool, bool, int, PictureFormat], Cost] = {}
        self._keys: dict[tuple[Networks, tuple[int, ...]], str] = {}

    def look(self, found: Found) -> Head | EmtError:
        """Read what a file declares."""
        try:
            if found.path.exists() and not stat.S_ISREG(found.path.stat().st_mode):
                raise InputError(f"{found.path}: is not a file; see `emt upscale` for pipes")
            return read_head(found.path, max_pixels=self.job.settings.max_pixels)
        except EmtError as error:
            return error
        except (OSError, ValueError) as error:
            return InputError(f"{found.path}: cannot be read ({error})")

    def plan(self, found: Found, head: Head | EmtError) -> Item | Skipped | EmtError:
        """Say what a picture becomes, and where."""
        if isinstance(head, EmtError):
            return head
        if self._large_enough(head):
            return Skipped(found.path, "large")
        try:
            if self.job.networks.model == "auto":  # no other goes by the kind
                head = replace(head, kind=read_kind(found.path, head))
            plan = self.job.plan(head.height, head.width, head.kind, name=str(found.path))
            format = self.format or head.format
            name = found.folder / self._file_name(found, plan, format)
        except EmtError as error:
            return error
        cost = self._cost(head, plan, format)
        return Item(
            source=found.path,
            target=self.folder.path / name,
            name=str(name),
            format=format,
            model=self.job.networks.suited(head.kind).found(plan.passes[0]).name,
            key=self._key(self.job.networks.suited(head.kind), plan.passes),
            passes=plan.passes,
            work=_network_pixels(plan) * (2 if head.alpha else 1),
            memory=max(head.reading, head.decoded + cost.pixels),
            network=cost.network,
            pixels=plan.out_height * plan.out_width,
        )

    def _large_enough(self, head: Head) -> bool:
        target = self.job.settings.target
        height, width = target.size(head.height, head.width)
        reached = target.scale is None and height <= head.height and width <= head.width
        return reached or max(head.height, head.width) > (self.skip_larger or math.inf)

    def settle(self, item: Item, batch: Batch, *, skip_existing: bool) -> None:
        """Put an item where it belongs by what lies in its result's place."""
        targets = [item.target]
        if self.job.settings.compare:
            targets.append(compare_path(item.target))
        if skip_existing and os.path.lexists(item.target):
            batch.skipped.append(Skipped(item.source, "exists", item.target))
            return
        record = self.records.get(item.name)
        present = [target for target in targets if os.path.lexists(target)]
        own = record is not None and all(self.folder.is_own(target, record) for target in present)
        if own and len(present) == len(targets):
            batch.items.append(replace(item, record=record, replace=True))
        elif own or not present or self.job.settings.overwrite:
            batch.items.append(replace(item, replace=own or self.job.settings.overwrite))
        else:
            error = OutputExistsError(
                f"{present[0]}: exists already and is not from this batch; use -y or --skip-existing"
            )
            batch.failures.append((str(item.source), error))

    def _file_name(self, found: Found, plan: Plan, format: PictureFormat) -> PurePosixPath:
        path = found.path
        suffix = self.job.suffix(plan.height, plan.width)
        template = self.name or Template("{stem}" + escaped(suffix) + "{ext}")
        return template.fill(
            {
                "stem": path.stem,
                "ext": name_ending(path, format),
                "type": path.suffix.removeprefix("."),
                "folder": path.absolute().parent.name,
                "scale": f"{self.job.settings.target.scale or plan.out_width / plan.width:.4g}",
                "width": str(plan.out_width),
                "height": str(plan.out_height),
            }
        )

    def _cost(self, head: Head, plan: Plan, format: PictureFormat) -> Cost:
        networks = self.job.networks.suited(head.kind)
        like = (networks, head.height, head.width, head.gray, head.alpha, head.itemsize, format)
        if like not in self._costs:
            samples = 1 if head.gray else 3
            self._costs[like] = cost_of(
                networks, plan, format, samples=samples, alpha=head.alpha, itemsize=head.itemsize
            )
        return self._costs[like]

    def _key(self, networks: Networks, passes: tuple[int, ...]) -> str:
        """Digest everything that decides what a result's bytes are, but for its source."""
        if (networks, passes) not in self._keys:
            settings = asdict(self.job.settings)
            for name in (
                "device",
                "model",
                "sharpness",
                "format",
                "suffix",
                "overwrite",
                "max_pixels",
                "keep_dates",
            ):
                del settings[name]  # where, by which name, and what weights or the record hold anyway
            settings["weights"] = networks.digest(passes)
            settings["precision"] = networks.precisions(passes)
            text = json.dumps(settings, sort_keys=True)
            self._keys[networks, passes] = hashlib.sha256(text.encode()).hexdigest()[:24]
        return self._keys[networks, passes]


def _network_pixels(plan: Plan) -> int:
    total, height, width = 0, plan.height, plan.width
    for scale in plan.passes:
        total += height * width
        height, width = height * scale, width * scale
    return total


def _seems_done(item: Item) -> bool:
    if item.record is None or item.record.get("key") != item.key:
        return False
    try:
        facts = item.source.stat()
    except OSError:
        return False
    source = item.record.get("source", {})
    return (facts.st_size, facts.st_mtime_ns) == (source.get("size"), source.get("time"))

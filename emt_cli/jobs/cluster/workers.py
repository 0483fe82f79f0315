"""The workers of a run on a Ray cluster: started on its nodes, given items, buried, replaced."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Generic, Protocol, TypeVar

from emt_cli.errors import DeviceError, EmtError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result", covariant=True)
Made = TypeVar("Made")

ATTEMPTS = 3
"""Workers that may die over one item before it is given up, and at one place in a row before it is left."""
_PATIENCE = 0.2
_LOOK_AROUND = 5.0
"""Seconds between looks at the cluster: nodes come and go."""
_GATHER = 60.0
"""Seconds to wait for slow nodes before the work begins; they may join later."""
_SILENCE = 15.0
"""Seconds without an answer after which the cluster counts as gone; Ray would abort the process after 60."""


class Worker(Protocol[Item, Result]):  # type: ignore[misc]  # an argument may well be invariant
    """What does the work on a node; made there."""

    def problems(self) -> list[str]:
        """Say why this node cannot do the work; nothing when it can."""

    def __call__(self, item: Item) -> Result:
        """Do one item. Several threads may call it when the worker has several slots."""


@dataclass(frozen=True)
class Share:
    """What one worker is given of its node."""

    cpus: int = 1
    """Processors of a worker without a GPU."""
    gpus: bool = True
    """Whether nodes with GPUs get a worker for each of them, instead."""
    memory: int = 0
    """Bytes that an item may need; a node gets fewer workers when they would not fit."""
    slots: int = 3
    """Items a worker on a GPU or on several processors has at once, to read and write meanwhile."""


@dataclass(eq=False)
class Ticket:
    """An item, and how often a worker has died over it."""

    item: Any
    deaths: int = 0


@dataclass(eq=False)
class Place:
    """Room for one worker on a node, the worker, and what it is doing."""

    node: str
    host: str
    options: dict[str, Any]
    cpus: int
    slots: int
    actor: Any = None
    starting: Any = None
    """Becomes the list of its problems; None once it has none."""
    deaths: int = 0
    """In a row."""
    running: dict[Any, Ticket] = field(default_factory=dict)

    @property
    def free(self) -> bool:
        """Whether it can take another item."""
        return self.actor is not None and self.starting is None and len(self.running) < self.slots


class Crew(Generic[Item, Made]):
    """The workers on a cluster, and its nodes as they come and go."""

    def __init__(
        self, make: Callable[[int], Worker[Item, Made]], share: Share, say: Callable[[str], None]
    ) -> None:
        import ray

        self.ray: Any = ray
        self.make, self.share, self.say = make, share, say
        self.actor_class = ray.remote(_Actor)
        self.places: list[Place] = []
        self.known: set[str] = set()
        self.began = False
        self.address = ray.get_runtime_context().gcs_address
        self.gone = False
        self.looked = self.heard = time.monotonic()
        self.alone_since: float | None = None

    @property
    def busy(self) -> bool:
        """Whether any worker has something to do."""
        return any(place.running for place in self.places)

    def free_place(self) -> Place | None:
        """Return the free worker with the least to do."""
        free = [place for place in self.places if place.free]
        return min(free, key=lambda place: len(place.running), default=None)

    def gather(self, stop: Event) -> None:
        """Start workers and wait until they have looked at their nodes; raises UsageError for problems."""
        self._find_nodes()
        end, told = time.monotonic() + _GATHER, False
        while not stop.is_set() and any(place.starting is not None for place in self.places):
            if time.monotonic() > end and any(place.starting is None for place in self.places):
                break
            if time.monotonic() > end and not told:
                self.say("the cluster is busy; waiting for free processors or GPUs")
                told = True
            self._greet(_PATIENCE)
            self.look_around()
        if not self.places and not stop.is_set():
            raise DeviceError("--ray: no node has a worker for this; see `ray status`")
        self.began = True

    def hand(self, place: Place, ticket: Ticket) -> None:
        """Give an item to a worker."""
        place.running[place.actor.do.remote(ticket.item)] = ticket

    def results(self) -> list[tuple[Ticket, Made | None, Exception | None, bool]]:
        """Wait a little for results; the last value tells that a worker was lost over an item."""
        ray = self.ray
        refs = [ref for place in self.places for ref in place.running]
        if not refs:
            self._greet(_PATIENCE)
            return []
        done, _ = ray.wait(refs, num_returns=1, timeout=_PATIENCE)
        self._greet(0)
        found: list[tuple[Ticket, Made | None, Exception | None, bool]] = []
        for ref in done:
            place = next(place for place in self.places if ref in place.running)
            ticket = place.running.pop(ref)
            try:
                found.append((ticket, ray.get(ref), None, False))
                place.deaths = 0
                self.heard = time.monotonic()
            except ray.exceptions.RayTaskError as error:
                found.append((ticket, None, _cause(error), False))
            except ray.exceptions.RayError as error:
                lost = [ticket, *place.running.values()]
                place.running.clear()
                ticket.deaths += 1
                found += [(one, None, None, True) for one in lost]
                self._bury(place, error)
        return found

    def look_around(self) -> None:
        """Now and then, see which nodes are there; raises DeviceError when the cluster is gone."""
        now = time.monotonic()
        if now - self.looked < _LOOK_AROUND:
            return
        self.looked = now
        if answers(self.address):
            self.heard = now
            self._find_nodes()
        elif now - self.heard > _SILENCE:
            self.gone = True
            raise DeviceError("--ray: the cluster is gone; start it again")
        if self.places:
            self.alone_since = None
        elif self.alone_since is None:
            self.alone_since = now
            self.say("no node is left; waiting for others to join")
        elif now - self.alone_since > _GATHER:
            raise DeviceError("--ray: no node of the cluster is left; start some")

    def dismiss(self) -> None:
        """End all workers."""
        for place in self.places:
            self._end(place)
        self.places.clear()

    def _find_nodes(self) -> None:
        nodes = {node["NodeID"]: node for node in self.ray.nodes() if node["Alive"]}
        for gone in [place for place in self.places if place.node not in nodes and not place.running]:
            self._end(gone)
            self.places.remove(gone)
        self.known &= set(nodes)
        for identity, node in nodes.items():
            if identity not in self.known:
                self.known.add(identity)
                for place in self._places_on(node):
                    self.places.append(place)
                    self._start(place)

    def _places_on(self, node: dict[str, Any]) -> list[Place]:
        resources = node["Resources"]
        cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        count, share, slots = gpus, 0, self.share.slots
        options: dict[str, Any] = {"num_gpus": 1, "num_cpus": 1 if cpus >= gpus else 0}
        if not gpus or not self.share.gpus:
            share = min(self.share.cpus, cpus)
            count, slots = cpus // share if share else 0, 1 if share == 1 else self.share.slots
            options = {"num_cpus": share}
        there = int(resources.get("memory", 0))
        options["memory"] = min(self.share.memory * slots, there * 9 // 10)
        most = there // max(1, options["memory"])
        place = (node["NodeID"], node.get("NodeManagerAddress", "?"), options, share, slots)
        return [Place(*place) for _ in range(min(count, max(1, most)))]

    def _start(self, place: Place) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        strategy = NodeAffinitySchedulingStrategy(place.node, soft=False)
        place.actor = self.actor_class.options(
            **place.options, max_concurrency=place.slots, max_restarts=0, scheduling_strategy=strategy
        ).remote(self.make, place.cpus)
        place.starting = place.actor.problems.remote()

    def _greet(self, patience: float) -> None:
        """Let workers that have looked at their nodes begin."""
        ray = self.ray
        starting = {place.starting: place for place in self.places if place.starting is not None}
        if not starting:
            time.sleep(patience)
            return
        done, _ = ray.wait(list(starting), num_returns=1, timeout=patience)
        for ref in done:
            place = starting[ref]
            place.starting = None
            try:
                problems = ray.get(ref)
            except ray.exceptions.RayTaskError as error:
                problems = [str(_cause(error))]
            except ray.exceptions.RayError as error:
                self._bury(place, error)
                continue
            if not problems:
                continue
            words = f"node {place.host}: {'; '.join(problems)}"
            if not self.began:
                raise UsageError(f"--ray: {words}")
            self.say(f"{words}; it is left out")
            self._end(place)
            self.places.remove(place)

    def _bury(self, place: Place, error: Exception) -> None:
        """Put another worker in a dead one's place, unless they keep dying there."""
        self._end(place)
        place.deaths += 1
        there = answers(self.address) and any(
            node["NodeID"] == place.node and node["Alive"] for node in self.ray.nodes()
        )
        if there and place.deaths < ATTEMPTS:
            self._start(place)
        else:
            self.places.remove(place)
            reason = next((line for line in str(error).splitlines() if line.strip()), "without a word")
            self.say(
                f"node {place.host}: its worker died ({reason.strip()})"
                if there
                else f"node {place.host} is gone"
            )

    def _end(self, place: Place) -> None:
        if not self.gone:
            with contextlib.suppress(Exception):  # it may be dead already
                self.ray.kill(place.actor, no_restart=True)
        place.actor = place.starting = None


class _Actor:
    """A worker in a process of its own."""

    def __init__(self, make: Callable[[int], Worker[Any, Any]], cpus: int) -> None:
        self._make = make
        self._cpus = cpus
        self._worker: Worker[Any, Any] | None = None

    def problems(self) -> list[str]:
        """Make the worker, and have it look at its node."""
        try:
            self._worker = self._make(self._cpus)
        except EmtError as error:
            return [str(error)]
        return self._worker.problems()

    def do(self, item: Any) -> Any:
        """Do one item."""
        assert self._worker is not None
        return self._worker(item)


def _cause(error: Any) -> Exception:
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else Exception(str(error).strip().splitlines()[-1])


def answers(address: str) -> bool:
    """Whether something listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False

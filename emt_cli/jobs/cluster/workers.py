"""The workers of a run on a Ray cluster: started on its nodes, given items, restarted or removed."""

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
Output = TypeVar("Output")

ATTEMPTS = 3
"""Workers that may die over one item before it is given up, and in one slot in a row before it is left."""
_POLL_INTERVAL = 0.2
_NODE_CHECK_INTERVAL = 5.0
"""Seconds between looks at the cluster: nodes come and go."""
_STARTUP_TIMEOUT = 60.0
"""Seconds to wait for slow nodes before the work begins; they may join later."""
_HEARTBEAT_TIMEOUT = 15.0
"""Seconds without an answer after which the cluster counts as gone; Ray would abort the process after 60."""


class Worker(Protocol[Item, Result]):  # type: ignore[misc]  # an argument may well be invariant
    """What does the work on a node; made there."""

    def problems(self) -> list[str]:
        """Say why this node cannot do the work; nothing when it can."""

    def __call__(self, item: Item) -> Result:
        """Do one item. Several threads may call it when the worker has several at once."""


@dataclass(frozen=True)
class Share:
    """What one worker is given of its node."""

    cpus: int = 1
    """Processors of a worker without a GPU."""
    gpus: bool = True
    """Whether nodes with GPUs get a worker for each of them, instead."""
    memory: int = 0
    """Bytes that an item may need; a node gets fewer workers when they would not fit."""
    concurrency: int = 3
    """Items a worker on a GPU or on several processors has at once, to read and write meanwhile."""


@dataclass(eq=False)
class Ticket:
    """An item, and how many attempts ended with a dead worker."""

    item: Any
    attempts: int = 0


@dataclass(eq=False)
class WorkerSlot:
    """A place for one worker on a node, the worker, and what it is doing."""

    node: str
    host: str
    options: dict[str, Any]
    cpus: int
    concurrency: int
    actor: Any = None
    starting: Any = None
    """Becomes the list of its problems; None once it has none."""
    failures: int = 0
    """In a row."""
    running: dict[Any, Ticket] = field(default_factory=dict)

    @property
    def free(self) -> bool:
        """Whether it can take another item."""
        return self.actor is not None and self.starting is None and len(self.running) < self.concurrency


class WorkerPool(Generic[Item, Output]):
    """The workers on a cluster, and its nodes as they come and go."""

    def __init__(
        self, make: Callable[[int], Worker[Item, Output]], share: Share, say: Callable[[str], None]
    ) -> None:
        import ray

        self.ray: Any = ray
        self.make, self.share, self.say = make, share, say
        self.actor_class = ray.remote(_Actor)
        self.slots: list[WorkerSlot] = []
        self.known: set[str] = set()
        self.began = False
        self.address = ray.get_runtime_context().gcs_address
        self.gone = False
        self.checked = self.heard = time.monotonic()
        self.empty_since: float | None = None

    @property
    def busy(self) -> bool:
        """Whether any worker has something to do."""
        return any(slot.running for slot in self.slots)

    def free_slot(self) -> WorkerSlot | None:
        """Return the free worker with the least to do."""
        free = [slot for slot in self.slots if slot.free]
        return min(free, key=lambda slot: len(slot.running), default=None)

    def wait_for_startup(self, stop: Event) -> None:
        """Start workers and wait until they have checked at their nodes; raises UsageError for problems."""
        self._find_nodes()
        end, told = time.monotonic() + _STARTUP_TIMEOUT, False
        while not stop.is_set() and any(slot.starting is not None for slot in self.slots):
            if time.monotonic() > end and any(slot.starting is None for slot in self.slots):
                break
            if time.monotonic() > end and not told:
                self.say("the cluster is busy; waiting for free processors or GPUs")
                told = True
            self._poll_startup(_POLL_INTERVAL)
            self.check_nodes()
        if not self.slots and not stop.is_set():
            raise DeviceError("--ray: no node has a worker for this; see `ray status`")
        self.began = True

    def submit(self, slot: WorkerSlot, ticket: Ticket) -> None:
        """Give an item to a worker."""
        slot.running[slot.actor.do.remote(ticket.item)] = ticket

    def results(self) -> list[tuple[Ticket, Output | None, Exception | None, bool]]:
        """Wait a little for results; the last value tells that a worker was lost over an item."""
        ray = self.ray
        refs = [ref for slot in self.slots for ref in slot.running]
        if not refs:
            self._poll_startup(_POLL_INTERVAL)
            return []
        done, _ = ray.wait(refs, num_returns=1, timeout=_POLL_INTERVAL)
        self._poll_startup(0)
        found: list[tuple[Ticket, Output | None, Exception | None, bool]] = []
        for ref in done:
            slot = next(slot for slot in self.slots if ref in slot.running)
            ticket = slot.running.pop(ref)
            try:
                found.append((ticket, ray.get(ref), None, False))
                slot.failures = 0
                self.heard = time.monotonic()
            except ray.exceptions.RayTaskError as error:
                found.append((ticket, None, _cause(error), False))
            except ray.exceptions.RayError as error:
                lost = [ticket, *slot.running.values()]
                slot.running.clear()
                ticket.attempts += 1
                found += [(one, None, None, True) for one in lost]
                self._restart_or_remove(slot, error)
        return found

    def check_nodes(self) -> None:
        """Now and then, see which nodes are there; raises DeviceError when the cluster is gone."""
        now = time.monotonic()
        if now - self.checked < _NODE_CHECK_INTERVAL:
            return
        self.checked = now
        if answers(self.address):
            self.heard = now
            self._find_nodes()
        elif now - self.heard > _HEARTBEAT_TIMEOUT:
            self.gone = True
            raise DeviceError("--ray: the cluster is gone; start it again")
        if self.slots:
            self.empty_since = None
        elif self.empty_since is None:
            self.empty_since = now
            self.say("no node is left; waiting for others to join")
        elif now - self.empty_since > _STARTUP_TIMEOUT:
            raise DeviceError("--ray: no node of the cluster is left; start some")

    def shut_down(self) -> None:
        """End all workers."""
        for slot in self.slots:
            self._end(slot)
        self.slots.clear()

    def _find_nodes(self) -> None:
        nodes = {node["NodeID"]: node for node in self.ray.nodes() if node["Alive"]}
        for gone in [slot for slot in self.slots if slot.node not in nodes and not slot.running]:
            self._end(gone)
            self.slots.remove(gone)
        self.known &= set(nodes)
        for identity, node in nodes.items():
            if identity not in self.known:
                self.known.add(identity)
                for slot in self._slots_on(node):
                    self.slots.append(slot)
                    self._start(slot)

    def _slots_on(self, node: dict[str, Any]) -> list[WorkerSlot]:
        resources = node["Resources"]
        cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        count, share, concurrency = gpus, 0, self.share.concurrency
        options: dict[str, Any] = {"num_gpus": 1, "num_cpus": 1 if cpus >= gpus else 0}
        if not gpus or not self.share.gpus:
            share = min(self.share.cpus, cpus)
            count, concurrency = cpus // share if share else 0, 1 if share == 1 else self.share.concurrency
            options = {"num_cpus": share}
        there = int(resources.get("memory", 0))
        options["memory"] = min(self.share.memory * concurrency, there * 9 // 10)
        most = there // max(1, options["memory"])
        arguments = (node["NodeID"], node.get("NodeManagerAddress", "?"), options, share, concurrency)
        return [WorkerSlot(*arguments) for _ in range(min(count, max(1, most)))]

    def _start(self, slot: WorkerSlot) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        strategy = NodeAffinitySchedulingStrategy(slot.node, soft=False)
        slot.actor = self.actor_class.options(
            **slot.options, max_concurrency=slot.concurrency, max_restarts=0, scheduling_strategy=strategy
        ).remote(self.make, slot.cpus)
        slot.starting = slot.actor.problems.remote()

    def _poll_startup(self, patience: float) -> None:
        """Let workers that have checked at their nodes begin."""
        ray = self.ray
        starting = {slot.starting: slot for slot in self.slots if slot.starting is not None}
        if not starting:
            time.sleep(patience)
            return
        done, _ = ray.wait(list(starting), num_returns=1, timeout=patience)
        for ref in done:
            slot = starting[ref]
            slot.starting = None
            try:
                problems = ray.get(ref)
            except ray.exceptions.RayTaskError as error:
                problems = [str(_cause(error))]
            except ray.exceptions.RayError as error:
                self._restart_or_remove(slot, error)
                continue
            if not problems:
                continue
            words = f"node {slot.host}: {'; '.join(problems)}"
            if not self.began:
                raise UsageError(f"--ray: {words}")
            self.say(f"{words}; it is left out")
            self._end(slot)
            self.slots.remove(slot)

    def _restart_or_remove(self, slot: WorkerSlot, error: Exception) -> None:
        """Put another worker in a dead one's slot, unless they keep dying there."""
        self._end(slot)
        slot.failures += 1
        there = answers(self.address) and any(
            node["NodeID"] == slot.node and node["Alive"] for node in self.ray.nodes()
        )
        if there and slot.failures < ATTEMPTS:
            self._start(slot)
        else:
            self.slots.remove(slot)
            reason = next((line for line in str(error).splitlines() if line.strip()), "without a word")
            self.say(
                f"node {slot.host}: its worker died ({reason.strip()})"
                if there
                else f"node {slot.host} is gone"
            )

    def _end(self, slot: WorkerSlot) -> None:
        if not self.gone:
            with contextlib.suppress(Exception):  # it may be dead already
                self.ray.kill(slot.actor, no_restart=True)
        slot.actor = slot.starting = None


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

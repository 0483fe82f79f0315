"""Spread work over a Ray cluster: a worker for each GPU or share of a processor, each fed as it gets done."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import secrets
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any, Generic, TypeVar

from emt_cli.atomic import temporary_folder
from emt_cli.errors import DeviceError, UsageError
from emt_cli.jobs.cluster.workers import ATTEMPTS, Share, Ticket, Worker, WorkerPool, answers

Item = TypeVar("Item")
Output = TypeVar("Output")

LOCAL = "local"
"""The address that stands for a cluster of this machine alone, started for the run."""


@dataclass(frozen=True)
class Submitted(Generic[Item]):
    """An item is on its way to a worker."""

    item: Item


@dataclass(frozen=True)
class Completed(Generic[Item, Output]):
    """An item is done; error when every worker that tried it died, or it raised something."""

    item: Item
    result: Output | None = None
    error: Exception | None = None


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Be connected to a cluster: LOCAL, auto (one that runs here), HOST:PORT or ray://HOST:PORT.

    Raises UsageError when Ray is not installed, DeviceError when there is no cluster at this address.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError('--ray: Ray is not installed; pip install "emt-cli[ray]"') from error
    if address == "auto":
        _own_address()
    elif address != LOCAL and not answers(address.removeprefix("ray://")):
        raise DeviceError(
            f"--ray {address}: nothing answers there; start it with `ray start --head` (docs/cluster.md)"
        )
    _silence_logging()
    listener = signal.getsignal(signal.SIGTERM)
    with contextlib.ExitStack() as stack:
        options = stack.enter_context(_for_itself()) if address == LOCAL else {}
        try:
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **options)
        except Exception as error:  # Ray raises all kinds, Exception itself among them
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            advice = "" if address == LOCAL else _NODE_ADVICE.format(address=address)
            raise DeviceError(f"--ray {address}: cannot work with it ({reason}){advice}") from error
        if current_thread() is main_thread():
            signal.signal(signal.SIGTERM, listener)  # Ray puts its own there
        try:
            yield
        finally:
            ray.shutdown()


_NODE_ADVICE = (
    "; this machine must be one of its nodes: ray start --address={address}; where the cluster asks for a"
    " token, RAY_AUTH_MODE=token and its ~/.ray/auth_token must be here, too"
)


@contextlib.contextmanager
def _for_itself() -> Iterator[dict[str, Any]]:
    """Yield options of a cluster that nobody else can reach.

    It listens on the loopback interface, asks for a token that is nowhere on the disk (Ray would leave one in
    the home folder, which clusters started later would ask for), and has its files in a folder of its own.
    """
    constants: Any = importlib.import_module("ray._private.ray_constants")
    settings = {
        constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0",  # as on Windows and macOS: loopback only
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    before = {name: os.environ.get(name) for name in settings}
    reachable = constants.ENABLE_RAY_CLUSTER
    os.environ.update(settings)
    constants.ENABLE_RAY_CLUSTER = False
    _look_at_environment()
    try:
        # Sockets lie in it, whose paths may have 107 bytes: the system's folder for a user can be too long.
        with temporary_folder(Path("/tmp") if os.name == "posix" else None) as folder:
            yield {"include_dashboard": False, "_temp_dir": str(folder / "ray")}  # Ray opens it to all
    finally:
        constants.ENABLE_RAY_CLUSTER = reachable
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        _look_at_environment()


def _look_at_environment() -> None:
    """Have Ray read its settings again, which it does when it is imported."""
    raylet: Any = importlib.import_module("ray._raylet")
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


def spread(
    items: Iterable[Item],
    make: Callable[[int], Worker[Item, Output]],
    *,
    share: Share,
    stop: Event,
    say: Callable[[str], None],
) -> Iterator[Submitted[Item] | Completed[Item, Output] | None]:
    """Have workers do items, yielding results in the order they come, and None now and then.

    make builds a worker on its node and is told its processors, 0 with a GPU; it, the items and the results
    must be picklable. Whoever is done gets the next item, so that slow nodes get fewer. Items of dead workers
    and nodes are done again elsewhere; new nodes join in. When stop is set, what is begun is finished.
    say is told, in a line, what happens to nodes. Raises UsageError when a node cannot do the work, and
    DeviceError when the cluster is gone.
    """
    pool = WorkerPool(make, share, say)
    source = iter(items)
    again: deque[Ticket] = deque()
    exhausted = False
    try:
        pool.wait_for_startup(stop)
        while True:
            while not stop.is_set() and (slot := pool.free_slot()) is not None:
                if not again:
                    item = next(source, None)
                    if item is None:
                        exhausted = True
                        break
                    again.append(Ticket(item))
                ticket = again.popleft()
                pool.submit(slot, ticket)
                if not ticket.attempts:
                    yield Submitted(ticket.item)
            if not pool.busy and (stop.is_set() or (exhausted and not again)):
                return
            pool.check_nodes()
            for ticket, result, error, lost in pool.results():
                if lost and ticket.attempts < ATTEMPTS:
                    again.append(ticket)
                elif lost:
                    words = f"{ATTEMPTS} workers died over it, probably for lack of memory"
                    yield Completed(ticket.item, error=DeviceError(words))
                else:
                    yield Completed(ticket.item, result, error)
            yield None
    finally:
        pool.shut_down()


def _silence_logging() -> None:
    """Keep Ray from printing nodes' errors on standard output, for results: WorkerPool tells them."""
    with contextlib.suppress(ImportError):
        worker: Any = importlib.import_module("ray._private.worker")
        worker.print_to_stdstream = lambda *_, **__: None


def _own_address() -> None:
    """Raise DeviceError when this machine is no node of a cluster that answers."""
    noted = Path(tempfile.gettempdir(), "ray", "ray_current_cluster")  # written by `ray start`
    address = os.environ.get("RAY_ADDRESS", "") or (noted.read_text().strip() if noted.is_file() else "")
    if not address or not answers(address):
        raise DeviceError("--ray auto: this machine is no node of a running cluster; use ray start first")

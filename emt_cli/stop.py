"""Graceful shutdown on Ctrl-C and SIGTERM: finish the current item, then stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGTERM, signal.SIGINT)
"""Signals that end a command after the item at hand."""

_interrupted = False


def interrupted() -> bool:
    """Tell whether Ctrl-C has been heard in this process."""
    return _interrupted


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and Ctrl-C set; the second of them does what it did before.

    One that is ignored, as Ctrl-C by what a script runs with &, stays ignored. In another thread than the
    main one, which cannot listen, the event is never set.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    heard = {number: signal.getsignal(number) for number in ENDING}
    before = {number: handler for number, handler in heard.items() if handler != signal.SIG_IGN}

    def wish(number: int, frame: object) -> None:
        global _interrupted
        _interrupted = _interrupted or number == signal.SIGINT
        event.set()
        for known, handler in before.items():
            signal.signal(known, handler)

    for number in before:
        signal.signal(number, wish)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

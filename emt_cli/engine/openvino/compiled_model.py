"""A model that OpenVINO has compiled for this CPU, and the requests that threads run it with."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

from emt_cli.cores import cpu_threads
from emt_cli.engine.compiled import compiled_path, keep_compiled, read_compiled
from emt_cli.engine.device import Precision
from emt_cli.engine.tiling import Floats
from emt_cli.errors import DeviceError
from emt_cli.steps import Steps

_HINTS = {"fp32": "f32", "bf16": "bf16"}


@cache
def openvino_core() -> Any:
    """Return the one openvino.Core of this process, which lives as long as the process.

    OpenVINO gives the thread a signal stack with each Core. When Cores go in the order they came, the thread
    keeps one whose memory is gone; Python's handlers run on it: the next Ctrl-C is a segmentation fault.
    """
    from openvino import Core

    return Core()


class CompiledModel:
    """A model of one input and one output, compiled the first time it runs; the cache keeps what came of it.

    make: compiles it, with OpenVINO's core and settings. depends: all that makes it another one by changing.
    """

    def __init__(
        self, make: Callable[[Any, dict[str, Any]], Any], precision: Precision, *depends: object
    ) -> None:
        from openvino import get_version

        self._make = make
        self._core = openvino_core()
        self.settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": cpu_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        names = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
        device = [self._core.get_property("CPU", name) for name in names]
        self.path: Path = compiled_path("openvino", *depends, get_version(), device, self.settings)
        self._model: Any = None
        self._free: list[Any] = []  # requests, one for each thread that enlarges
        self._compiling = Lock()
        self._process = os.getpid()

    @property
    def ready(self) -> bool:
        """Whether it runs at once, or is only to be read."""
        return self._model is not None or self.path.is_file()

    def infer(self, x: Floats, take: Callable[[Floats], Floats]) -> Steps[Floats]:
        """Run it on one array, yielding 0.0 from time to time; take copies what is wanted of the answer."""
        self.compile()
        try:
            request = self._free.pop()
        except IndexError:
            request = self._model.create_infer_request()
        request.start_async([x])
        try:
            while not request.wait_for(100):  # milliseconds; Ctrl-C comes through between
                yield 0.0
        finally:  # left in the middle, it would be busy when the next picture comes
            request.wait()
        answer = take(request.get_output_tensor().data)
        self._free.append(request)
        return answer

    def compile(self) -> None:
        """Compile it, or read it from the cache, unless that is done."""
        if self._process != os.getpid():
            raise DeviceError("OpenVINO does not survive a fork: make the Upscaler in the forked process")
        with self._compiling:
            if self._model is None:
                self._model = self._compiled()

    def _compiled(self) -> Any:
        data = read_compiled(self.path)
        if data is not None:
            with suppress(RuntimeError):  # of another machine after all, or a version that lies
                return self._core.import_model(BytesIO(data), "CPU", self.settings)
        model = self._make(self._core, self.settings)
        stream = BytesIO()
        model.export_model(stream)
        keep_compiled(self.path, stream.getvalue())
        return model

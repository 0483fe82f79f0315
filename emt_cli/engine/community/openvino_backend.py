"""Compute a network of others with OpenVINO, where its graph is right for every size.

Converting is left to a process of its own: OpenVINO's converter brings some networks, and itself, to a crash.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np

from emt_cli.atomic import temporary_folder
from emt_cli.engine.community.network import CommunityNetwork
from emt_cli.engine.compiled import compiled_path, keep_compiled, read_compiled
from emt_cli.engine.device import Precision
from emt_cli.engine.openvino.compiled_model import CompiledModel
from emt_cli.engine.tiling import Floats
from emt_cli.steps import Steps

_UNFIT = b"does not convert"


class OpenVINOBackend:
    """The network as OpenVINO compiled it for this CPU."""

    name = "openvino"

    def __init__(self, network: CommunityNetwork, precision: Precision) -> None:
        self.network, self.precision = network, precision
        self.compiled = CompiledModel(self._compile, precision, "community", network.sha256)

    def infer(self, plane: Floats) -> Steps[Floats]:
        """Return the answer (1, c, H, W) to (1, c, h, w), yielding 0.0 from time to time."""
        return (yield from self.compiled.infer(plane, np.copy))

    def _compile(self, core: Any, settings: dict[str, Any]) -> Any:
        with temporary_folder() as folder:
            made = folder / "model.bin"
            command = [
                *(sys.executable, "-m", "emt_cli.engine.community.convert"),
                *(str(self.network.path.absolute()), str(made)),
                *(str(settings[name]) for name in ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS")),
            ]
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            if not made.is_file():
                raise _UnfitError
            return core.import_model(made.read_bytes(), "CPU", settings)


class _UnfitError(Exception):
    """OpenVINO does not compute a network as torch does."""


def openvino_backend(network: CommunityNetwork, precision: Precision) -> OpenVINOBackend | None:
    """Return a network compiled by OpenVINO, or None where that does not work; tried once, and remembered."""
    from openvino import get_version

    verdict = compiled_path("converts", network.sha256, get_version())
    if read_compiled(verdict) == _UNFIT:
        return None
    backend = OpenVINOBackend(network, precision)
    try:
        backend.compiled.compile()
    except _UnfitError:
        keep_compiled(verdict, _UNFIT)
        return None
    return backend

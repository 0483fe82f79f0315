"""What is known of a network that is not an EMT, and the network itself where it is needed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_cli.engine.compiled import compiled_path, keep_compiled, read_compiled
from emt_cli.engine.weights import read_model_file
from emt_cli.errors import ModelError

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

WINDOWS = 32
"""Tiles begin at multiples of this: the windows of attention (7 are rare; 8, 16, 32) lie as in the whole."""


@dataclass(frozen=True)
class Facts:
    """What spandrel says of a network, and what it costs; kept in the cache, by the file's sha256."""

    architecture: str
    tags: tuple[str, ...]
    purpose: str
    """SR, or Restoration, whose scale is 1."""
    scale: int
    channels: int
    """Of input and output: 3 for RGB, 1 for gray."""
    minimum: int
    """Least side of an input in pixels; smaller ones are extended."""
    multiple: int
    """Sides are extended to multiples of this."""
    square: bool
    half: bool
    """Whether fp16 serves."""
    bf16: bool
    parameters: int
    multiply_adds: int
    """A pixel of the input, all planes of it together."""
    bytes_per_pixel: int
    """Memory in fp32 that an input pixel costs."""
    fixed_bytes: int
    """Memory in fp32 that it takes whatever the input: parameters, and what they unfold to."""

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Return the sides to which a picture is extended, right and below."""
        rows, columns = (
            -(-max(side, self.minimum, 1) // self.multiple) * self.multiple for side in (height, width)
        )
        return (max(rows, columns),) * 2 if self.square else (rows, columns)


class CommunityNetwork:
    """A network file that spandrel recognises.

    facts are there at once; `descriptor` reads the file again, with torch, when it is first asked for.
    """

    def __init__(self, path: Path, sha256: str, facts: Facts) -> None:
        self.path, self.sha256, self.facts = path, sha256, facts
        self.scale, self.parameters = facts.scale, facts.parameters
        self.metadata: dict[str, Any] = {"name": path.stem}
        self.sharpness = None  # of EMTs that hold two sets of weights

    @property
    def multiple(self) -> int:
        """Pixels that tile sides are multiples of."""
        return lcm(WINDOWS, self.facts.multiple)

    @cached_property
    def descriptor(self) -> ImageModelDescriptor[Any]:
        """The network as spandrel builds it, in float32 on the CPU; shared by all who ask."""
        from emt_cli.engine.community.read import read_network

        data = read_model_file(self.path)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise ModelError(f"{self.path}: changed while it was in use; start again")
        return read_network(data, self.path)

    def unfit_for(self, command: str) -> ModelError:
        """Return what to say where only an EMT will do."""
        return ModelError(f"{self.path}: {self.facts.architecture}, and `emt {command}` is for EMT models")


def recall_facts(sha256: str) -> Facts | None:
    """Return what was found out of a file before, by its sha256."""
    data = read_compiled(_facts_path(sha256))
    if data is None:
        return None
    values = json.loads(data)
    return Facts(**values | {"tags": tuple(values["tags"])})


def keep_facts(sha256: str, facts: Facts) -> None:
    """Keep what was found out of a file, for the next time."""
    keep_compiled(_facts_path(sha256), json.dumps(asdict(facts)).encode())


def _facts_path(sha256: str) -> Path:
    return compiled_path("network", sha256, [field.name for field in fields(Facts)])

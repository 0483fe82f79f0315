"""What a picture is enlarged with in a benchmark: a network, or plain interpolation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emt_cli.assets.catalog import RELEASED
from emt_cli.assets.model_choice import find_model
from emt_cli.engine.device import choose_device, device_type
from emt_cli.engine.models import load_model, model_scales, precision_for
from emt_cli.engine.upscaler import Upscaler
from emt_cli.errors import UsageError
from emt_cli.media.resize import resize_bytes
from emt_cli.steps import Steps

Bytes: TypeAlias = NDArray[np.uint8]
"""RGB (h, w, 3), 0..255."""

BICUBIC, LANCZOS = "bicubic", "lanczos"
PLAIN = (BICUBIC, LANCZOS)


@dataclass(frozen=True)
class Settings:
    """How networks run; the same for all of them."""

    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    """Side of a tile in input pixels; None fits the free memory, 0 never cuts."""
    ensemble: bool = False
    """Average over eight flips and rotations."""


class Method:
    """One way to enlarge pictures by one scale.

    name: as the person gave it. figures: the name under which papers report it. identity: changes whenever
    its answers may; empty for interpolation, which is quick to do again.
    """

    def __init__(self, model: str, scale: int, settings: Settings) -> None:
        self.name = self.figures = model
        self.scale = scale
        self.identity = ""
        self.upscaler: Upscaler | None = None
        if model in PLAIN:
            return
        found = find_model(model, scale)
        network = load_model(found.path)
        if network.scale != scale:
            raise UsageError(f"{found.path}: enlarges x{network.scale}, not x{scale}")
        device = choose_device(settings.device)
        precision = precision_for(settings.precision, device, "auto", network)
        if model == "auto":
            self.name = self.figures = found.name
        if network.sha256 in {file.sha256 for file in RELEASED}:
            self.figures = "emt+" if settings.ensemble else "emt"
        self.upscaler = Upscaler(
            network,
            device=device,
            precision=precision,
            tile=settings.tile,
            ensemble=settings.ensemble,
            exact=True,
        )
        runner = self.upscaler.runner
        how = f"{runner.name} {runner.precision} {device_type(device)} {settings.tile} {settings.ensemble}"
        self.identity = f"{network.sha256} {how} {_code()}"

    def enlarge(self, lr: Bytes) -> Steps[Bytes]:
        """Enlarge RGB (h, w, 3), yielding the share done; rounded to bytes."""
        height, width = lr.shape[0] * self.scale, lr.shape[1] * self.scale
        if self.upscaler is not None:
            answer = yield from self.upscaler.steps(lr)
            return answer.astype(np.uint8, copy=False)
        if self.name == BICUBIC:
            return resize_bytes(lr, height, width)
        return np.array(Image.fromarray(lr).resize((width, height), Image.Resampling.LANCZOS))


def choose_scales(models: tuple[str, ...], scales: tuple[int, ...]) -> tuple[int, ...]:
    """Return the scales to run: those asked for, else x4, else the largest that all models have.

    Raises UsageError when a model lacks one.
    """
    offered = {model: set(model_scales(model)) for model in models if model not in PLAIN}
    shared = set.intersection({2, 3, 4}, *offered.values())
    if not scales:
        if not shared:
            raise UsageError("these models have no scale in common; run them one at a time")
        return (4 if 4 in shared else max(shared),)
    for scale in scales:
        if scale not in (2, 3, 4):
            raise UsageError(f"--scale {scale}: benchmarks are made for 2, 3 and 4")
        for model, known in offered.items():
            if scale not in known:
                has = ", ".join(f"x{one}" for one in sorted(known))
                raise UsageError(f"--scale {scale}: model {model} has {has} only")
    return scales


def _code() -> str:
    """Name the state of the code that answers depend on, so that no answer of other code is taken for it."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for folder in ("engine", "model"):
        for path in sorted((package / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()

"""How fast networks run here: engines, precisions, tiles and sizes side by side.

A run is one whole call of the engine, from bytes to bytes, as commands make it. After a warm-up, during which
memory is watched, the median of several runs counts. The rate of the network's multiply-adds is set against
that of a large matrix product on the same device.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emt_cli import __version__
from emt_cli.assets.catalog import RELEASED
from emt_cli.assets.model_choice import find_model
from emt_cli.engine import runner
from emt_cli.engine.community.network import CommunityNetwork
from emt_cli.engine.device import PRECISIONS, Precision, choose_device, device_type
from emt_cli.engine.models import Model, load_model, precision_for
from emt_cli.engine.peak import peak_memory
from emt_cli.engine.torch.network import build_network
from emt_cli.engine.torch.runner import DTYPES
from emt_cli.engine.upscaler import Upscaler
from emt_cli.errors import UsageError
from emt_cli.evaluation.methods import Bytes
from emt_cli.evaluation.multiply_adds import FRAME, PAPER_MULTIPLY_ADDS, count_multiply_adds
from emt_cli.media.resize import resize

ENGINES = ("auto", *runner.ENGINES, "eager")
"""What commands use; and eager: the network as it is trained, without tiles."""
_MATRIX = 1024


@dataclass(frozen=True)
class Case:
    """What is measured once."""

    model: str
    scale: int
    engine: str
    precision: str
    tile: int | None
    """Side in input pixels; None by free memory, 0 never cut."""
    height: int
    """Of the input, in pixels."""
    width: int


@dataclass(frozen=True)
class Speed:
    """What was measured."""

    case: Case
    tiles: int
    seconds: float
    """Median of one call."""
    spread: float
    """Distance of the quartiles, as a share of the median."""
    runs: int
    peak_bytes: int
    """Most memory in use during a call, above what was in use before it."""
    multiply_adds: float
    """Of the whole input, without tiles."""
    matrix_rate: float
    """Multiply-adds a second of a large matrix product, same device and precision."""

    @property
    def pixels_per_second(self) -> float:
        """Input pixels."""
        return self.case.height * self.case.width / self.seconds

    @property
    def share(self) -> float:
        """Rate of the network's multiply-adds, as a share of the matrix product's."""
        return self.multiply_adds / self.seconds / self.matrix_rate

    def facts(self) -> dict[str, Any]:
        """Describe it in JSON values."""
        return {
            **vars(self.case),
            "tiles": self.tiles,
            "seconds": self.seconds,
            "spread": round(self.spread, 4),
            "runs": self.runs,
            "pixels_per_second": round(self.pixels_per_second, 1),
            "peak_bytes": self.peak_bytes,
            "multiply_adds": self.multiply_adds,
            "matrix_product_share": round(self.share, 4),
        }


class SpeedTest:
    """Networks on one device, measured case by case."""

    def __init__(self, device: str = "auto", *, runs: int = 5) -> None:
        self.device = choose_device(device)
        self.runs = runs
        self._models: dict[tuple[str, int], Model] = {}
        self._released: set[tuple[str, int]] = set()
        self._rates: dict[Precision, float] = {}

    def weights(self, model: str, scale: int) -> Model:
        """Return the weights of a --model value at a scale, loading it the first time."""
        key = (model, scale)
        if key not in self._models:
            weights = load_model(find_model(model, scale).path)
            if weights.scale != scale:
                raise UsageError(f"{model}: enlarges x{weights.scale}, not x{scale}")
            self._models[key] = weights
            if weights.sha256 in {file.sha256 for file in RELEASED}:
                self._released.add(key)
        return self._models[key]

    def measure(self, case: Case) -> Iterator[float | Speed]:
        """Measure one case, yielding the share done, and at the end the result."""
        weights = self.weights(case.model, case.scale)
        precision = precision_for(case.precision, self.device, case.engine, weights)
        image = synthetic(case.height, case.width)
        call, engine, tiles = self._prepared(weights, case, precision, image)
        rate = self._matrix_rate(precision)
        with peak_memory(self.device) as peak:
            call()
        yield 1 / (self.runs + 1)
        seconds = []
        for run in range(self.runs):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
            yield (run + 2) / (self.runs + 1)
        quartiles = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [0.0, 0.0, 0.0]
        median = statistics.median(seconds)
        yield Speed(
            case=replace(case, engine=engine, precision=precision),
            tiles=tiles,
            seconds=median,
            spread=(quartiles[2] - quartiles[0]) / median,
            runs=self.runs,
            peak_bytes=peak.bytes,
            multiply_adds=_multiply_adds(weights, case.height, case.width),
            matrix_rate=rate,
        )

    def networks(self) -> list[dict[str, Any]]:
        """Describe the networks measured: parameters, and multiply-adds for a frame of 1280x720."""
        return [
            {
                "model": model,
                "scale": scale,
                "parameters": weights.parameters,
                "multiply_adds_720p": _multiply_adds(weights, FRAME[0] // scale, FRAME[1] // scale),
                "paper_multiply_adds_720p": (
                    PAPER_MULTIPLY_ADDS if scale == 4 and (model, scale) in self._released else None
                ),
            }
            for (model, scale), weights in self._models.items()
        ]

    def machine(self) -> dict[str, Any]:
        """Describe the machine: processor, threads, versions, matrix-product rates."""
        return {
            "device": self.device,
            "processor": processor_name(),
            "threads": torch.get_num_threads(),
            "system": platform.system(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "matrix_product_multiply_adds_per_second": {
                str(DTYPES[precision]).removeprefix("torch."): rate for precision, rate in self._rates.items()
            },
        }

    def _prepared(
        self, weights: Model, case: Case, precision: Precision, image: Bytes
    ) -> tuple[Callable[[], object], str, int]:
        """Return the call to time, the engine it is of, and the number of tiles it works in."""
        if case.engine != "eager" or isinstance(weights, CommunityNetwork):
            upscaler = Upscaler(
                weights,
                device=self.device,
                precision=precision,
                tile=case.tile,
                engine="torch" if case.engine == "eager" else case.engine,
                exact=True,
            )
            tiles = len(upscaler.tiles(case.height, case.width))
            return lambda: upscaler.upscale(image), upscaler.runner.name, tiles
        plain = build_network(weights).to(self.device)
        x = torch.from_numpy(image).permute(2, 0, 1)[None].to(self.device, torch.float32)

        @torch.inference_mode()
        def eager() -> Bytes:
            with torch.autocast(device_type(self.device), DTYPES[precision], enabled=precision != "fp32"):
                y = plain(x)
            answer: Bytes = y.clamp(0, 255).round().byte().cpu().numpy()
            return answer

        return eager, "eager", 1

    def _matrix_rate(self, precision: Precision) -> float:
        if precision not in self._rates:
            a = torch.rand(_MATRIX, _MATRIX, device=self.device, dtype=torch.float32)
            a = a.to(DTYPES[precision])
            seconds: list[float] = []
            while len(seconds) < 2 or (len(seconds) < 12 and sum(seconds) < 1):
                start = time.perf_counter()
                float((a @ a)[0, 0])  # reading a number waits for the device
                seconds.append(time.perf_counter() - start)
            self._rates[precision] = _MATRIX**3 / statistics.median(seconds[1:])
        return self._rates[precision]


def make_cases(
    models: Sequence[str],
    scales: Sequence[int],
    *,
    engines: Sequence[str],
    precisions: Sequence[str],
    tiles: Sequence[int | None],
    sizes: Sequence[tuple[int, int]],
) -> list[Case]:
    """Combine everything with everything; sizes are (height, width) of the input.

    Engines without tiles are measured once, not cut, and none in a precision it does not have. Raises
    UsageError for an unknown engine or precision, and where nothing is left to measure.
    """
    for engine in engines:
        if engine not in ENGINES:
            raise UsageError(
                f"--engines {engine}: not an engine of this build; there are {', '.join(ENGINES)}"
            )
    for precision in precisions:
        if precision not in ("auto", *PRECISIONS):
            raise UsageError(f"--precision {precision}: use auto, fp32, fp16 or bf16")
    cases = [
        Case(model, scale, engine, precision, 0 if engine == "eager" else tile, height, width)
        for model in models
        for scale in scales
        for height, width in sizes
        for engine in engines
        for precision in precisions
        for tile in tiles
        if runner.has_precision(engine, precision)
    ]
    if not cases:
        raise UsageError(f"--engines {','.join(engines)}: does not compute in {','.join(precisions)}")
    return list(dict.fromkeys(cases))


def _multiply_adds(model: Model, height: int, width: int) -> float:
    """Count those of an input of this size."""
    if isinstance(model, CommunityNetwork):
        return float(model.facts.multiply_adds * height * width)
    return count_multiply_adds(model.config, height, width)


def synthetic(height: int, width: int) -> Bytes:
    """Make a smooth RGB picture (h, w, 3) that is the same everywhere."""
    noise = np.random.default_rng(0).uniform(0, 255, (height // 8 + 2, width // 8 + 2, 3))
    smooth = resize(noise.astype(np.float32), height, width)
    return np.clip(smooth, 0, 255).astype(np.uint8)


def processor_name() -> str:
    """Name the processor as well as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def speed_record(test: SpeedTest, speeds: Sequence[Speed]) -> dict[str, Any]:
    """Put what was measured together, in JSON values."""
    return {
        "format": 1,
        "emt": __version__,
        "machine": test.machine(),
        "networks": test.networks(),
        "speeds": [speed.facts() for speed in speeds],
    }

"""The networks of one run: found by model and scale, read once, placed on each device when first needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from emt_cli.assets.catalog import known_models
from emt_cli.assets.model_choice import (
    SUITED,
    FoundModel,
    find_model,
    is_path,
    scales_of,
    suited_model,
)
from emt_cli.engine.community.network import CommunityNetwork
from emt_cli.engine.device import (
    Device,
    Precision,
    choose_devices,
    choose_precision,
    device_type,
)
from emt_cli.engine.memory import free_memory
from emt_cli.engine.models import Model, load_model, precision_for
from emt_cli.engine.precision import result_precision
from emt_cli.engine.upscaler import Upscaler
from emt_cli.engine.weights import check_sharpness
from emt_cli.jobs.target import Target
from emt_cli.media.samples import Kind


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Which network enlarges, and how it is computed."""

    model: str = "auto"
    """auto, a known name, or the path of a model file."""
    device: str = "auto"
    """One device, or several separated by commas."""
    precision: str = "auto"
    engine: str = "auto"
    tile: int | None = None
    """Side of a tile in input pixels; None fits the free memory, 0 never cuts."""
    ensemble: bool = False
    """Average over eight flips and rotations."""
    memory: int | None = None
    """Bytes that one picture or frame may need; None: what is free."""
    sharpness: float | None = None
    """0 (faithful) to 1 (sharp), for models that offer it; None: the model's own choice.

    Models that auto chooses need not offer it; others raise ModelError then.
    """


class Networks:
    """One --model value on one or several devices; threads may share it.

    by_auto: whether auto chose the model, which then need not offer the sharpness asked for. hint: what
    found() tells of the model, in place of the catalogue's. Raises EmtError for whatever is not there.
    """

    def __init__(self, settings: NetworkSettings, *, by_auto: bool = False, hint: str | None = None) -> None:
        self.settings, self.model = settings, settings.model
        self._by_auto, self._hint = by_auto or self.model == "auto", hint
        self._suited: dict[tuple[Kind, bool], Networks] = {}
        if settings.sharpness is not None:
            check_sharpness(settings.sharpness, "sharpness")
        self.devices = choose_devices(settings.device)
        for device in self.devices:
            choose_precision(settings.precision, device)
        self._found: dict[int, FoundModel] = {}
        self._weights: dict[Path, Model] = {}
        self._upscalers: dict[tuple[Path, int], Upscaler] = {}
        self._lock = Lock()
        self.scales = self._find_scales()

    @property
    def own_scale(self) -> int | None:
        """The scale of a network of others; None for EMTs."""
        if self.model == "auto" or len(self.scales) > 1:
            return None
        model = self.weights(self.scales[0])
        return model.scale if isinstance(model, CommunityNetwork) else None

    def _find_scales(self) -> tuple[int, ...]:
        if self.model not in known_models() and is_path(self.model):
            return (self._read(find_model(self.model, 0).path).scale,)
        return scales_of(self.model)

    def found(self, scale: int) -> FoundModel:
        """Return the file used for one of `scales`, and what there is to say about it.

        It stays the same for the whole run, whatever is pulled or removed meanwhile.
        """
        if scale not in self._found:
            found = find_model(self.model, scale)
            hint = self._hint or found.hint
            if self.settings.sharpness is not None and self._read(found.path).sharpness is None:
                said = f"{found.name} has no sharpness to choose, as emt-photo has"
                hint = f"{hint}; {said}" if hint else said
            self._found.setdefault(scale, replace(found, hint=hint))  # the first of several threads counts
        return self._found[scale]

    def weights(self, scale: int) -> Model:
        """Return the weights of one of `scales`, reading them the first time."""
        with self._lock:
            return self._read(self.found(scale).path)

    def get(self, scale: int, index: int = 0) -> Upscaler:
        """Return the network of a scale on a device, by its place in `devices`; loaded the first time."""
        with self._lock:
            path = self.found(scale).path
            key = (path, index)
            if key not in self._upscalers:
                self._upscalers[key] = Upscaler(
                    self._read(path),
                    device=self.devices[index],
                    precision=self._precision(self._read(path), self.devices[index]),
                    tile=self.settings.tile,
                    ensemble=self.settings.ensemble,
                    engine=self.settings.engine,
                    memory=self.settings.memory,
                )
            return self._upscalers[key]

    def suited(self, kind: Kind = "plain", *, scale: float | None = None) -> Networks:
        """Return the networks for pictures or videos of a kind, or that get a scale.

        Others than these with --model auto only.
        """
        model = suited_model(self.model, kind, scale=scale)
        if model == self.model:
            return self
        key = kind, scale == 1
        with self._lock:
            if key not in self._suited:
                hint = None
                if scale != 1:
                    hint = f"{model}, as it {SUITED[kind].of_one}; {SUITED[kind].way_out}"
                settings = replace(self.settings, model=model)
                self._suited[key] = Networks(settings, by_auto=True, hint=hint)
            return self._suited[key]

    def places(self, scales: Iterable[int], memory: Callable[[int], float]) -> tuple[int, ...]:
        """Return the devices' places in `devices`, each once for every picture it is best given at a time.

        scales: of the networks that will be used. memory(pictures): bytes that so many under way take; more
        than one to a device is for where that is less than half of what is free.
        """
        used = set(scales)
        single = tuple(range(len(self.devices)))
        several = tuple(
            index
            for index in single
            for _ in range(min((self.get(scale, index).runner.max_concurrency for scale in used), default=1))
        )
        return several if memory(len(several)) <= free_memory() / 2 else single

    def precisions(self, scales: Iterable[int]) -> tuple[str, ...]:
        """Name what the networks of these scales are computed in, as far as results differ by it."""
        return self._precisions(scales, self.devices)

    def cpu_precisions(self, scales: Iterable[int]) -> tuple[str, ...]:
        """Name the same of this machine's CPU, whatever the devices are."""
        return self._precisions(scales, ["cpu"])

    def precision_problems(self, scales: Iterable[int], expected: tuple[str, ...]) -> list[str]:
        """Say what keeps this CPU from being one of several that compute in this; a GPU is never one."""
        found = self.precisions(scales)
        if found == expected or any(device_type(device) != "cpu" for device in self.devices):
            return []
        here, there = (", ".join(names) for names in (found, expected))
        return [f"its processor computes in {here}, that of the command in {there}; give --precision fp32"]

    def _precisions(self, scales: Iterable[int], devices: Iterable[Device]) -> tuple[str, ...]:
        names = set()
        for weights in [self.weights(scale) for scale in set(scales)]:
            for device in devices:
                names.add(result_precision(self._precision(weights, device), device, self.settings.engine))
        return tuple(sorted(names))

    def _precision(self, weights: Model, device: Device) -> Precision:
        return precision_for(self.settings.precision, device, self.settings.engine, weights)

    def digest(self, scales: Iterable[int] | None = None) -> str:
        """Return a sha256 over the weights of these scales (default: all), to tell runs apart in journals."""
        with self._lock:
            files = [
                f"{scale} {weights.sha256}" + ("" if weights.sharpness is None else f" {weights.sharpness}")
                for scale in sorted(scales or self.scales)
                for weights in [self._read(self.found(scale).path)]
            ]
        return hashlib.sha256("\n".join(files).encode()).hexdigest()

    def _read(self, path: Path) -> Model:
        if path not in self._weights:
            wanted = self.settings.sharpness
            model = load_model(path, sharpness=None if self._by_auto else wanted)
            if self._by_auto and None not in (wanted, model.sharpness):
                model = load_model(path, sharpness=wanted)
            self._weights[path] = model
        return self._weights[path]


@dataclass(frozen=True)
class EnlargeSettings(NetworkSettings):
    """How pictures and videos alike are enlarged."""

    target: Target

    def networks(self) -> Networks:
        """Return the networks to enlarge with; raises EmtError for whatever of it is not there."""
        settings = replace(self, model=suited_model(self.model, scale=self.target.scale))
        return Networks(settings, by_auto=self.model == "auto")

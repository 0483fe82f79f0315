"""Settings of a training run, and where they come from: preset, file, single keys; no torch here."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from emt_cli.errors import InputError, UsageError
from emt_cli.model.config import EMTConfig
from emt_cli.training.tables import (
    DiscriminatorConfig,
    LossConfig,
    PhotoConfig,
    RealConfig,
    check_kinds,
    types_of,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_LIMIT = 1 << 20
"""Longest recipe file that is read, in bytes."""
LARGEST = {"steps": 99_999_999, "batch": 1 << 16, "patch": 4096, "seed": (1 << 63) - 1}
"""Greatest values that make sense, or that files and generators have room for."""


@dataclass(frozen=True)
class TrainConfig:
    """The recipe of one run; the defaults are the paper's (arXiv 2305.11403, section 4.1)."""

    network: EMTConfig = field(default_factory=lambda: EMTConfig(4))
    """The network: a table of its own in a file, [network], as are the next four."""
    losses: LossConfig = field(default_factory=LossConfig)
    """What the network is asked for."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """The discriminator."""
    photo: PhotoConfig = field(default_factory=PhotoConfig)
    """Ranges of the degradation photo."""
    real: RealConfig = field(default_factory=RealConfig)
    """Ranges of the degradation real."""

    data: str = ""
    """Training pictures: a folder with all below it, or DIV2K, Flickr2K or DF2K."""
    lr_data: str = ""
    """Folder of the LR pictures, named as in data; empty: they are made of data."""
    val: str = ""
    """Validation pictures, as data; empty: none."""
    degradation: Literal["bicubic", "photo", "real"] = "bicubic"
    """How LR patches come about: the papers' bicubic; or blur, noise and JPEG, once and mildly, or twice."""
    clean_share: float = 0.0
    """Share of patches that photo and real leave clean: reduced by the papers' bicubic."""
    halve_above: int = 0
    """Pictures with a longer side than this in pixels are halved first, by area; 0: none."""
    teacher: str = ""
    """Model whose answers on the training pictures are part of the target; empty: none."""
    teacher_share: float = 1.0
    """The teacher's part of the loss, 0..1; the rest is the original picture's."""

    steps: int = 1_000_000
    """Steps of the optimizer, from the start of the run."""
    batch: int = 8
    """Patches in a step, over all processes."""
    patch: int = 64
    """Side of an LR patch in pixels."""
    seed: int = 0
    """Decides the first weights and everything drawn while training."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """fp32, or mixed with products in bf16."""

    init: str = ""
    """Model to start from, by name or a file; a tail of another scale is resampled, wider MLPs are narrowed.
    Empty: a new network."""
    identity_start: bool = False
    """Start a new network close to an identity mapping instead of at random."""
    optimizer: Literal["adam", "muon"] = "adam"
    """adam, or muon: Muon for the matrices of the body, Adam for the rest."""
    learning_rate: float = 5e-4
    """Adam's largest learning rate."""
    muon_learning_rate: float = 2e-3
    """Muon's largest learning rate, scaled to the size of Adam's updates."""
    final_share: float = 0.002
    """Share of the largest learning rate that is left at the last step."""
    warmup: int = 0
    """First steps, in which the learning rate rises from 0."""
    decay_steps: int = 0
    """Last steps, in which it falls along a cosine; between, it is constant. 0: all after the warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's memory of gradients and of their squares."""
    clip: float = 0.0
    """Largest norm of the gradient; 0: unlimited."""
    ema: float = 0.999
    """Decay of the averaged weights, which are validated and saved as models; 0: the last weights."""

    validate_every: int = 5000
    """Steps between validations."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    keep: int = 2
    """How many of the newest checkpoints are kept."""

    def __post_init__(self) -> None:
        check_kinds(self)
        for name in ("steps", "batch", "patch", "validate_every", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("seed", "warmup", "decay_steps", "clip", "halve_above"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative: {getattr(self, name)}")
        for name, most in LARGEST.items():
            if getattr(self, name) > most:
                raise UsageError(f"{name} must be at most {most}, not {getattr(self, name)}")
        for name in ("learning_rate", "muon_learning_rate"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("teacher_share", "final_share", "clean_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        for name, value in (("ema", self.ema), ("betas", self.betas[0]), ("betas", self.betas[1])):
            if not 0 <= value < 1:
                raise UsageError(f"{name} must be at least 0 and below 1, not {value}")
        losses = self.losses
        if (
            not losses.pixel_weight
            + losses.frequency_weight
            + losses.perceptual_weight * bool(losses.perceptual)
        ):
            raise UsageError("losses: give one of the weights a value above 0")
        if self.lr_data and self.degradation != "bicubic":
            raise UsageError(f"degradation = {self.degradation} makes its own LR pictures: leave lr_data out")
        if self.degradation == "bicubic" and self.clean_share:
            raise UsageError("clean_share is for degradation = photo or real: leave it out")
        if self.lr_data and self.halve_above:
            raise UsageError("halve_above would part the pictures from lr_data: leave one of them out")

    @property
    def scale(self) -> int:
        """Enlargement: 2, 3 or 4."""
        return self.network.scale


LITE: dict[str, Any] = {
    "network": {
        "dim": 64,
        "blocks": 1,
        "layers": 7,
        "attention_layers": 1,
        "heads": 2,
        "mlp_ratio": 1.5,
        "windows": [[16, 8], [8, 16]],
        "shifts": [[8, 4], [4, 8]],
    },
    "steps": 100_000,
    "patch": 48,
    "identity_start": True,
    "optimizer": "muon",
    "learning_rate": 2e-3,
    "warmup": 100,
    "decay_steps": 30_000,
    "betas": [0.9, 0.99],
    "clip": 1.0,
}
"""How the bundled models are trained; their recipe files say the rest."""

PRESETS: dict[str, dict[str, Any]] = {"emt": {}, "lite": LITE}

TABLES: dict[str, type[Any]] = {
    "network": EMTConfig,
    "losses": LossConfig,
    "discriminator": DiscriminatorConfig,
    "photo": PhotoConfig,
    "real": RealConfig,
}
"""Tables of a recipe."""


def make_config(
    preset: str = "emt",
    *,
    file: Path | None = None,
    pairs: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Make a config of a preset, a TOML file over it, and single keys over both.

    pairs: "key=value" with the value as in TOML, quotes around text left out at will; a key of the network is
    "network.dim". values: more keys, written the same way, which come last. Raises UsageError and InputError.
    """
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r} is none of {', '.join(PRESETS)}")
    recipe = _flat(PRESETS[preset])
    if file is not None:
        recipe |= _known(_flat(_read(file)), str(file))
    flags = _known(dict(_split(pair) for pair in pairs), "--set") | dict(values or {})
    complaint = _complaint(recipe | flags)
    if complaint and file is not None and _complaint(recipe) == complaint:
        complaint = f"{file}: {complaint}"  # it is the file's alone
    if complaint:
        raise UsageError(complaint)
    return _config(recipe | flags)


def _complaint(settings: Mapping[str, Any]) -> str:
    """Say what is wrong with settings; empty where nothing is."""
    try:
        _config(settings)
    except UsageError as error:
        return str(error)
    return ""


def _config(settings: Mapping[str, Any]) -> TrainConfig:
    """Make a config of keys such as "steps" and "network.dim"; keys left out keep their defaults."""
    inner: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
    inner["network"]["scale"] = 4
    outer: dict[str, Any] = {}
    types = _key_types()
    try:
        for key, value in settings.items():
            table, dot, name = key.rpartition(".")
            (inner[table] if dot else outer)[name] = _convert(key, value, types[key])
        return TrainConfig(**{table: kind(**inner[table]) for table, kind in TABLES.items()}, **outer)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"settings: {error}") from error


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """Return all keys of a config with JSON values: "steps", "network.dim" and so on."""
    return _flat(asdict(config))


def _key_types() -> dict[str, Any]:
    """Return the types of all keys."""
    types = {name: kind for name, kind in types_of(TrainConfig).items() if name not in TABLES}
    for table, kind in TABLES.items():
        types |= {f"{table}.{name}": inner for name, inner in types_of(kind).items()}
    return types


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            text = stream.read(FILE_LIMIT + 1)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    if len(text) > FILE_LIMIT:
        raise InputError(f"{file}: too long for a recipe (more than {FILE_LIMIT >> 10} kB)")
    try:
        values: dict[str, Any] = tomllib.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: no TOML: {error}") from error
    return values


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"network": {"dim": 64}} as {"network.dim": 64}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": part for inner, part in value.items()}
        else:
            flat[key] = value
    return flat


def _split(pair: str) -> tuple[str, Any]:
    key, equals, text = pair.partition("=")
    if not equals:
        raise UsageError(f"--set {pair}: write key=value, such as steps=2000")
    try:
        return key.strip(), tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return key.strip(), text.strip()


def _known(settings: dict[str, Any], source: str) -> dict[str, Any]:
    """Return settings if there are such keys; else raise UsageError with the nearest one."""
    names = list(_key_types())
    for key in settings:
        if key not in names:
            near = difflib.get_close_matches(key, names, 1, 0.5)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"
            raise UsageError(f"{source}: unknown key {key}{hint}")
    return settings


def _convert(key: str, value: Any, kind: Any) -> Any:
    """Return a TOML or JSON value as a field's type; raises UsageError."""
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if isinstance(value, list | tuple) and (parts[-1] is ... or len(parts) == len(value)):
            inner = [parts[0]] * len(value) if parts[-1] is ... else parts
            return tuple(_convert(key, part, want) for part, want in zip(value, inner, strict=True))
        raise UsageError(f"{key}: {value!r} is no list of the right length")
    if kind is float and type(value) is int:
        return float(value)
    wanted = str if get_origin(kind) is Literal else kind
    if type(value) is not wanted:
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise UsageError(f"{key}: {value!r} is not {words[wanted]}")
    return value

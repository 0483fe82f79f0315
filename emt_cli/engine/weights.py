"""Model files: read, check, write; as arrays, without torch (engine/torch/network.py builds the network)."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from emt_cli.assets.catalog import RELEASED, known_models
from emt_cli.atomic import write_atomically
from emt_cli.engine.bf16 import is_bf16, round_bf16
from emt_cli.engine.header import has_emt_header, header_text, is_pickle, parse_header
from emt_cli.engine.tiling import Floats
from emt_cli.errors import ModelError
from emt_cli.model.config import LARGEST, EMTConfig

COUNTER = "num_batches_tracked"
"""End of the names of batch normalisation's counters, the only whole numbers in a model."""
FAITHFUL = "faithful."
"""Before the names of a second set of tensors: those the first set, the sharp one, was trained on from."""
_ZIP = b"PK\x03\x04"
_RELEASED_NAME = b"body.0.sa_list.0."
"""Begins the names of tensors in the authors' checkpoints."""
_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}
FILE_LIMIT = 256 << 20
"""Largest model file that is read, in bytes; the published network has 3 MB."""


@dataclass(frozen=True)
class Weights:
    """One model, checked: the tensors fit the config and are finite."""

    config: EMTConfig
    tensors: dict[str, Floats]
    """float32, under the names of emt_cli.model.emt.EMT, and of their shapes."""
    metadata: dict[str, Any]
    """Free-form JSON values: name, sources, licence, steps, scores."""
    sha256: str
    """Of the file the model was read from."""
    sharpness: float | None = None
    """Share of the sharp tensors in the mix, 0 to 1; None for a file of one set."""

    @property
    def scale(self) -> int:
        """Enlargement of the network."""
        return self.config.scale

    @property
    def parameters(self) -> int:
        """How many numbers are learnt."""
        return self.config.parameters


def load_weights(path: Path, *, config: EMTConfig | None = None, sharpness: float | None = None) -> Weights:
    """Read a model from our .safetensors or a released .pth; nothing in the file is executed.

    config: for a .pth whose windows and heads are not the paper's. sharpness: what is mixed of a file
    that holds faithful and sharp tensors, from 0 (faithful) to 1 (sharp); None takes the file's own choice.
    Raises ModelError for whatever is no intact model, and for a sharpness it does not offer.
    """
    data = read_model_file(path)
    sha256 = hashlib.sha256(data).hexdigest()
    metadata = _released_metadata(path, sha256)
    if data.startswith(_ZIP):  # a file of torch.save
        from emt_cli.engine.torch.released import infer_config, map_names, read_checkpoint

        state = read_checkpoint(data, path)
        config = config or infer_config(state, path)
        tensors = map_names(state, config.layers)
    else:
        header = parse_header(data, path)
        config, metadata = config_from_json(header.config, path), header.metadata
        try:
            tensors = _arrays(data)
        except (safetensors.SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"{path}: damaged or cut off; fetch or copy it again") from error
    faithful = {name[len(FAITHFUL) :]: value for name, value in tensors.items() if name.startswith(FAITHFUL)}
    checked = _checked({n: v for n, v in tensors.items() if not n.startswith(FAITHFUL)}, config, path)
    if not faithful:
        if sharpness is not None:
            raise ModelError(
                f"{path}: has one set of weights, and so no sharpness to choose; leave --sharpness out"
            )
        return Weights(config, checked, metadata, sha256)
    share = check_sharpness(metadata.get("sharpness", 1.0) if sharpness is None else sharpness, path)
    return Weights(config, _mixed(_checked(faithful, config, path), checked, share), metadata, sha256, share)


def check_sharpness(sharpness: Any, where: Path | str) -> float:
    """Return a sharpness, 0 to 1; raises ModelError, naming where it was given, for anything else."""
    if type(sharpness) not in (int, float) or not 0 <= sharpness <= 1:
        raise ModelError(f"{where}: a sharpness is a number from 0 to 1, not {reprlib.repr(sharpness)}")
    return float(sharpness)


def _mixed(faithful: dict[str, Floats], sharp: dict[str, Floats], share: float) -> dict[str, Floats]:
    """Mix two networks of which one was trained on from the other, as ESRGAN does (arXiv 1809.00219, 3.4).

    What both keep in bf16 is kept so, that kernels of bf16 multiply the very numbers that others do.
    """
    if share in (0, 1):
        return sharp if share else faithful
    mixed = {}
    for name, value in sharp.items():
        if name.endswith(COUNTER):
            mixed[name] = value
            continue
        mixed[name] = faithful[name] + np.float32(share) * (value - faithful[name])
        if is_bf16(value) and is_bf16(faithful[name]):
            mixed[name] = round_bf16(mixed[name])
    return mixed


def save_weights(
    path: Path,
    config: EMTConfig,
    tensors: Mapping[str, Any],
    metadata: dict[str, Any],
    faithful: Mapping[str, Any] | None = None,
) -> None:
    """Write a model as .safetensors, with config and metadata (JSON values) in its header.

    tensors: arrays, or torch's on the CPU, under the names of EMT. faithful: those they were trained on from,
    for --sharpness. A file of that name stays until the new one is whole. Raises ModelError for tensors that
    load_weights would refuse, OSError where the file cannot be written.
    """
    arrays = _checked({name: np.asarray(value) for name, value in tensors.items()}, config, path)
    if faithful is not None:
        second = _checked({name: np.asarray(value) for name, value in faithful.items()}, config, path)
        arrays |= {FAITHFUL + name: value for name, value in second.items()}
    header = {"emt": header_text(asdict(config), metadata)}
    write_atomically(path, safetensors.numpy.save(arrays, metadata=header))


def _released_metadata(path: Path, sha256: str) -> dict[str, Any]:
    """Describe a file without a header by its checksum; raise if only its name is a released file's."""
    for file in RELEASED:
        if sha256 == file.sha256:
            emt = known_models()["emt"]
            return {"name": emt.name, "scale": file.scale, "licence": emt.licence, "sources": [emt.source]}
        if path.name == file.name:
            raise ModelError(
                f"{path}: wrong checksum: sha256 is {sha256}, the released {file.name} has {file.sha256};"
                " fetch it again (`emt models pull emt`), or rename a file of your own"
            )
    return {"name": path.stem}


def config_from_json(values: dict[str, Any], path: Path) -> EMTConfig:
    """Make a config of the values in a header; path is only named in errors."""
    known = {field.name for field in fields(EMTConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ModelError(f"{path}: its config has unknown fields ({unknown[0][:40]}); update emt")
    try:
        checked: dict[str, Any] = {
            name: _pairs(value)
            if name in ("windows", "shifts")
            else (_number(value) if name == "mlp_ratio" else _integer(value))
            for name, value in values.items()
        }
        config = EMTConfig(**checked)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: impossible config: {error}") from error
    return config


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{reprlib.repr(value)} is not a whole number")
    if abs(value) > LARGEST:
        raise ValueError(f"a number beyond {LARGEST}")
    return value


def _number(value: Any) -> float:
    return value if type(value) is float and abs(value) <= LARGEST else _integer(value)


def _pairs(value: Any) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, list) or len(value) > 16 or not all(isinstance(pair, list) for pair in value):
        raise TypeError(f"{reprlib.repr(value)} is not a short list of pairs")
    return tuple((_integer(first), _integer(second)) for first, second in value)


def _checked(tensors: Mapping[str, NDArray[Any]], config: EMTConfig, path: Path) -> dict[str, Floats]:
    """Return the tensors as float32 if they are just the network's and finite; else raise ModelError."""
    if config.blocks * config.layers > len(tensors):
        raise ModelError(f"{path}: not an EMT model of its config: it has fewer tensors than layers")
    expected = config.tensor_shapes
    counters = [name for name in expected if name.endswith(COUNTER)]
    given = {name: np.zeros((), np.int64) for name in counters} | dict(tensors)
    for name in given:
        if name not in expected:
            raise ModelError(f"{path}: not an EMT model of its config: unexpected tensor {name}")
    checked: dict[str, Any] = {}
    for name, shape in expected.items():
        value = given.get(name)
        if value is None:
            raise ModelError(f"{path}: not an EMT model of its config: tensor {name} is missing")
        if value.shape != shape:
            raise ModelError(
                f"{path}: not an EMT model of its config: {name} has shape {value.shape}, not {shape}"
            )
        if value.dtype.kind != ("i" if name.endswith(COUNTER) else "f"):
            raise ModelError(f"{path}: not an EMT model of its config: {name} is of type {value.dtype}")
        exact = np.ascontiguousarray(value, np.int64 if value.dtype.kind == "i" else np.float32)
        if not np.isfinite(exact).all() or (name.endswith("running_var") and exact.min() < 0):
            raise ModelError(f"{path}: damaged: {name} holds impossible values (not finite, or below 0)")
        checked[name] = exact.reshape(shape)
    return checked


def _arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of a .safetensors file; bf16, which numpy lacks, as float32."""
    arrays = {}
    for name, entry in safetensors.deserialize(data):  # type: ignore[no-untyped-call]
        if entry["dtype"] == "BF16":
            values = np.left_shift(np.frombuffer(entry["data"], "<u2").astype("<u4"), 16).view("<f4")
        else:
            values = np.frombuffer(entry["data"], _TYPES[entry["dtype"]])
        arrays[name] = values.reshape(entry["shape"])
    return arrays


def holds_emt(data: bytes, path: Path) -> bool:
    """Tell whether a file's bytes are meant to be an EMT; raises ModelError for what is no model at all."""
    if data.startswith(_ZIP):
        # Members are stored as they are; a checkpoint of emt train is told what it is when it is read.
        return _RELEASED_NAME in data or all(name in data for name in (b"optimizers", b"average"))
    return not is_pickle(data) and has_emt_header(data, path)


def read_model_file(path: Path) -> bytes:
    """Return a model file's bytes; raises ModelError for what is no file of a model's size."""
    try:
        if not path.is_file():
            problem = "is a folder, not a model file" if path.is_dir() else "no such model file"
            raise ModelError(f"{path}: {problem}; `emt models` lists the known ones")
        if path.stat().st_size > FILE_LIMIT:
            raise ModelError(f"{path}: too large for a model file (more than {FILE_LIMIT >> 20} MB)")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror or error}); check path and permissions"
        ) from error

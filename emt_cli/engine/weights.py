"""Model files: read, check, build the network, write."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from emt_cli.assets.header import header_text, parse_header
from emt_cli.engine.released import infer_config, is_checkpoint, map_names, read_checkpoint
from emt_cli.errors import ModelError
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT

FILE_LIMIT = 256 << 20
"""Largest model file that is read, in bytes; the published network has 3 MB."""
SIZE_LIMIT = 1024
"""Largest number of anything a config may ask for: channels, layers, pixels of a window's side."""
WINDOW_LIMIT = 1 << 14
"""Most pixels in one attention window."""


@dataclass(frozen=True)
class Weights:
    """One model, checked: the tensors fit the config and are finite."""

    config: EMTConfig
    tensors: dict[str, Tensor]
    """float32 on the CPU, under the names of emt_cli.model.emt.EMT."""
    metadata: dict[str, Any]
    """Free-form JSON values: name, sources, licence, steps, scores."""
    sha256: str
    """Of the file the model was read from."""


def load_weights(path: Path, *, config: EMTConfig | None = None) -> Weights:
    """Read a model from our .safetensors or a released .pth; nothing in the file is executed.

    config: for a .pth whose windows and heads are not the paper's.
    Raises ModelError for whatever is no intact model.
    """
    data = _read(path)
    sha256 = hashlib.sha256(data).hexdigest()
    metadata: dict[str, Any]
    if is_checkpoint(data):
        state = read_checkpoint(data, path)
        config = config or infer_config(state, path)
        _check_limits(config, path)
        tensors, metadata = map_names(state, config.layers), {"name": path.stem}
    else:
        header = parse_header(data, path)
        config, metadata = config_from_json(header.config, path), header.metadata
        try:
            tensors = safetensors.torch.load(data)
        except safetensors.SafetensorError as error:
            raise ModelError(f"{path}: damaged or cut off; fetch or copy it again") from error
    return Weights(config, _checked(tensors, config, path), metadata, sha256)


def build_network(weights: Weights) -> EMT:
    """Build the network of these weights, in evaluation mode on the CPU."""
    network = EMT(weights.config)
    network.load_state_dict(weights.tensors)
    return network.eval()


def save_weights(path: Path, config: EMTConfig, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write a model as .safetensors, with config and metadata (JSON values) in its header.

    A file of that name stays until the new one is whole.
    """
    header = {"emt": header_text(asdict(config), metadata)}
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    data = safetensors.torch.save(plain, metadata=header)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def config_from_json(values: dict[str, Any], path: Path) -> EMTConfig:
    """Make a config of the values in a header; path is only named in errors."""
    known = {field.name for field in fields(EMTConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ModelError(f"{path}: its config has unknown fields ({', '.join(unknown[:3])}); update emt")
    try:
        checked: dict[str, Any] = {
            name: tuple(map(_pair, value)) if name in ("windows", "shifts") else _integer(value)
            for name, value in values.items()
        }
        config = EMTConfig(**checked)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: impossible config: {error}") from error
    _check_limits(config, path)
    return config


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _pair(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise TypeError(f"{value!r} is not a pair of whole numbers")
    return _integer(value[0]), _integer(value[1])


def _check_limits(config: EMTConfig, path: Path) -> None:
    counts = [config.dim, config.blocks * config.layers, config.dim * config.mlp_ratio, len(config.windows)]
    counts += [side for window in config.windows for side in window]
    counts += [abs(offset) for shift in config.shifts for offset in shift]
    if max(counts) > SIZE_LIMIT or max(h * w for h, w in config.windows) > WINDOW_LIMIT:
        raise ModelError(f"{path}: its config asks for a network far beyond the family's sizes")


def _checked(tensors: dict[str, Tensor], config: EMTConfig, path: Path) -> dict[str, Tensor]:
    """Return the tensors as float32 if they are just the network's and finite; else raise ModelError."""
    with torch.device("meta"):
        expected = EMT(config).state_dict()
    counters = [name for name in expected if name.endswith("num_batches_tracked")]
    tensors = {name: torch.zeros((), dtype=torch.int64) for name in counters} | tensors
    for name in tensors:
        if name not in expected:
            raise ModelError(f"{path}: not an EMT model of its config: unexpected tensor {name}")
    checked = {}
    for name, wanted in expected.items():
        value = tensors.get(name)
        if value is None:
            raise ModelError(f"{path}: not an EMT model of its config: tensor {name} is missing")
        if value.shape != wanted.shape:
            raise ModelError(
                f"{path}: not an EMT model of its config: {name} has shape {tuple(value.shape)},"
                f" not {tuple(wanted.shape)}"
            )
        value = value.detach().to(wanted.dtype).contiguous()
        if not value.isfinite().all():
            raise ModelError(f"{path}: damaged: {name} holds values that are not finite")
        checked[name] = value
    return checked


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            problem = "is a folder, not a model file" if path.is_dir() else "no such model file"
            raise ModelError(f"{path}: {problem}; `emt models` lists the known ones")
        if path.stat().st_size > FILE_LIMIT:
            raise ModelError(f"{path}: too large for a model file (more than {FILE_LIMIT >> 20} MB)")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error

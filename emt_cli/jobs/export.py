"""Write a network for other programs, and check what was written against torch on a photograph."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from emt_cli import __version__
from emt_cli.atomic import temporary_folder
from emt_cli.engine.community.network import CommunityNetwork
from emt_cli.engine.folded import FoldedNetwork, fold
from emt_cli.engine.openvino.compiled_model import openvino_core
from emt_cli.engine.tiling import Floats
from emt_cli.engine.weights import Weights
from emt_cli.errors import UsageError, VerificationError
from emt_cli.jobs.networks import Networks, NetworkSettings
from emt_cli.media.files import check_target, commit_file, remove_temporary, temporary_file
from emt_cli.media.picture.io import read_picture
from emt_cli.model.config import EMTConfig

TOLERANCE = 1e-2
"""Largest difference to torch, in steps of 0..255."""
PHOTOGRAPH = Path(__file__).resolve().parent.parent / "assets" / "check.png"
"""A cat, 77x51, after Stéfan van der Walt's photograph (CC0)."""
_NEEDED = {".onnx": ("onnx", "onnxruntime"), ".xml": ("openvino",)}


@dataclass(frozen=True)
class Exported:
    """What was written."""

    files: tuple[Path, ...]
    model: str
    scale: int
    format: str
    """In words, with the version of its operations."""
    least_side: int
    """Pixels an input must have at least each way."""
    difference: float
    """Largest difference to torch, in steps of 0..255."""

    def facts(self) -> dict[str, Any]:
        """Describe it in JSON values."""
        return {
            "files": [str(path) for path in self.files],
            "bytes": sum(path.stat().st_size for path in self.files),
            "model": self.model,
            "scale": self.scale,
            "format": self.format,
            "input": "rgb: float32 (batch, 3, height, width), 0..255",
            "output": f"enlarged: float32 (batch, 3, {self.scale} height, {self.scale} width), not clamped",
            "least_side": self.least_side,
            "largest_difference": self.difference,
        }


def export(model: str, target: Path, *, scale: int | None = None, overwrite: bool = False) -> Exported:
    """Write a --model value as ONNX (.onnx) or OpenVINO (.xml and .bin), checked before it gets its name.

    Raises UsageError for another ending or a scale the model has not, or for a package that is missing,
    OutputExistsError, OutputError, and VerificationError when the written file answers otherwise than torch.
    """
    kind = target.suffix.lower()
    if kind not in _NEEDED:
        raise UsageError(f"{target}: name it .onnx (ONNX) or .xml (OpenVINO)")
    missing = [package for package in _NEEDED[kind] if find_spec(package) is None]
    if missing:
        raise UsageError(f'{target}: needs {" and ".join(missing)}; pip install "emt-cli[export]"')
    networks = Networks(NetworkSettings(model=model, device="cpu", engine="torch"))
    scale = scale or max(networks.scales)
    if scale not in networks.scales:
        offered = ", ".join(f"x{known}" for known in networks.scales)
        raise UsageError(f"{model}: has no x{scale} (scales: {offered})")
    files = (target,) if kind == ".onnx" else (target.with_suffix(".bin"), target)
    for path in files:
        check_target(path, overwrite=overwrite)
    found, weights = networks.found(scale), networks.weights(scale)
    if isinstance(weights, CommunityNetwork):
        raise weights.unfit_for("export")
    metadata = {"model": found.name, "weights_sha256": weights.sha256, "emt": __version__}
    encode, run = (_onnx, _run_onnx) if kind == ".onnx" else (_openvino, _run_openvino)
    contents, format = encode(fold(weights), metadata)
    stem = f".emt-{secrets.token_hex(8)}"
    asides = [path.resolve().with_name(stem + path.suffix) for path in files]
    try:
        for aside, path, data in zip(asides, files, contents, strict=True):
            with temporary_file(aside, path) as stream:
                stream.write(data)
        difference = _difference(weights, run(asides[-1]))
        if not difference <= TOLERANCE:
            raise VerificationError(
                f"{target}: answers otherwise than torch, by up to {difference:.3g} of 255; nothing was kept"
            )
        for aside, path in zip(asides, files, strict=True):
            commit_file(aside, path, overwrite=overwrite)
    finally:
        for aside in asides:
            remove_temporary(aside)
    return Exported(files, found.name, scale, format, least_side(weights.config), difference)


def least_side(config: EMTConfig) -> int:
    """Return the least height and width of a graph's input: the reflection inside must find enough pixels."""
    return max((side for window in config.windows for side in window), default=0) // 2 + 1


def _difference(weights: Weights, run: Callable[[Floats], Floats]) -> float:
    """Compare with torch on a photograph and on a batch of parts of it; return the largest difference."""
    import torch

    from emt_cli.engine.torch.network import build_network

    network = build_network(weights)
    photograph = read_picture(PHOTOGRAPH).pixels.astype(np.float32).transpose(2, 0, 1)
    side = weights.config.window_multiple
    windows = [photograph[:, :side, :side], photograph[:, -side:, -side:]]
    batches = [photograph[None], np.stack(windows)]
    differences = []
    for batch in batches:
        batch = np.ascontiguousarray(batch)
        with torch.inference_mode():
            expected = network(torch.from_numpy(batch)).numpy()
        differences.append(float(np.abs(run(batch) - expected).max()))
    return max(differences)


def _onnx(network: FoldedNetwork, metadata: dict[str, str]) -> tuple[list[bytes], str]:
    from emt_cli.engine.graph_onnx import OPSET, onnx_model

    return [onnx_model(network, metadata).SerializeToString()], f"ONNX, opset {OPSET}"


def _run_onnx(path: Path) -> Callable[[Floats], Floats]:
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"rgb": batch})[0]


def _openvino(network: FoldedNetwork, metadata: dict[str, str]) -> tuple[list[bytes], str]:
    import openvino

    from emt_cli.engine.openvino.graph import openvino_model

    model = openvino_model(network)
    for name, value in metadata.items():
        model.set_rt_info(value, ["emt", name])
    with temporary_folder() as folder:
        path = folder / "emt.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        contents = [path.with_suffix(".bin").read_bytes(), path.read_bytes()]
    return contents, "OpenVINO IR, opset 13"


def _run_openvino(path: Path) -> Callable[[Floats], Floats]:
    core = openvino_core()
    core.set_property({"ENABLE_MMAP": False})  # or the files stay open
    model = core.read_model(path, path.with_suffix(".bin"))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda batch: compiled(batch)[0]

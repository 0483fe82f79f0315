"""Model files of all kinds: EMTs, and networks of others; which one a file is, and what it is computed in."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeAlias

from emt_cli.assets.added import check_added
from emt_cli.assets.catalog import RELEASED, known_models
from emt_cli.assets.model_choice import is_path, scales_of
from emt_cli.engine.community.network import CommunityNetwork, keep_facts, recall_facts
from emt_cli.engine.community.runner import community_precision, make_community_runner
from emt_cli.engine.device import Device, Precision
from emt_cli.engine.precision import precision_of
from emt_cli.engine.runner import Runner, make_runner
from emt_cli.engine.weights import Weights, holds_emt, load_weights, read_model_file
from emt_cli.errors import DeviceError, ModelError

Model: TypeAlias = Weights | CommunityNetwork


def load_model(path: Path, *, sharpness: float | None = None) -> Model:
    """Read a model file: an EMT's, or any that spandrel (extra community) recognises; nothing is executed.

    sharpness: as load_weights takes it. Raises ModelError for whatever is neither, or needs spandrel where
    that is not installed.
    """
    data = read_model_file(path)
    sha256 = hashlib.sha256(data).hexdigest()
    check_added(path, sha256)
    facts = recall_facts(sha256)
    if facts is None:
        released = any(sha256 == file.sha256 or path.name == file.name for file in RELEASED)
        if released or holds_emt(data, path):
            return load_weights(path, sharpness=sharpness)
        try:
            from emt_cli.engine.community.cost import describe
            from emt_cli.engine.community.read import read_network

            facts = describe(read_network(data, path))
        except DeviceError as error:
            raise ModelError(f"{path}: not an EMT model; {error}") from error
        keep_facts(sha256, facts)
    if sharpness is not None:
        raise ModelError(f"{path}: {facts.architecture} has no sharpness to choose; leave --sharpness out")
    return CommunityNetwork(path, sha256, facts)


def model_scales(model: str) -> tuple[int, ...]:
    """Return the scales a --model value offers, smallest first: of a known name, or the one of a file."""
    if model not in known_models() and is_path(model):
        return (load_model(Path(model)).scale,)
    return scales_of(model)


def precision_for(name: str, device: Device, engine: str, model: Model) -> Precision:
    """Turn a --precision value into the precision a model is computed in; raises UsageError."""
    if isinstance(model, CommunityNetwork):
        return community_precision(name, device, model)
    return precision_of(name, device, engine, model.sha256)


def runner_for(engine: str, model: Model, device: Device = "cpu", precision: Precision = "fp32") -> Runner:
    """Return what computes a model, by an --engine value; raises as make_runner does."""
    if isinstance(model, CommunityNetwork):
        return make_community_runner(engine, model, device, precision)
    return make_runner(engine, model, device, precision)

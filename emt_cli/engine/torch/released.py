"""Released EMT checkpoints (.pth): read without running pickle's programs, mapped to our names.

They are zip files made by torch.save of {"params": state_dict}; github.com/Fried-Rice-Lab/EMT.
"""

from __future__ import annotations

import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Set
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from emt_cli.errors import ModelError
from emt_cli.model.config import EMTConfig

Array = NDArray[Any]

ALLOWED_GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch FloatStorage",
    "torch HalfStorage",
    "torch BFloat16Storage",
    "torch DoubleStorage",
    "torch LongStorage",
}
"""What a state_dict of plain tensors names; torch.load allows more, some of it able to ask for any memory."""

OPCODES_OF_GLOBALS = ("GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")
"""Ways in which a pickle can name what is not in it; torch.save uses the first only."""

PICKLE_LIMIT = 4 << 20
ZIP = b"PK\x03\x04"
CONSTANT = re.compile(r"(sub_mean|add_mean)\.(weight|bias)|body\.\d+\.\w+\.\d+\.(token_mixer\.|fc[12]\.)mask")
LAYER = re.compile(r"body\.(\d{1,4})\.(sa_list|mlp_list)\.(\d{1,4})\.(.+)")
PARTS = (("attn.0.", "qv."), ("attn.1.", "norm."), ("proj.0.", "proj."))


def read_checkpoint(data: bytes, path: Path) -> dict[str, Array]:
    """Return the state_dict under "params" as arrays; path is only named in errors."""
    check_archive(data, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage leads to
        raise ModelError(f"{path}: damaged checkpoint; fetch or copy it again") from error
    state = content.get("params") if isinstance(content, dict) else None
    if state is None and isinstance(content, dict) and {"network", "average", "optimizers"} <= content.keys():
        model = path.absolute().parent.parent / "best.safetensors"
        raise ModelError(f"{path}: a checkpoint of emt train, to go on from; its run's model is {model}")
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise ModelError(f'{path}: a checkpoint, but not of the released form {{"params": state_dict}}')
    return {
        name: (value.float() if value.is_floating_point() else value).detach().numpy()
        for name, value in state.items()
    }


def check_archive(data: bytes, path: Path, allowed: Set[str] = ALLOWED_GLOBALS) -> None:
    """Refuse what is no plain file of torch.save before torch sees it: packed members, strange globals.

    Raises ModelError, with path in front.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if any("/code/" in member.filename for member in members):
                raise ModelError(f"{path}: refused: TorchScript, a program; save the network's state_dict")
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ModelError(f"{path}: a compressed archive, not a checkpoint of torch.save")
            if sum(member.file_size for member in members) > len(data):
                raise ModelError(f"{path}: an archive whose members overlap, not a checkpoint of torch.save")
            programs = [member for member in members if member.filename.endswith("/data.pkl")]
            if len(programs) != 1 or programs[0].file_size > PICKLE_LIMIT:
                raise ModelError(f"{path}: an archive, but not a checkpoint of torch.save")
            program = archive.read(programs[0])
            if archive.testzip():  # torch.load itself does not compare the checksums
                raise zipfile.BadZipFile
        named = {
            str(arg) if op.name == "GLOBAL" else op.name
            for op, arg, _ in pickletools.genops(program)
            if op.name in OPCODES_OF_GLOBALS
        }
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{path}: damaged or cut off; fetch or copy it again") from error
    check_globals(named, allowed, path)


def check_globals(named: Set[str], allowed: Set[str], path: Path) -> None:
    """Raise ModelError for a pickle that names what is not allowed."""
    strange = sorted(named - allowed)
    if strange:
        listed = ", ".join(name.replace(" ", ".") for name in strange[:3])
        raise ModelError(f"{path}: refused: its pickle asks for {listed}, which no weights file needs")


def map_names(state: dict[str, Array], layers: int) -> dict[str, Array]:
    """Rename a released state_dict to the names of EMT; constants go, 1x1 convolutions become matrices."""
    tensors = {}
    for name, value in state.items():
        if CONSTANT.fullmatch(name):
            continue
        target = name.replace("tail.0.", "tail.")
        found = LAYER.fullmatch(name)
        if found:
            block, kind, layer, rest = int(found[1]), found[2], int(found[3]), found[4]
            for old, new in PARTS:
                rest = rest.replace(old, new)
            target = f"body.{block * layers + layer}.{'mixer' if kind == 'sa_list' else 'mlp'}.{rest}"
            if value.ndim == 4 and value.shape[2:] == (1, 1):
                value = value[:, :, 0, 0]
        tensors[target] = value
    return tensors


def infer_config(state: dict[str, Array], path: Path) -> EMTConfig:
    """Read the config off a released state_dict.

    Heads, windows and shifts leave no trace in the shapes: the paper's are taken, and only for its dim of 60.
    """
    try:
        dim = state["head.weight"].shape[0]
        scale = {12: 2, 27: 3, 48: 4}[state["tail.0.weight"].shape[0]]
        if dim != EMTConfig(scale).dim:
            raise ModelError(
                f"{path}: heads and windows cannot be told from a .pth of dim {dim}; use a .safetensors file"
            )
        places = {(int(m[1]), int(m[3])) for m in map(LAYER.fullmatch, state) if m}
        blocks = 1 + max(block for block, _ in places)
        layers = 1 + max(layer for _, layer in places)
        attention = sum(f"body.0.sa_list.{layer}.attn.0.weight" in state for layer in range(len(places)))
        ratio = state["body.0.mlp_list.0.fc1.weight"].shape[0] / dim
        return EMTConfig(scale, dim, blocks, layers, attention, mlp_ratio=ratio)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"{path}: not an EMT checkpoint: its tensors are of another network") from error

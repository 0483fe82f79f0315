"""Read network files of others through spandrel; nothing in a file is executed, and none asks for any memory.

Taken are files of torch.save, of today's form (zip) and that before torch 1.6, and .safetensors.
"""

from __future__ import annotations

import io
import pickletools
import sys
import warnings
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from emt_cli.engine.header import HEADER_LIMIT, is_pickle
from emt_cli.engine.torch.released import (
    ALLOWED_GLOBALS,
    OPCODES_OF_GLOBALS,
    PICKLE_LIMIT,
    ZIP,
    check_archive,
    check_globals,
)
from emt_cli.errors import DeviceError, ModelError

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

GLOBALS = ALLOWED_GLOBALS | {
    "typing OrderedDict",
    "torch IntStorage",
    "torch BoolStorage",
    "torch ByteStorage",
}
"""What checkpoints of others name beside."""
LEGACY_PICKLES = 5
"""In a file of torch.save that torch before 1.6 wrote, before bare numbers."""
ROOM = 64 << 20
"""Elements that a network's constructor may ask for beyond four times those of its file: masks, indices."""

_library: Any = torch.library.Library
_names: list[Any] = []


def read_state(data: bytes, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a network file by name, unwrapped as spandrel does it.

    Raises ModelError, with path in front, for whatever holds no plain tensors.
    """
    if data.startswith(ZIP):
        check_archive(data, path, GLOBALS)
        content: Any = _load(data, path)
    elif is_pickle(data):
        _check_legacy(data, path)
        content = _load(data, path)
    else:
        length = int.from_bytes(data[:8], "little")
        if len(data) < 9 or length > HEADER_LIMIT or data[8:9] != b"{":
            raise ModelError(f"{path}: not a model file (.safetensors or .pth); `emt models` lists names")
        from safetensors.torch import load

        try:
            content = load(data)
        except (safetensors.SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"{path}: damaged or cut off; fetch or copy it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: a file of torch.save, but it holds no state_dict")
    canonicalize = import_spandrel().canonicalize_state_dict
    state = canonicalize(content)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors or not all(isinstance(name, str) for name in tensors):
        raise ModelError(f"{path}: a file of torch.save, but it holds no state_dict")
    for name, value in tensors.items():
        if value.layout != torch.strided or value.nbytes > value.untyped_storage().nbytes():
            raise ModelError(f"{path}: refused: {name[:80]} claims more numbers than the file holds")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f"{path}: damaged: {name[:80]} holds values that are not finite")
    if sum(value.nbytes for value in tensors.values()) > 2 * len(data):
        raise ModelError(f"{path}: refused: its tensors claim more numbers than the file holds")
    return tensors


def read_network(data: bytes, path: Path) -> ImageModelDescriptor[Any]:
    """Build the network of a file, in evaluation mode, float32, on the CPU.

    Raises ModelError for a file or an architecture that is not taken, DeviceError without spandrel.
    """
    return build_network(read_state(data, path), path)


def build_network(state: Mapping[str, Tensor], path: Path) -> ImageModelDescriptor[Any]:
    """Build the network of these tensors; path is only named in errors."""
    spandrel = import_spandrel()
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    limit = 4 * sum(value.numel() for value in state.values()) + ROOM
    try:
        with warnings.catch_warnings(), _Bounded(limit), torch.no_grad():
            warnings.simplefilter("ignore")
            found = spandrel.ModelLoader().load_from_state_dict(state)
    except spandrel.UnsupportedModelError as error:
        raise ModelError(f"{path}: neither an EMT nor a network that spandrel knows") from error
    except _TooLargeError as error:
        raise ModelError(
            f"{path}: refused: its tensors ask for a network much larger than they are"
        ) from error
    except Exception as error:  # spandrel infers sizes from shapes; whatever is wrong with them ends here
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ModelError(
            f"{path}: its tensors do not fit the network they seem to be of: {reason}"
        ) from error
    if not isinstance(found, spandrel.ImageModelDescriptor) or found.purpose not in ("SR", "Restoration"):
        raise ModelError(f"{path}: {found.architecture.name} ({found.purpose}) enlarges no pictures")
    channels = {found.input_channels, found.output_channels}
    if channels not in ({1}, {3}):
        listed = f"{found.input_channels} to {found.output_channels}"
        raise ModelError(f"{path}: {found.architecture.name} of {listed} channels; RGB and gray are taken")
    found.model.requires_grad_(False)
    return found.eval()


def import_spandrel() -> Any:
    """Import spandrel, quickly the second time; raises DeviceError with the line that installs it.

    torchvision, which it imports, does not load where its binaries are of another torch: PyPI's beside the
    CPU build. No network here needs them; the names they would define are enough.
    """
    try:
        import torchvision  # noqa: F401
    except ImportError as error:
        raise missing(error) from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise missing(error) from error
        library: Any = _library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _names.append(library)  # the names go when it does
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    try:
        import spandrel
    except (ImportError, RuntimeError) as error:
        raise missing(error) from error
    return spandrel


def missing(error: Exception) -> DeviceError:
    """Return what to say where spandrel, or what it imports, is not there."""
    what = getattr(error, "name", None) or "torchvision"
    return DeviceError(f'networks of others need the package {what}; pip install "emt-cli[community]"')


def _load(data: bytes, path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage leads to
        raise ModelError(f"{path}: damaged checkpoint; fetch or copy it again") from error


def _check_legacy(data: bytes, path: Path) -> None:
    """Look at the pickles of an old file before torch does: names, length, and counts beyond the file."""
    stream, most = io.BytesIO(data), max(len(data), 1 << 20)
    named: set[str] = set()
    try:
        for _ in range(LEGACY_PICKLES):
            start = stream.tell()
            first = start == 0
            for op, arg, position in pickletools.genops(stream):
                if op.name in OPCODES_OF_GLOBALS:
                    named.add(str(arg) if op.name == "GLOBAL" else op.name)
                if not first and isinstance(arg, int) and abs(arg) > most:
                    raise ModelError(f"{path}: refused: it claims more numbers than the file holds")
                if (position or 0) - start > PICKLE_LIMIT:
                    raise ModelError(f"{path}: refused: a pickle of more than {PICKLE_LIMIT >> 20} MB")
    except (ValueError, EOFError, IndexError) as error:
        raise ModelError(f"{path}: damaged or cut off; fetch or copy it again") from error
    check_globals(named, GLOBALS, path)


class _TooLargeError(Exception):
    """A constructor asked for more than its file accounts for."""


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuse tensors of more elements than a limit, and of four times that in all, before they are there.

    What decides a network's size are a few shapes, and a file can lie about those.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._limit, self._left = limit, 4 * limit

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        count = _elements(args)
        if count > self._limit or count > self._left:
            raise _TooLargeError
        if args and isinstance(args[0], (list, tuple)):  # a factory
            self._left -= count
        return func(*args, **(kwargs or {}))


def _elements(args: tuple[Any, ...]) -> int:
    """Count the elements of what comes of these arguments: of a shape, or of tensors broadcast together."""
    if args and isinstance(args[0], (list, tuple)) and all(isinstance(side, int) for side in args[0]):
        return prod(args[0])
    shapes = [value.shape for value in args if isinstance(value, Tensor)]
    if len(shapes) < 2:
        return 0
    try:
        return prod(np.broadcast_shapes(*shapes))
    except ValueError:  # not broadcast: a product of matrices, a convolution
        return shapes[0].numel() // max(shapes[0][-1:].numel(), 1) * shapes[-1].numel()

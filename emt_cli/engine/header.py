"""The header of a model file: its config and what it says of itself.

A .safetensors file begins with the length of its header (8 bytes, little endian) and the header itself, JSON
with the dtype, shape and place of each tensor. Ours holds, under __metadata__, one entry "emt": a JSON text
of "config" (the fields of EMTConfig) and "metadata" (name, sources, licence, scores and the like). One entry
and not several: the order of entries in a saved file is random, and equal models shall have equal checksums.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emt_cli.errors import ModelError

HEADER_LIMIT = 1 << 20
"""Longest header that is read, in bytes; a network of the family needs a few ten thousand."""


@dataclass(frozen=True)
class Header:
    """What a model file says of itself before any tensor is read; nothing in it has been checked yet."""

    config: dict[str, Any]
    """Fields of EMTConfig, as JSON values."""
    metadata: dict[str, Any]
    """Free-form JSON values: name, sources, licence, steps, scores."""


def is_pickle(data: bytes) -> bool:
    """Tell a file of torch.save from before torch 1.6 by its bytes, which begin with pickle's 0x80.

    So may the length of a .safetensors file's header, but no length that is read has more than three bytes.
    """
    return data.startswith(b"\x80") and int.from_bytes(data[:8], "little") > HEADER_LIMIT


def header_text(config: dict[str, Any], metadata: dict[str, Any]) -> str:
    """Return the "emt" entry of a header; keys are sorted so that equal models make equal files."""
    return json.dumps({"config": config, "metadata": metadata}, sort_keys=True, allow_nan=False)


def parse_header(data: bytes, path: Path) -> Header:
    """Read the header at the start of a file's bytes; path is only named in errors."""
    try:
        about = json.loads(_entries(data, path).get("emt", "{}"))
        config, metadata = about.get("config"), about.get("metadata", {})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: damaged header; fetch or copy the file again") from error
    if not isinstance(config, dict) or not isinstance(metadata, dict):
        raise ModelError(f"{path}: a .safetensors file, but not an EMT model: its header has no EMT config")
    return Header(config, metadata)


def has_emt_header(data: bytes, path: Path) -> bool:
    """Tell whether a .safetensors file's bytes say that they are an EMT's; raises as parse_header does."""
    try:
        return "emt" in _entries(data, path)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: damaged header; fetch or copy the file again") from error


def _entries(data: bytes, path: Path) -> Any:
    """Return what a header holds beside tensors."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > HEADER_LIMIT or data[8:9] != b"{":
        raise ModelError(f"{path}: not a model file (.safetensors or .pth); `emt models` lists names")
    if len(data) < 8 + length:
        raise ModelError(f"{path}: cut off in its header; fetch or copy it again")
    return json.loads(data[8 : 8 + length]).get("__metadata__", {})

"""Write a file whole or not at all; imports nothing of the package."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write data beside path, then put it in path's place in one step; raises OSError.

    Whoever reads path meanwhile, and whatever ends the process, path is the old file or the new one.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

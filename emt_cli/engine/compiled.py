"""What was compiled for this machine, kept in the cache folder so that the next start need not do it again.

A file is its sha256 and its content: what is damaged counts as absent. The folder must belong to the user and
be closed to others, since machine code is read from it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path

from emt_cli import __version__
from emt_cli.assets.catalog import cache_folder
from emt_cli.atomic import write_atomically

KEPT_FILES = 32
"""Most files in the folder; the oldest go."""


def compiled_path(kind: str, *depends: object) -> Path:
    """Return where something compiled lies; depends: everything that makes it another thing by changing."""
    text = "\n".join(map(str, (__version__, *depends)))
    return cache_folder() / "compiled" / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.bin"


def read_compiled(path: Path) -> bytes | None:
    """Return what was kept, or None where there is nothing, or not what was written."""
    try:
        data = path.read_bytes() if _is_private(path.parent) else b""
    except OSError:
        return None
    return data[32:] if len(data) > 32 and hashlib.sha256(data[32:]).digest() == data[:32] else None


def keep_compiled(path: Path, data: bytes) -> None:
    """Keep something; where that is not possible, do without: the cache saves time, no more."""
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(path.parent):
            return
        write_atomically(path, hashlib.sha256(data).digest() + data)
        files = sorted(path.parent.glob("*.bin"), key=lambda file: file.stat().st_mtime, reverse=True)
        for old in files[KEPT_FILES:]:
            old.unlink(missing_ok=True)


def _is_private(folder: Path) -> bool:
    """Tell whether nobody else can write into a folder; Windows keeps a user's own folders so."""
    if sys.platform == "win32":
        return True
    facts = folder.stat()
    return facts.st_uid == os.getuid() and not facts.st_mode & 0o022

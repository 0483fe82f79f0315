"""What was compiled for this machine, kept in the cache folder so that the next start need not do it again.

A file is its sha256 and its content: what is damaged counts as absent. Machine code is read from it: where
anybody else could have put it there, it is neither read nor kept. So every folder on the way is opened from
the one before, without following links, and looked at once it is open; and so is the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from emt_cli import __version__
from emt_cli.assets.catalog import cache_folder
from emt_cli.atomic import write_atomically

KEPT_BYTES = 1 << 30
"""Most bytes of all files in the folder together; the oldest go, the newest stays whatever its size."""
_MOST_LINKS = 40
_SAFELY = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))
_FOLDER = _SAFELY | getattr(os, "O_DIRECTORY", 0)
"""How files and folders are opened; Windows has none of these."""


def compiled_path(kind: str, *depends: object) -> Path:
    """Return where something compiled lies; depends: everything that makes it another thing by changing."""
    text = "\n".join(map(str, (__version__, *depends)))
    return cache_folder() / "compiled" / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.bin"


def read_compiled(path: Path) -> bytes | None:
    """Return what was kept, or None where there is nothing, or not what was written, or not safely."""
    try:
        with _private_folder(path.parent) as folder:
            data = _read_private(path.name, folder) if folder is not None else path.read_bytes()
    except OSError:
        return None
    return data[32:] if len(data) > 32 and hashlib.sha256(data[32:]).digest() == data[:32] else None


def keep_compiled(path: Path, data: bytes) -> None:
    """Keep something; where that is not possible, do without: the cache saves time, no more."""
    data = hashlib.sha256(data).digest() + data
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _private_folder(path.parent) as folder:
            if folder is None:
                write_atomically(path, data)
            else:
                _write_private(path.name, folder, data)
            _remove_old(folder if folder is not None else path.parent)


@contextlib.contextmanager
def _private_folder(path: Path) -> Iterator[int | None]:
    """Open a folder to which nobody but this user and root can write, nor to any folder on the way.

    Links are followed where nobody else could have made them; the folder itself is none. Yields its
    descriptor; None on Windows, which keeps a user's own folders so. Raises OSError.
    """
    if sys.platform == "win32":
        yield None
        return
    parts, links = list(Path(os.path.abspath(path)).parts), 0  # noqa: PTH100  # resolve() follows links
    folder = os.open(parts.pop(0), _FOLDER)
    try:
        while parts:
            part = parts.pop(0)
            try:
                inner = os.open(part, _FOLDER, dir_fd=folder)
            except OSError:
                target = Path(os.readlink(part, dir_fd=folder))
                links += 1
                if _shared(os.fstat(folder)) or not parts or links > _MOST_LINKS:
                    raise
                inner = os.open(target.anchor or ".", _FOLDER, dir_fd=folder)
                parts = [*target.parts[bool(target.anchor) :], *parts]
            os.close(folder)
            folder = inner
            facts = os.fstat(folder)
            # With the sticky bit, as /tmp has it, others cannot replace what is in it and this user's.
            if facts.st_uid not in (0, os.getuid()) or (_shared(facts) and not facts.st_mode & stat.S_ISVTX):
                raise PermissionError("others can write there")
        _check_own(os.fstat(folder))
        yield folder
    finally:
        os.close(folder)


def _shared(facts: os.stat_result) -> bool:
    """Tell whether others can write; a group that is this user's alone, as some systems have it, is none."""
    if facts.st_mode & stat.S_IWOTH:
        return True
    return bool(facts.st_mode & stat.S_IWGRP) and not _is_own_group(facts.st_gid)


@cache
def _is_own_group(number: int) -> bool:
    if sys.platform == "win32":
        return False
    import grp
    import pwd

    try:
        name, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(number)
    except KeyError:
        return False
    return group.gr_name == name and set(group.gr_mem) <= {name}


def _check_own(facts: os.stat_result) -> None:
    """Raise PermissionError for a file or folder that is not this user's, or that others can write to."""
    if sys.platform == "win32":
        return
    if facts.st_uid != os.getuid() or _shared(facts):
        raise PermissionError("others can write there")


def _read_private(name: str, folder: int) -> bytes:
    with os.fdopen(os.open(name, _SAFELY, dir_fd=folder), "rb") as file:
        facts = os.fstat(file.fileno())
        _check_own(facts)
        if not stat.S_ISREG(facts.st_mode):
            raise PermissionError("not a file")
        return file.read()


def _write_private(name: str, folder: int, data: bytes) -> None:
    """Write a file that appears whole or not at all, in the folder that was looked at."""
    temporary = f".emt-{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY
    with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=folder), "wb") as file:
        try:
            file.write(data)
            file.flush()
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(temporary, dir_fd=folder)
            raise


def _remove_old(folder: int | Path) -> None:
    with os.scandir(folder) as entries:
        facts = [(entry.stat(follow_symlinks=False), entry.name) for entry in entries]
    kept = 0
    for file, name in sorted(facts, key=lambda pair: pair[0].st_mtime, reverse=True):
        kept += file.st_size
        if kept > KEPT_BYTES and kept > file.st_size:
            with suppress(FileNotFoundError):
                if isinstance(folder, Path):
                    (folder / name).unlink()
                else:
                    os.unlink(name, dir_fd=folder)

"""Fetch released models into the cache: over the network, from a mirror, or from a disk."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from emt_cli.assets.catalog import RELEASED, RELEASED_HOME, ReleasedFile, cache_folder, known_models
from emt_cli.assets.transfer import TransferError, receive
from emt_cli.atomic import write_atomically
from emt_cli.errors import ModelError, OutputError

Report = Callable[[str, int, int], None]
"""Called with a file's name, the bytes that have come, and the bytes in all."""


def pull(
    name: str,
    scales: Sequence[int] = (),
    *,
    source: Path | None = None,
    base_url: str | None = None,
    report: Report | None = None,
) -> list[Path]:
    """Bring a released model's files into the cache and return where they are.

    scales: which, or all if empty. source: a folder or a file to copy from, without any network. base_url: a
    folder to fetch from instead of $EMT_MIRROR or the authors' repository; proxies come from the environment.
    Whatever the way, only files with the pinned checksum are let in; those already there are not fetched
    again, damaged ones are replaced once the new one is whole. Raises ModelError for what goes
    wrong on the way, OutputError where the cache cannot be written.
    """
    wanted = _wanted(name, scales)
    if source is not None and not source.is_dir():
        wanted = [_recognised(source, wanted)]
    base_url = (base_url or os.environ.get("EMT_MIRROR") or RELEASED_HOME).rstrip("/")
    targets = []
    for file in wanted:
        target = cache_folder() / file.name
        if not _is_intact(target, file):
            if source is None:
                data = _fetch(f"{base_url}/{file.name}", file, report)
            else:
                data = _read(source / file.name if source.is_dir() else source, file)
            _store(data, target)
        targets.append(target)
    return targets


def _wanted(name: str, scales: Sequence[int]) -> list[ReleasedFile]:
    known = known_models().get(name)
    if known is not None and known.bundled:
        raise ModelError(f"{name} comes with the package: there is nothing to fetch")
    if name != "emt":
        raise ModelError(f"unknown model '{name}'; the one to fetch is emt: `emt models pull emt`")
    offered = {file.scale: file for file in RELEASED}
    for scale in scales:
        if scale not in offered:
            raise ModelError(f"model emt has no x{scale}; choose from {', '.join(f'x{s}' for s in offered)}")
    return [offered[scale] for scale in sorted(set(scales or offered))]


def _recognised(source: Path, wanted: list[ReleasedFile]) -> ReleasedFile:
    """Return which released file a file on disk is, by its size; the checksum follows when it is read."""
    try:
        size = source.stat().st_size
    except OSError as error:
        raise ModelError(
            f"{source}: cannot be read ({error.strerror or error}); check path and permissions"
        ) from error
    for file in wanted:
        if file.size == size or file.name == source.name:
            return file
    names = ", ".join(file.name for file in wanted)
    raise ModelError(f"{source}: of another size than {names}; get the released file again")


def _read(source: Path, file: ReleasedFile) -> bytes:
    try:
        with source.open("rb") as stream:
            data = stream.read(file.size + 1)
    except OSError as error:
        raise ModelError(
            f"{source}: cannot be read ({error.strerror or error}); check path and permissions"
        ) from error
    _check(data, file, str(source))
    return data


def _fetch(url: str, file: ReleasedFile, report: Report | None) -> bytes:
    shown, data = _without_secrets(url), io.BytesIO()
    try:
        receive(
            url,
            data,
            most=file.size,
            least=file.size,
            report=report and (lambda done: report(file.name, done, file.size)),
        )
    except TransferError as error:
        raise ModelError(
            f"{shown}: {error}; check network and proxy, or try EMT_MIRROR=URL or"
            " `emt models pull emt --from FILE`"
        ) from error
    _check(data.getvalue(), file, shown)
    return data.getvalue()


def _without_secrets(url: str) -> str:
    """Return an address without user, password and query, fit for a message."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ModelError(f"EMT_MIRROR: not an address: {error}; write https://host/folder") from error
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _check(data: bytes, file: ReleasedFile, origin: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        raise ModelError(
            f"{origin}: wrong checksum, not the released {file.name}:"
            f" sha256 is {found}, should be {file.sha256}; get it from elsewhere"
        )


def _is_intact(target: Path, file: ReleasedFile) -> bool:
    try:
        if target.stat().st_size != file.size:
            return False
        return hashlib.sha256(target.read_bytes()).hexdigest() == file.sha256
    except OSError:
        return False


def _store(data: bytes, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, data)
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror or error}); EMT_CACHE=FOLDER chooses another place"
        ) from error

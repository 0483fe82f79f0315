"""From files to a picture store: every picture is checked and decoded, once, before the first step."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from emt_cli.atomic import temporary_folder, write_atomically
from emt_cli.errors import EmtError, InputError, OutputError
from emt_cli.media.picture.formats import SUFFIXES
from emt_cli.media.picture.head import read_head
from emt_cli.media.picture.io import read_picture
from emt_cli.media.picture.pairs import find_lr
from emt_cli.media.resize import bicubic_downscale
from emt_cli.media.samples import convert
from emt_cli.training.dataset import HR, INDEX, LR, PictureStore, Pixels

FORMAT = 2
NAMED = 20
"""Most bad pictures that an error names."""

Report = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Source:
    """Where the pictures of a store come from and how they are made."""

    hr: tuple[Path, ...]
    """Folders of pictures, with all below them."""
    scale: int
    lr: Path | None = None
    """Folder of LR pictures of the same names; None: made by the papers' bicubic."""
    halve_above: int = 0
    """Halve pictures with a longer side than this, by area; 0: none."""
    smallest: int = 1
    """Least side of an LR picture."""
    skip_bad: bool = False
    """Leave out pictures that cannot be used, instead of refusing them all."""
    validates: bool = False
    """Whether they are for validation, where none is left out."""


def prepare(source: Source, cache: Path, report: Report | None = None) -> PictureStore:
    """Decode the pictures of source into a folder in cache, or take it if it is there, and return the store.

    Every picture is checked first to last; one InputError names all that are unreadable, too small or of
    another size than their LR picture; with skip_bad the store lists them as skipped (it holds those that are
    too small). Raises OutputError where the folder cannot be written.
    """
    files = list_pictures(source.hr)
    folder = cache / _signature(source, files)
    store = _open(folder, source.scale)
    if store is None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with temporary_folder(cache) as place:
                made = place / folder.name
                made.mkdir()
                _make(source, files, made, report)
                if _open(folder, source.scale) is None:  # another run may have made it meanwhile
                    shutil.rmtree(folder, ignore_errors=True)
                    made.replace(folder)
        except OSError as error:
            raise OutputError(
                f"{folder}: decoded pictures cannot be written ({error.strerror or error});"
                " make room, or choose another --cache; --dry-run tells how much they need"
            ) from error
        store = PictureStore(folder, source.scale)
    small = [
        _too_small(name, int(h), int(w), source)
        for name, (h, w) in zip(store.names, store.sides, strict=True)
        if min(h, w) < source.smallest
    ]
    if not source.skip_bad and (small or store.skipped):
        raise _refusal([*map(InputError, store.skipped), *small], len(store) + len(store.skipped), source)
    store.skipped += map(str, small)
    return store


def needed_bytes(source: Source, cache: Path) -> int:
    """Return what prepare would write, by the sizes that files declare; 0 where the store is there."""
    files = list_pictures(source.hr)
    if _open(cache / _signature(source, files), source.scale) is not None:
        return 0
    needed = 0
    for path, _ in files:
        with contextlib.suppress(EmtError):  # prepare will say it
            head = read_head(path)
            share = 4 if source.halve_above and max(head.height, head.width) > source.halve_above else 1
            needed += 3 * (head.pixels + head.pixels // source.scale**2) // share
    return needed


def _open(folder: Path, scale: int) -> PictureStore | None:
    """Open a store; None where there is none, or a damaged one."""
    try:
        return PictureStore(folder, scale)
    except (OSError, ValueError, LookupError, TypeError, RecursionError, OverflowError):
        return None


def list_pictures(folders: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Return the pictures below some folders, each with its folder; raises InputError for an empty one."""
    found = []
    for folder in folders:
        if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
            raise InputError(f"{folder}: no permission to read it; change that, or name another folder")
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        there = [(path, folder) for path in paths if path.is_file() and not path.name.startswith(".")]
        if not there:
            raise InputError(f"{folder}: no pictures in it ({', '.join(SUFFIXES)})")
        found += there
    return found


def _signature(source: Source, files: list[tuple[Path, Path]]) -> str:
    """Name the state of the files and all that decides what is made of them."""
    digest = hashlib.sha256(repr((FORMAT, source.scale, source.halve_above)).encode())
    roles = {HR: files, LR: [] if source.lr is None else list_pictures([source.lr])}
    for role, listed in roles.items():
        for path, folder in listed:
            state = path.stat()
            name = path.relative_to(folder).as_posix()  # partners are found by it
            digest.update(repr((role, name, str(path.resolve()), state.st_size, state.st_mtime_ns)).encode())
    return f"x{source.scale}-{digest.hexdigest()[:16]}"


def _make(source: Source, files: list[tuple[Path, Path]], folder: Path, report: Report | None) -> None:
    pictures: list[tuple[str, int, int]] = []
    problems: list[EmtError] = []
    with (folder / LR).open("wb") as lr_file, (folder / HR).open("wb") as hr_file:
        for done, (name, made) in enumerate(_decoded(source, files), 1):
            if isinstance(made, EmtError):
                problems.append(made)
            elif source.skip_bad or not problems:
                lr, hr = made
                _append(lr_file, lr)
                _append(hr_file, hr)
                pictures.append((name, *lr.shape[:2]))
            if report:
                report("pictures checked", done, len(files))
        for file in (lr_file, hr_file):
            file.flush()
            os.fsync(file.fileno())
    if problems and not (source.skip_bad and pictures):
        raise _refusal(problems, len(files), source)
    skipped = [str(problem) for problem in problems]
    write_atomically(folder / INDEX, json.dumps({"pictures": pictures, "skipped": skipped}).encode())


class _TooSmallError(InputError):
    """A picture smaller than a patch."""


def _refusal(problems: Sequence[EmtError], count: int, source: Source) -> InputError:
    if source.validates:
        return InputError(
            f"{len(problems)} of {count} validation pictures cannot be used: {named(problems)};"
            " remove or replace them"
        )
    small = any(isinstance(problem, _TooSmallError) for problem in problems)
    way_out = "--skip-bad leaves them out" + (", or choose a smaller --patch" if small else "")
    return InputError(
        f"{len(problems)} of {count} pictures cannot be trained on: {named(problems)}; {way_out}"
    )


def named(faults: Sequence[object], joint: str = "; ") -> str:
    """Name some faults in one line, NAMED of them at most."""
    more = [f"and {len(faults) - NAMED} more"] if len(faults) > NAMED else []
    return joint.join([*map(str, faults[:NAMED]), *more])


def _too_small(name: str, h: int, w: int, source: Source) -> _TooSmallError:
    """Return the error that a picture whose LR picture is (h, w) is too small."""
    least, scale = source.smallest * source.scale, source.scale
    return _TooSmallError(f"{name}: {w * scale}x{h * scale} is too small for patches of {least}x{least}")


def _append(file: BinaryIO, pixels: Pixels) -> None:
    file.write(pixels.tobytes())


def _decoded(
    source: Source, files: list[tuple[Path, Path]]
) -> Iterator[tuple[str, tuple[Pixels, Pixels] | EmtError]]:
    """Decode on all cores, in order, a few pictures ahead."""

    def decode(path: Path, folder: Path) -> tuple[Pixels, Pixels] | EmtError:
        try:
            return _pair(source, path, folder)
        except EmtError as error:
            return error

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(decode, *file) for file in files[: 2 * workers]]
        for number, (path, folder) in enumerate(files):
            made = waiting.pop(0).result()
            if number + 2 * workers < len(files):
                waiting.append(pool.submit(decode, *files[number + 2 * workers]))
            yield path.relative_to(folder).as_posix(), made


def _pair(source: Source, path: Path, folder: Path) -> tuple[Pixels, Pixels]:
    """Return the LR and the HR picture of one file."""
    scale = source.scale
    hr = _rgb(path)
    if source.halve_above and max(hr.shape[:2]) > source.halve_above:
        hr = _halved(hr)
    h, w = (side // scale for side in hr.shape[:2])
    if min(h, w) < (1 if source.skip_bad else source.smallest):
        raise _too_small(str(path), h, w, source)
    if source.lr is None:
        return bicubic_downscale(hr, scale), hr[: h * scale, : w * scale]
    lr = _rgb(find_lr(source.lr, path.relative_to(folder), scale))
    if lr.shape[:2] != (h, w):
        sizes = f"{hr.shape[1]}x{hr.shape[0]}, its LR picture {lr.shape[1]}x{lr.shape[0]}"
        raise InputError(f"{path}: {sizes}: not x{scale}")
    return lr, hr[: h * scale, : w * scale]


def _rgb(path: Path) -> Pixels:
    """Read a picture as RGB uint8; deeper ones are rounded."""
    pixels: Pixels = convert(read_picture(path).pixels, np.uint8)
    return pixels


def _halved(hr: Pixels) -> Pixels:
    h, w = (side // 2 for side in hr.shape[:2])
    squares = hr[: 2 * h, : 2 * w].astype(np.uint16).reshape(h, 2, w, 2, 3)
    halved: Pixels = ((squares.sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)
    return halved

"""Find the reduced (LR) partner of an original (HR) picture, as the usual data sets name it."""

from __future__ import annotations

from pathlib import Path

from emt_cli.errors import InputError
from emt_cli.media.picture.formats import SUFFIXES


def find_lr(folder: Path, name: Path, scale: int) -> Path:
    """Return the LR file in folder for the HR picture `name`, a path relative to its own folder.

    Tried are the same name, NAMEx4 (DIV2K) and NAME_LR for NAME_HR (Urban100), in every format that is read.
    Raises InputError when there is none.
    """
    if not folder.is_dir():
        raise InputError(f"--lr-data {folder}: no such folder; check the path")
    stems = (name.stem, f"{name.stem}x{scale}", name.stem.removesuffix("_HR") + "_LR")
    place = (folder / name).parent
    candidates = [place / f"{stem}{suffix}" for stem in stems for suffix in (name.suffix, *SUFFIXES)]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise InputError(
            f"{place}: no LR picture for {name.stem} ({name.stem}.png or {name.stem}x{scale}.png)"
        )
    return found

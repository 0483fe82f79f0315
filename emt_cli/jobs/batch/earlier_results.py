"""Tell results that `emt upscale` left beside their sources: photo_x4.png, photo_640x480.png and so on."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from emt_cli.errors import EmtError
from emt_cli.jobs.target import Target
from emt_cli.media.picture.formats import SUFFIXES
from emt_cli.media.picture.head import read_head

_NAME = re.compile(r"(?P<stem>.+)_(?:x(?P<scale>\d+(?:\.\d+)?)|(?P<width>\d+)x(?P<height>\d+)|compare)")


def is_earlier_result(path: Path) -> bool:
    """Whether a picture is named as a result of one beside it, and of the size that the name tells."""
    found = _NAME.fullmatch(path.stem)
    source = _pictures(path.parent).get(found["stem"]) if found else None
    if found is None or source is None:
        return False
    if path.stem.endswith("_compare"):
        return path.suffix.lower() == ".png" and _NAME.fullmatch(found["stem"]) is not None
    try:
        ours, theirs = (read_head(one, max_pixels=1 << 40) for one in (path, source))
        if found["scale"]:
            return (ours.height, ours.width) == Target(float(found["scale"])).size(
                theirs.height, theirs.width
            )
        size = int(found["width"]), int(found["height"])
        return size == (ours.width, ours.height) and ours.width > theirs.width
    except (EmtError, OSError, ValueError):
        return False  # whoever reads it will say what is wrong


@lru_cache(maxsize=64)
def _pictures(folder: Path) -> dict[str, Path]:
    """Return the pictures in a folder by their names without suffix."""
    return {path.stem: path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES}


forget = _pictures.cache_clear
"""Look into folders anew next time."""

"""`emt photo.jpg`: which command is meant where none is named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

_VIDEO = re.compile(
    r"\.(mp4|m4v|mov|qt|mkv|webm|avi|m?ts|m2ts|mpe?g|m2v|vob|wmv|asf|flv|3gp|3g2|mxf|ogv)", re.IGNORECASE
)
_ANIMATED = (".gif", ".webp", ".apng", ".png")


def implied_command(words: Sequence[str]) -> str | None:
    """Return upscale, batch or video for words that begin with files or folders, else None.

    Folders and patterns mean batch, videos and animations video, other files and names of pictures upscale.
    """
    names = list(takewhile(lambda word: not word.startswith("-"), words))
    paths = [Path(name) for name in names]
    if not names or not (paths[0].exists() or paths[0].suffix):
        return None
    if any(path.is_dir() or (not path.exists() and set("*?[") & set(str(path))) for path in paths):
        return "batch"
    if any(_VIDEO.fullmatch(path.suffix) or _is_animated(path) for path in paths):
        return "video"
    return "upscale"


def _is_animated(path: Path) -> bool:
    if path.suffix.lower() not in _ANIMATED or not path.is_file():
        return False
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return bool(getattr(image, "is_animated", False))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, UnidentifiedImageError):
        return False  # the command will say what is wrong with it

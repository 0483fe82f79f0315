"""`emt photo.jpg`: which command is meant where none is named."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from emt_cli.errors import UsageError

_VIDEO = re.compile(
    r"\.(mp4|m4v|mov|qt|mkv|webm|avi|m?ts|m2ts|mpe?g|m2v|vob|wmv|asf|flv|3gp|3g2|mxf|ogv)", re.IGNORECASE
)
_ANIMATED = (".gif", ".webp", ".apng", ".png")


def implied_command(words: Sequence[str]) -> str | None:
    """Return upscale, batch or video for words that begin with files or folders, else None.

    Folders and patterns mean batch, videos and animations video, other files and names of pictures upscale.
    Behind options, only files and folders that exist count. Raises UsageError for several videos.
    """
    names = list(takewhile(lambda word: not word.startswith("-"), words))
    names = names or [word for word in words if Path(word).exists()]
    paths = [Path(name) for name in names]
    if not names or not (paths[0].exists() or paths[0].suffix or names[0].endswith(("/", os.sep))):
        return None
    if any(_is_folder(name) or (not Path(name).exists() and set("*?[") & set(name)) for name in names):
        return "batch"
    if any(_VIDEO.fullmatch(path.suffix) or _is_animated(path) for path in paths):
        if len(names) > 1 and not words[0].startswith("-"):
            raise UsageError(f"{' '.join(names)}: a video needs a run of its own; name one file at a time")
        return "video"
    return "upscale"


def _is_folder(name: str) -> bool:
    return name.endswith(("/", os.sep)) or Path(name).is_dir()


def _is_animated(path: Path) -> bool:
    if path.suffix.lower() not in _ANIMATED or not path.is_file():
        return False
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return bool(getattr(image, "is_animated", False))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, UnidentifiedImageError):
        return False  # the command will say what is wrong with it

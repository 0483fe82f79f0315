"""The known models: names, scales, files, checksums, terms; and where their files lie on this machine."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from emt_cli.assets.added import added_folder, added_models

RELEASED_HOME = "https://raw.githubusercontent.com/Fried-Rice-Lab/EMT/main/modelzoo/EMT"
"""Folder of the released files, published by the authors of arXiv 2305.11403."""
PULL_HINT = "`emt models pull emt`"
SUFFIXES = (".pth", ".safetensors")
TAKEN = (
    "auto",
    "emt",
    "emt-base",
    "emt-lite",
    "emt-lite-photo",
    "emt-photo",
    "emt-art",
    "bicubic",
    "lanczos",
)
"""Names that mean something already."""


@dataclass(frozen=True)
class ReleasedFile:
    """A file the authors published, pinned by its checksum."""

    scale: int
    name: str
    sha256: str
    size: int
    """Bytes."""


RELEASED = (
    ReleasedFile(
        2, "EMT_LSR_x2.pth", "a0ccded9cac60a55a23bc43c08dcaef84887530ac14724f07a0c12e8a928f36e", 3135945
    ),
    ReleasedFile(
        3, "EMT_LSR_x3.pth", "04991327b0eaca4f3d59b7ca7f348484d6993626051b0152443464e0d11cfcf5", 3168393
    ),
    ReleasedFile(
        4, "EMT_LSR_x4.pth", "c66235c55c92bc753098372cfe6d53c8b259c302adeac48aace9b154ed9f872e", 3213897
    ),
)


@dataclass(frozen=True)
class Model:
    """A model known by name; its files may or may not be on this machine yet."""

    name: str
    files: dict[int, Path]
    """For each scale, where its file lies, or will lie once it has been fetched."""
    bundled: bool
    """Whether it comes with the package."""
    licence: str
    source: str
    """Who made it, of which data, one line."""
    note: str
    """What it is good for, one line."""
    added: bool = False
    """Whether a person put it into the cache."""

    @property
    def scales(self) -> tuple[int, ...]:
        """All its scales, smallest first."""
        return tuple(sorted(self.files))

    @property
    def scales_here(self) -> tuple[int, ...]:
        """Scales whose file is on this machine."""
        return tuple(scale for scale in self.scales if self.files[scale].is_file())


def cache_folder() -> Path:
    """Return the folder of fetched models: $EMT_CACHE, or the system's place for caches. It may not exist."""
    chosen = os.environ.get("EMT_CACHE")
    try:
        if chosen:
            return Path(chosen).expanduser()
        folder = platformdirs.user_cache_path("emt-cli")
    except RuntimeError:  # an account without a home folder
        folder = Path()
    if folder.is_absolute():
        return folder
    owner = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
    return Path(tempfile.gettempdir()) / f"emt-cli{owner}"


def bundled_folder() -> Path:
    """Return the folder of the models that come with the package, in a wheel or in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "weights"
    return installed if installed.is_dir() else package.parent / "weights"


def known_models() -> dict[str, Model]:
    """Return the known models by name, the best first, those that were added last."""
    cache = cache_folder()
    models = (
        Model(
            "emt",
            {file.scale: cache / file.name for file in RELEASED},
            False,
            "MIT",
            "Fried Rice Lab, arXiv 2305.11403, trained on DIV2K and Flickr2K",
            "the published network: best quality, five to eight times the time of emt-lite",
        ),
        Model(
            "emt-base",
            _bundled("emt-base"),
            True,
            "MIT",
            "this project, from the published network and taught by it",
            "comes with emt: better than emt-lite, twice its time",
        ),
        Model(
            "emt-lite",
            _bundled("emt-lite"),
            True,
            "MIT",
            "this project, trained on CID22, CLIC2025 and free wallpapers",
            "comes with emt: small and quick",
        ),
        Model(
            "emt-lite-photo",
            _bundled("emt-lite-photo"),
            True,
            "MIT",
            "this project, trained on CID22, CLIC2025 and free wallpapers",
            "comes with emt: for JPEG and camera pictures, takes their blocks and noise away",
        ),
        Model(
            "emt-photo",
            _bundled("emt-photo"),
            True,
            "MIT",
            "this project, from the published network, taught by Real-ESRGAN x4plus and a discriminator",
            "comes with emt: for the same pictures, sharper: it invents texture; --sharpness says how much",
        ),
        Model(
            "emt-art",
            _bundled("emt-art"),
            True,
            "MIT",
            "this project, from the published network, trained on free drawings and fonts",
            "comes with emt: for drawings, text, charts and screenshots",
        ),
    )
    own = {
        added.name: Model(
            added.name,
            {added.scale: added_folder(cache) / added.file},
            False,
            "not told",
            added.source,
            f"added: {added.what}",
            added=True,
        )
        for added in added_models(cache)
    }
    return {model.name: model for model in models} | {
        name: model for name, model in own.items() if name not in TAKEN
    }


def _bundled(name: str) -> dict[int, Path]:
    """Return the bundled files of a model by scale."""
    return {
        int(found[1]): path
        for path in sorted(bundled_folder().glob(f"{name}-x*.safetensors"))
        if (found := re.fullmatch(rf"{name}-x(\d)", path.stem))
    }

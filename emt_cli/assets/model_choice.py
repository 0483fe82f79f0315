"""Which model a --model value stands for: auto's choice, a known name, or a file of one's own.

auto is the released emt where it has been fetched, else emt-lite; but what SUITED says for pictures and
videos that tell their kind (media/picture/kind.py, media/video/coarse.py), and the CLEANER at scale 1.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from emt_cli.assets.catalog import PULL_HINT, SUFFIXES, Model, known_models
from emt_cli.errors import ModelError

CLEANER = "emt-lite-photo"
"""What auto means where the size stays: --scale 1."""


@dataclass(frozen=True)
class Suited:
    """What auto means for one kind of picture or video."""

    model: str
    of_one: str
    """Why, of one picture."""
    of_several: str
    way_out: str
    """What to give for another model."""


_AS_IT_IS = "--model emt-lite takes it as it is"
SUITED = {
    "coarse": Suited(
        "emt-photo",
        "was saved coarsely",
        "were saved coarsely",
        f"{_AS_IT_IS}, --model {CLEANER} invents nothing and is quicker",
    ),
    "coarse video": Suited(CLEANER, "was saved coarsely", "were saved coarsely", _AS_IT_IS),
    "drawn": Suited("emt-art", "seems to be drawn", "seem to be drawn", _AS_IT_IS),
}


@dataclass(frozen=True)
class FoundModel:
    """The answer to which file a model's name and scale stand for."""

    name: str
    """A known name, or the file's own name without its suffix."""
    path: Path
    hint: str | None = None
    """One line for the person on how to get a better model; None where there is nothing to say."""


def suited_model(model: str, kind: str = "plain", *, scale: float | None = None) -> str:
    """Return the --model value that a value means for a picture or video of a kind, or for a scale."""
    if model != "auto":
        return model
    if scale == 1:
        return CLEANER
    return SUITED[kind].model if kind in SUITED else model


def is_path(model: str) -> bool:
    """Tell whether a --model value means a file rather than a name."""
    return Path(model).suffix in SUFFIXES or len(Path(model).parts) > 1 or Path(model).is_file()


def absolute_model(model: str) -> str:
    """Return a --model value that means the same in any folder."""
    return str(Path(model).absolute()) if model not in known_models() and is_path(model) else model


def scales_of(model: str) -> tuple[int, ...]:
    """Return the scales a known name offers, smallest first; "auto" offers what is on this machine.

    A model need not have every scale. Raises ModelError for unknown names; a file's scale is in the file.
    """
    known = known_models()
    if model == "auto":
        here = sorted({x for entry in known.values() for x in entry.scales_here if not entry.added})
        if not here:
            raise ModelError(
                f"no model on this machine; install emt-cli again, or fetch one with {PULL_HINT}"
            )
        return tuple(here)
    return _named(model, known).scales


def find_model(model: str, scale: int) -> FoundModel:
    """Return the file that a --model value stands for at one of its scales; nothing is fetched.

    model: "auto" (the released emt where it has been fetched, else emt-lite), a known name, or the path of a
    .pth or .safetensors, whose own scale counts instead of this one. Raises ModelError, naming what to try.
    """
    known = known_models()
    if model == "auto":
        if scale in known["emt"].scales_here:
            return FoundModel("emt", known["emt"].files[scale])
        better = "--model emt-base is better, " if scale in known["emt-base"].scales_here else ""
        hint = f"using the small built-in model emt-lite; {better}{PULL_HINT} fetches the best (9 MB)"
        return FoundModel("emt-lite", _file_of(known["emt-lite"], scale), hint)
    if model not in known and is_path(model):
        path = Path(model)
        if not path.exists():
            raise ModelError(f"{model}: no such model file; `emt models` lists the known models")
        return FoundModel(path.stem, path)
    return FoundModel(model, _file_of(_named(model, known), scale))


def _named(name: str, known: dict[str, Model]) -> Model:
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
    meant = f"did you mean {close[0]}? " if close else ""
    raise ModelError(f"unknown model '{name}'; {meant}`emt models` lists the known ones")


def _file_of(model: Model, scale: int) -> Path:
    path = model.files.get(scale)
    if path is None:
        offered = ", ".join(f"x{known}" for known in model.files) or "none on this machine"
        raise ModelError(f"model {model.name} has no x{scale} (scales: {offered})")
    if not path.is_file():
        raise ModelError(
            f"model {model.name} x{scale} is not on this machine;"
            f" `emt models pull {model.name} --scale {scale}` fetches it; emt-lite is there without"
        )
    return path

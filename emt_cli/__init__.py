"""emt: upscale pictures and video with the Efficient Mixed Transformer: a command line and a little library.

From Python, on arrays and on files (README, "From Python"):

    from emt_cli import Upscaler, upscale_file

    larger = Upscaler.from_model("emt-lite", scale=4).upscale(pixels)
    upscale_file("photo.jpg", "large.jpg", scale=2.7)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emt_cli.engine.upscaler import Upscaler
    from emt_cli.errors import EmtError
    from emt_cli.jobs.picture.api import upscale_file

__version__ = "0.1.0"
__all__ = ["EmtError", "Upscaler", "__version__", "upscale_file"]

_HOMES = {
    "EmtError": "emt_cli.errors",
    "Upscaler": "emt_cli.engine.upscaler",
    "upscale_file": "emt_cli.jobs.picture.api",
}
"""Where the library's names are defined: torch is imported with the first of them, not with the package."""


def __getattr__(name: str) -> Any:
    """Import one of the library's names when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

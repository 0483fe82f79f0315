"""emt: upscale pictures and video with the Efficient Mixed Transformer: a command line and a little library.

From Python, on arrays, files, videos and folders (docs/python.md):

    from emt_cli import Session, Upscaler

    larger = Upscaler.from_model("emt-lite", scale=4).upscale(pixels)
    with Session("emt-lite") as session:
        session.upscale_file("photo.jpg", "large.jpg", scale=2.7)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emt_cli.api import FolderResult, Session, upscale_file
    from emt_cli.engine.upscaler import Upscaler
    from emt_cli.errors import (
        DeviceError,
        EmtError,
        InputError,
        ModelError,
        OutputError,
        OutputExistsError,
        StoppedError,
        UsageError,
        VerificationError,
    )

__version__ = "0.1.0"
__all__ = [
    "DeviceError",
    "EmtError",
    "FolderResult",
    "InputError",
    "ModelError",
    "OutputError",
    "OutputExistsError",
    "Session",
    "StoppedError",
    "Upscaler",
    "UsageError",
    "VerificationError",
    "__version__",
    "upscale_file",
]

_HOMES = {
    "FolderResult": "emt_cli.api",
    "Session": "emt_cli.api",
    "Upscaler": "emt_cli.engine.upscaler",
    "upscale_file": "emt_cli.api",
    **{name: "emt_cli.errors" for name in __all__ if name.endswith("Error")},
}
"""Where the library's names are defined: nothing heavy is imported with the package."""


def __getattr__(name: str) -> Any:
    """Import one of the library's names when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

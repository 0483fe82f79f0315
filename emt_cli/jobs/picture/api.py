"""For Python programs: all that `emt upscale` does with one picture file, in one call."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from emt_cli.jobs.picture.job import PictureJob, Settings
from emt_cli.jobs.picture.plan import Target
from emt_cli.steps import finish


def upscale_file(
    source: str | PathLike[str],
    target: str | PathLike[str] | None = None,
    *,
    scale: float | None = None,
    width: int | None = None,
    height: int | None = None,
    long_side: int | None = None,
    model: str = "auto",
    device: str = "auto",
    ensemble: bool = False,
    quality: int = 95,
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Path:
    """Enlarge a picture file with alpha, EXIF and colour profile kept; return the path of the result.

    target: a file whose suffix names the format; None is NAME_x4 and so on beside the source. One of scale
    (up to 16; 4 if nothing is given) and a side in pixels says how large. progress is called with the share
    done, 0 to 1. Nothing is fetched, nothing overwritten unless asked for. Raises EmtError, in one line.
    """
    settings = Settings(
        target=Target.asked(scale, width, height, long_side),
        model=model,
        device=device,
        ensemble=ensemble,
        quality=quality,
        overwrite=overwrite,
    )
    job = PictureJob(settings)
    task = job.open(Path(source), None if target is None else Path(target))
    finish(job.run(task), progress)
    return Path(task.target_name)

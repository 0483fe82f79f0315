"""For Python programs: pictures, videos and folders as the commands enlarge them; models stay loaded between.

Nothing of the host program is changed: no signal handlers, no settings of other libraries. Calls may be made
from several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from threading import Event
from typing import Any

from emt_cli.errors import EmtError, InputError, OutputError, StoppedError
from emt_cli.jobs.networks import Networks, NetworkSettings
from emt_cli.jobs.picture.job import PictureJob
from emt_cli.jobs.picture.task import Settings
from emt_cli.jobs.target import Target
from emt_cli.media.picture.formats import PictureFormat
from emt_cli.steps import finish

Name = str | PathLike[str]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class FolderResult:
    """What became of the pictures of a folder."""

    done: int
    skipped: int
    """Results of earlier runs that are still right."""
    failures: list[tuple[str, EmtError]]
    """Path and reason."""


class Session:
    """Models and devices, kept from one file to the next.

    model, device, precision, engine, tile, ensemble and sharpness: as the command line takes them. memory:
    bytes that one picture or frame may need; None takes what is free. Raises EmtError for whatever of it is
    not there.
    """

    def __init__(
        self,
        model: str = "auto",
        *,
        device: str = "auto",
        precision: str = "auto",
        engine: str = "auto",
        tile: int | None = None,
        ensemble: bool = False,
        memory: int | None = None,
        sharpness: float | None = None,
    ) -> None:
        self._how = NetworkSettings(
            model=model,
            device=device,
            precision=precision,
            engine=engine,
            tile=tile,
            ensemble=ensemble,
            memory=memory,
            sharpness=sharpness,
        )
        self._networks: Networks | None = Networks(self._how)

    def close(self) -> None:
        """Let go of the models; later calls raise ValueError."""
        self._networks = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _loaded(self) -> Networks:
        if self._networks is None:
            raise ValueError("this Session is closed")
        return self._networks

    def _job(self, target: Target, **settings: Any) -> PictureJob:
        networks = self._loaded().suited(scale=target.scale)
        return PictureJob(Settings(target, **vars(self._how), **settings), networks)

    def upscale_file(
        self,
        source: Name,
        target: Name | None = None,
        *,
        scale: float | None = None,
        width: int | None = None,
        height: int | None = None,
        long_side: int | None = None,
        quality: int = 95,
        overwrite: bool = False,
        progress: Progress | None = None,
        stop: Event | None = None,
    ) -> Path:
        """Enlarge a picture file with alpha, EXIF and colour profile kept; return the path of the result.

        target: a file whose suffix names the format; None is NAME_x4 and so on beside the source. One of
        scale (up to 16; 4 if nothing is given) and a side in pixels says how large. progress is called with
        the share done, 0 to 1; once stop is set the call ends with StoppedError, and nothing is written.
        Nothing is fetched, nothing overwritten unless asked for. Raises EmtError, in one line.
        """
        wanted = Target.asked(scale, width, height, long_side)
        job = self._job(wanted, quality=quality, overwrite=overwrite)
        task = job.open(Path(source), None if target is None else Path(target))
        finish(job.run(task), progress, stop)
        return Path(task.target_name)

    def upscale_bytes(
        self,
        data: bytes,
        *,
        scale: float = 4,
        format: PictureFormat | None = None,
        quality: int = 95,
        progress: Progress | None = None,
        stop: Event | None = None,
    ) -> bytes:
        """Enlarge a picture file held in memory; return the result as a file, of the same format unless told.

        progress, stop and errors: as upscale_file.
        """
        job = self._job(Target(scale), quality=quality, format=format)
        out = BytesIO()
        finish(job.run(job.open(data, out)), progress, stop)
        return out.getvalue()

    def upscale_video(
        self,
        source: Name,
        target: Name | None = None,
        *,
        scale: float | None = None,
        width: int | None = None,
        height: int | None = None,
        long_side: int | None = None,
        codec: str | None = None,
        crf: int | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
        stop: Event | None = None,
    ) -> dict[str, Any]:
        """Enlarge a video, every frame at its time, with all streams; return what `emt video --json` says.

        Once stop is set the frame at hand is finished and StoppedError raised; the same call goes on from
        there. "verified" is false for a result that differs from its source; it is kept under another name.
        """
        from emt_cli.jobs.video.plan import VideoJob
        from emt_cli.jobs.video.run import run_video
        from emt_cli.jobs.video.task import Settings as VideoSettings

        wanted = Target.asked(scale, width, height, long_side)
        settings = VideoSettings(wanted, **vars(self._how), codec=codec, crf=crf, overwrite=overwrite)
        job = VideoJob(settings, self._loaded().suited(scale=wanted.scale))
        task = job.open(Path(source), None if target is None else Path(target))
        return finish(run_video(job, task, stop=stop or Event()), progress)

    def upscale_folder(
        self,
        source: Name,
        output: Name,
        *,
        scale: float | None = None,
        long_side: int | None = None,
        recursive: bool = False,
        format: PictureFormat | None = None,
        quality: int = 95,
        overwrite: bool = False,
        progress: Progress | None = None,
        stop: Event | None = None,
    ) -> FolderResult:
        """Enlarge a folder of pictures into another, as `emt batch` does: journal, resume, nothing lost.

        A picture that fails stops nothing. Once stop is set the pictures under way are finished, then
        StoppedError is raised; the same call goes on from there. Raises InputError for a folder without
        pictures.
        """
        from emt_cli.jobs.batch.find import Selection, find_pictures
        from emt_cli.jobs.batch.folder import BatchFolder
        from emt_cli.jobs.batch.plan import plan_batch
        from emt_cli.jobs.batch.run import RunStats, run_batch, run_here

        stop = stop or Event()
        wanted = Target.asked(scale, None, None, long_side)
        job = self._job(wanted, format=format, quality=quality, overwrite=overwrite)
        into = BatchFolder(Path(output))
        findings = find_pictures([str(source)], [], Selection(recursive, (), ()), into, base=None)
        with into.held():
            batch = plan_batch(findings, job, into)
            if not batch.total:
                raise InputError(f"{source}: no pictures to enlarge")
            stats = RunStats(batch.total)
            with closing(run_here(batch, job, into, stop)) as events:
                for _ in run_batch(batch, into, events, stop, stats):
                    if progress is not None:
                        progress(stats.ended / batch.total)
        if stats.broken is not None:
            raise stats.broken
        if stats.left and not stats.full:
            raise StoppedError(f"{output}: stopped; {stats.left} pictures are left, the same call goes on")
        if stats.full:
            raise OutputError(f"{output}: the disk is full; {stats.left} pictures are left")
        return FolderResult(stats.done, stats.skipped, stats.failures)


def upscale_file(
    source: Name,
    target: Name | None = None,
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
    progress: Progress | None = None,
) -> Path:
    """Enlarge one picture file, as Session.upscale_file does; for several a Session loads the model once."""
    with Session(model, device=device, ensemble=ensemble) as session:
        return session.upscale_file(
            source,
            target,
            scale=scale,
            width=width,
            height=height,
            long_side=long_side,
            quality=quality,
            overwrite=overwrite,
            progress=progress,
        )

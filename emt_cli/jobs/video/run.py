"""Make a planned video: frames through the network, segment by segment, then one file, which is verified."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from threading import Event
from typing import Any, Protocol

from emt_cli import __version__
from emt_cli.engine.device import device_type
from emt_cli.errors import DeviceError, InputError, OutputError, StoppedError
from emt_cli.jobs.memory import enough_memory, named
from emt_cli.jobs.video.check import Check
from emt_cli.jobs.video.frames import COMPARE, RESULT, Enlarger, make_segments, open_reader
from emt_cli.jobs.video.plan import VideoJob
from emt_cli.jobs.video.segments import WorkFolder, input_hash, pending_runs, unverified_path, work_folder
from emt_cli.jobs.video.task import VideoTask
from emt_cli.jobs.video.verify import verify
from emt_cli.media.files import commit_file
from emt_cli.media.video.codecs import encoded_colour, kept_hdr
from emt_cli.media.video.mux import join
from emt_cli.media.video.packets import read_packets
from emt_cli.steps import Steps, part
from emt_cli.stop import stop_signals

_JOINED = 0.98
"""Share of the work that is done when all segments are."""


class Maker(Protocol):
    """Makes the segments that are not there yet."""

    def __call__(self, job: VideoJob, task: VideoTask, work: WorkFolder, stop: Event) -> Steps[bool]:
        """Finish segments in the work folder, yielding the share of frames done; return whether all are."""


def make_here(job: VideoJob, task: VideoTask, work: WorkFolder, stop: Event) -> Steps[bool]:
    """Make the segments that are not there yet, on this machine."""
    runs = pending_runs(task.segments, work.done)
    if not runs:
        return True
    done = sum(len(parts.times) for parts in work.done.values())
    with named(task.name), open_reader(job, task) as reader:
        steps = make_segments(reader, Enlarger(job, task), work.folder, runs, work.finish, stop)
        while True:
            try:
                shot = next(steps)
            except StopIteration as end:
                return bool(end.value)
            done += shot.frame is not None
            yield min(1.0, done / len(task.times))


def run_video(
    job: VideoJob, task: VideoTask, make: Maker = make_here, stop: Event | None = None
) -> Steps[dict[str, Any]]:
    """Make a video, yielding the share done; returns its facts, what was found out, and every check.

    Finished segments wait beside the target, so that the same task goes on after any end. When
    stop is set, or without one on Ctrl-C and SIGTERM, the frame at hand is finished, then StoppedError is
    raised. A result that fails a check
    ("verified" is false) gets the name NAME.unverified.EXT.
    """
    began = time.perf_counter()
    settings, key = job.settings, _key(job, task)
    with (
        stop_signals() if stop is None else nullcontext(stop) as stop,
        work_folder(
            task.target,
            key,
            {"tile": task.tile},
            restart=settings.overwrite,
            count=len(task.segments),
            check=partial(task.check_source, key["input"]),
        ) as work,
    ):
        resumed = sum(len(done.times) for done in work.done.values())
        job.cut_into(task, int(work.start["tile"]))
        kept = "; what is done is kept, and the same command goes on"
        try:
            with enough_memory(task.name):
                all_done = yield from part(make(job, task, work, stop), 0, _JOINED)
        except OutputError as error:
            reason = str(error).removeprefix(f"{work.folder}").partition(": ")[2]
            kept = kept if work.done and work.folder.is_dir() else ""
            raise OutputError(f"{task.target}: {reason}{kept}") from error
        except DeviceError as error:
            raise DeviceError(f"{error}{kept if work.done else ''}") from error
        if not all_done:
            raise _stopped(task, work)
        yield _JOINED
        try:
            with enough_memory(task.name):
                facts = _finish(job, task, work)
        except OutputError as error:
            if stop.is_set():  # a Ctrl-C reaches ffmpeg as well
                raise _stopped(task, work) from error
            work.check()  # which ffmpeg reads, too
            raise OutputError(f"{task.target}: {str(error).partition(': ')[2]}{kept}") from error
        except InputError as error:
            if not str(error).startswith(str(work.folder)):
                raise
            words = f"unfinished work in {work.folder.name} was changed or removed meanwhile"
            raise OutputError(f"{task.target}: {words}; the same command makes it again") from error
        return facts | {"resumed": resumed, "seconds": round(time.perf_counter() - began, 3)}


def _key(job: VideoJob, task: VideoTask) -> dict[str, Any]:
    """Return everything that decides what the result is, under names for people."""
    settings = job.settings
    networks = job.networks_for(task.info)
    first = networks.get(task.plan.passes[-1])
    return {
        "input": input_hash(task.info.path),
        "size": f"{task.plan.out_width}x{task.plan.out_height}",
        "model": networks.digest(set(task.plan.passes)),
        "engine": type(first.runner).__name__,
        "precision": list(networks.precisions(task.plan.passes)),
        "device": sorted({device_type(device) for device in networks.devices}),
        "tile": settings.tile,
        "tta": settings.ensemble,
        "sharpness": settings.sharpness,
        **asdict(task.encoding),
        "start": task.start,
        "end": task.end,
        "deinterlace": settings.deinterlace,
        "compare": settings.compare,
        "segment": max(len(segment.times) for segment in task.segments),
        "versions": {"emt": __version__} | {name: _version(name) for name in ("av", "torch", "openvino")},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _finish(job: VideoJob, task: VideoTask, work: WorkFolder) -> dict[str, Any]:
    """Put the segments together, verify the result, give it its name; returns what there is to say."""
    parts = [work.done[index] for index in sorted(work.done)]
    times = [pts for done in parts for pts in done.times]
    if not times:
        raise InputError(f"{task.name}: not one frame could be decoded; get an undamaged copy")
    notes = [note for done in parts for note in done.notes]
    joined = {}
    colour = encoded_colour(task.encoding, task.info.colour, bits=task.bits)
    for kind in (RESULT, COMPARE) if job.settings.compare else (RESULT,):
        joined[kind] = work.folder / f"joined-{kind}{task.target.suffix}"
        notes += join(
            work.files(kind),
            task.info,
            joined[kind],
            task.mapping,
            start=task.start,
            end=task.end,
            colour=colour,
        )
    packets, complaints = read_packets(task.info)
    damage = list(dict.fromkeys(text for done in parts for text in done.damage))
    damage += _container_damage(task, times, complaints)
    lost = sorted(set(task.times) - set(times))
    checks = [_source_check(task, lost, damage, tolerant=job.settings.tolerant)]
    checks += verify(
        task.info,
        packets,
        joined[RESULT],
        times=[task.info.seconds(pts) for pts in times],
        size=(task.plan.out_width, task.plan.out_height),
        colour=colour,
        hdr=kept_hdr(task.encoding, task.info.hdr, bits=task.bits)[0],
        carried=task.mapping,
        shift=task.info.seconds(task.origin),
        whole=task.whole,
        end=task.end,
        alpha=task.info.alpha and task.transparent,
    )
    work.check()
    verified = all(check.passed for check in checks)
    facts = task.facts()
    work.note_result(joined[RESULT])
    for kind, path in reversed(joined.items()):  # the result last: where it has its name, all is done
        target = task.target if kind == RESULT else task.compare_path
        if not verified:
            target = unverified_path(target, overwrite=job.settings.overwrite)
        commit_file(path, target, overwrite=job.settings.overwrite)
        facts["output" if kind == RESULT else "compare"] = str(target)
    work.clear()
    computed = sum(done.computed for done in parts)
    return facts | {
        "frames": len(times),
        "computed": computed,
        "duplicates": len(times) - computed,
        "damage": damage,
        "lost": len(lost),
        "notes": [*task.notes, *(note for note in dict.fromkeys(notes) if note not in task.notes)],
        "checks": [asdict(check) for check in checks],
        "verified": verified,
    }


def _container_damage(task: VideoTask, times: list[int], complaints: list[str]) -> list[str]:
    """Say where frames may be missing because the container is damaged: nothing tells of these but the gaps.

    Gaps alone are no damage: screen recordings and phones leave frames out.
    """
    if not complaints:
        return []
    distances = [after - before for before, after in pairwise(times)]
    usual = sorted(distances)[len(distances) // 2] if distances else 0
    seconds = task.info.seconds
    gaps = [
        f"{float(seconds(before)):.3f} to {float(seconds(after)):.3f} s: no frames in between"
        for before, after in pairwise(times)
        if after - before > 1.5 * usual
    ]
    if not task.whole and not gaps:
        return []
    return [*gaps, f"the container is damaged ({complaints[0]})"]


def _source_check(task: VideoTask, lost: list[int], damage: list[str], *, tolerant: bool) -> Check:
    """Say whether the source gave all its frames."""
    expected = f"{len(task.times)} frames"
    if not lost and not damage:
        return Check("source", True, expected, "all decoded")
    found = f"{len(task.times) - len(lost)} frames, damaged"
    if lost:
        found += f", the first lost at {float(task.info.seconds(lost[0] - task.times[0])):.3f} s"
    return Check("source", tolerant, expected, found + (", tolerated" if tolerant else ""))


def _stopped(task: VideoTask, work: WorkFolder) -> StoppedError:
    kept = sum(len(done.times) for done in work.done.values())
    return StoppedError(
        f"{task.name}: stopped; {kept} of {len(task.times)} frames are kept in {work.folder.name},"
        " and the same command goes on from there"
    )

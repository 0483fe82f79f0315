"""One video in, one larger video out: what will be done, checked before it is done."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

from emt_cli.errors import InputError, OutputError, UsageError
from emt_cli.jobs.journal import file_state
from emt_cli.jobs.memory import check_memory
from emt_cli.jobs.networks import Networks
from emt_cli.jobs.picture.plan import Plan, plan_picture
from emt_cli.jobs.target import Target
from emt_cli.jobs.video.cost import disk_of, memory_of, seconds_a_frame, tiles_of
from emt_cli.jobs.video.segments import (
    LONGEST_NAME,
    plan_segments,
    remove_done_work,
    segment_length,
    shortened,
    work_path,
)
from emt_cli.jobs.video.task import Settings, VideoTask
from emt_cli.media.files import check_target
from emt_cli.media.video.animation import SUFFIXES as ANIMATIONS
from emt_cli.media.video.animation import gif_outline
from emt_cli.media.video.animation_write import check_durations
from emt_cli.media.video.codecs import ANIMATION, Encoding, choose_pix_fmt, encoders, kept_hdr
from emt_cli.media.video.containers import map_streams
from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.probe import probe
from emt_cli.media.video.read import survey

_CONTAINERS = {"ffv1": ".mkv", "prores": ".mov"}
"""Where codecs go that not every container holds."""


class VideoJob:
    """Videos enlarged with one set of settings; holds the networks it has loaded."""

    def __init__(self, settings: Settings, networks: Networks | None = None) -> None:
        self.networks = networks or settings.networks()
        self.settings = replace(settings, target=settings.target.suited(self.networks.own_scale))
        if settings.codec is not None and settings.codec not in encoders():
            raise UsageError(f"--codec {settings.codec}: not in this build; use {', '.join(encoders())}")

    def networks_for(self, info: VideoInfo) -> Networks:
        """Return the networks that suit a video."""
        return self.networks.suited(info.kind)

    def open(
        self, source: Path, output: Path | None = None, *, name: str | None = None, here: bool = True
    ) -> VideoTask:
        """Look at a video, plan its enlargement, and raise now whatever would fail later.

        output: a file or a folder; None puts the result beside its source. name: of the source for people,
        where that is not its path. here: this machine enlarges it,
        and needs the memory for that.
        """
        settings, state = self.settings, file_state(source)
        info = probe(source)
        known = survey(info)
        everything = known.times
        if not everything:
            raise InputError(f"{source}: has no frames that can be decoded; get an undamaged copy")
        start, end = _window(info, everything, settings)
        times = tuple(
            pts for pts in everything if (start is None or pts >= start) and (end is None or pts < end)
        )
        if not times:
            length = float(info.seconds(everything[-1] - everything[0]))
            raise UsageError(f"{source}: no frame lies there; the video lasts {length:.3f} s")
        networks = self.networks_for(info)
        plan = plan_picture(info.height, info.width, settings.target, networks.scales, name=str(source))
        plan = _even(plan, settings.target)
        encoding = Encoding(settings.codec, settings.crf, settings.preset, settings.pix_fmt)
        encoding = replace(encoding, codec=encoding.name(info.bits))
        codec = encoding.name(info.bits)
        mapping = map_streams(info, self._target(info, plan, codec, output), codec, empty=known.empty)
        target, notes = mapping.target, list(mapping.notes)
        if target.suffix.lower() in ANIMATIONS:
            _refuse_encoding(settings, target)
            check_durations(target, (info.seconds(after - before) for before, after in pairwise(times)))
            encoding = ANIMATION
        bits = 8 if encoding is ANIMATION else info.bits
        _, odd = choose_pix_fmt(encoding, width=plan.out_width, height=plan.out_height, bits=bits)
        if odd and encoding is not ANIMATION:
            notes.append(odd)
        _, lost = kept_hdr(encoding, info.hdr, bits=bits)
        notes += [lost] if lost else []
        length = settings.segment or segment_length(info.height, info.width)
        tile, tiles = tiles_of(networks, plan)
        memory = partial(memory_of, networks, info, plan, encoding=encoding, compare=settings.compare)
        places = networks.places(plan.passes, memory)
        task = VideoTask(
            name=name or str(source),
            info=info,
            plan=plan,
            encoding=encoding,
            mapping=mapping,
            models=tuple(networks.found(scale) for scale in plan.passes),
            sharpness=networks.weights(plan.passes[0]).sharpness,
            times=times,
            start=start,
            end=end,
            segments=tuple(plan_segments(times, length, start=start, end=end)),
            tile=tile,
            tiles=tiles,
            places=places,
            memory=memory(len(places)),
            disk=disk_of(
                info, plan, encoding.name(bits), len(times), of=len(everything), compare=settings.compare
            ),
            notes=(*_source_notes(info, settings, start), *notes),
            source=state,
        )
        self._check(task, here=here)
        if info.alpha and not task.transparent:
            note = (
                f"what is transparent is shown on black, since {target.suffix} holds no transparency"
                if info.animation
                else "its transparency is left out; --codec prores --pix-fmt yuva444p10le keeps it,"
                " --codec ffv1 --pix-fmt bgra as well, and so does a .webp"
            )
            task = replace(task, notes=(*task.notes, note))
        return task

    def cut_into(self, task: VideoTask, tile: int) -> None:
        """Have every network of a task cut frames into tiles of this side, whatever the free memory is."""
        networks = self.networks_for(task.info)
        for index in range(len(networks.devices)):
            for scale in set(task.plan.passes):
                networks.get(scale, index).tile = tile

    def measure(self, task: VideoTask) -> float:
        """Measure how many seconds a frame will take; raises InputError."""
        middle = task.times[len(task.times) // 2]
        deinterlace = self.settings.deinterlace
        networks = self.networks_for(task.info)
        return seconds_a_frame(networks, task.info, task.plan, pts=middle, deinterlace=deinterlace)

    def _target(self, info: VideoInfo, plan: Plan, codec: str, output: Path | None) -> Path:
        settings, source = self.settings, info.path
        if output is not None:
            _refuse_long(output)
        if output is not None and not output.is_dir():
            if output.exists() and not output.is_file():
                raise UsageError(f"{output}: no place for a video; name a file or a folder")
            return output
        size = settings.target.suffix(plan.out_height, plan.out_width)
        part = "_preview" if settings.preview is not None else _part(settings.start, settings.end)
        suffix = _CONTAINERS.get(codec, ".mp4" if info.animation and settings.codec else source.suffix)
        # The longest of what it may be called yet: MKV, and the comparison beside it.
        room = LONGEST_NAME - len(f"{size}{part}{'_compare' * settings.compare}") - max(len(suffix), 4)
        return (output or source.parent) / f"{shortened(source.stem, room)}{size}{part}{suffix}"

    def _check(self, task: VideoTask, *, here: bool) -> None:
        settings, source = self.settings, task.info.path
        _refuse_long(task.target)
        if task.target.exists() and task.target.samefile(source):
            why = next((f" ({note})" for note in task.notes if note.endswith((".mkv", "instead"))), "")
            raise UsageError(
                f"{source}: would be replaced by its own result{why}; choose another name with -o"
            )
        if not settings.overwrite:
            remove_done_work(task.target)
        check_target(task.target, overwrite=settings.overwrite)
        if settings.compare:
            check_target(task.compare_path, overwrite=settings.overwrite)
        if here:
            check_memory(task.name, task.memory, self.settings.memory)
        work = work_path(task.target)
        there = sum(path.stat().st_size for path in work.iterdir()) if work.is_dir() else 0
        room = shutil.disk_usage(task.target.resolve().parent).free + there
        if task.disk > room:
            raise OutputError(
                f"{task.target}: needs about {task.disk / 1e6:,.0f} MB, and {room / 1e6:,.0f} MB are free"
                " there; make room, choose another place with -o, or a higher --crf"
            )


def _refuse_long(path: Path) -> None:
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise OutputError(f"{path}: the name is too long for the file system; choose a shorter one")


def _part(start: Fraction | None, end: Fraction | None) -> str:
    """Name a part in a file name, such as _0m12s-0m20s; nothing for the whole."""
    if not start and end is None:
        return ""
    return f"_{_clock(start or Fraction(0))}-{'end' if end is None else _clock(end)}"


def _clock(seconds: Fraction) -> str:
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    words = f"{float(rest):06.3f}".rstrip("0").rstrip(".") + "s"
    return f"{hours}h{minutes:02}m{words}" if hours else f"{minutes}m{words}"


def _window(info: VideoInfo, times: list[int], settings: Settings) -> tuple[int | None, int | None]:
    """Return the first PTS wanted and the first no more wanted; None where nothing is cut off."""

    def pts(seconds: Fraction) -> int:
        return times[0] + math.ceil(seconds / info.time_base)

    start, end = settings.start, settings.end
    if settings.preview is not None:
        length = info.seconds(times[-1] - times[0])
        start = max(Fraction(0), (length - settings.preview) / 2) if start is None else start
        end = start + settings.preview
    first = None if not start else pts(start)
    last = None if end is None or pts(end) > times[-1] else pts(end)
    if last is not None:
        # A frame that would be shown for less than MKV's unit of time is cut off as well.
        last = next((t for t in times if t < last and info.seconds(last - t) < Fraction(1, 1000)), last)
    return first, last


def _refuse_encoding(settings: Settings, target: Path) -> None:
    """Raise UsageError for options of video codecs where an animation is written."""
    given = {"--codec": settings.codec, "--crf": settings.crf, "--preset": settings.preset}
    given["--pix-fmt"] = settings.pix_fmt
    wrong = [option for option, value in given.items() if value is not None]
    if wrong:
        raise UsageError(f"{target}: {wrong[0]} is for videos; leave it out, or name an .mp4 with -o")


def _source_notes(info: VideoInfo, settings: Settings, start: int | None) -> list[str]:
    """Say what a person should know of the source before it is enlarged."""
    notes = [f"{name} will be missing from the result" for name in info.left_out]
    if info.broken:
        notes.append(f"it is damaged: {info.broken}")
    elif info.container == "gif" and not gif_outline(info.path).ends:
        notes.append("it has no end mark: it may be cut short, and frames be missing at its end")
    if info.origin < 0 and start is None:
        late = f"{float(-info.seconds(info.origin)):.3f} s"
        notes.append(f"it begins {late} before time 0, which results cannot: all of it is shown {late} later")
    if info.colour.guessed:
        colour = info.colour
        guess = {name: getattr(colour, name) for name in colour.guessed}
        words = ", ".join(f"{name} {value}" for name, value in guess.items())
        notes.append(f"the file does not say all about its colours; taken for granted: {words}")
    if info.interlaced and not settings.deinterlace:
        notes.append("it is interlaced, and its comb lines would be enlarged; --deinterlace removes them")
    return notes


def _even(plan: Plan, target: Target) -> Plan:
    """Make sides even that were not asked for to the pixel: most videos keep one colour for two pixels."""
    if not plan.resized:
        return plan
    height = plan.out_height if target.height or target.long_side == plan.out_height else plan.out_height & ~1
    width = plan.out_width if target.width or target.long_side == plan.out_width else plan.out_width & ~1
    return replace(plan, out_height=height, out_width=width)

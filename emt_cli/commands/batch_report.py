"""What `emt batch` says: the plan, results as they come, failures in the end; and its report file."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from emt_cli.commands import ui
from emt_cli.errors import OutputError, OutputExistsError, UsageError

if TYPE_CHECKING:
    from threading import Event

    from emt_cli.jobs.batch.estimate import Estimate
    from emt_cli.jobs.batch.find import Findings
    from emt_cli.jobs.batch.plan import Batch
    from emt_cli.jobs.batch.run import BatchEvent, RunStats
    from emt_cli.jobs.picture.job import PictureJob
    from emt_cli.media.samples import Kind

_SHOWN = 50
"""Failures listed in the end; a report has all."""
_REASONS = {"done": "done before", "exists": "its result exists", "large": "large enough"}
_LOG_EVERY = 60.0
"""Seconds between lines about progress where there is no terminal to draw on."""


class Reporter:
    """What is said during a run: results on stdout, everything else on stderr; or events, one a line."""

    def __init__(self, *, as_json: bool, quiet: bool, verbose: bool, record: Report | None) -> None:
        self.as_json, self.quiet, self.verbose = as_json, quiet or as_json, verbose
        self.record = record

    def note(self, text: str) -> None:
        """Say something about the run itself."""
        if self.as_json:
            ui.show_json({"event": "note", "message": text})
        else:
            ui.say(f"emt: {text}", quiet=self.quiet)

    def found(self, findings: Findings) -> None:
        """Say what was passed over."""
        for note in findings.notes:
            ui.say(note, quiet=self.quiet)
        if findings.foreign:
            kinds = ", ".join(
                f"{count} {kind or 'without ending'}" for kind, count in findings.foreign.most_common(5)
            )
            count = findings.foreign.total()
            ui.say(f"passed over: {_files(count)} not named as pictures ({kinds})", quiet=self.quiet)
        if findings.results:
            ui.say(f"passed over: {_files(findings.results)} written by earlier runs", quiet=self.quiet)

    def collisions(self, batch: Batch) -> None:
        """Name the results that have several sources, and end there: UsageError."""
        if not batch.collisions:
            return
        for target, sources in batch.collisions:
            if self.as_json:
                inputs = [str(source) for source in sources]
                ui.show_json({"event": "collision", "output": str(target), "inputs": inputs})
            elif len(sources) == 1:
                ui.say(f"{target} would replace a picture that is to be read: the result of {sources[0]}")
            else:
                ui.say(f"{target} would be the result of {' and '.join(map(str, sources))}")
        raise UsageError(
            "pictures would become one file, capitals aside, or replace one that is to be read;"
            " tell them apart with --name, such as {stem}_{type}_x{scale}{ext}, or --exclude some"
        )

    def plan(self, batch: Batch, job: PictureJob, expected: Estimate | None, *, dry_run: bool) -> None:
        """Say what will be done, before it is done."""
        from emt_cli.assets.model_choice import SUITED

        pending = len(batch.pending)
        done = len(batch.items) - pending
        facts: dict[str, Any] = {
            "total": batch.total,
            "pending": pending,
            "done": done,
            "skipped": len(batch.skipped),
            "failed": len(batch.failures),
            "model": job.settings.model,
            "devices": [str(device) for device in job.networks.devices],
        }
        if expected is not None:
            facts |= {"seconds": round(expected.seconds, 3), "disk": expected.bytes}
        if self.as_json:
            if dry_run:
                for item in batch.pending:
                    ui.show_json({"event": "planned", "input": str(item.source), "output": str(item.target)})
                for source, error in batch.failures:
                    self._failed(source, error)
            ui.show_json({"event": "plan"} | facts)
            return
        suited = SUITED if job.networks.model == "auto" else {}
        explained = {choice.model for choice in suited.values()}
        others = [item for item in batch.pending if item.model not in explained]
        for hint in {job.networks.found(item.passes[0]).hint for item in others} - {None}:
            ui.say(f"emt: {hint}", quiet=self.quiet)
        parts = [f"{pending} to enlarge"]
        counts = Counter(item.model for item in batch.pending)
        reasons = [
            f"{counts[x.model]} by {x.model}{_sharpness(job, kind)}, as they {x.of_several}"
            for kind, x in suited.items()
            if counts[x.model]
        ]
        parts[0] += f" ({'; '.join(reasons)})" if reasons else ""
        parts += [f"{done} done before"] if done else []
        for reason, words in (("exists", "exist already"), ("large", "large enough")):
            count = sum(one.reason == reason for one in batch.skipped)
            parts += [f"{count} {words}"] if count else []
        parts += [f"{len(batch.failures)} cannot be enlarged"] if batch.failures else []
        ui.say(f"{_pictures(batch.total)}: {', '.join(parts)}", quiet=self.quiet)
        if expected is not None:
            ui.say(
                f"about {ui.seconds_text(expected.seconds)} on {'+'.join(facts['devices'])},"
                f" {ui.bytes_text(expected.bytes)} of disk",
                quiet=self.quiet,
            )
        if dry_run:
            for source, error in batch.failures:
                self._failed(source, error)
            for item in batch.pending:
                ui.show(str(item.target))

    def run(self, news: Iterable[BatchEvent], stats: RunStats, batch: Batch, stop: Event) -> None:
        """Tell what happens while it happens."""
        total = sum(item.work for item in batch.items)
        began = logged = time.monotonic()
        drawn = sys.stderr is not None and sys.stderr.isatty()
        told, work = False, 0.0
        with ui.progress(quiet=self.quiet) as update:
            for event in news:
                if stop.is_set() and not (told or stats.full or stats.broken):
                    told = True
                    self.note("stopping; the pictures under way are finished first, Ctrl-C again drops them")
                if event.kind == "done":
                    self._done(event.source, event.facts)
                elif event.kind == "failed" and event.error is not None:
                    self._failed(event.source, event.error, event.trace)
                elif event.kind == "skipped":
                    self._skipped(event.source, event.facts)
                elif event.kind == "started" and self.as_json:
                    ui.show_json({"event": "started", "input": event.source} | event.facts)
                if self.record is not None:
                    self.record.add(event)
                work = max(work, event.work)  # a picture that waits to be written counts nowhere
                if work:
                    update(f"{stats.ended} of {stats.total}", work, total)
                now = time.monotonic()
                if not drawn and work and now - logged >= _LOG_EVERY:
                    logged = now
                    left = (now - began) * (total - work) / work
                    ui.say(
                        f"{stats.ended} of {stats.total} pictures, about {ui.seconds_text(left)} left",
                        quiet=self.quiet,
                    )
        stats.seconds += time.monotonic() - began

    def summary(self, stats: RunStats) -> int:
        """Say how it went, and return the exit code."""
        failed = len(stats.failures)
        code = 130 if stats.left and not stats.full else 0
        code = code or (0 if not failed else 4 if not stats.done and not stats.skipped else 3)
        code = stats.broken.exit_code if stats.broken else code
        facts: dict[str, Any] = {
            "total": stats.total,
            "done": stats.done,
            "skipped": stats.skipped,
            "failed": failed,
            "left": stats.left,
            "seconds": round(stats.seconds, 3),
            "exit_code": code,
        }
        if stats.broken:
            facts["message"] = str(stats.broken)
        if self.record is not None:
            self.record.write(facts)
        if self.as_json:
            ui.show_json({"event": "summary"} | facts)
            return code
        if failed:
            ui.say(f"emt: {failed} of {_pictures(stats.total)} failed:")
            for _, error in stats.failures[:_SHOWN]:
                ui.say(f"  {error}")
            if failed > _SHOWN:
                ui.say(f"  and {failed - _SHOWN} more; --report FILE.json lists all of them")
        if stats.left:
            why = str(stats.broken) if stats.broken else "the disk is full" if stats.full else "interrupted"
            then = "make room, then go on" if stats.full else "go on"
            ui.say(f"emt: {why}; {_pictures(stats.left)} left: {then} with the same command")
        skipped = f", {stats.skipped} skipped" if stats.skipped else ""
        ui.say(f"{stats.done} done{skipped} in {ui.seconds_text(stats.seconds)}", quiet=self.quiet)
        return code

    def _done(self, source: str, facts: dict[str, Any]) -> None:
        if self.as_json:
            ui.show_json({"event": "done"} | facts)
            return
        for note in facts["notes"]:
            ui.say(f"{source}: {note}", quiet=self.quiet)
        ui.show(facts["output"])
        if "compare" in facts:
            ui.show(facts["compare"])
        if self.verbose:
            size = f"{facts['width']}x{facts['height']} to {facts['out_width']}x{facts['out_height']}"
            ui.say(f"{source}: {size}, {ui.seconds_text(facts['seconds'])}", quiet=self.quiet)

    def _skipped(self, source: str, facts: dict[str, Any]) -> None:
        if self.as_json:
            ui.show_json({"event": "skipped", "input": source} | facts)
        elif self.verbose:
            ui.say(f"{source}: {_REASONS[facts['reason']]}", quiet=self.quiet)

    def _failed(self, source: str, error: Exception, trace: str | None = None) -> None:
        code = getattr(error, "exit_code", 1)
        if self.as_json:
            facts = {"event": "failed", "input": source, "message": str(error), "exit_code": code}
            ui.show_json(facts | ({"trace": trace} if trace else {}))
            return
        ui.say(f"emt: error: {error}")
        for line in (trace or "").splitlines() if self.verbose else ():
            ui.say(line)


def _sharpness(job: PictureJob, kind: str) -> str:
    """Say which sharpness was asked for, where the model for a kind of pictures offers it."""
    networks = job.networks.suited(cast("Kind", kind))
    asked = networks.settings.sharpness
    offered = asked is not None and networks.weights(networks.scales[0]).sharpness is not None
    return f" at sharpness {asked:g}" if offered else ""


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


class Report:
    """A file that tells what became of each picture: JSON, or CSV for spreadsheets.

    Raises UsageError for another ending, OutputExistsError when the place is taken by another kind of file.
    """

    COLUMNS: tuple[str, ...] = ("input", "status", "output", "width", "height", "out_width", "out_height")
    COLUMNS += ("model", "seconds", "message", "exit_code")

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.suffix.lower() not in (".json", ".csv"):
            raise UsageError(f"--report {path}: name a file that ends in .json or .csv")
        if not path.absolute().parent.is_dir():
            raise OutputError(f"--report {path}: its folder does not exist; create it first")
        if path.exists() and not overwrite and not self._is_report():
            raise OutputExistsError(
                f"--report {path}: exists and is no report of emt batch; choose another name"
            )

    def add(self, event: BatchEvent) -> None:
        """Keep what an event says of a picture."""
        if event.kind in ("done", "skipped", "failed"):
            row: dict[str, Any] = {"input": event.source, "status": event.kind} | event.facts
            if event.error is not None:
                row |= {"message": str(event.error), "exit_code": event.error.exit_code}
            self.rows.append(row)

    def write(self, summary: dict[str, Any]) -> None:
        """Write the file, whole or not at all; raises OutputError."""
        from emt_cli.atomic import write_atomically

        if self.path.suffix.lower() == ".json":
            text = json.dumps({"emt_batch": summary, "pictures": self.rows}, indent=1) + "\n"
        else:
            stream = io.StringIO(newline="")
            table = csv.DictWriter(stream, self.COLUMNS, extrasaction="ignore")
            table.writeheader()
            table.writerows(self.rows)
            text = stream.getvalue()
        try:
            write_atomically(self.path, text.encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise OutputError(
                f"--report {self.path}: could not be written ({error.strerror}); name another file"
            ) from error

    def _is_report(self) -> bool:
        try:
            with self.path.open("rb") as stream:
                start = stream.read(64)
        except OSError:
            return False
        return start.startswith((b'{\n "emt_batch"', b"input,status,output")) or not start

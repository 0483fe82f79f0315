"""Where a fault campaign takes place: its healthy files, and how damaged ones come to the command line."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import corrupt_files
from PIL import Image
from processes import command, emt

MOVING = (".gif", ".webp", ".png")
PIXELS = 1_000_000
"""--max-pixels of the random damage, so that a forged size within the usual limit is no long work."""


class Site:
    """Folders for what comes in and what comes out, and beside them the files that stay healthy.

    What takes time to make is made when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inputs, self.results = folder / "in", folder / "out"
        self.temporary, self.cache, self.pictures = folder / "tmp", folder / "cache", folder / "pictures"
        for place in (self.temporary, self.cache, self.pictures):
            place.mkdir(parents=True)
        self.model, self.photo = folder / "tiny.safetensors", folder / "photo.png"
        self.model.write_bytes(corrupt_files.tiny_model())
        self.photo.write_bytes(corrupt_files.pictures()["plain.png"])
        for name in ("a.png", "b.png"):
            Image.fromarray(corrupt_files.scene(40, 48)).save(self.pictures / name)

    def clear(self) -> None:
        """Empty the folders for what comes in and what comes out."""
        for place in (self.inputs, self.results):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()

    def files(self) -> set[Path]:
        """Return all files where a command may have left some."""
        places = (self.inputs, self.results, self.temporary, self.pictures)
        return {path for place in places for path in place.rglob("*") if path.is_file()}

    @property
    def checkpoint(self) -> bytes:
        """A checkpoint of emt train after one step of the run that damaged ones are tried in."""
        return (self._run / "checkpoints" / "step-00000001.pt").read_bytes()

    @property
    def log(self) -> bytes:
        """The log of the same run."""
        return (self._run / "log.jsonl").read_bytes()

    @cached_property
    def _run(self) -> Path:
        from emt_cli.training.config import TrainConfig
        from emt_cli.training.loop import train
        from emt_cli.training.start import Place

        run = self.folder / "run"
        config = TrainConfig(
            network=corrupt_files.TINY, data=(str(self.pictures),), steps=1, batch=1, patch=8
        )
        list(train(config, Place(run)))
        return run

    @cached_property
    def store(self) -> Path:
        """The folder of decoded pictures of a run over the site's pictures."""
        from emt_cli.training.prepare import Source, prepare

        store = self.folder / "store"
        prepare(Source((self.pictures,), 2, smallest=8), store)
        return store

    @cached_property
    def batch(self) -> Path:
        """A batch of the site's pictures, done, with its journal."""
        batch = self.folder / "batch"
        ended = emt(*_batch_line(self, batch), folder=self.folder, talk=self.folder / "talk-batch")
        assert ended.code == 0, ended.stderr
        return batch


# How each kind of file comes to the command line

Call = tuple[object, ...]
"""What a Worker is to run, and its arguments."""


def _upscale(site: Site, path: Path) -> Call:
    options = ("--model", str(site.model), "-o", f"{site.results}/")
    limit = () if path.stem.startswith("lie-") else ("--max-pixels", str(PIXELS))
    return command, "upscale", str(path), "-s", "2", *options, *limit


def _video(site: Site, path: Path) -> Call:
    suffix = path.suffix if path.suffix in MOVING else ".mkv"
    target = site.results / f"{path.stem.replace('%', '')}{suffix}"
    options = ("--model", str(site.model), "-o", str(target), "--codec", "ffv1")
    return command, "video", str(path), "-s", "2", *options


def _model(site: Site, path: Path) -> Call:
    options = ("--model", str(path), "-o", f"{site.results}/")
    return command, "upscale", str(site.photo), "-s", "2", *options


def _train(site: Site, *options: str) -> Call:
    tiny = vars(corrupt_files.TINY) | {"windows": [[8, 4], [4, 8]], "shifts": [[4, 2], [2, 4]]}
    pairs = [part for key, value in tiny.items() for part in ("--set", f"network.{key}={value}")]
    pairs += ["--set", "batch=1", "--set", "patch=8", "--steps", "3", "--accelerator", "cpu"]
    return command, "train", "--data", str(site.pictures), *pairs, *options


def _checkpoint(site: Site, path: Path) -> Call:
    return _train(site, "--out", str(site.results / "run"), "--resume", str(path))


def _recipe(site: Site, path: Path) -> Call:
    options = ("--config", str(path), "--out", str(site.results / "run"), "--dry-run")
    return command, "train", "--data", str(site.pictures), *options


def _record(site: Site, path: Path) -> Call:
    options = ("--model", "bicubic", "--scale", "2", "--against", str(path))
    return command, "benchmark", "--set", str(site.pictures), *options


def _log(site: Site, path: Path) -> Call:
    out = site.results / "run"
    (out / "checkpoints").mkdir(parents=True)
    (out / "checkpoints" / "step-00000001.pt").write_bytes(site.checkpoint)
    shutil.copy(path, out / "log.jsonl")
    return _train(site, "--out", str(out), "--resume", "auto")


def _store(site: Site, path: Path) -> Call:
    """Training whose folder of decoded pictures is damaged in one file."""
    cache = site.results / "cache"
    shutil.copytree(site.store, cache)
    (target,) = cache.glob(f"*/{path.name}")
    target.write_bytes(path.read_bytes())
    return _train(site, "--out", str(site.results / "run"), "--cache", str(cache))


def _journal(site: Site, path: Path) -> Call:
    return read_and_append, path


def _batch(site: Site, path: Path) -> Call:
    """A batch that was done, whose journal is damaged."""
    out = site.results / "batch"
    shutil.copytree(site.batch, out)
    (out / path.name).write_bytes(path.read_bytes())
    return command, *_batch_line(site, out)


def _batch_line(site: Site, out: Path) -> tuple[str, ...]:
    return "batch", str(site.pictures), "-s", "2", "--model", str(site.model), "-o", str(out)


def _head(site: Site, path: Path) -> Call:
    return declare, path


def declare(path: Path) -> None:
    """Read what a picture declares, as a plan of many pictures does."""
    from emt_cli.errors import InputError
    from emt_cli.media.picture.head import read_head

    try:
        read_head(path)
    except InputError as error:
        print(f"emt: error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error


def read_and_append(path: Path) -> None:
    """Read a journal, go on with it, and see that what is added comes back."""
    from emt_cli.jobs.journal import Journal, read_journal

    before = read_journal(path)
    with Journal(path) as journal:
        journal.append({"new": 1})
    assert read_journal(path) == [*before, {"new": 1}]


COMMANDS: dict[str, Callable[[Site, Path], Call]] = {
    "picture": _upscale,
    "head": _head,
    "video": _video,
    "model": _model,
    "checkpoint": _checkpoint,
    "recipe": _recipe,
    "record": _record,
    "log": _log,
    "store": _store,
    "journal": _journal,
    "batch": _batch,
}

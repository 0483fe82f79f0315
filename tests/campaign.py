"""The fault campaign: damaged files through the real command line, each with a limit of time and memory.

`make torture` runs this file; tests/test_faults.py runs a smaller number of the same cases.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from pathlib import Path
from random import Random

import victims
from damage import ANY, Damage, change_value, png_with_sums, safetensors_header, zip_with_sums
from PIL import Image
from processes import DiedError, Ended, HungError, Worker, command

SECONDS = 30.0
"""After this a file hangs; the slowest takes a few seconds on two cores."""
MEMORY = 300 << 20
"""Bytes a damaged file may cost beyond what the process holds, unless it declares millions of pixels."""
MOVING = (".gif", ".webp", ".png")
CEILING = 3 << 30
"""Address space beyond the start at which allocations fail, for the machine's sake."""
PIXELS = 1_000_000
"""--max-pixels of the random damage, so that a forged size within the usual limit is no long work."""


@dataclass(frozen=True)
class Case:
    """One damaged file, and what the command may answer to it."""

    kind: str
    name: str
    data: bytes
    damage: str
    codes: tuple[int, ...]
    memory: int = MEMORY
    """Bytes it may cost beyond what the process holds anyway."""


@dataclass(frozen=True)
class Finding:
    """A case that went wrong."""

    case: Case
    what: str
    ended: Ended | None


class Campaign:
    """Runs cases in a folder of its own and judges how each ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inputs, self.results = folder / "in", folder / "out"
        self.temporary, self.cache, self.pictures = folder / "tmp", folder / "cache", folder / "pictures"
        for place in (self.temporary, self.cache, self.pictures):
            place.mkdir(parents=True)
        os.environ |= {"TMPDIR": str(self.temporary), "EMT_CACHE": str(self.cache), "OMP_NUM_THREADS": "1"}
        (folder / "tiny.safetensors").write_bytes(victims.tiny_model())
        (folder / "photo.png").write_bytes(victims.pictures()["plain.png"])
        for name in ("a.png", "b.png"):
            Image.fromarray(victims.scene(40, 48)).save(self.pictures / name)
        self.worker = Worker(folder / "talk", memory=CEILING, seconds=SECONDS)

    def close(self) -> None:
        self.worker.close()

    def run(self, case: Case) -> Finding | Ended:
        """Run one case in fresh folders and look at what it left."""
        for place in (self.inputs, self.results):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        path = self.inputs / case.name
        path.write_bytes(case.data)
        before = self._files()
        try:
            ended = self.worker.run(*COMMANDS[case.kind](self, path), folder=self.folder)
        except (HungError, DiedError) as error:
            return Finding(case, str(error), None)
        problem = self._problem(case, path, ended, before)
        return Finding(case, problem, ended) if problem else ended

    def _problem(self, case: Case, path: Path, ended: Ended, before: set[Path]) -> str:
        lines = ended.stderr.splitlines()
        new = self._files() - before
        checks = {
            f"exit code {ended.code}, not one of {case.codes}": ended.code not in case.codes,
            "a traceback": "Traceback" in ended.stderr,
            f"{ended.grown / 2**20:.0f} MB of memory": ended.grown > case.memory,
            f"{ended.seconds:.0f} s": ended.seconds > SECONDS,
            "the input was changed": case.kind != "journal" and path.read_bytes() != case.data,
            f"temporary files left: {sorted(map(str, new))}": ended.code != 4
            and any(_is_temporary(file) for file in new),
            "files of a failed command": case.kind in ("picture", "video")
            and ended.code not in (0, 4, 9)
            and bool(new),
            "says something that cannot be printed": not all(line.isprintable() for line in lines),
            "fails without a line that says why": ended.code not in (0, 9)
            and "emt: error: " not in ended.stderr,
            "more lines than needed": ended.code not in (0, 9)
            and len(lines) > (8 if case.kind == "batch" else 3),
            "a line without end": any(len(line) > 1000 for line in lines),
            "prints on a failure": case.kind == "picture" and ended.code != 0 and bool(ended.stdout),
        }
        found = [what for what, wrong in checks.items() if wrong]
        if case.kind == "picture" and ended.code == 0:
            found += [what for file in new if (what := _unreadable(file))]
            found += ["no result"] if not new else []
        return "; ".join(found)

    def _files(self) -> set[Path]:
        places = (self.inputs, self.results, self.temporary, self.pictures)
        return {path for place in places for path in place.rglob("*") if path.is_file()}


def _is_temporary(path: Path) -> bool:
    hidden = path.name.startswith(".") and path.name != ".lock" and path.suffix != ".jsonl"
    return hidden or path.parts[-2] == "tmp" or any(part.endswith(".emt-work") for part in path.parts)


def _unreadable(path: Path) -> str:
    """Say what is wrong with a result, by another library's reading of it."""
    import tifffile

    try:
        if path.suffix in (".tif", ".tiff"):
            tifffile.imread(path)
        else:
            with Image.open(path) as image:
                image.load()
    except Exception as error:
        return f"{path.name} cannot be read: {error}"
    return ""


# How each kind of file comes to the command line

Call = tuple[object, ...]


def _upscale(campaign: Campaign, path: Path) -> Call:
    model = str(campaign.folder / "tiny.safetensors")
    limit = [] if path.stem.startswith("lie-") else ["--max-pixels", str(PIXELS)]
    return command, "upscale", str(path), "-s", "2", "--model", model, "-o", f"{campaign.results}/", *limit


def _video(campaign: Campaign, path: Path) -> Call:
    target = (
        f"{campaign.results / path.stem.replace('%', '')}{path.suffix if path.suffix in MOVING else '.mkv'}"
    )
    model = str(campaign.folder / "tiny.safetensors")
    return command, "video", str(path), "-s", "2", "--model", model, "-o", target, "--codec", "ffv1"


def _model(campaign: Campaign, path: Path) -> Call:
    photo = str(campaign.folder / "photo.png")
    return command, "upscale", photo, "-s", "2", "--model", str(path), "-o", f"{campaign.results}/"


def _train(campaign: Campaign, *options: str) -> Call:
    tiny = vars(victims.TINY) | {"windows": [[8, 4], [4, 8]], "shifts": [[4, 2], [2, 4]]}
    pairs = [part for key, value in tiny.items() for part in ("--set", f"network.{key}={value}")]
    pairs += ["--set", "batch=1", "--set", "patch=8", "--steps", "3", "--accelerator", "cpu"]
    return (command, "train", "--data", str(campaign.pictures), *pairs, *options)


def _checkpoint(campaign: Campaign, path: Path) -> Call:
    return _train(campaign, "--out", str(campaign.results / "run"), "--resume", str(path))


def _recipe(campaign: Campaign, path: Path) -> Call:
    out = str(campaign.results / "run")
    return (
        command,
        "train",
        "--data",
        str(campaign.pictures),
        "--config",
        str(path),
        "--out",
        out,
        "--dry-run",
    )


def _record(campaign: Campaign, path: Path) -> Call:
    options = ("--model", "bicubic", "--scale", "2", "--against", str(path))
    return (command, "benchmark", "--set", str(campaign.pictures), *options)


def _log(campaign: Campaign, path: Path) -> Call:
    out = campaign.results / "run"
    (out / "checkpoints").mkdir(parents=True)
    (out / "checkpoints" / "step-00000001.pt").write_bytes(checkpoint())
    shutil.copy(path, out / "log.jsonl")
    return _train(campaign, "--out", str(out), "--resume", "auto")


def _store(campaign: Campaign, path: Path) -> Call:
    """Training whose folder of decoded pictures is damaged in one file."""
    cache = campaign.results / "cache"
    shutil.copytree(store(campaign), cache)
    (target,) = cache.glob(f"*/{path.name}")
    target.write_bytes(path.read_bytes())
    return _train(campaign, "--out", str(campaign.results / "run"), "--cache", str(cache))


def _journal(campaign: Campaign, path: Path) -> Call:
    return read_and_append, path


def _batch(campaign: Campaign, path: Path) -> Call:
    """A batch that was done, whose journal is damaged."""
    out = campaign.results / "batch"
    shutil.copytree(finished_batch(campaign), out)
    (out / path.name).write_bytes(path.read_bytes())
    return command, *batch_line(campaign, out)


def _head(campaign: Campaign, path: Path) -> Call:
    return declare, path


def declare(path: Path) -> None:
    """Read what a picture declares, as a plan of many pictures does."""
    from emt_cli.errors import InputError
    from emt_cli.media.head import read_head

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


COMMANDS: dict[str, Callable[[Campaign, Path], Call]] = {
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

_made: dict[str, bytes] = {}


def checkpoint() -> bytes:
    """A checkpoint of emt train after one step of the run that damaged ones are tried in."""
    if "checkpoint" not in _made:
        _make_run()
    return _made["checkpoint"]


def store(campaign: Campaign) -> Path:
    """The folder of decoded pictures of a run over the campaign's pictures."""
    place = campaign.folder / "store"
    if not place.is_dir():
        from emt_cli.training.prepare import Source, prepare

        prepare(Source((campaign.pictures,), 2, smallest=8), place)
        shutil.rmtree(campaign.results, ignore_errors=True)
        campaign.results.mkdir()
    return place


def batch_line(campaign: Campaign, out: Path) -> tuple[str, ...]:
    """What enlarges the campaign's pictures into a folder."""
    model = str(campaign.folder / "tiny.safetensors")
    return "batch", str(campaign.pictures), "-s", "2", "--model", model, "-o", str(out)


def finished_batch(campaign: Campaign) -> Path:
    """A batch of the campaign's pictures, done, with its journal."""
    place = campaign.folder / "batch"
    if not place.is_dir():
        campaign.worker.run(command, *batch_line(campaign, place), folder=campaign.folder)
    return place


def _make_run() -> None:
    from emt_cli.training.config import TrainConfig
    from emt_cli.training.loop import train
    from emt_cli.training.start import Place

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "p").mkdir()
        Image.fromarray(victims.scene(40, 48)).save(folder / "p" / "a.png")
        config = TrainConfig(network=victims.TINY, data=str(folder / "p"), steps=1, batch=1, patch=8)
        list(train(config, Place(folder / "run")))
        _made["checkpoint"] = (folder / "run" / "checkpoints" / "step-00000001.pt").read_bytes()
        _made["log"] = (folder / "run" / "log.jsonl").read_bytes()


GOOD_RECIPE = b"""steps = 10
batch = 1
patch = 8
learning_rate = 1e-3
betas = [0.9, 0.99]
degradation = "bicubic"

[network]
scale = 2
dim = 20
blocks = 1
layers = 2
attention_layers = 1
heads = 1
windows = [[8, 4], [4, 8]]
shifts = [[4, 2], [2, 4]]
"""
JOURNAL = b"".join(
    json.dumps({"input": f"photo {n}.png", "sha256": "0" * 64, "output": "o", "n": n}).encode() + b"\n"
    for n in range(20)
)
RECORD = {
    "format": 1,
    "emt": "0",
    "settings": {},
    "means": [{"set": "pictures", "scale": 2, "method": "bicubic", "pictures": 2, "psnr": 20.0, "ssim": 0.5}],
    "published": [],
    "pictures": [],
}


# The cases


def lies(folder: Path) -> Iterator[Case]:
    """All files made by hand: bombs, liars, malicious programs."""
    whole = {"other-name", "orientation", "enormous", "negative", "tiny-numbers", "strips", "bomb-behind"}
    whole |= {
        "bomb-profile",
        "bomb-text",
        "bomb-nested",
        "bomb-xmp",
        "bomb-exif",
        "many-chunks",
        "many-bombs",
    }
    whole |= {"long-text", "marker-loop", "icc-parts", "exif-circle", "exif-huge", "deflate-bomb", "rle"}
    whole |= {"riff-lies", "flat", "bad-palette"}
    for name, data in victims.lying_pictures().items():
        stem = Path(name).stem
        codes = (0, 8) if stem in whole or name == "negative.tif" else (8,)
        # Four bytes a pixel for a decoder that needs the whole picture to find out that it is none.
        memory = MEMORY + 4 * 16384**2 if name == "bomb.webp" else MEMORY
        yield Case("picture", f"lie-{name}", data, "made by hand", codes, memory)
        yield Case("head", f"lie-{name}", data, "made by hand", (0, 8))
    for name, data in victims.lying_models().items():
        yield Case("model", name, data, "made by hand", (0, 5) if name == "shift.safetensors" else (5,))
    for name, data in victims.malicious_checkpoints(folder / "trace").items():
        yield Case("model", name, data, "malicious", (5,))
        yield Case("checkpoint", name, data, "malicious", (8,))
    secret = folder / "secret.mp4"
    secret.write_bytes(victims.videos()["clip.mp4"])
    for name, data in victims.lying_videos(secret).items():
        yield Case("video", name, data, "made by hand", (0, 8, 9) if name == "huge.mp4" else (8,))
    deep = b"[" * 200_000
    for kind, name, data, codes in (
        ("record", "deep.json", deep, (8,)),
        ("record", "deep-means.json", b'{"format":1,"means":' + deep, (8,)),
        ("record", "digits.json", b'{"format":' + b"9" * 10_000 + b"}", (8,)),
        ("record", "nan.json", b'{"format":1,"means":NaN}', (8,)),
        ("record", "bytes.json", b"\xff\xfe" * 100, (8,)),
        ("recipe", "deep.toml", b"steps = " + deep, (8,)),
        ("recipe", "deep-table.toml", b"[" + b"a." * 50_000 + b"a]\n", (2, 8)),
        ("recipe", "digits.toml", b"steps = " + b"9" * 10_000, (2, 8)),
        ("recipe", "dim.toml", b"[network]\ndim = 6000000\nheads = 1\n", (2,)),
        ("recipe", "layers.toml", b"[network]\nblocks = 100000000\n", (2,)),
        ("recipe", "window.toml", b"[network]\nwindows = [[100000, 100000], [8, 8]]\n", (2,)),
        ("recipe", "patch.toml", b"patch = 1000000000\n", (2,)),
        ("recipe", "batch.toml", b"batch = 1000000000000\n", (2,)),
        ("recipe", "seed.toml", b"seed = 99999999999999999999999999\n", (2,)),
        ("recipe", "steps.toml", b"steps = 99999999999999999999999999999\n", (2,)),
        ("recipe", "infinite.toml", b"learning_rate = inf\n", (2,)),
        ("recipe", "bytes.toml", b"\xff\xfe\0\0", (8,)),
        ("journal", "deep.jsonl", b'{"a":' + deep + b"\n", (0,)),
        ("journal", "long.jsonl", b'{"a":"' + b"x" * 30_000_000 + b'"}\n', (0,)),
        ("journal", "digits.jsonl", b'{"a":' + b"9" * 100_000 + b"}\n", (0,)),
        ("log", "deep.jsonl", deep + b"\n", (0,)),
        (
            "log",
            "others.jsonl",
            b'[1]\n3\n"x"\nnull\n{"step":"x"}\n{"step":null,"loss":[]}\n\xff\xfe\n',
            (0,),
        ),
    ):
        yield Case(kind, name, data, "made by hand", codes)


def damaged(seed: int, campaign: Campaign, kind: str | None = None) -> Iterator[Case]:
    """Damage drawn at random, without end, of one kind or all; the same for the same seed."""
    random = Random(seed)
    makers = {
        "picture": (_random_picture, 52),
        "head": (_random_head, 8),
        "video": (_random_video, 6),
        "model": (_random_model, 15),
        "checkpoint": (_random_checkpoint, 8),
        "recipe": (_random_recipe, 5),
        "record": (_random_record, 4),
        "log": (_random_log, 2),
        "store": (_random_store, 3),
        "journal": (_random_journal, 3),
        "batch": (_random_batch, 4),
    }
    names, weights = list(makers), [share for _, share in makers.values()]
    for _ in count():
        yield makers[kind or random.choices(names, weights)[0]][0](random, campaign)


def _damage(data: bytes, random: Random, *special: Damage) -> tuple[bytes, str]:
    """Damage data once or twice."""
    names = []
    for _ in range(random.choice((1, 1, 2))):
        damage = random.choice(special) if special and random.random() < 0.5 else random.choice(ANY)
        try:
            data = damage(data, random) if data else data
        except Exception:  # too damaged for a second maker that knows the format
            continue
        names.append(damage.__name__)
    return data, " and ".join(names)


def _random_picture(random: Random, campaign: Campaign) -> Case:
    name = random.choice(sorted(victims.pictures()))
    data = victims.pictures()[name]
    data, damage = _damage(data, random, *([png_with_sums] if name.endswith(".png") else []))
    other = random.choice((".png", ".jpg", ".tif")) if random.random() < 0.05 else Path(name).suffix
    codes = (0, 8) if other not in (".bmp", ".jpg") else (0, 2, 8)  # these hold no transparency
    return Case("picture", Path(name).stem + other, data, f"{name} {damage}", (*codes, 2, 7))


def _random_head(random: Random, campaign: Campaign) -> Case:
    case = _random_picture(random, campaign)
    return replace(case, kind="head", codes=(0, 8))


def _random_video(random: Random, campaign: Campaign) -> Case:
    name = random.choice(sorted(victims.videos()))
    special = [png_with_sums] if name.endswith(".png") else []
    data, damage = _damage(victims.videos()[name], random, *special)
    return Case("video", name, data, f"{name} {damage}", (0, 2, 4, 8, 9))


def _random_model(random: Random, campaign: Campaign) -> Case:
    if random.random() < 0.7:
        data, damage = _damage(victims.tiny_model(), random, safetensors_header)
        return Case("model", "tiny.safetensors", data, damage, (0, 5, 7))
    data, damage = _damage(victims.released_model(), random, zip_with_sums)
    return Case("model", "my.pth", data, damage, (0, 5, 7))


def _random_checkpoint(random: Random, campaign: Campaign) -> Case:
    data, damage = _damage(checkpoint(), random, zip_with_sums)
    return Case("checkpoint", "step-00000001.pt", data, damage, (0, 2, 5, 8))


def _random_recipe(random: Random, campaign: Campaign) -> Case:
    if random.random() < 0.5:
        data, damage = _damage(GOOD_RECIPE, random)
    else:
        lines = GOOD_RECIPE.decode().splitlines()
        at = random.choice([n for n, line in enumerate(lines) if "=" in line])
        values = [
            "-1",
            "0",
            "1e308",
            "10000000000",
            "nan",
            "true",
            '"x"',
            "[]",
            "[[1]]",
            "2024-01-01",
            "{a=1}",
        ]
        lines[at] = f"{lines[at].partition('=')[0]}= {random.choice(values)}"
        data, damage = "\n".join(lines).encode(), lines[at]
    return Case("recipe", "recipe.toml", data, damage, (0, 2, 8), 3 * MEMORY)  # the paper's, where cut


def _random_record(random: Random, campaign: Campaign) -> Case:
    if random.random() < 0.5:
        data, damage = _damage(json.dumps(RECORD).encode(), random)
    else:
        record = json.loads(json.dumps(RECORD))
        change_value(record, random)
        data, damage = json.dumps(record).encode(), "changed value"
    return Case("record", "run.json", data, damage, (0, 2, 8, 9))


def _random_log(random: Random, campaign: Campaign) -> Case:
    checkpoint()
    data, damage = _damage(_made["log"] * 3, random)
    return Case("log", "log.jsonl", data, damage, (0,))


def _random_store(random: Random, campaign: Campaign) -> Case:
    (folder,) = [path for path in store(campaign).iterdir() if path.is_dir()]
    name = random.choice(("index.json", "lr.bin", "hr.bin"))
    data = (folder / name).read_bytes()
    if name == "index.json" and random.random() < 0.5:
        value = json.loads(data)
        change_value(value, random)
        data, damage = json.dumps(value).encode(), "changed value"
    else:
        data, damage = _damage(data, random)
    return Case("store", name, data, damage, (0, 4, 8))


def _random_journal(random: Random, campaign: Campaign) -> Case:
    data, damage = _damage(JOURNAL, random)
    return Case("journal", "journal.jsonl", data, damage, (0,))


def _random_batch(random: Random, campaign: Campaign) -> Case:
    (journal,) = finished_batch(campaign).glob(".emt-batch-*.jsonl")
    if random.random() < 0.4:
        data, damage = _damage(journal.read_bytes(), random)
    else:
        records = [json.loads(line) for line in journal.read_bytes().splitlines()]
        change_value(random.choice(records), random)
        data, damage = b"".join(json.dumps(record).encode() + b"\n" for record in records), "changed value"
    return Case("batch", journal.name, data, damage, (0, 3, 4, 6))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and say what was found; 1 if anything was."""
    parser = argparse.ArgumentParser(description="Damaged files through the emt command line.")
    parser.add_argument("--count", type=int, default=1000, help="files damaged at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", help="only files of this kind")
    parser.add_argument(
        "--keep", type=Path, default=Path("torture"), help="folder for files that broke something"
    )
    options = parser.parse_args(arguments)
    began, codes, slowest, largest = time.perf_counter(), Counter[tuple[str, int]](), 0.0, 0
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="emt-torture-") as name:
        campaign = Campaign(Path(name))
        drawn = damaged(options.seed, campaign, options.kind)
        made = (case for case in lies(campaign.folder) if options.kind in (None, case.kind))
        number = 0
        for number, case in enumerate(chain(made, islice(drawn, options.count)), 1):
            result = campaign.run(case)
            if isinstance(result, Finding):
                findings.append(result)
                _keep(options.keep, number, result)
                print(f"{number}: {case.kind} {case.name} ({case.damage}): {result.what}", flush=True)
                if result.ended is not None:
                    print("    " + "\n    ".join(result.ended.stderr.splitlines()[-4:]), flush=True)
            else:
                codes[case.kind, result.code] += 1
                slowest, largest = max(slowest, result.seconds), max(largest, result.grown)
        if (campaign.folder / "trace").exists():
            print("a malicious file was executed")
            return 1
        campaign.close()
    print(f"{number} damaged files in {time.perf_counter() - began:.0f} s, seed {options.seed}")
    for (kind, code), number in sorted(codes.items()):
        print(f"  {kind:<12}exit code {code}: {number}")
    print(f"slowest {slowest:.1f} s, most memory beyond the start {largest / 2**20:.0f} MB")
    print(f"{len(findings)} broke something" + (f"; kept in {options.keep}/" if findings else ""))
    return 1 if findings else 0


def _keep(folder: Path, number: int, finding: Finding) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number:05}-{finding.case.name}").write_bytes(finding.case.data)


if __name__ == "__main__":
    sys.exit(main())

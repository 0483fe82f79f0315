"""The cases of a fault campaign: files that lie from the first byte on, and damage drawn at random."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from random import Random

import corrupt_files
from campaign_site import Site
from damage import ANY, Damage, change_value, safetensors_header, zip_with_sums
from damage_structures import STRUCTURES

MEMORY = 300 << 20
"""Bytes a damaged file may cost beyond what the process holds, unless it declares millions of pixels."""


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


# Files made by hand

WHOLE = {
    *("other-name", "orientation", "enormous", "negative", "tiny-numbers", "strips", "bomb-behind"),
    *("bomb-profile", "bomb-text", "bomb-nested", "bomb-xmp", "bomb-exif", "many-chunks", "many-bombs"),
    *("long-text", "marker-loop", "icc-parts", "exif-circle", "exif-huge", "deflate-bomb", "rle"),
    *("riff-lies", "flat", "bad-palette", "exif-pointers", "ifd-overlap", "brotli", "colours"),
}
"""Lying pictures that may be read in spite of it."""
OTHERS = b'[1]\n3\n"x"\nnull\n{"step":"x"}\n{"step":null,"loss":[]}\n\xff\xfe\n'
"""Lines of JSON that no log has."""


def lies(folder: Path) -> Iterator[Case]:
    """Return all files made by hand: bombs, liars, malicious programs, which would leave folder/trace."""
    for name, data in corrupt_files.lying_pictures().items():
        codes = (0, 8) if Path(name).stem in WHOLE else (8,)
        # Four bytes a pixel for a decoder that needs the whole picture to find out that it is none.
        memory = MEMORY + 4 * 16384**2 if name == "bomb.webp" else MEMORY
        yield Case("picture", f"lie-{name}", data, "made by hand", codes, memory)
        yield Case("head", f"lie-{name}", data, "made by hand", (0, 8))
    for name, data in corrupt_files.lying_models().items():
        yield Case("model", name, data, "made by hand", (0, 5) if name == "shift.safetensors" else (5,))
    for name, data in corrupt_files.malicious_checkpoints(folder / "trace").items():
        yield Case("model", name, data, "malicious", (5,))
        yield Case("checkpoint", name, data, "malicious", (8,))
    secret = folder / "secret.mp4"
    secret.write_bytes(corrupt_files.videos()["clip.mp4"])
    for name, data in corrupt_files.lying_videos(secret).items():
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
        ("log", "others.jsonl", OTHERS, (0,)),
    ):
        yield Case(kind, name, data, "made by hand", codes)


# Damage drawn at random

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


def damaged(seed: int, site: Site, kind: str | None = None) -> Iterator[Case]:
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
        yield makers[kind or random.choices(names, weights)[0]][0](random, site)


def structures(seed: int, kind: str) -> Iterator[Case]:
    """Return pictures or videos of which a part is damaged, without end; each format equally often."""
    random = Random(seed)
    files = corrupt_files.pictures() if kind == "picture" else corrupt_files.videos()
    codes = (0, 2, 7, 8) if kind == "picture" else (0, 2, 4, 8, 9)
    for _ in count():
        suffix = random.choice(sorted({Path(name).suffix for name in files} & STRUCTURES.keys()))
        name = random.choice(sorted(name for name in files if name.endswith(suffix)))
        damage = STRUCTURES[suffix]
        yield Case(kind, name, damage(files[name], random), f"{name} {damage.__name__}", codes)


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


def _structure(name: str) -> list[Damage]:
    """Return what knows the parts of a file, by its name."""
    return [STRUCTURES[suffix]] if (suffix := Path(name).suffix) in STRUCTURES else []


def _random_picture(random: Random, site: Site) -> Case:
    name = random.choice(sorted(corrupt_files.pictures()))
    data = corrupt_files.pictures()[name]
    data, damage = _damage(data, random, *_structure(name))
    other = random.choice((".png", ".jpg", ".tif")) if random.random() < 0.05 else Path(name).suffix
    codes = (0, 8) if other not in (".bmp", ".jpg") else (0, 2, 8)  # these hold no transparency
    return Case("picture", Path(name).stem + other, data, f"{name} {damage}", (*codes, 2, 7))


def _random_head(random: Random, site: Site) -> Case:
    case = _random_picture(random, site)
    return replace(case, kind="head", codes=(0, 8))


def _random_video(random: Random, site: Site) -> Case:
    name = random.choice(sorted(corrupt_files.videos()))
    data, damage = _damage(corrupt_files.videos()[name], random, *_structure(name))
    return Case("video", name, data, f"{name} {damage}", (0, 2, 4, 8, 9))


def _random_model(random: Random, site: Site) -> Case:
    if random.random() < 0.7:
        data, damage = _damage(corrupt_files.tiny_model(), random, safetensors_header)
        return Case("model", "tiny.safetensors", data, damage, (0, 5, 7))
    data, damage = _damage(corrupt_files.released_model(), random, zip_with_sums)
    return Case("model", "my.pth", data, damage, (0, 5, 7))


def _random_checkpoint(random: Random, site: Site) -> Case:
    data, damage = _damage(site.checkpoint, random, zip_with_sums)
    return Case("checkpoint", "step-00000001.pt", data, damage, (0, 2, 5, 8))


def _random_recipe(random: Random, site: Site) -> Case:
    if random.random() < 0.5:
        data, damage = _damage(GOOD_RECIPE, random)
    else:
        lines = GOOD_RECIPE.decode().splitlines()
        at = random.choice([n for n, line in enumerate(lines) if "=" in line])
        values = ("-1", "0", "1e308", "10000000000", "nan", "true")
        values += ('"x"', "[]", "[[1]]", "2024-01-01", "{a=1}")
        lines[at] = f"{lines[at].partition('=')[0]}= {random.choice(values)}"
        data, damage = "\n".join(lines).encode(), lines[at]
    return Case("recipe", "recipe.toml", data, damage, (0, 2, 8), 3 * MEMORY)  # the paper's, where cut


def _random_record(random: Random, site: Site) -> Case:
    if random.random() < 0.5:
        data, damage = _damage(json.dumps(RECORD).encode(), random)
    else:
        record = json.loads(json.dumps(RECORD))
        change_value(record, random)
        data, damage = json.dumps(record).encode(), "changed value"
    return Case("record", "run.json", data, damage, (0, 2, 8, 9))


def _random_log(random: Random, site: Site) -> Case:
    data, damage = _damage(site.log * 3, random)
    return Case("log", "log.jsonl", data, damage, (0,))


def _random_store(random: Random, site: Site) -> Case:
    (folder,) = [path for path in site.store.iterdir() if path.is_dir()]
    name = random.choice(("index.json", "lr.bin", "hr.bin"))
    data = (folder / name).read_bytes()
    if name == "index.json" and random.random() < 0.5:
        value = json.loads(data)
        change_value(value, random)
        data, damage = json.dumps(value).encode(), "changed value"
    else:
        data, damage = _damage(data, random)
    return Case("store", name, data, damage, (0, 4, 8))


def _random_journal(random: Random, site: Site) -> Case:
    data, damage = _damage(JOURNAL, random)
    return Case("journal", "journal.jsonl", data, damage, (0,))


def _random_batch(random: Random, site: Site) -> Case:
    (journal,) = site.batch.glob(".emt-batch-*.jsonl")
    if random.random() < 0.4:
        data, damage = _damage(journal.read_bytes(), random)
    else:
        records = [json.loads(line) for line in journal.read_bytes().splitlines()]
        change_value(random.choice(records), random)
        data, damage = b"".join(json.dumps(record).encode() + b"\n" for record in records), "changed value"
    return Case("batch", journal.name, data, damage, (0, 3, 4, 6))

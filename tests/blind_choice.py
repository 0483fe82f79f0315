"""Two models' answers in pairs without labels, for people to choose from; and the count of what they chose.

python tests/blind_choice.py sheets ANSWERS OURS OTHER OUT [--seed N]   # of tests/photo_comparison.py
python tests/blind_choice.py count OUT VOTES [VOTES ...]

ANSWERS is the OUT of tests/photo_comparison.py, OURS and OTHER are names of models there. Sheets are
called OUT/01.png and so on: the same crop twice, side by side; which is whose lies in OUT/key.json. A viewer
writes a text file with a line for each sheet, such as "01 left", "02 right" or "03 same".
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHEETS, CROP, GAP = 24, 320, 16
TRIES = 6
"""Places looked at for each crop; the one with the strongest edges is taken: flat walls tell nothing."""


def crop_of(picture: NDArray[np.uint8], rng: np.random.Generator) -> tuple[int, int]:
    """Choose where a crop begins: row and column."""
    height, width = picture.shape[:2]
    side = min(CROP, height, width)
    places = [
        (int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))) for _ in range(TRIES)
    ]

    def strength(place: tuple[int, int]) -> float:
        part = picture[place[0] : place[0] + side, place[1] : place[1] + side]
        return float(np.abs(cv2.Laplacian(part, cv2.CV_64F)).mean())

    return max(places, key=strength)


def make_sheets(answers: Path, ours: str, other: str, out: Path, seed: int) -> None:
    """Write the sheets and their key: each damage in turn, pictures as seed has it."""
    rng = np.random.default_rng(seed)
    damages = sorted(path.name for path in answers.iterdir() if (path / ours).is_dir())
    out.mkdir(parents=True)
    key = {}
    names = {damage: sorted(p.name for p in (answers / damage / ours).glob("*.png")) for damage in damages}
    orders = {damage: rng.permutation(len(names[damage])) for damage in damages}
    for number in range(SHEETS):
        damage = damages[number % len(damages)]
        order = orders[damage]
        name = names[damage][order[number // len(damages) % len(order)]]
        left, right = (ours, other) if rng.random() < 0.5 else (other, ours)
        pictures = [np.asarray(Image.open(answers / damage / model / name)) for model in (left, right)]
        top, start = crop_of(pictures[0] // 2 + pictures[1] // 2, rng)
        parts = [picture[top : top + CROP, start : start + CROP] for picture in pictures]
        gap = np.full((len(parts[0]), GAP, 3), 255, np.uint8)
        sheet = np.concatenate([parts[0], gap, parts[1]], axis=1)
        Image.fromarray(sheet.repeat(2, 0).repeat(2, 1)).save(out / f"{number + 1:02}.png")
        key[f"{number + 1:02}"] = {"left": left, "right": right, "damage": damage, "picture": name}
    (out / "key.json").write_text(json.dumps(key, indent=1))


def count(out: Path, votes: list[Path]) -> None:
    """Print how often each model was chosen, by damage and in all."""
    key = json.loads((out / "key.json").read_text())
    chosen: dict[str, Counter[str]] = {}
    for path in votes:
        seen = set()
        for line in path.read_text().split("\n"):
            if not line.strip():
                continue
            number, side = line.split()[:2]
            if number in seen or side not in ("left", "right", "same"):
                raise SystemExit(f"{path}: '{line}': write each sheet once, as left, right or same")
            seen.add(number)
            for group in ("in all", key[number]["damage"]):
                chosen.setdefault(group, Counter())[key[number].get(side, "same")] += 1
        if seen != key.keys():
            raise SystemExit(f"{path}: has no vote on {', '.join(sorted(key.keys() - seen))}")
    for group, counter in sorted(chosen.items()):
        print(f"{group}: " + ", ".join(f"{name} {votes}" for name, votes in counter.most_common()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    sheets = commands.add_parser("sheets")
    sheets.add_argument("answers", type=Path)
    sheets.add_argument("ours")
    sheets.add_argument("other")
    sheets.add_argument("out", type=Path)
    sheets.add_argument("--seed", type=int, default=1)
    counted = commands.add_parser("count")
    counted.add_argument("out", type=Path)
    counted.add_argument("votes", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "sheets":
        make_sheets(options.answers, options.ours, options.other, options.out, options.seed)
    else:
        count(options.out, options.votes)


if __name__ == "__main__":
    main()

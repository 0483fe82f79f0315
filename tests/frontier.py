"""PSNR against speed of emt's models on this machine, beside other networks: a table and a plot.

python tests/frontier.py SET5 [emt emt-lite ...] [--plot samples/frontier.png]

SET5: the folder of the set. The other networks were measured once, on two cores of an AMD EPYC (Zen 5,
AVX-512), x4, 512x512, on OpenVINO in fp32 or, where that is faster, torch; their figures are those of that
machine, whatever this one is. Leave the machine alone while it runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Point:
    """One network."""

    name: str
    psnr: float
    """dB on the luma of Set5 x4."""
    speed: float
    """Thousand input pixels a second at 512x512."""
    ours: bool = False


OTHERS = [
    Point("HAESR", 32.47, 67),
    Point("BSRN", 32.35, 240),
    Point("IMDN", 32.20, 260),
    Point("BSRN-S", 32.00, 265),
    Point("RLFN", 32.24, 321),
    Point("RLFN-S", 32.25, 426),
    Point("SAFMN", 32.16, 474),
    Point("SAFMN++", 32.01, 593),
    Point("EFDN", 32.08, 594),
    Point("RLFN (NTIRE22)", 32.10, 600),
    Point("PlainUSR-L", 32.25, 146),
    Point("ESRNet (NTIRE25)", 31.75, 883),
    Point("SPAN-28", 31.73, 938),
    Point("ESPAN", 31.94, 973),
    Point("SPANF", 31.77, 1183),
    Point("PDS", 31.76, 1187),
    Point("PlainUSR-U", 30.77, 2366),
]


def benchmark(*words: str) -> dict[str, Any]:
    """Return what `emt benchmark` prints with --json."""
    command = [sys.executable, "-m", "emt_cli", "benchmark", "--json", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(models: list[str], set5: Path) -> list[Point]:
    """Return a point for each model and precision."""
    chosen = [word for model in models for word in ("--model", model)]
    quality = benchmark("--set", str(set5), *chosen)["means"]
    psnr = {mean["method"]: mean["psnr"] for mean in quality}
    speeds = benchmark("--speed", "--size", "512x512", "--precision", "fp32,bf16", *chosen)["speeds"]
    return [
        Point(
            f"{Path(speed['model']).stem} {speed['precision']}",
            psnr[Path(speed["model"]).stem],
            speed["pixels_per_second"] / 1000,
            ours=True,
        )
        for speed in speeds
    ]


def show(points: list[Point]) -> None:
    """Print the table, the best first; whatever none surpasses in both is marked."""
    print("| network | Set5 x4 | thousand px/s | on the frontier |\n|---|---|---|---|")
    for point in sorted(points, key=lambda point: -point.psnr):
        beaten = any(
            other.psnr >= point.psnr and other.speed >= point.speed and other is not point for other in points
        )
        name = f"**{point.name}**" if point.ours else point.name
        print(f"| {name} | {point.psnr:.2f} dB | {point.speed:,.0f} | {'' if beaten else 'yes'} |")


def draw(points: list[Point], path: Path) -> None:
    """Draw speed, logarithmic, against PSNR."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for ours, marker, colour in ((False, "o", "#888888"), (True, "D", "#0072b2")):
        group = sorted((point for point in points if point.ours is ours), key=lambda point: -point.psnr)
        axes.scatter([p.speed for p in group], [p.psnr for p in group], marker=marker, color=colour, zorder=3)
        for index, point in enumerate(group):
            close = [p for p in group[:index] if abs(p.psnr - point.psnr) < 0.08]
            above = not ours and not any(0.8 < p.speed / point.speed < 1.25 for p in close)
            left = point.name.endswith("fp32")  # whose neighbour on the right is bf16
            axes.annotate(
                point.name,
                (point.speed, point.psnr),
                (0, 5) if above else (-7 if left else 7, -3),
                textcoords="offset points",
                ha="center" if above else "right" if left else "left",
                fontsize=9 if ours else 7,
                color=colour if ours else "#444444",
                weight="bold" if ours else "normal",
            )
    axes.set(xscale="log", xlabel="thousand input pixels a second (two cores)", ylabel="PSNR, Set5 x4, dB")
    axes.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set5", type=Path)
    parser.add_argument("models", nargs="*", default=["emt", "emt-lite"])
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    points = OTHERS + measure(options.models, options.set5)
    show(points)
    if options.plot:
        draw(points, options.plot)


if __name__ == "__main__":
    main()

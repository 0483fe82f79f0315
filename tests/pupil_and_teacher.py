"""How near a pupil comes to its teacher, and how much faster it is.

    python tests/pupil_and_teacher.py TEACHER PUPIL FOLDER

Of each picture of the folder the middle 256x256 pixels are reduced to a quarter; both networks enlarge them.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from emt_cli.engine.upscaler import Upscaler
from emt_cli.media.metrics import luma, psnr
from emt_cli.media.picture.io import read_picture
from emt_cli.media.resize import resize_bytes
from emt_cli.media.samples import convert

SIDE = 256


def main(teacher: str, pupil: str, folder: Path) -> None:
    upscalers = [Upscaler.from_model(model, 4) for model in (teacher, pupil)]
    near, seconds = [], [0.0, 0.0]
    for path in sorted(folder.iterdir()):
        pixels = np.asarray(convert(read_picture(path).pixels, "uint8"), np.uint8)
        top, left = ((side - SIDE) // 2 for side in pixels.shape[:2])
        small = resize_bytes(pixels[top : top + SIDE, left : left + SIDE], SIDE // 4, SIDE // 4)
        answers = []
        for index, upscaler in enumerate(upscalers):
            if not near:
                upscaler.upscale(small)  # what is compiled, is compiled here
            start = time.perf_counter()
            answers.append(np.asarray(upscaler.upscale(small)))
            seconds[index] += time.perf_counter() - start
        near.append(psnr(luma(answers[0]), luma(answers[1])))
    rates = [len(near) * (SIDE // 4) ** 2 / taken / 1000 for taken in seconds]
    print(f"{len(near)} parts: {np.mean(near):.2f} dB between them, {min(near):.2f} at least (luma)")
    print(f"thousand input pixels a second: {rates[0]:.1f} and {rates[1]:.1f}, x{rates[1] / rates[0]:.0f}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))

"""Write a trained model as it is bundled: half the bits, and described by a file of its own.

python tests/pack_weights.py DESCRIPTION BUNDLED TRAINED [TRAINED ...] [--faithful MODEL]

The description's keys (name, licence, sources, scores, sharpness and so on) replace those that training
wrote. Of several files, kept at several steps or stages, the mean is taken (arXiv 2203.05482); the last
one's header counts. Faithful weights, those of sharpness 0, are MODEL's. Matrices of MLPs and projections
are rounded to bf16, which kernels of bf16 do anyway: so these and others multiply the same numbers, and
agree by 3 dB more.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import safe_open

from emt_cli.engine.bf16 import round_bf16
from emt_cli.engine.weights import FAITHFUL, load_weights

MULTIPLIED = ("mlp.fc1.weight", "mlp.fc2.weight", "mixer.proj.weight")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("description", type=Path)
    parser.add_argument("bundled", type=Path)
    parser.add_argument("trained", type=Path, nargs="+")
    parser.add_argument("--faithful", type=Path, help="bundled model with weights of sharpness 0 to keep")
    options = parser.parse_args()
    files = [safetensors.numpy.load_file(path) for path in options.trained]
    with safe_open(options.trained[-1], "numpy") as file:
        header = json.loads(file.metadata()["emt"])
    halves = {name: value for name, value in files[0].items() if not name.startswith(FAITHFUL)}
    for name in [name for name, value in halves.items() if value.dtype.kind == "f"]:
        mean = np.mean([tensors[name] for tensors in files], axis=0, dtype=np.float64).astype(np.float32)
        halves[name] = (round_bf16(mean) if name.endswith(MULTIPLIED) else mean).astype(np.float16)
    if options.faithful:
        kept = safetensors.numpy.load_file(options.faithful)
        halves |= {name: value for name, value in kept.items() if name.startswith(FAITHFUL)}
    header["metadata"] |= json.loads(options.description.read_text(encoding="utf-8"))
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    safetensors.numpy.save_file(halves, options.bundled, metadata={"emt": text})
    print(
        f"{options.bundled}: {options.bundled.stat().st_size:,} bytes, {load_weights(options.bundled).sha256}"
    )


if __name__ == "__main__":
    main()

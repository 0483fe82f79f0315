"""Write a trained model as it is bundled: half the bits, and described by a file of its own.

python tests/pack_weights.py runs/photo/best.safetensors weights/recipes/emt-photo-x4.json weights/emt-photo-x4.safetensors

The description's keys (name, licence, sources, scores, sharpness and so on) replace those that training wrote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import safe_open

from emt_cli.engine.weights import load_weights


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("trained", "description", "bundled"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    with safe_open(options.trained, "numpy") as file:
        header = json.loads(file.metadata()["emt"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    halves = {
        name: value.astype(np.float16) if value.dtype == np.float32 else value
        for name, value in tensors.items()
    }
    header["metadata"] |= json.loads(options.description.read_text(encoding="utf-8"))
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    safetensors.numpy.save_file(halves, options.bundled, metadata={"emt": text})
    print(f"{options.bundled}: {options.bundled.stat().st_size:,} bytes, {load_weights(options.bundled).sha256}")


if __name__ == "__main__":
    main()

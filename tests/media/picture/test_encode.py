"""What encoders take, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from emt_cli.media.picture.encode import ENCODER_BYTES
from emt_cli.media.picture.formats import missing_extra

CODE = """
import sys
from pathlib import Path
import numpy as np
from emt_cli.media.picture.io import Picture, write_picture

def peak(reset=False):
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024

target = Path(sys.argv[1])
y, x = np.mgrid[:1200, :1500]
noise = np.random.default_rng(0).integers(0, 20, (1200, 1500, 3))
pixels = (np.stack([x * 9 + y, x * y // 50, x + y], axis=2) % 230 + noise).astype(np.uint8)
write_picture(target, Picture(pixels[:64, :64].copy()))
before = peak(reset=True)
write_picture(target, Picture(pixels), overwrite=True)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of memory")
@pytest.mark.parametrize("format", ["png", "bmp", "tiff", *ENCODER_BYTES])
def test_encoders_take_no_more_than_is_planned(tmp_path: Path, format: str) -> None:
    if missing_extra(format):  # type: ignore[arg-type]
        pytest.skip("its package is not installed")

    line = [sys.executable, "-c", CODE, str(tmp_path / f"a.{format}")]
    taken = int(subprocess.run(line, capture_output=True, check=True).stdout)

    planned = (3 + ENCODER_BYTES.get(format, 4)) * 1200 * 1500  # type: ignore[call-overload]
    assert taken < 1.1 * planned + 16_000_000

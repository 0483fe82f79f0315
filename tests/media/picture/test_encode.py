"""What encoders take, in a process of their own, and what they write."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from own_peak import needs_account, run_code
from PIL import Image

from emt_cli.media.picture.encode import ENCODER_BYTES, encoder_bytes
from emt_cli.media.picture.formats import missing_extra
from emt_cli.media.picture.io import Picture, write_picture

CODE = """
import sys
from pathlib import Path
import numpy as np
from emt_cli.media.picture.io import Picture, write_picture
from own_peak import own_peak

target = Path(sys.argv[1])
y, x = np.mgrid[:1200, :1500]
noise = np.random.default_rng(0).integers(0, 20, (1200, 1500, 3))
pixels = (np.stack([x * 9 + y, x * y // 50, x + y], axis=2) % 230 + noise).astype(np.uint8)
write_picture(target, Picture(pixels[:64, :64].copy()))
before = own_peak(reset=True)
write_picture(target, Picture(pixels), overwrite=True)
print(own_peak() - before)
"""


@pytest.mark.slow
@needs_account
@pytest.mark.parametrize("format", ["png", "bmp", "tiff", "jpeg", *ENCODER_BYTES])
def test_encoders_take_no_more_than_is_planned(tmp_path: Path, format: str) -> None:
    if missing_extra(format):  # type: ignore[arg-type]
        pytest.skip("its package is not installed")

    result = run_code(CODE, str(tmp_path / f"a.{format}"))

    planned = encoder_bytes(format, 1200 * 1500, 1)  # type: ignore[arg-type]
    assert int(result.stdout) < 1.1 * planned + 16_000_000


@pytest.mark.parametrize(("quality", "gray"), [(95, False), (85, False), (10, False), (95, True), (60, True)])
def test_a_jpeg_written_in_strips_shows_what_one_written_at_once_does(
    tmp_path: Path, quality: int, gray: bool
) -> None:
    y, x = np.mgrid[:777, :1003]
    noise = np.random.default_rng(0).integers(0, 20, (777, 1003))
    planes = [(a * x + b * y) // 8 % 230 + noise for a, b in ((3, 1), (1, 2), (2, 5))]
    pixels = np.stack(planes[:1] * 3 if gray else planes, axis=2).astype(np.uint8)

    write_picture(tmp_path / "strips.jpg", Picture(pixels, gray=gray), quality=quality)

    whole = Image.fromarray(pixels[..., 0] if gray else pixels)
    subsampling = "4:4:4" if quality >= 90 else "4:2:0"
    whole.save(tmp_path / "whole.jpg", quality=quality, subsampling=subsampling)
    for read in (lambda path: np.asarray(Image.open(path)), lambda path: cv2.imread(str(path), -1)):
        np.testing.assert_array_equal(read(tmp_path / "strips.jpg"), read(tmp_path / "whole.jpg"))
    assert (b"\xff\xdd\x00\x04" in (tmp_path / "strips.jpg").read_bytes()) == (not gray)

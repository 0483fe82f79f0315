"""On a CPU nothing needs torch: pictures, batches and videos are enlarged without importing it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
from clips import clip
from PIL import Image

PROGRAM = """
import sys
from emt_cli.cli import main
sys.argv = ["emt", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {"torch", "einops", "requests", "matplotlib", *UNUSED} & set(sys.modules)
assert not heavy, heavy
"""
NOT_FOR_PICTURES = {"cv2", "av", "tifffile", "imagecodecs", "rich.progress"}
"""What the usual pictures do without, where no bar is drawn."""


def run(*arguments: str | Path, unused: Collection[str] = ()) -> None:
    command = [sys.executable, "-c", f"UNUSED = {set(unused)!r}{PROGRAM}", *map(str, arguments)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_is_enlarged_without_opencv_and_libraries_for_video(
    tmp_path: Path, photo: np.ndarray, suffix: str
) -> None:
    Image.fromarray(photo).save(tmp_path / f"photo{suffix}")

    run("upscale", tmp_path / f"photo{suffix}", "--model", "emt-lite", unused=NOT_FOR_PICTURES)

    assert Image.open(tmp_path / f"photo_x4{suffix}").size == (480, 384)


@pytest.fixture
def picture(tmp_path: Path, photo: np.ndarray) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    return path


def test_a_picture_is_enlarged_without_torch(picture: Path) -> None:
    run("upscale", picture, "--model", "emt-lite", "--device", "auto")

    assert Image.open(picture.with_name("photo_x4.png")).size == (480, 384)


def test_a_batch_is_enlarged_without_torch(picture: Path, tmp_path: Path) -> None:
    run("batch", picture.parent, "-o", tmp_path / "out", "--model", "emt-lite", "--scale", "2")

    (written,) = (tmp_path / "out").glob("*.png")
    assert Image.open(written).size == (240, 192)


def test_a_video_is_enlarged_without_torch(tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mp4")

    run("video", source, "--model", "emt-lite", "--scale", "2")

    assert (tmp_path / "clip_x2.mp4").stat().st_size > 0


def test_importing_the_library_changes_nothing_of_its_host() -> None:
    program = """
import signal, sys, warnings
import av, cv2, numpy
from PIL import Image
before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), list(warnings.filters))
limit = Image.MAX_IMAGE_PIXELS
from emt_cli import Session, Upscaler
from emt_cli.media.picture import io
from emt_cli.media.video import probe
assert Image.MAX_IMAGE_PIXELS == limit
assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), list(warnings.filters)) == before
assert "torch" not in sys.modules
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stderr


def test_a_network_of_others_that_openvino_has_compiled_runs_without_torch(
    picture: Path, tmp_path: Path, photo: np.ndarray
) -> None:
    pytest.importorskip("openvino")
    networks = pytest.importorskip("community_networks", reason="needs spandrel")
    import torch

    torch.save(networks.make("Compact", photo), tmp_path / "net.pth")
    command = ["upscale", picture, "--model", tmp_path / "net.pth"]
    first = [sys.executable, "-m", "emt_cli", *map(str, command)]
    assert subprocess.run(first, capture_output=True, check=False).returncode == 0

    run(*command, "-y")

    assert Image.open(picture.with_name("photo_x2.png")).size == (240, 192)

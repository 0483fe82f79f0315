"""Under the limits of memory of containers and shells, work finishes or is refused, not killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import clips
import numpy as np
import pytest
from PIL import Image

GROUPS = Path("/sys/fs/cgroup")
EMT = [sys.executable, "-m", "emt_cli", "upscale", "--model", "emt-lite", "-y"]
DONE, REFUSED = 0, 7

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them"),
]


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of its own, of either version; skipped where none can be made."""
    name = f"emt-test-{os.getpid()}"
    for parent in (GROUPS / "memory", GROUPS):
        folder = parent / name
        with contextlib.suppress(OSError):
            folder.mkdir()
            if (folder / "memory.limit_in_bytes").exists() or (folder / "memory.max").exists():
                try:
                    yield folder
                finally:
                    _remove(folder)
                return
            folder.rmdir()
    pytest.skip("no control groups can be made here")


def _remove(folder: Path) -> None:
    for _ in range(50):
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)


def inside(group: Path, megabytes: int) -> Callable[[], None]:
    """Limit a group, and return what puts a process into it; swap does not count as memory."""
    old = group / "memory.limit_in_bytes"
    limit = old if old.exists() else group / "memory.max"
    if old.exists():
        limit.write_text("-1")
    limit.write_text(str(megabytes * 1_000_000))
    with contextlib.suppress(OSError):
        (group / "memory.swap.max").write_text("0")
    return lambda: (group / "cgroup.procs").write_text(str(os.getpid())) and None


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[float], Path]:
    """Write a JPEG of so many megapixels, 4:3, with some grain."""

    def write(megapixels: float) -> Path:
        height = int((megapixels * 750_000) ** 0.5)
        grain = np.random.default_rng(0).integers(90, 150, (height, height * 4 // 3, 3), dtype=np.uint8)
        path = tmp_path / f"{megapixels:g}.jpg"
        Image.fromarray(grain).save(path)
        return path

    return write


def upscale(path: Path, before: Callable[[], None], *options: str) -> subprocess.CompletedProcess[str]:
    target = str(path.with_name("large.jpg"))
    command = [*EMT, str(path), "-o", target, *options]
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=before)


@pytest.mark.parametrize(
    ("limit", "megapixels", "expected"),
    [
        (300, 0.1, DONE),
        (300, 1, DONE),
        (300, 4, REFUSED),
        (450, 2, DONE),
        (600, 3, DONE),
        (600, 12, REFUSED),
        (1100, 12, DONE),
    ],
)
def test_in_a_container_a_picture_finishes_or_is_refused(
    group: Path,
    picture: Callable[[float], Path],
    limit: int,
    megapixels: float,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = picture(megapixels)

    result = upscale(path, inside(group, limit))

    assert result.returncode == expected, result.stderr
    if expected == REFUSED:
        assert "MB are free" in result.stderr
    else:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        large = Image.open(path.with_name("large.jpg"))
        assert large.size == tuple(4 * side for side in Image.open(path).size)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("limit", [500, 800])
def test_other_engines_are_not_killed_either(
    group: Path, picture: Callable[[float], Path], engine: str, limit: int
) -> None:
    result = upscale(picture(1), inside(group, limit), "--engine", engine, "--scale", "2")

    assert result.returncode in (DONE, REFUSED), result.stderr


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_in_a_container_a_video_finishes_or_is_refused(group: Path, tmp_path: Path, codec: str) -> None:
    clip = clips.clip(tmp_path / "clip.mp4", size="320x240", seconds=1, audio=True)
    codes = []

    for limit in (350, 600, 1100):
        command = [*EMT[:3], "video", "--model", "emt-lite", "-y", "--codec", codec]
        line = [*command, str(clip), "-o", str(tmp_path / "large.mkv")]
        done = subprocess.run(line, capture_output=True, text=True, preexec_fn=inside(group, limit))
        codes.append(done.returncode)
        assert done.returncode in (DONE, REFUSED), (limit, done.stderr)

    assert codes[0] == REFUSED
    assert codes[-1] == DONE
    assert clips.times(tmp_path / "large.mkv") == clips.times(clip)


def test_pages_of_files_written_before_do_not_stand_in_the_way(
    group: Path, picture: Callable[[float], Path], tmp_path: Path
) -> None:
    enter = inside(group, 400)

    fill = "for _ in range(600): f.write(bytes(10**6))"
    code = f"f = open({str(tmp_path / 'others')!r}, 'wb')\n{fill}"
    subprocess.run([sys.executable, "-c", code], check=True, preexec_fn=enter)

    result = upscale(picture(0.25), enter)

    assert result.returncode == DONE, result.stderr


@pytest.mark.parametrize("limit", [300, 450, 600, 800, 1000, 1500])
def test_under_ulimit_a_picture_finishes_or_is_refused(picture: Callable[[float], Path], limit: int) -> None:
    resource = pytest.importorskip("resource")
    path = picture(0.5)

    result = upscale(path, lambda: resource.setrlimit(resource.RLIMIT_AS, (limit * 10**6, limit * 10**6)))

    assert result.returncode in (DONE, REFUSED), result.stderr
    assert result.returncode == DONE or limit < 1500
    assert result.stderr.count("\n") == 1 or result.returncode == DONE

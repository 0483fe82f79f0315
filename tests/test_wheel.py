"""The built wheel, alone in an empty environment, upscales a picture from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.mark.wheel
def test_the_wheel_alone_upscales_a_picture_from_another_folder(tmp_path: Path) -> None:
    run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(REPOSITORY)
    )
    (wheel,) = tmp_path.glob("*.whl")
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    torch = next(
        line
        for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
        if line.startswith("torch==")
    )
    pip = (str(scripts / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, torch)
    run(*pip, "-c", str(REPOSITORY / "constraints.txt"), str(wheel))
    work = tmp_path / "elsewhere"
    work.mkdir()
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(work / "small.png")

    answer = run(str(scripts / "emt"), "upscale", "small.png", "--model", "emt-lite", cwd=work)

    assert answer.strip() == "small_x4.png"
    with Image.open(work / "small_x4.png") as large:
        assert large.size == (96, 64)
    names = zipfile.ZipFile(wheel).namelist()
    assert "emt_cli/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "samples"))]


def run(*command: str, cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

"""Memory that runs out, and numbers that are none, at each place where they can: one line, no half result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import corrupt_files
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from emt_cli.cli import app
from emt_cli.engine.tiling import Place
from emt_cli.engine.torch.runner import TorchRunner
from emt_cli.errors import DeviceError
from emt_cli.jobs.memory import enough_memory

FAILURES = {
    "numpy": MemoryError("Unable to allocate 4.47 GiB for an array"),
    "torch": RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "opencv": cv2.error("OpenCV(5) (-4:Insufficient memory) Failed to allocate 4000000000 bytes"),
    "system": OSError(12, "Cannot allocate memory"),
}
PLACES = (
    "emt_cli.media.picture.io.decode",
    "emt_cli.jobs.picture.enlarge.bleed_alpha",
    "emt_cli.jobs.picture.enlarge.resize",
    "emt_cli.jobs.picture.job.compare_with_bicubic",
    "emt_cli.jobs.picture.job.write_picture",
)


@pytest.fixture
def work(tmp_path: Path, photo: np.ndarray, ramp: np.ndarray) -> Path:
    (tmp_path / "tiny.safetensors").write_bytes(corrupt_files.tiny_model())
    Image.fromarray(np.dstack([photo, ramp])[:40, :60]).save(tmp_path / "photo.png")
    Image.fromarray(photo[:40, :60]).save(tmp_path / "other.png")
    return tmp_path


def upscale(work: Path, *names: str) -> Result:
    options = ["--model", str(work / "tiny.safetensors"), "--scale", "1.5", "--compare", "-o", f"{work}/out/"]
    options += ["--engine", "torch"]
    return CliRunner().invoke(app, ["upscale", *(str(work / name) for name in names), *options])


def failing_once(failure: BaseException, work: Callable[..., object]) -> Callable[..., object]:
    """Fail the first time; then work as ever."""
    calls: list[int] = []

    def call(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise failure
        return work(*arguments, **options)

    return call


def results(work: Path) -> list[str]:
    return sorted(path.name for path in (work / "out").glob("*"))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", FAILURES)
def test_memory_that_runs_out_anywhere_fails_one_picture_in_one_line(
    work: Path, place: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _, name = place.rpartition(".")
    original = getattr(pytest.importorskip(home), name)
    monkeypatch.setattr(place, failing_once(FAILURES[kind], original))

    result = upscale(work, "photo.png", "other.png")

    assert result.exit_code == 3, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("emt: error: ")]
    told = "needs more memory than is free; choose a smaller --scale or --tile, or close other programs"
    assert errors == [f"emt: error: {work / 'photo.png'}: {told}"]
    assert results(work) == ["other_x1.5.png", "other_x1.5_compare.png"]


@pytest.mark.parametrize(("home", "name"), [(TorchRunner, "steps"), (Place, "add")])
def test_memory_that_runs_out_in_a_tile_makes_the_tiles_smaller(
    work: Path, monkeypatch: pytest.MonkeyPatch, home: type, name: str
) -> None:
    whole = upscale(work, "other.png")
    expected = np.array(Image.open(work / "out" / "other_x1.5.png"))
    monkeypatch.setattr(home, name, failing_once(FAILURES["torch"], getattr(home, name)))
    (work / "out" / "other_x1.5.png").unlink()
    (work / "out" / "other_x1.5_compare.png").unlink()

    result = upscale(work, "other.png")

    assert whole.exit_code == result.exit_code == 0, result.output
    again = np.array(Image.open(work / "out" / "other_x1.5.png")).astype(int)
    assert np.abs(again - expected).mean() < 2


def test_numbers_that_are_none_are_told_and_leave_nothing(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> object:
        raise FloatingPointError("the network's answer is not finite, even in single precision")
        yield

    monkeypatch.setattr(TorchRunner, "steps", broken)

    result = upscale(work, "other.png")

    assert result.exit_code == 7
    assert "other.png: cpu: the network's answer is not finite" in result.stderr
    assert results(work) == []


def test_other_failures_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), enough_memory("x"):
        raise ZeroDivisionError
    with pytest.raises(DeviceError, match="tiles of 32"), enough_memory("x"):
        raise DeviceError("cpu: out of memory even with tiles of 32 pixels")


@pytest.mark.parametrize(
    "command", [["train", "--data", "d", "--out", "o"], ["explain", "p.png", "--at", "1,1"]]
)
def test_commands_without_pictures_to_lose_say_it_too(
    command: list[str], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> object:
        raise FAILURES["torch"]

    monkeypatch.setattr("emt_cli.training.recipe.make_config", full)
    monkeypatch.setattr("emt_cli.media.picture.io.read_picture", full)

    result = CliRunner().invoke(app, command)

    assert result.exit_code == 7
    assert result.stderr == "emt: error: not enough memory; choose smaller sizes, or close other programs\n"

"""`emt photo.jpg` and its kind: the command that is meant where none is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from emt_cli.cli import app
from emt_cli.commands.implied import implied_command
from emt_cli.errors import UsageError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: photo.png, still.gif, moving.gif, clip.mp4 and photos/ with two pictures."""
    monkeypatch.chdir(tmp_path)
    frames = [Image.fromarray(np.full((8, 8, 3), shade, np.uint8)) for shade in (0, 99)]
    Path("photos").mkdir()
    for name in ("photo.png", "photos/a.png", "photos/b.png"):
        frames[1].save(name)
    frames[0].save("still.gif")
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:], duration=100)
    Path("clip.mp4").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["photo.png"], "upscale"),
        (["photo.png", "--scale", "2"], "upscale"),
        (["missing.jpg"], "upscale"),
        (["photo.png", "still.gif"], "upscale"),
        (["moving.gif"], "video"),
        (["clip.mp4", "-o", "large.mp4"], "video"),
        (["CLIP.MOV"], "video"),
        (["photos"], "batch"),
        (["photo.png", "photos/"], "batch"),
        (["photos/*.png"], "batch"),
        (["missing/"], "batch"),
        (["--scale", "2", "photo.png"], "upscale"),
        (["-o", "large.mp4", "clip.mp4"], "video"),
        (["--scale", "2", "missing.png"], None),
        (["upscal"], None),
        ([], None),
    ],
)
def test_what_is_given_tells_the_command(here: Path, words: list[str], command: str | None):
    assert implied_command(words) == command


def run(*words: str) -> list[str]:
    result = CliRunner().invoke(app, [*words, "--model", "emt-lite"])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_a_picture_alone_is_enlarged(here: Path):
    assert run("photo.png") == ["photo_x4.png"]
    assert Image.open("photo_x4.png").size == (32, 32)


def test_a_folder_alone_is_a_batch_with_its_results_beside_it(here: Path):
    assert sorted(run("photos", "--scale", "2")) == ["photos_x2/a_x2.png", "photos_x2/b_x2.png"]
    assert sorted(path.name for path in here.glob("photos/*")) == ["a.png", "b.png"]


def test_the_current_folder_is_a_batch_too(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(here / "photos")

    events = [json.loads(line) for line in run(".", "--long-side", "16", "--json")]

    assert {Path(event["output"]).parent for event in events if event["event"] == "done"} == {
        here / "photos_large"
    }


def test_a_name_that_is_nothing_stays_an_unknown_command(here: Path):
    result = CliRunner().invoke(app, ["upscal", "photo.png"])

    assert result.exit_code == 2
    assert "No such command 'upscal'" in result.stderr


def test_options_may_come_first(here: Path):
    assert run("-s", "2", "photo.png") == ["photo_x2.png"]
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("emt ")


def test_several_videos_are_refused_in_one_line(here: Path):
    result = CliRunner().invoke(app, ["clip.mp4", "moving.gif"])

    assert isinstance(result.exception, UsageError)
    assert "one file at a time" in str(result.exception)


def test_a_folder_that_is_missing_is_named(here: Path):
    result = CliRunner().invoke(app, ["missing/"])

    assert (result.exit_code, result.stderr) == (8, "emt: error: missing/: does not exist; check the path\n")

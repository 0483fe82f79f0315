"""emt.toml: one's own defaults and presets, checked, said, and beaten by flags."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from emt_cli.cli import app


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own file, with the bundled model; the current folder is another, with photo.png."""
    own = tmp_path / "own.toml"
    own.write_text('[defaults]\nmodel = "emt-lite"\n')
    monkeypatch.setenv("EMT_CONFIG", str(own))
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "tree" / "deep")
    Image.fromarray(np.full((8, 12, 3), 99, np.uint8)).save("photo.png")
    return own


@pytest.fixture
def tree(own: Path) -> Path:
    """Where a file of the folder tree lies: above the current folder."""
    return Path.cwd().parent / "emt.toml"


def emt(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def made(*words: str) -> tuple[str, tuple[int, int]]:
    """Name and size of the only result."""
    result = emt("upscale", "photo.png", *words)
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    return line, Image.open(line).size


def test_a_default_is_in_force_without_its_flag(own: Path):
    own.write_text('[upscale]\nmodel = "emt-lite"\nscale = 2\nformat = "webp"\n')

    assert made() == ("photo_x2.webp", (24, 16))


def test_a_flag_wins_and_puts_what_it_excludes_out_of_force(own: Path):
    own.write_text('[defaults]\nmodel = "emt-lite"\nlong-side = 36\n')

    assert made() == ("photo_36x24.png", (36, 24))
    assert made("--scale", "3") == ("photo_x3.png", (36, 24))


def test_the_file_of_the_folder_tree_wins_over_the_users_and_is_named(own: Path, tree: Path):
    own.write_text('[upscale]\nmodel = "emt-lite"\nscale = 2\nsuffix = "_own"\n')
    tree.write_text("[defaults]\nwidth = 30\n")

    result = emt("upscale", "photo.png")

    assert result.stdout.splitlines() == ["photo_own.png"]
    assert Image.open("photo_own.png").size == (30, 20)
    assert f"with the defaults of {tree}" in result.stderr
    assert str(tree) not in emt("upscale", "photo.png", "-q", "-y").stderr


def test_a_preset_is_put_in_front_of_the_defaults(own: Path):
    own.write_text(
        '[defaults]\nmodel = "emt-lite"\nlong-side = 36\n'
        '[presets.web]\nscale = 2\nformat = "webp"\ncrf = 20\n'
    )

    assert made("--use", "web") == ("photo_x2.webp", (24, 16))
    assert made("--use", "web", "--scale", "3") == ("photo_x3.webp", (36, 24))
    assert made() == ("photo_36x24.png", (36, 24))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[upscale]\nqualty = 3\n", "[upscale] qualty: no such option; did you mean quality?"),
        ("[upscal]\nquality = 3\n", "[upscal] is no command; did you mean upscale?"),
        ("[upscale]\ncrf = 3\n", "[upscale] crf: no such option"),
        ("[upscale]\nquality = 300\n", "[upscale] quality = 300: "),
        ('[upscale]\nformat = "gif"\n', "[upscale] format = 'gif': "),
        ("[upscale]\ntta = 1\n", "[upscale] tta takes true or false"),
        ("[upscale]\nscale = true\n", "[upscale] scale takes a value"),
        ("model = 3\n", "[model] is no command"),
        ("upscale = 3\n", "upscale is a table: write [upscale]"),
        ("presets = 3\n", "presets is a table of tables"),
        ("[upscale\n", "not TOML"),
        ("[presets.web]\nwith = 3\n", "[presets.web] with: no such option; did you mean width?"),
    ],
)
def test_mistakes_are_one_line_with_file_table_and_key(own: Path, text: str, said: str):
    own.write_text(text)

    result = emt("upscale", "photo.png")

    assert result.exit_code == 2
    assert f"{own}: " in result.stderr
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("line", ["overwrite = true", 'ray = "far.example:1"', "max-pixels = 9"])
def test_a_folder_cannot_set_what_replaces_reaches_out_or_lifts_limits(own: Path, tree: Path, line: str):
    tree.write_text(f"[batch]\n{line}\n")

    result = emt("upscale", "photo.png")

    assert result.exit_code == 2
    assert f"is taken from {own} only" in result.stderr


def test_a_model_file_is_found_from_where_the_file_lies(own: Path, tree: Path, model: str):
    tree.write_text(f'[upscale]\nmodel = "{Path(model).name}"\n')
    (tree.parent / Path(model).name).write_bytes(Path(model).read_bytes())

    result = emt("upscale", "photo.png", "--json")

    assert json.loads(result.stdout)["model"] == Path(model).stem


def test_config_tells_what_is_in_force_and_where_it_comes_from(own: Path, tree: Path):
    tree.write_text('[video]\ncrf = 18\n[presets.web]\nformat = "webp"\n')

    facts = [json.loads(line) for line in emt("config", "--json").stdout.splitlines()]

    assert {
        "command": "video",
        "preset": None,
        "option": "crf",
        "value": 18,
        "source": f"{tree} [video]",
    } in facts
    assert {
        "command": "upscale",
        "preset": None,
        "option": "model",
        "value": "emt-lite",
        "source": f"{own} [defaults]",
    } in facts
    assert ("batch", "web", "format") in {(one["command"], one["preset"], one["option"]) for one in facts}
    assert "emt video" in emt("config").stdout


def test_an_unknown_preset_names_those_there_are(own: Path):
    own.write_text("[presets.web]\nscale = 2\n[presets.print]\nscale = 3\n")

    result = emt("upscale", "photo.png", "--use", "wbe")

    assert result.exit_code == 2
    assert "--use wbe: no such preset (known: print, web)" in result.stderr


def test_an_empty_variable_switches_all_files_off(own: Path, tree: Path, monkeypatch: pytest.MonkeyPatch):
    tree.write_text("nonsense")
    monkeypatch.setenv("EMT_CONFIG", "")

    assert emt("config").exit_code == 0

"""`emt models`: the list, the pull and the look into a file, as a person or a program runs them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from typer.testing import CliRunner

from emt_cli.assets import catalog, download
from emt_cli.assets.catalog import ReleasedFile
from emt_cli.cli import app
from emt_cli.engine.weights import save_weights
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT

CONTENT = b"not really a model"
run = CliRunner().invoke


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def one_file(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> HTTPServer:
    """A server with one small stand-in for the released x4."""
    pinned = (ReleasedFile(4, "EMT_LSR_x4.pth", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT)),)
    monkeypatch.setattr(catalog, "RELEASED", pinned)
    monkeypatch.setattr(download, "RELEASED", pinned)
    monkeypatch.setenv("EMT_MIRROR", httpserver.url_for("/"))
    httpserver.expect_request("/EMT_LSR_x4.pth").respond_with_data(CONTENT)
    return httpserver


@pytest.fixture
def tiny_file(tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT) -> Path:
    path = tmp_path / "tiny.safetensors"
    metadata = {"name": "tiny", "sources": ["my photos"], "licence": "CC0", "note": "\x1b[2Jgone\nnew line"}
    save_weights(path, tiny_config, tiny_network.state_dict(), metadata)
    return path


def lines_of(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def test_list_names_every_model_and_where_it_is() -> None:
    result = run(app, ["models"])

    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert result.exit_code == 0
    assert "not fetched" in rows["emt"]
    assert "bundled" in rows["emt-lite"]


def test_list_for_programs_has_every_file(cache: Path) -> None:
    result = run(app, ["models", "--json"])

    released = next(entry for entry in lines_of(result.stdout) if entry["name"] == "emt")
    assert [(file["scale"], file["path"], file["here"]) for file in released["files"]] == [  # type: ignore[attr-defined]
        (scale, str(cache / f"EMT_LSR_x{scale}.pth"), False) for scale in (2, 3, 4)
    ]


def test_pull_prints_where_the_files_are(one_file: HTTPServer, cache: Path) -> None:
    result = run(app, ["models", "pull", "emt", "--scale", "x4"])

    assert result.exit_code == 0
    assert result.stdout == f"{cache / 'EMT_LSR_x4.pth'}\n"
    assert (cache / "EMT_LSR_x4.pth").read_bytes() == CONTENT
    assert "in the cache (x4" in run(app, ["models"]).stdout


def test_pull_from_a_file_needs_no_server(one_file: HTTPServer, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(CONTENT)

    result = run(app, ["models", "pull", "emt", "--from", str(tmp_path / "copy"), "--json"])

    assert lines_of(result.stdout)[0]["name"] == "emt"
    assert one_file.log == []


def test_failed_pull_ends_with_one_line_and_code_5(one_file: HTTPServer, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(b"something else")

    result = run(app, ["models", "pull", "emt", "--from", str(tmp_path / "copy")])

    assert result.exit_code == 5
    assert result.stdout == ""
    assert result.stderr.startswith("emt: error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("scale", ["four", "2;3", ""])
def test_scale_that_is_no_number_is_a_usage_error(scale: str) -> None:
    assert run(app, ["models", "pull", "emt", "--scale", scale]).exit_code == 2


def test_info_for_programs_describes_a_file(tiny_file: Path, tiny_network: EMT) -> None:
    result = run(app, ["models", "info", str(tiny_file), "--json"])

    (described,) = lines_of(result.stdout)
    assert described["sha256"] == hashlib.sha256(tiny_file.read_bytes()).hexdigest()
    assert described["parameters"] == sum(parameter.numel() for parameter in tiny_network.parameters())
    assert described["config"]["windows"] == [[8, 4], [4, 8]]  # type: ignore[index]
    assert (described["licence"], described["sources"]) == ("CC0", ["my photos"])


def test_info_never_prints_what_would_steer_the_terminal(tiny_file: Path) -> None:
    result = run(app, ["models", "info", str(tiny_file)])

    assert "\x1b" not in result.stdout
    assert "gone new line\n" in result.stdout


def test_info_of_the_bundled_model_names_its_sources() -> None:
    result = run(app, ["models", "info", "emt-lite"])

    assert result.exit_code == 0
    assert "CID22" in result.stdout
    assert "MIT" in result.stdout


def test_info_of_an_unknown_model_suggests_a_known_one() -> None:
    result = run(app, ["models", "info", "emt-light"])

    assert result.exit_code == 5
    assert "did you mean emt-lite" in result.stderr

"""`emt setup`: one question on a terminal, and nothing fetched without a yes."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from typer.testing import CliRunner

from emt_cli.assets import catalog, download
from emt_cli.assets.catalog import ReleasedFile
from emt_cli.cli import app
from emt_cli.commands import setup

CONTENT = b"not really a model"
Ask = Callable[[str], tuple[int, str]]


@pytest.fixture
def cache(tmp_path: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a server with one small stand-in for the released files."""
    pinned = (ReleasedFile(4, "EMT_LSR_x4.pth", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT)),)
    for module in (catalog, download, setup):
        monkeypatch.setattr(module, "RELEASED", pinned)
    monkeypatch.setenv("EMT_MIRROR", httpserver.url_for("/"))
    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "cache"))
    httpserver.expect_request("/EMT_LSR_x4.pth").respond_with_data(CONTENT)
    return tmp_path / "cache"


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Run `emt setup` on a terminal where something is typed; what that shows comes second."""
    pty = pytest.importorskip("pty", reason="needs terminals as Unix has them")
    person, terminal = pty.openpty()

    def run(typed: str) -> tuple[int, str]:
        os.write(person, typed.encode())
        with open(terminal, closefd=False) as keys, open(terminal, "w", closefd=False) as screen:
            monkeypatch.setattr(sys, "stdin", keys)
            monkeypatch.setattr(sys, "stderr", screen)
            code = 0
            try:
                app(["setup"], prog_name="emt")
            except SystemExit as end:
                code = int(end.code or 0)
        return code, os.read(person, 1 << 16).decode()

    yield run
    os.close(person)
    os.close(terminal)


@pytest.mark.parametrize("typed", ["y\n", "\n"])
def test_a_yes_fetches_the_published_model(
    ask: Ask, cache: Path, typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, screen = ask(typed)

    assert code == 0
    assert "Fetch it? [Y/n]" in screen
    assert (cache / "EMT_LSR_x4.pth").read_bytes() == CONTENT
    assert capsys.readouterr().out.strip() == str(cache / "EMT_LSR_x4.pth")


@pytest.mark.parametrize("typed", ["n\n", "\x04"])
def test_without_a_yes_nothing_is_fetched(ask: Ask, cache: Path, httpserver: HTTPServer, typed: str) -> None:
    code, screen = ask(typed)

    assert code == 0
    assert "nothing fetched" in screen
    assert not httpserver.log
    assert not cache.exists()


def test_what_is_there_is_not_asked_for(ask: Ask, cache: Path, httpserver: HTTPServer) -> None:
    cache.mkdir()
    (cache / "EMT_LSR_x4.pth").write_bytes(CONTENT)

    code, screen = ask("")

    assert code == 0
    assert "here already" in screen
    assert not httpserver.log


def test_without_a_terminal_nothing_is_asked_and_the_command_is_named(
    cache: Path, httpserver: HTTPServer
) -> None:
    result = CliRunner().invoke(app, ["setup"], input="y\n")

    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "`emt models pull emt`" in result.stderr
    assert not httpserver.log

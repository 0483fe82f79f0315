"""What SECURITY.md promises: nothing is executed, nothing fetched unasked, nothing goes through a shell."""

from __future__ import annotations

import ast
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import corrupt_files
import pytest
from PIL import Image
from typer.testing import CliRunner

from emt_cli.assets import benchmarks, datasets
from emt_cli.assets.catalog import RELEASED, RELEASED_HOME
from emt_cli.cli import app
from emt_cli.engine.weights import load_weights
from emt_cli.errors import InputError, ModelError
from emt_cli.training.checkpoint import load_checkpoint

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = sorted((REPOSITORY / "emt_cli").rglob("*.py"))
FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "os.fork",
    "os.spawnl",
    "os.execv",
    "pickle.load",
    "pickle.loads",
    "marshal.loads",
    "shelve.open",
    "yaml.load",
    "tempfile.mktemp",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "commands.getoutput",
    "ssl._create_unverified_context",
}


def calls() -> Iterator[tuple[str, ast.Call, str]]:
    """Every call in the package: the called name, the call, and where it is."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func), node, f"{path.relative_to(REPOSITORY)}:{node.lineno}"


def option(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(word.value) for word in call.keywords if word.arg == name), None)


def test_nothing_is_run_by_a_shell_or_evaluated() -> None:
    wrong = [f"{place}: {name}" for name, _, place in calls() if name in FORBIDDEN]
    wrong += [f"{place}: shell" for _, call, place in calls() if option(call, "shell") not in (None, "False")]

    assert wrong == []


def test_programs_are_started_from_lists_and_without_our_standard_input() -> None:
    started = [
        (call, place)
        for name, call, place in calls()
        if name in ("subprocess.run", "subprocess.Popen", "subprocess.check_output", "subprocess.check_call")
    ]

    assert started
    for call, place in started:
        assert isinstance(call.args[0], ast.List | ast.Name), place
        assert option(call, "stdin") in ("subprocess.DEVNULL", "subprocess.PIPE"), place


def test_nothing_is_unpickled() -> None:
    for name, call, place in calls():
        if name == "torch.load":
            assert option(call, "weights_only") == "True", place
        if name in ("np.load", "numpy.load"):
            assert option(call, "allow_pickle") in (None, "False"), place
        assert option(call, "verify") != "False", place


def test_every_address_is_https_and_pinned() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)

    assert re.findall(r"http://(?!www\.w3\.org|ns\.adobe\.com|127\.0\.0\.1|localhost)[^\s\"']*", text) == []
    assert RELEASED_HOME.startswith("https://")
    assert benchmarks.HOME.startswith("https://")
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in RELEASED)
    for archive in datasets.ARCHIVES.values():
        assert archive.url.startswith("https://")
        assert re.fullmatch("[0-9a-f]{64}", archive.sha256)
    for known in benchmarks.TEST_SETS.values():
        assert not known.path or re.fullmatch("[0-9a-f]{32}", known.folder_md5)


@pytest.mark.parametrize("name", sorted(corrupt_files.malicious_checkpoints(Path("x"))))
@pytest.mark.parametrize("load", [load_weights, load_checkpoint])
def test_malicious_checkpoint_is_refused_unexecuted(tmp_path: Path, name: str, load: object) -> None:
    trace = tmp_path / "trace"
    (tmp_path / name).write_bytes(corrupt_files.malicious_checkpoints(trace)[name])

    with pytest.raises((ModelError, InputError)) as caught:
        load(tmp_path / name)  # type: ignore[operator]

    assert not trace.exists()
    assert name in str(caught.value)


def test_the_malicious_checkpoints_are_malicious(tmp_path: Path) -> None:
    """Otherwise the test before would show nothing."""
    import torch

    trace = tmp_path / "trace"
    for name in ("Opening.pth", "legacy.pth", "values.pth", "Payload.pth"):
        trace.unlink(missing_ok=True)
        (tmp_path / name).write_bytes(corrupt_files.malicious_checkpoints(trace)[name])

        torch.load(tmp_path / name, weights_only=False)

        assert trace.exists(), name


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something wants to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("EMT_MIRROR", raising=False)


@pytest.mark.parametrize(
    "command",
    [
        "upscale photo.png -o a.png",
        "upscale photo.png -o b.png --model emt",
        "models",
        "models info emt-lite",
        "benchmark --set Set5",
        "train --data DIV2K --out run",
    ],
)
def test_nothing_is_fetched_unasked(
    tmp_path: Path, no_network: None, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "cache"))
    Image.fromarray(corrupt_files.scene()).save("photo.png")

    result = CliRunner().invoke(app, command.split())

    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (0, 5, 8)


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps a user's folders private")
def test_compiled_code_is_kept_where_nobody_else_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emt_cli.engine.compiled import compiled_path, keep_compiled, read_compiled

    monkeypatch.setenv("EMT_CACHE", str(tmp_path))
    path = compiled_path("test", 1)
    keep_compiled(path, b"code")
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
    assert read_compiled(path) == b"code"

    path.parent.chmod(0o777)

    assert read_compiled(path) is None


@pytest.mark.parametrize("damage", [b"", b"x", bytes(100)])
def test_damaged_compiled_code_is_not_run(
    tmp_path: Path, damage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emt_cli.engine.compiled import compiled_path, keep_compiled, read_compiled

    monkeypatch.setenv("EMT_CACHE", str(tmp_path))
    path = compiled_path("test", 1)
    keep_compiled(path, b"code")
    path.write_bytes(damage or path.read_bytes()[:-1] + b"?")

    assert read_compiled(path) is None

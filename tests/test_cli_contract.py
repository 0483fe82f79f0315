"""Manners: the tour, completion, colours, the documented JSON and exit codes, one voice in all messages."""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import corrupt_files
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from emt_cli import errors
from emt_cli.cli import app
from emt_cli.commands.tour import TOUR

REPOSITORY = Path(__file__).resolve().parent.parent
JSON_PAGE = (REPOSITORY / "docs" / "json.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


# The tour and the help


def test_emt_alone_shows_every_command_in_a_line_and_three_to_copy() -> None:
    result = CliRunner().invoke(app, [])

    assert (result.exit_code, result.stdout) == (0, TOUR + "\n")
    shown = re.findall(r"^  emt (\w+)  ", TOUR, re.MULTILINE)
    assert sorted(shown) == sorted(COMMANDS)
    tried = re.findall(r"^  (emt \S+.*?)(?:  |$)", TOUR.partition("Try:")[2], re.MULTILINE)
    assert len(tried) == 3
    assert max(len(line) for line in TOUR.splitlines()) <= 80


@pytest.mark.parametrize("name", [*COMMANDS, "models pull", "models add", "models info"])
def test_examples_in_the_help_have_options_that_exist(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "300"}).stdout
    known = set(re.findall(r"(?<![\w-])--?[a-zA-Z0-9][a-z-]*", shown.partition("Examples:")[0]))
    lines = re.findall(rf"emt {name}\b(?! (?:pull|info)\b).*", shown.partition("Examples:")[2])

    assert lines
    for line in lines:
        used = re.findall(r"(?<=\s)--?[a-z0-9][a-z-]*", line.partition(" > ")[0])
        assert set(used) <= known, line


@pytest.mark.parametrize("name", ["", *COMMANDS, "models pull", "models add", "models info"])
def test_help_fits_a_terminal_of_80_columns(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "80"}).stdout

    about, _, tried = shown.partition("Examples:")
    assert max(map(len, shown.splitlines())) <= 80
    assert not re.search(r"<(bool|int|float|str|path|list)", about)
    assert all("emt " in line for line in tried.splitlines() if line.strip())
    for paragraph in re.split(r"\n *\n", about.partition("╭")[0]):
        lines = [line.strip() for line in paragraph.strip().splitlines()]
        for line, following in itertools.pairwise(lines):
            assert len(f"{line} {following.split()[0]}") > 78, f"broken off early: {line}"


def test_every_option_says_what_it_is() -> None:
    for name, command in COMMANDS.items():
        for part in [command, *getattr(command, "commands", {}).values()]:
            for option in part.params:
                assert getattr(option, "help", None), f"{name}: {option.name}"
                assert option.help.rstrip().endswith((".", "]")), f"{name} {option.name}: {option.help}"


# Completion


def completed(shell: str, line: str, folder: Path) -> list[str]:
    words = line.split(" ")
    env = {
        **os.environ,
        "_EMT_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    code = "from emt_cli.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stderr
    return re.findall(r"[\w./-]+", done.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_options_and_models(tmp_path: Path, shell: str) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")

    assert "upscale" in completed(shell, "emt up", tmp_path)
    assert "--long-side" in completed(shell, "emt upscale --lon", tmp_path)
    models = completed(shell, "emt upscale --model ", tmp_path)
    assert {"auto", "emt-lite", "mine.safetensors"} <= set(models)
    assert "notes.txt" not in models


def test_a_completion_never_fails(tmp_path: Path) -> None:
    from emt_cli.commands.options import complete_model

    for text in ("/nonexistent/", "\0", "~", "emt-lite", str(tmp_path), "x" * 5000, "a/b/c"):
        assert isinstance(complete_model(text), list)


# Colours


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("no_colour", [True, False])
def test_colours_appear_on_a_terminal_unless_unwanted(no_colour: bool) -> None:
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "90"}
    env.pop("NO_COLOR", None)

    shown = on_a_terminal(["upscale", "--help"], env | ({"NO_COLOR": "1"} if no_colour else {}))

    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]m", shown)) is not no_colour


def on_a_terminal(arguments: list[str], env: dict[str, str]) -> str:
    """What a command prints when all its streams are a terminal."""
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "emt_cli", *arguments], env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says so that the other end is closed
            break
        if not piece:
            break
        shown += piece
    process.wait(60)
    os.close(ours)
    return shown.decode("utf-8", "replace")


# Exit codes


def test_exit_codes_of_the_docs_are_those_of_the_program() -> None:
    table = JSON_PAGE.partition("## Exit codes")[2].partition("\n## ")[0]
    documented = {
        int(code) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in row.split(",")
    }

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]

    assert {kind.exit_code for kind in kinds} <= documented
    assert documented == {kind.exit_code for kind in kinds} | {0, 3, 129, 143}


# JSON


def documented_events() -> dict[tuple[str, str], tuple[set[str], set[str]]]:
    """For each command and event of docs/json.md: the fields always there, and those that may be."""
    table = JSON_PAGE.partition("## JSON")[2].partition("\n## ")[0]
    events = {}
    for command, names, fields in re.findall(
        r"^\| ([\w -]+?) \| ([\w, ]*?) ?\| (.*) \|$", table, re.MULTILINE
    ):
        for name in re.split(", *", names) or [""]:
            always = {field for field in fields.partition(",")[0].split() if not field.startswith("[")}
            events[command, name.strip()] = always, set(re.findall(r"\[(\w+)\]", fields))
    return events


EVENTS = documented_events()


def check(command: str, line: str) -> str:
    """Compare one line of output with docs/json.md; return the event's name."""
    values = json.loads(line)
    event = values.get("event", "")
    place = ("any", event) if event == "failed" else (command, event)
    assert place in EVENTS, f"{place} is not in docs/json.md"
    always, sometimes = EVENTS[place]
    found = values.keys() - {"event"}
    if command == "models info":
        assert always <= found
    else:
        assert always <= found <= always | sometimes, (place, found ^ always)
    return str(event)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("json")
    (folder / "tiny.safetensors").write_bytes(corrupt_files.tiny_model())
    (folder / "in").mkdir()
    for name in ("a", "b"):
        Image.fromarray(corrupt_files.scene(40, 48)).save(folder / "in" / f"{name}.png")
    (folder / "in" / "bad.png").write_bytes(b"bad")
    (folder / "p").mkdir()
    Image.fromarray(corrupt_files.scene(40, 48)).save(folder / "p" / "a.png")
    clip(folder / "clip.mp4")
    return folder


def clip(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for level in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), level * 40, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


TINY = "--model tiny.safetensors"
TRAIN = (
    "train --data p --scale 2 --preset lite --steps 2 --accelerator cpu --set batch=1 --set patch=8"
    " --set network.dim=20 --set network.layers=2 --set network.heads=1 --out run"
)


@pytest.mark.parametrize(
    ("command", "line", "events"),
    [
        ("upscale", f"upscale in/a.png in/bad.png {TINY} -s 2 -o o1/ --compare", {"done", "failed"}),
        ("upscale", f"upscale in/a.png {TINY} -s 2.5 -o o2.png --dry-run", {"planned"}),
        ("upscale", "upscale in/a.png --scale 900", {"failed"}),
        ("batch", f"batch in {TINY} -s 2 -o b1", {"plan", "started", "done", "failed", "summary"}),
        ("batch", f"batch in {TINY} -s 2 -o b1", {"plan", "skipped", "failed", "summary"}),
        ("batch", f"batch in {TINY} -s 2 -o b2 --dry-run", {"plan", "planned", "failed"}),
        ("batch", f"batch in/a.png p/a.png {TINY} -s 2 -o b3", {"collision", "failed"}),
        ("video", f"video clip.mp4 {TINY} -s 2 -o v.mp4 --dry-run", {"planned"}),
        ("video", f"video clip.mp4 {TINY} -s 2 -o v.mp4", {"done"}),
        ("video", f"video in/bad.png {TINY} -s 2", {"failed"}),
        ("models", "models", {""}),
        ("models info", "models info tiny.safetensors", {""}),
        ("models pull", "models pull gone", {"failed"}),
        ("benchmark", "benchmark --set p --model bicubic --scale 2", {""}),
        ("benchmark --speed", f"benchmark --speed --size 16x16 {TINY} --scale 2 --runs 1", {""}),
        ("compare", f"compare in/a.png -m {TINY.split()[-1]} -m emt-lite -s 2 -o c.html", {"done"}),
        ("explain", f"explain in/a.png --at 3,3 -s 2 {TINY} --steps 2 -o e.png", {""}),
        ("train --dry-run", f"{TRAIN} --dry-run", {""}),
        ("train", TRAIN, {""}),
    ],
)
def test_json_has_the_fields_that_the_docs_promise(
    work: Path, command: str, line: str, events: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if command.startswith("train"):
        pytest.importorskip("lightning_fabric")
    monkeypatch.chdir(work)
    monkeypatch.setenv("EMT_CACHE", str(work / "cache"))

    result = CliRunner().invoke(app, [*line.split(), "--json"])

    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    found = {check(command, text) for text in result.stdout.splitlines()}
    assert events <= found <= events | {"progress", "note"}


# One voice


def messages() -> Iterator[tuple[str, str]]:
    """The text of every error that is raised, with what is filled in as {}, and its place."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    for path in sorted((REPOSITORY / "emt_cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                continue
            if ast.unparse(node.exc.func) not in kinds or not node.exc.args:
                continue
            text = node.exc.args[0]
            place = f"{path.relative_to(REPOSITORY)}:{node.lineno}"
            if isinstance(text, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in text.values]
                yield "".join(map(str, parts)), place
            elif isinstance(text, ast.Constant):
                yield str(text.value), place


def test_messages_are_one_line_in_one_voice() -> None:
    found = list(messages())

    assert len(found) > 150
    for text, place in found:
        assert "\n" not in text, place
        assert not text.endswith((".", "!", " ")), f"{place}: {text}"
        assert "!" not in text, f"{place}: {text}"
        assert not re.match(r"(Error|ERROR|Failed|Invalid|Unable|Could not|Cannot)\b", text), (
            f"{place}: {text}"
        )
        assert "please" not in text.lower() or "report" in text, f"{place}: {text}"
        assert not re.search(r"\b(can't|won't|isn't|doesn't|don't|couldn't)\b", text), f"{place}: {text}"
        assert "  " not in text, f"{place}: {text}"
        if re.search(r"(cannot|could not) be (read|written|made|used|written to) \(", text):
            assert "; " in text or text.endswith("{}"), f"{place} does not say what to try: {text}"


if __name__ == "__main__":  # to read them all
    for text, place in messages():
        print(f"{place:<45} {text}")

"""The command line's frame: start-up, errors, exit codes, interruptions."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from emt_cli import __version__, cli
from emt_cli.commands import options, ui
from emt_cli.errors import EmtError, InputError

run = CliRunner().invoke


def emt(*arguments: str, code: str = "main()", **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own; code calls main()."""
    program = f"import sys; sys.argv = ['emt', *{arguments!r}]\nfrom emt_cli.cli import app, main\n{code}"
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, **options
    )


@pytest.fixture
def failing() -> Iterator[list[BaseException]]:
    """Put a command `fail` in the app that raises what the list holds."""
    errors: list[BaseException] = []

    @cli.app.command("fail")
    def fail(as_json: options.Json = False) -> None:
        raise errors[0]

    yield errors
    cli.app.registered_commands.pop()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["models", "--help"], ["models", "--json"]])
def test_quick_commands_never_import_torch(arguments: list[str]) -> None:
    code = "try: main()\nfinally: print('heavy:', {'torch', 'cv2', 'numpy'} & sys.modules.keys())"

    result = emt(*arguments, code=code)

    assert "heavy: set()" in result.stdout


def test_version_is_the_packages() -> None:
    result = run(cli.app, ["--version"])

    assert (result.exit_code, result.stdout) == (0, f"emt {__version__}\n")


def test_every_command_has_help_with_two_examples() -> None:
    names = typer.main.get_command(cli.app).commands.keys()  # type: ignore[attr-defined]

    for name in [*names, "models pull", "models info"]:
        shown = run(cli.app, [*name.split(), "--help"]).stdout
        assert shown.partition("Examples:")[2].count(f" emt {name}") >= 2, name


def test_error_a_person_can_mend_is_one_line_with_its_code(failing: list[BaseException]) -> None:
    failing.append(InputError("photo.png: not a picture\nat all"))

    result = run(cli.app, ["fail"])

    assert result.exit_code == 8
    assert result.stdout == ""
    assert result.stderr == "emt: error: photo.png: not a picture at all\n"


@pytest.mark.parametrize("kind", EmtError.__subclasses__())
def test_every_error_ends_with_its_own_code(failing: list[BaseException], kind: type[EmtError]) -> None:
    failing.append(kind("x"))

    assert run(cli.app, ["fail"]).exit_code == kind.exit_code


@pytest.mark.parametrize(
    ("name", "words"), [("SIGINT", "emt: interrupted\n"), ("SIGTERM", ""), ("SIGHUP", "")]
)
def test_a_signal_ends_at_once_with_its_code_and_leaves_no_file(
    tmp_path: Path, name: str, words: str
) -> None:
    code = f"""
import os, signal
from pathlib import Path
from emt_cli.media.files import new_file

@app.command("fail")
def fail():
    with new_file(Path({str(tmp_path / "half")!r})) as stream:
        stream.write(b"half")
        stream.flush()
        assert len(os.listdir({str(tmp_path)!r})) == 1
        os.kill(os.getpid(), signal.{name})
main()
"""

    result = emt("fail", code=code)

    assert (result.returncode, result.stderr) == (ended_by(name), words)
    assert not list(tmp_path.iterdir())


def ended_by(name: str) -> int:
    """What a parent sees of a process that a signal has ended: Ctrl-C by itself, others by an exit code."""
    number = getattr(signal, name)
    return -number if name == "SIGINT" and os.name == "posix" else 128 + number


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_a_thread_begins_ends_all(name: str) -> None:
    code = f"""
import os, signal, threading
from concurrent.futures import ThreadPoolExecutor

pool, begin = ThreadPoolExecutor(), threading.Thread.start

def start(thread):
    begin(thread)
    os.kill(os.getpid(), signal.{name})  # before the pool knows of it

threading.Thread.start = start

@app.command("fail")
def fail():
    pool.submit(print)
main()
"""

    assert emt("fail", code=code).returncode == ended_by(name)


@pytest.mark.skipif(os.name == "nt", reason="shells of Unix")
def test_ctrl_c_ends_the_loop_of_a_shell() -> None:
    code = (
        "import os, signal, time; from emt_cli.cli import _end; signal.signal(signal.SIGINT, _end);"
        "os.killpg(0, signal.SIGINT); time.sleep(9)"  # as a terminal does, to the shell as well
    )
    loop = f"for i in 1 2 3; do echo $i; {sys.executable} -c '{code}'; done; echo after"

    done = subprocess.run(["bash", "-c", loop], capture_output=True, text=True, start_new_session=True)

    assert done.stdout.split() == ["1"]
    assert done.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError(), 7, "not enough memory"),
        (RuntimeError("can't start new thread"), 7, "not enough memory"),
        (RuntimeError("Symlink loop from 'a.png'"), 8, "'a.png'; make the link point"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 7, "not enough memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 7, "not enough memory"),
        (ImportError("libGL.so.1: cannot open shared object file"), 1, "libGL.so.1"),
        (
            PermissionError(errno.EACCES, "Permission denied", "closed/a.png"),
            8,
            "closed/a.png: Permission denied; change",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "a.png"),
            4,
            "a.png: No space left on device; make",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a.png"), 4, "exceeded; make room"),
        (OSError(errno.EROFS, "Read-only file system", "a"), 4, "a: Read-only file system; choose another"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a.png/x"), 8, "a.png/x: Not a directory"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000), 2, "too long"),
    ],
)
def test_what_the_machine_lacks_is_one_line(
    failing: list[BaseException], error: BaseException, code: int, words: str
) -> None:
    failing.append(error)

    told, as_json = run(cli.app, ["fail"]), run(cli.app, ["fail", "--json"])

    assert told.exit_code == as_json.exit_code == code
    assert words in told.stderr
    assert told.stderr.count("\n") == 1
    assert json.loads(as_json.stdout)["exit_code"] == code


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a folder that somebody is in")
def test_a_current_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    line = f'cd "{tmp_path}" && rmdir "{tmp_path}" && exec "{sys.executable}" -m emt_cli models'

    result = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60)

    assert result.returncode == 2
    assert result.stderr == "emt: error: the current folder has been removed; change to another one\n"


def test_mistake_of_the_program_keeps_its_traceback() -> None:
    code = "@app.command('fail')\ndef fail() -> None: raise ZeroDivisionError('oh')\nmain()"

    result = emt("fail", code=code)

    assert result.returncode == 1
    assert "ZeroDivisionError: oh" in result.stderr
    assert "report" in result.stderr.splitlines()[-1]


def test_unknown_command_suggests_a_known_one() -> None:
    result = run(cli.app, ["modles"])

    assert result.exit_code == 2
    assert "models" in result.stderr


def test_unknown_option_is_a_usage_error() -> None:
    assert run(cli.app, ["models", "--colour"]).exit_code == 2


def test_reader_that_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = [sys.executable, "-m", "emt_cli", "models"]

    result = subprocess.run(program, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)

    os.close(writer)
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr


def test_output_into_a_file_has_no_colours(tmp_path: Path) -> None:
    result = emt("models", "--help", env={**os.environ, "TERM": "xterm-256color"})

    assert "\x1b" not in result.stdout


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_bar_whatever_is_being_done(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")

    with ui.progress() as update:
        for label, done, total in (
            ("looking", 1, 4),
            ("looking", 3, 4),
            ("working", 0, 50),
            ("working", 7, 50),
        ):
            update(label, done, total)
            time.sleep(0.15)  # it is drawn ten times a second
        drawn = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", screen.getvalue())

    assert list(dict.fromkeys(re.findall(r"(\w+) ━*[╸╺]?━* +(\d+)%", drawn))) == [
        ("looking", "25"),
        ("looking", "75"),
        ("working", "0"),
        ("working", "14"),
    ]
    assert "\n" not in drawn


def test_lines_are_printed_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm")

    with ui.progress() as update:
        update("photo.png", 1, 2)
        ui.show("photo_x4.png")
        ui.say("a note")
        drawn = screen.getvalue()

    clear = "\r\x1b[2K"
    bar, result, note = (
        drawn.partition("photo_x4.png\n")[0],
        *drawn.split("photo_x4.png\n")[1].split("a note\n"),
    )
    assert "photo.png" in bar
    assert bar.endswith(clear)
    assert "photo.png" in result  # drawn again below the line
    assert result.endswith(clear)
    assert "photo.png" in note


def test_a_result_goes_to_its_pipe_while_a_bar_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, pipe = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", pipe)
    monkeypatch.setenv("TERM", "xterm")

    with ui.progress() as update:
        update("photo.png", 1, 2)
        ui.show("photo_x4.png")

    assert pipe.getvalue() == "photo_x4.png\n"


def test_progress_draws_nothing_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ui.progress() as update:
        update("file", 1, 2)

    assert capsys.readouterr() == ("", "")


def test_any_file_name_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"p\xffhoto\x1b[2J.png")

    ui.show_json({"path": name})
    ui.show(name)

    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert '"p\\udcffhoto\\u001b[2J.png"' in output


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (556512, "557 kB"), (10**10, "10 GB")],
)
def test_sizes_are_said_in_words(count: int, text: str) -> None:
    assert ui.bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "0.2 s"), (59.6, "1 min 00 s"), (75, "1 min 15 s"), (3660, "1 h 01 min")]
)
def test_durations_are_said_in_words(seconds: float, text: str) -> None:
    assert ui.seconds_text(seconds) == text

"""Videos through pipes: `emt video - -o -`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import clips
import pytest


def piped(
    model: str, source: bytes, *arguments: str | Path, folder: Path
) -> subprocess.CompletedProcess[bytes]:
    """Run `emt video` twice as large, with a folder of its own for what is temporary."""
    folder.mkdir()
    command = [sys.executable, "-m", "emt_cli", "video", "--model", model, "--scale", "2", "--device", "cpu"]
    return subprocess.run(
        [*command, *map(str, arguments)],
        input=source, capture_output=True, check=False, env=os.environ | {"TMPDIR": str(folder)},
    )  # fmt: skip


def test_a_video_goes_through_pipes_with_all_its_streams(tmp_path: Path, model: str) -> None:
    source = clips.clip(tmp_path / "clip.mp4", size="48x32", seconds=0.4, audio=True)
    result = tmp_path / "result"

    done = piped(model, source.read_bytes(), "-", "-o", "-", folder=tmp_path / "temporary")

    assert done.returncode == 0, done.stderr.decode()
    result.write_bytes(done.stdout)
    assert clips.times(result) == clips.times(source)
    assert [one.digest for one in clips.packets(result, "0:a")] == [
        one.digest for one in clips.packets(source, "0:a")
    ]
    assert "matroska" in clips.facts(result)
    assert str(tmp_path) not in done.stderr.decode()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_dry_run_of_a_pipe_names_no_temporary_file(tmp_path: Path, model: str) -> None:
    source = clips.clip(tmp_path / "clip.mp4", size="48x32", seconds=0.2)

    done = piped(model, source.read_bytes(), "-", "--dry-run", folder=tmp_path / "temporary")

    assert done.stdout.decode().splitlines()[0] == "result    -, h264"


def test_a_damaged_video_in_a_pipe_is_written_and_ends_with_9(tmp_path: Path, model: str) -> None:
    whole = clips.clip(tmp_path / "clip.mkv", size="96x64", seconds=1)
    source = clips.damaged(tmp_path / "damaged.mkv", whole)

    done = piped(model, source.read_bytes(), "-", folder=tmp_path / "temporary")

    assert done.returncode == 9
    assert done.stderr.decode().splitlines()[-1].endswith("it was written all the same")
    assert done.stdout.startswith(b"\x1aE\xdf\xa3")


@pytest.mark.parametrize(
    ("content", "arguments", "code"),
    [
        (b"", ["-"], 8),
        (b"no video" * 99, ["-"], 8),
        (b"", ["-", "--json"], 2),
        (b"", ["-", "-o", "-", "--compare"], 2),
        (b"", ["/nowhere/clip.mp4", "-o", "-"], 8),
    ],
)
def test_what_a_pipe_cannot_be_is_one_clear_line(
    tmp_path: Path, model: str, content: bytes, arguments: list[str], code: int
) -> None:
    done = piped(model, content, *arguments, folder=tmp_path / "temporary")

    words = done.stderr.decode()
    assert done.returncode == code, words
    assert words.count("emt: error: ") == 1
    assert "Traceback" not in words
    assert str(tmp_path) not in words
    assert b"\x1aE" not in done.stdout

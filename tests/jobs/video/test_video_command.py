"""`emt video` on the command line: names, refusals, plans, JSON, exit codes."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import clips
import pytest
from typer.testing import CliRunner, Result

from emt_cli.cli import app
from emt_cli.commands.video import seconds_of
from emt_cli.errors import UsageError


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip of 10 frames, 48x32."""
    return clips.clip(tmp_path / "clip.mp4", size="48x32", seconds=0.4)


def video(model: str, *arguments: str | Path) -> Result:
    """Run `emt video` in this process, twice as large."""
    return CliRunner().invoke(app, ["video", "--model", model, "--scale", "2", *map(str, arguments)])


def stderr_line(result: Result) -> str:
    """The one line of an error."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("emt: error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("75", 75), ("75.5", Fraction(151, 2)), ("1:15", 75), ("1:02:03.25", Fraction(14893, 4)), ("0.", 0)],
)
def test_times_are_read_as_people_write_them(text: str, seconds: Fraction) -> None:
    assert seconds_of("--start", text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-3", "1:2:3:4", "1::2", "1e3", "nan", "½", "1:x", "."])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="use seconds such as"):
        seconds_of("--start", text)


def test_the_result_lies_beside_its_source_and_is_named_on_stdout(clip: Path, model: str) -> None:
    result = video(model, clip)

    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{clip.with_name('clip_x2.mp4')}\n"
    assert "48x32 to 96x64, 10 frames at 25 a second" in result.stderr
    assert "pass  frame times" in result.stderr


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="a device of Unix")
def test_a_device_is_no_place_for_a_video(clip: Path, model: str) -> None:
    result = video(model, clip, "-o", "/dev/null")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "/dev/null: no place for a video" in result.stderr


def test_a_folder_that_is_not_there_is_no_name_of_a_file(clip: Path, tmp_path: Path) -> None:
    result = video("emt-lite", clip, "-o", f"{tmp_path}/gone/")

    assert result.exit_code == 4
    assert f"{tmp_path}/gone/: no such folder; create it first" in result.stderr
    assert not list(tmp_path.glob("gone*"))


def test_quiet_says_nothing_but_the_name(clip: Path, model: str) -> None:
    result = video(model, clip, "-q")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{clip.with_name('clip_x2.mp4')}\n"


def test_json_tells_all_about_the_result(clip: Path, model: str) -> None:
    result = video(model, clip, "--json")

    done = json.loads(result.stdout.splitlines()[-1])
    assert result.stderr == ""
    assert (done["event"], done["frames"], done["out_width"], done["verified"]) == ("done", 10, 96, True)
    assert {"name": "frames", "passed": True, "expected": "10", "found": "10"} in done["checks"]


def test_a_dry_run_tells_frames_size_time_memory_and_disk_and_writes_nothing(clip: Path, model: str) -> None:
    result = video(model, clip, "--dry-run", "--json")

    plan = json.loads(result.stdout)
    assert (plan["event"], plan["frames"], plan["out_height"]) == ("planned", 10, 64)
    assert plan["seconds"] == pytest.approx(10 * plan["seconds_per_frame"], abs=0.1)
    assert plan["memory"] > 0
    assert plan["disk"] > 0
    assert [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]
    assert "time      about" in video(model, clip, "--dry-run").stdout


def test_nothing_is_overwritten_unless_told(clip: Path, model: str) -> None:
    clip.with_name("clip_x2.mp4").write_bytes(b"mine")

    refused = video(model, clip)
    assert refused.exit_code == 6
    assert "overwrite it with -y" in stderr_line(refused)
    assert clip.with_name("clip_x2.mp4").read_bytes() == b"mine"

    assert video(model, clip, "-y").exit_code == 0


def test_the_source_is_never_its_own_result(clip: Path, model: str) -> None:
    before = clip.read_bytes()

    result = video(model, clip, "-o", clip.parent / "." / clip.name, "-y")

    assert result.exit_code == 2
    assert "would be replaced by its own result" in stderr_line(result)
    assert clip.read_bytes() == before


def test_no_video_stream_is_one_clear_line(tmp_path: Path, model: str) -> None:
    sound = tmp_path / "sound.mka"
    clips.ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", sound)

    result = video(model, sound)

    assert result.exit_code == 8
    assert "no video stream" in stderr_line(result)


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_what_is_no_video_is_one_clear_line(tmp_path: Path, model: str, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)

    result = video(model, path)

    assert result.exit_code == 8
    assert str(path) in stderr_line(result)


def test_an_mp4_without_its_end_is_one_clear_line(clip: Path, model: str) -> None:
    clip.write_bytes(clip.read_bytes()[: clip.read_bytes().index(b"moov")])

    result = video(model, clip)

    assert result.exit_code == 8
    assert "is cut short, and its index stood at its end" in stderr_line(result)


def test_a_missing_file_is_one_clear_line(tmp_path: Path, model: str) -> None:
    result = video(model, tmp_path / "none.mp4")

    assert result.exit_code == 8
    assert "no such file" in stderr_line(result)


def test_a_folder_that_is_not_there_is_one_clear_line(clip: Path, model: str) -> None:
    result = video(model, clip, "-o", clip.parent / "nowhere" / "out.mp4")

    assert result.exit_code == 4
    assert "its folder does not exist" in stderr_line(result)


@pytest.mark.parametrize(
    "options",
    [
        ["--codec", "realvideo"],
        ["--pix-fmt", "gray8x"],
        ["--preset", "warp"],
        ["--start", "9"],
        ["--start", "0.3", "--end", "0.1"],
        ["--preview", "0"],
        ["--preview", "1", "--end", "2"],
        ["--segment", "0"],
        ["--scale", "30"],
        ["--width", "1"],
        ["--tile", "big"],
    ],
)
def test_options_that_make_no_sense_are_one_clear_line(clip: Path, model: str, options: list[str]) -> None:
    if "--width" in options:
        result = CliRunner().invoke(app, ["video", "--model", model, str(clip), *options])
    else:
        result = video(model, clip, *options)

    assert result.exit_code == 2, result.stderr
    assert stderr_line(result)
    assert [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]


def test_a_failed_verification_ends_with_9_and_another_name(
    clip: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emt_cli.jobs.video import run as video_run
    from emt_cli.jobs.video.check import Check

    monkeypatch.setattr(video_run, "verify", lambda *_, **__: [Check("frames", False, "10", "9")])

    result = video(model, clip)

    assert result.exit_code == 9
    assert "FAIL  frames  9 (not 10)" in result.stderr
    assert "failed its verification (frames)" in stderr_line(result)
    assert clip.with_name("clip_x2.unverified.mp4").exists()
    assert not clip.with_name("clip_x2.mp4").exists()

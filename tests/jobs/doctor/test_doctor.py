"""`emt doctor`: what is broken is told, with how to fix it; and it works whatever is broken."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from emt_cli.cli import app
from emt_cli.jobs.doctor import checks, environment
from emt_cli.jobs.doctor.checks import Probed

REPOSITORY = Path(__file__).resolve().parent.parent.parent.parent
FINE = {
    "network": Probed(
        {
            "torch": "2.13.0",
            "cuda": None,
            "devices": [],
            "threads": 2,
            "engines": {
                "native": {"difference": 0.0005},
                "openvino": {"missing": "--engine openvino: OpenVINO is not installed"},
                "torch": {"difference": 0.0},
            },
        }
    ),
    "pictures": Probed({"opencv": "5", "pillow": "13", "numpy": "2", "broken": {}}),
    "video": Probed({"pyav": "18", "encoders": ["h264", "ffv1"], "ffmpeg": "9"}),
}


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Probed]:
    """What the processes tell; a test may change it."""
    told = dict(FINE)
    monkeypatch.setattr(checks, "_probe", lambda part: told[part])
    return told


def ask(*options: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *options])


def line(result: Result, name: str) -> str:
    """The line about one thing, and the one that fixes it."""
    lines = result.stdout.splitlines()
    at = next(index for index, text in enumerate(lines) if f" {name}:" in text)
    return "\n".join(lines[at : at + 2])


def test_checksums_of_the_bundled_models_are_those_recorded() -> None:
    lines = (REPOSITORY / "weights" / "SHA256SUMS").read_text().splitlines()
    recorded = {name: sha256 for sha256, name in map(str.split, lines)}

    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (REPOSITORY / "weights").glob("*.safetensors")
    }

    assert recorded == found, "after a change: cd weights && sha256sum *.safetensors > SHA256SUMS"


def test_a_machine_that_is_fine_gives_exit_code_0(probes: dict[str, Probed]) -> None:
    result = ask()

    assert result.exit_code == 0, result.stdout
    assert "PROBLEM" not in result.stdout
    count = len(list((REPOSITORY / "weights").glob("*.safetensors")))
    assert f"{count} bundled files are whole" in line(result, "models")


@pytest.mark.parametrize(
    ("part", "failure", "mend"),
    [
        (
            "network",
            "ImportError: libcudart.so.13: cannot open shared object file",
            "--force-reinstall torch",
        ),
        ("network", "ModuleNotFoundError: No module named 'torch'", "--force-reinstall torch"),
        ("network", "its process was killed (SIGILL)", "lacks instructions"),
        ("pictures", "ImportError: libGL.so.1: cannot open shared object file", "opencv-python-headless"),
        ("video", "ImportError: DLL load failed while importing _core", "Visual C++"),
    ],
)
def test_a_broken_library_is_a_problem_with_its_remedy(
    probes: dict[str, Probed], part: str, failure: str, mend: str
) -> None:
    probes[part] = Probed({}, failure)

    result = ask()

    assert result.exit_code == 3
    assert line(result, part).startswith("PROBLEM")
    assert failure in line(result, part)
    assert mend in line(result, part).splitlines()[1]


@pytest.mark.parametrize(
    "told", [{"difference": 90.0}, {"difference": float("nan")}, {"broken": "OSError: x"}]
)
def test_an_engine_that_answers_otherwise_is_a_problem(
    probes: dict[str, Probed], told: dict[str, object]
) -> None:
    facts = FINE["network"].facts
    probes["network"] = Probed({**facts, "engines": {**facts["engines"], "native": told}})

    result = ask()

    assert result.exit_code == 3
    assert "--engine torch" in line(result, "engine native")


def test_formats_and_encoders_that_do_not_work_are_problems(probes: dict[str, Probed]) -> None:
    probes["pictures"] = Probed({**FINE["pictures"].facts, "broken": {"webp": "KeyError: 'WEBP'"}})
    probes["video"] = Probed({**FINE["video"].facts, "encoders": ["ffv1"]})

    result = ask()

    assert result.exit_code == 3
    assert "webp: KeyError" in line(result, "pictures")
    assert "H.264" in line(result, "video")


def test_a_damaged_bundled_model_is_a_problem(
    probes: dict[str, Probed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(REPOSITORY / "weights", tmp_path / "weights")
    damaged = tmp_path / "weights" / "emt-lite-x2.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    monkeypatch.setattr(environment, "bundled_folder", lambda: tmp_path / "weights")

    result = ask()

    assert result.exit_code == 3
    assert "emt-lite-x2.safetensors" in line(result, "models")
    assert "emt-lite-x3" not in line(result, "models")


def test_a_damaged_fetched_model_is_a_problem(
    probes: dict[str, Probed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMT_CACHE", str(tmp_path))
    (tmp_path / "EMT_LSR_x4.pth").write_bytes(b"half")

    assert "emt models pull emt" in line(ask(), "models")


def test_a_cache_that_cannot_be_written_is_a_problem(
    probes: dict[str, Probed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EMT_CACHE", "/proc/emt" if Path("/proc").is_dir() else str(tmp_path / "file" / "x"))

    result = ask()

    assert result.exit_code == 3
    assert "EMT_CACHE" in line(result, "cache")


def test_a_check_that_fails_itself_does_not_end_the_others(
    probes: dict[str, Probed], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Path:
        raise ImportError("a package is gone")

    monkeypatch.setattr(environment, "cache_folder", fail)

    result = ask()

    assert result.exit_code == 3
    assert "a package is gone" in line(result, "cache")
    assert "ok" in line(result, "video")


def test_report_is_one_object_without_names_of_people(
    probes: dict[str, Probed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "jane.doe"
    home.mkdir(parents=True)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("EMT_CACHE", str(home / "cache"))
    probes["network"] = Probed({}, "ImportError: ~/x")

    result = ask("--json")

    report = json.loads(result.stdout)
    assert result.exit_code == 3
    assert report.keys() == {"emt", "ok", "checks"}
    assert all(check.keys() == {"name", "status", "text", "mend", "facts"} for check in report["checks"])
    assert "jane.doe" not in result.stdout


def stand_in(folder: Path, module: str, code: str) -> dict[str, str]:
    """An environment in which a module is another one."""
    (folder / module).mkdir(parents=True)
    (folder / module / "__init__.py").write_text(code)
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "code", "words"),
    [
        ("torch", "raise ImportError('libtorch_cpu.so: undefined symbol')", "undefined symbol"),
        ("torch", "import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
        ("cv2", "raise ImportError('libGL.so.1: cannot open shared object file')", "libGL"),
    ],
)
def test_doctor_works_where_a_library_is_broken(tmp_path: Path, module: str, code: str, words: str) -> None:
    env = stand_in(tmp_path, module, code)

    done = subprocess.run(
        [sys.executable, "-m", "emt_cli", "doctor"], env=env, capture_output=True, text=True, timeout=600
    )

    assert done.returncode == 3, done.stdout + done.stderr
    assert words in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_this_very_machine_is_fine() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "emt_cli", "doctor"], capture_output=True, text=True, timeout=600
    )

    assert done.returncode == 0, done.stdout
    assert "engine torch:" in done.stdout


def test_a_slow_machine_is_not_called_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PROBE_SECONDS", 0.01)

    found = {check.name: check for check in checks.examine()}

    for part in ("pictures", "video", "network"):
        assert found[part].status == "note"
        assert "slow or busy" in found[part].text

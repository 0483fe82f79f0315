"""`emt train` as a person or a program runs it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("lightning_fabric")

from emt_cli.cli import app
from emt_cli.engine.weights import load_weights

run = CliRunner().invoke

SMALL = """
steps = 2
batch = 2
patch = 12
[network]
dim = 20
layers = 2
heads = 1
windows = [[8, 4], [4, 8]]
shifts = [[4, 2], [2, 4]]
"""


@pytest.fixture
def options(tmp_path: Path, photo: np.ndarray) -> list[str]:
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures/a.png"), photo[..., ::-1])
    (tmp_path / "small.toml").write_text(SMALL)
    return [
        *("train", "--preset", "lite", "--scale", "2", "--config", str(tmp_path / "small.toml")),
        *("--data", str(tmp_path / "pictures"), "--out", str(tmp_path / "run"), "--accelerator", "cpu"),
    ]


def test_finished_run_prints_its_model(tmp_path: Path, options: list[str]):
    result = run(app, options)

    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'run' / 'best.safetensors'}\n")
    assert load_weights(tmp_path / "run/best.safetensors").config.scale == 2


def test_program_gets_one_json_object(tmp_path: Path, options: list[str]):
    result = run(app, [*options, "--json"])

    assert json.loads(result.stdout) == {
        "step": 2,
        "finished": True,
        "model": str(tmp_path / "run" / "best.safetensors"),
    }


def test_dry_run_tells_and_writes_nothing(tmp_path: Path, options: list[str]):
    result = run(app, [*options, "--dry-run", "--json"])

    plan = json.loads(result.stdout)
    network = load_parameters(tmp_path, options)
    assert (plan["pictures"], plan["steps"], plan["parameters"]) == (1, 2, network)
    assert plan["memory"] > 4 * network
    assert plan["settings"]["network.dim"] == 20


def load_parameters(tmp_path: Path, options: list[str]) -> int:
    assert not (tmp_path / "run").exists()
    run(app, options)
    tensors = load_weights(tmp_path / "run/best.safetensors").tensors
    return sum(
        value.numel() for name, value in tensors.items() if "running" not in name and "num_" not in name
    )


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--set", "lerning_rate=1"], 2, "did you mean learning_rate?"),
        (["--data", "no-such-folder"], 8, "no-such-folder: no such folder"),
        (["--patch", "100"], 8, "too small for patches of 200x200"),
        (["--devices", "3"], 2, "no multiple of the 3 processes"),
        (["--resume", "lost.pt"], 8, "lost.pt: no such checkpoint"),
        (["--init", "lost.safetensors"], 5, "lost.safetensors"),
        (["--set", "teacher=lost.safetensors"], 5, "lost.safetensors"),
        (["--val", "lost"], 8, "lost: no such folder"),
        (["--degradation", "rain"], 2, "none of bicubic, photo"),
    ],
)
def test_mistake_is_one_line_before_any_step(
    tmp_path: Path, options: list[str], more: list[str], code: int, said: str
):
    result = run(app, [*options, *more])

    assert result.exit_code == code
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("more", [["--val", "lost"], ["--init", "lost.pth"], ["--set", "teacher=lost.pth"]])
def test_dry_run_finds_what_the_run_would_miss(tmp_path: Path, options: list[str], more: list[str]):
    result = run(app, [*options, *more, "--dry-run"])

    assert result.exit_code in (5, 8)
    assert "lost" in result.stderr
    assert not (tmp_path / "run").exists()


def test_run_without_data_asks_for_it(tmp_path: Path):
    result = run(app, ["train", "--out", str(tmp_path)])

    assert result.exit_code == 2
    assert "--data" in result.stderr

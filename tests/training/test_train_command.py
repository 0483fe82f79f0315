"""`emt train` as a person or a program runs it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("lightning_fabric")

from emt_cli.cli import app
from emt_cli.engine.weights import load_weights
from emt_cli.model.config import EMTConfig
from emt_cli.training.config import TrainConfig
from emt_cli.training.discriminator import Discriminator
from emt_cli.training.first_network import first_network
from emt_cli.training.plan import make_plan
from emt_cli.training.start import process_rank
from emt_cli.training.tables import DiscriminatorConfig

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


def test_program_gets_json_objects(tmp_path: Path, options: list[str]):
    result = run(app, [*options, "--json"])

    assert json.loads(result.stdout.splitlines()[-1]) == {
        "step": 2,
        "finished": True,
        "model": str(tmp_path / "run" / "best.safetensors"),
        "best": "newest",
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
    return sum(value.size for name, value in tensors.items() if "running" not in name and "num_" not in name)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--set", "lerning_rate=1"], 2, "did you mean learning_rate?"),
        (["--data", "no-such-folder"], 8, "no-such-folder: no such folder"),
        (
            ["--patch", "100"],
            8,
            "too small for patches of 200x200; --skip-bad leaves them out, or choose a smaller --patch",
        ),
        (["--devices", "3"], 2, "no multiple of the 3 processes"),
        (["--resume", "lost.pt"], 8, "lost.pt: no such checkpoint"),
        (["--init", "lost.safetensors"], 5, "lost.safetensors"),
        (["--set", "teacher=lost.safetensors"], 5, "lost.safetensors"),
        (["--val", "lost"], 8, "lost: no such folder"),
        (["--init", "emt-lte"], 5, "did you mean emt-lite?"),
        (["--accelerator", "abacus"], 2, "--accelerator abacus: use auto, cpu, cuda or mps"),
        (["--val", "pictures", "--val-lr", "lost"], 8, "lost: no such folder of LR pictures"),
        (["--lr-data", "lost"], 8, "lost: no such folder of LR pictures"),
        (["--degradation", "rain"], 2, "none of bicubic, photo, real"),
        (["--set", "losses.perceptual=vgg19"], 5, "--fetch downloads 575 MB"),
        (["--lr-data", "a", "--lr-data", "b"], 2, "lr_data has 2 entries, data 1"),
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


def test_bad_pictures_are_listed_when_they_are_left_out(tmp_path: Path, options: list[str]):
    (tmp_path / "pictures/broken.png").write_text("hello")

    refused = run(app, options)
    done = run(app, [*options, "--skip-bad"])

    assert (refused.exit_code, "--skip-bad leaves them out" in refused.stderr) == (8, True)
    assert done.exit_code == 0
    assert "left out: 1 pictures: " in done.stderr
    assert "broken.png" in done.stderr
    noted = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    (faults,) = [line["pictures"] for line in noted if line.get("event") == "skipped"]
    assert ["broken.png" in fault for fault in faults] == [True]


def test_several_folders_make_one_run(tmp_path: Path, options: list[str], photo: np.ndarray):
    (tmp_path / "more").mkdir()
    cv2.imwrite(str(tmp_path / "more/b.png"), photo[..., ::-1])

    more = ["--data", str(tmp_path / "more"), "--set", "data_weights=[1, 2]"]
    result = run(app, [*options, *more, "--dry-run", "--json"])

    assert json.loads(result.stdout)["pictures"] == 2


def test_absent_accelerator_is_missed_before_pictures_are_decoded(
    tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    result = run(app, [*options, "--accelerator", "cuda"])

    assert result.exit_code == 7
    assert "--accelerator cuda" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--devices", "--nodes"])
def test_run_of_no_processes_is_a_usage_error(options: list[str], option: str):
    result = run(app, [*options, option, "0"])

    assert result.exit_code == 2
    assert option in result.stderr


def test_missing_packages_are_named_before_any_is_imported(
    options: list[str], monkeypatch: pytest.MonkeyPatch
):
    for name in ("lightning_fabric", "emt_cli.training.recipe"):
        monkeypatch.setitem(sys.modules, name, None)

    result = run(app, options)

    assert (result.exit_code, 'pip install "emt-cli[train]"' in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0),
        ({"RANK": "5", "LOCAL_RANK": "1"}, 5),  # torchrun
        ({"SLURM_PROCID": "3"}, 3),  # srun
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, 1),  # --devices 2 in a shell that SLURM gave
    ],
)
def test_process_knows_its_number(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], rank: int):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert process_rank() == rank


def test_planned_memory_grows_by_what_each_patch_keeps_for_the_gradient(tiny_config: EMTConfig):
    kept: dict[int, int] = {}
    network = first_network(TrainConfig(network=tiny_config)).train()
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        answer = network(torch.rand(1, 3, 16, 16))
        torch.nn.functional.l1_loss(answer, torch.zeros_like(answer))
    each = sum(size for place, size in kept.items() if place not in weights)
    assert answer.requires_grad

    two, three = (
        make_plan(TrainConfig(network=tiny_config, patch=16, batch=batch)).memory for batch in (2, 3)
    )

    assert three - two == pytest.approx(each, rel=0.01)


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


def test_plan_reckons_with_the_discriminator(tiny_config: EMTConfig):
    recipe = TrainConfig(network=tiny_config, patch=16, batch=2)

    without, with_one = (
        make_plan(replace(recipe, discriminator=DiscriminatorConfig(weight=weight, width=16)))
        for weight in (0.0, 0.1)
    )

    own = sum(parameter.numel() for parameter in Discriminator(16).parameters())
    assert with_one.parameters == without.parameters
    assert with_one.memory > without.memory + 16 * own


def test_a_run_goes_on_with_the_recipe_of_its_checkpoint_and_names_what_is_changed(
    tmp_path: Path, options: list[str]
):
    assert run(app, [*options, "--set", "clip=0.5"]).exit_code == 0
    short = ["train", "--out", str(tmp_path / "run"), "--accelerator", "cpu", "--resume", "auto"]

    same = run(app, [*short, "--dry-run", "--json"])
    longer = run(app, [*short, "--steps", "3"])

    assert json.loads(same.stdout)["settings"]["clip"] == 0.5
    assert longer.exit_code == 0, longer.output
    assert "steps: 3 from here on, 2 so far" in longer.stderr
    assert load_weights(tmp_path / "run/best.safetensors").metadata["training"]["clip"] == 0.5


def test_all_that_keeps_a_run_from_going_on_is_named(tmp_path: Path, options: list[str]):
    assert run(app, options).exit_code == 0

    other = run(app, [*options, "--resume", "auto", "--set", "network.dim=40", "--set", "optimizer=adam"])

    assert other.exit_code == 2
    assert "network.dim is 20 there and 40" in other.stderr
    assert "optimizer is muon there and adam" in other.stderr


def test_json_has_steps_and_validations_as_they_come(tmp_path: Path, options: list[str]):
    more = ["--val", str(tmp_path / "pictures"), "--set", "validate_every=1", "--json"]

    lines = [json.loads(line) for line in run(app, [*options, *more]).stdout.splitlines()]

    assert [line.get("event") for line in lines] == ["validated", "progress", "validated", None]
    assert lines[1]["step"] == lines[1]["steps"] == 2
    assert lines[1]["losses"]["loss"] > 0
    assert lines[2]["scores"]["psnr"] > 5
    assert lines[3]["best"] == "psnr"


def test_without_validation_best_is_called_the_newest(tmp_path: Path, options: list[str]):
    result = run(app, [*options, "--json"])

    assert json.loads(result.stdout.splitlines()[-1])["best"] == "newest"
    assert "best.safetensors holds the newest weights" in result.stderr


def test_a_checkpoint_given_as_a_model_points_to_the_model(tmp_path: Path, options: list[str]):
    assert run(app, options).exit_code == 0
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()

    result = run(app, ["models", "info", str(checkpoint)])

    assert result.exit_code == 5
    assert f"its run's model is {tmp_path / 'run' / 'best.safetensors'}" in result.stderr

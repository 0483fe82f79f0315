"""Commands with networks of others: as with an EMT."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import clip
from PIL import Image
from typer.testing import CliRunner

from emt_cli.cli import app

community_networks = pytest.importorskip("community_networks", reason="needs spandrel")
run = CliRunner().invoke


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> Path:
    """Network files of scales 1, 2, 3 (gray) and 8."""
    folder = tmp_path_factory.mktemp("networks")
    for name in ("Compact", "Compact gray", "ESRGAN x1", "ESRGAN x8"):
        torch.save(community_networks.make(name, photo), folder / f"{name.replace(' ', '-')}.pth")
    return folder


@pytest.fixture
def picture(tmp_path: Path, photo: np.ndarray) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(photo[:40, :56]).save(path)
    return path


def facts(*arguments: str | Path) -> dict[str, object]:
    told = run(app, [*map(str, arguments), "--json"])
    assert told.exit_code == 0, told.output
    return dict(json.loads(told.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("name", "scale", "size"),
    [
        ("Compact", [], (112, 80)),
        ("Compact", ["--scale", "4"], (224, 160)),
        ("Compact", ["--scale", "1.5"], (84, 60)),
        ("Compact-gray", [], (168, 120)),
        ("ESRGAN-x1", [], (56, 40)),
        pytest.param("ESRGAN-x8", [], (448, 320), marks=pytest.mark.slow),
        pytest.param("ESRGAN-x8", ["--long-side", "300"], (300, 214), marks=pytest.mark.slow),
    ],
)
def test_the_scale_is_the_networks_own_or_the_one_asked_for(
    folder: Path, picture: Path, name: str, scale: list[str], size: tuple[int, int]
) -> None:
    done = facts("upscale", picture, "--model", folder / f"{name}.pth", "--engine", "torch", *scale)

    assert (done["out_width"], done["out_height"]) == size
    assert Image.open(str(done["output"])).size == size
    assert done["model"] == name


def test_a_network_of_scale_1_enlarges_nothing(folder: Path, picture: Path) -> None:
    told = run(app, ["upscale", str(picture), "--model", str(folder / "ESRGAN-x1.pth"), "--scale", "2"])

    assert told.exit_code == 2
    assert "beyond 1 times" in told.output


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (["--engine", "native"], 2, "computes EMT models only"),
        (["--precision", "bf16", "--engine", "torch"], 0, ""),
        (["--device", "cuda:9"], 7, ""),
    ],
)
def test_options_that_do_not_fit_have_their_exit_code(
    folder: Path, picture: Path, options: list[str], code: int, line: str
) -> None:
    told = run(app, ["upscale", str(picture), "--model", str(folder / "Compact.pth"), *options])

    assert told.exit_code == code, told.output
    assert line in told.output


def test_a_file_of_no_known_network_ends_with_5(tmp_path: Path, picture: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")

    told = run(app, ["upscale", str(picture), "--model", str(tmp_path / "other.pth")])

    assert told.exit_code == 5
    assert len(told.stderr.splitlines()) == 1


def test_models_info_tells_what_is_known_of_it(folder: Path) -> None:
    told = facts("models", "info", folder / "Compact.pth")

    assert told["architecture"] == "RealESRGAN Compact"
    assert (told["scale"], told["channels"], told["half"]) == (2, 3, True)
    assert told["parameters"] == sum(
        value.numel() for value in torch.load(folder / "Compact.pth", weights_only=True).values()
    )


@pytest.mark.parametrize("command", ["export", "explain", "train"])
def test_what_is_for_emts_says_so(folder: Path, picture: Path, command: str, tmp_path: Path) -> None:
    network = str(folder / "Compact.pth")
    arguments = {
        "export": [network, "-o", str(tmp_path / "net.onnx")],
        "explain": [str(picture), "--at", "5,5", "--model", network],
        "train": ["--data", str(picture.parent), "--init", network, "--out", str(tmp_path / "run")],
    }

    told = run(app, [command, *arguments[command]])

    assert told.exit_code == 5
    name = "train --init" if command == "train" else command
    assert f"`emt {name}` is for EMT models" in " ".join(told.output.split())


def test_a_batch_goes_on_and_knows_another_network(folder: Path, picture: Path, tmp_path: Path) -> None:
    out, network = tmp_path / "out", folder / "Compact.pth"
    other = tmp_path / "other.pth"
    state = torch.load(network, weights_only=True)
    torch.save(state | {"body.8.bias": state["body.8.bias"] + 0.1}, other)
    command = ["batch", picture, "-o", out, "--engine", "torch"]

    first = facts(*command, "--model", network)
    again = facts(*command, "--model", network)
    changed = facts(*command, "--model", other, "-y")

    assert [end["done"] for end in (first, again, changed)] == [1, 0, 1]
    assert Image.open(next(out.glob("*.png"))).size == (112, 80)


def test_a_video_is_enlarged_and_verified(folder: Path, tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mp4")

    done = facts("video", source, "--model", folder / "Compact.pth", "--engine", "torch")

    assert done["event"] == "done"
    assert done["verified"]
    assert Path(str(done["output"])).name == "clip_x2.mp4"


def test_a_benchmark_sets_it_beside_an_emt(folder: Path, tmp_path: Path, photo: np.ndarray) -> None:
    (tmp_path / "set").mkdir()
    Image.fromarray(photo).save(tmp_path / "set" / "photo.png")

    told = run(
        app,
        [
            *("benchmark", "--model", "emt-lite", "--model", str(folder / "Compact.pth")),
            *("--set", str(tmp_path / "set"), "--scale", "2", "--json"),
        ],
    )

    assert told.exit_code == 0, told.output
    models = {mean["method"] for mean in json.loads(told.stdout)["means"]}
    assert {"emt-lite", str(folder / "Compact.pth")} <= models


@pytest.mark.slow
def test_ray_enlarges_with_it_to_the_same_bytes(folder: Path, picture: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    command = ["batch", picture, "--model", folder / "Compact.pth", "--engine", "torch"]

    facts(*command, "-o", tmp_path / "here")
    facts(*command, "-o", tmp_path / "ray", "--ray")

    (here,), (there,) = ((tmp_path / name).glob("*.png") for name in ("here", "ray"))
    assert here.read_bytes() == there.read_bytes()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_added_network_is_known_by_its_name(folder: Path, picture: Path, cache: Path) -> None:
    network = folder / "Compact.pth"

    told = facts("models", "add", network, "--name", "sharp", "--source", "a friend")

    assert told["sha256"] == hashlib.sha256(network.read_bytes()).hexdigest()
    assert Path(str(told["path"])).read_bytes() == network.read_bytes()
    listed = {
        entry["name"]: entry for entry in map(json.loads, run(app, ["models", "--json"]).stdout.splitlines())
    }
    assert listed["sharp"]["source"] == "a friend"
    assert listed["sharp"]["files"][0]["scale"] == 2
    done = facts("upscale", picture, "--model", "sharp", "--engine", "torch")
    assert (done["model"], done["out_width"]) == ("sharp", 112)


def test_an_added_network_does_not_change_what_auto_means(folder: Path, picture: Path, cache: Path) -> None:
    facts("models", "add", folder / "ESRGAN-x8.pth", "--name", "eight")

    done = facts("upscale", picture)

    assert (done["model"], done["passes"]) == ("emt-lite", [4])


@pytest.mark.parametrize(("name", "code"), [("emt", 2), ("../up", 2), ("sharp", 6)])
def test_names_that_are_taken_or_none_are_refused(folder: Path, cache: Path, name: str, code: int) -> None:
    facts("models", "add", folder / "Compact.pth", "--name", "sharp")

    told = run(app, ["models", "add", str(folder / "Compact-gray.pth"), "--name", name])

    assert told.exit_code == code
    assert sorted(path.name for path in (cache / "added").iterdir()) == ["sharp.json", "sharp.pth"]


def test_an_added_file_that_has_changed_is_refused(folder: Path, picture: Path, cache: Path) -> None:
    path = Path(str(facts("models", "add", folder / "Compact.pth", "--name", "sharp")["path"]))
    path.write_bytes((folder / "Compact-gray.pth").read_bytes())

    told = run(app, ["upscale", str(picture), "--model", "sharp"])

    assert told.exit_code == 5
    assert "changed since it was added" in told.output

"""`emt export`: files other programs read, that answer what torch answers, or no file at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner, Result

from emt_cli.cli import app
from emt_cli.engine import folded
from emt_cli.engine.openvino.compiled_model import openvino_core
from emt_cli.engine.torch.network import build_network
from emt_cli.engine.weights import load_weights, save_weights
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT


@pytest.fixture
def tiny(tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, tiny_config, tiny_network.state_dict(), {"name": "tiny"})
    return path


def export(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def batch(photo: np.ndarray, height: int, width: int) -> np.ndarray:
    parts = [photo[:height, :width], photo[-height:, -width:]]
    return np.ascontiguousarray(np.stack(parts).transpose(0, 3, 1, 2).astype(np.float32))


@pytest.mark.parametrize("size", [(32, 64), (33, 47), (5, 90)])
def test_onnxruntime_answers_what_torch_answers(
    tiny: Path, tmp_path: Path, tiny_network: EMT, photo: np.ndarray, size: tuple[int, int]
) -> None:
    x = batch(photo, *size)
    with torch.inference_mode():
        expected = tiny_network(torch.from_numpy(x)).numpy()

    result = export(tiny, "-o", tmp_path / "tiny.onnx")

    assert result.exit_code == 0, result.output
    session = onnxruntime.InferenceSession(tmp_path / "tiny.onnx", providers=["CPUExecutionProvider"])
    answer = session.run(["enlarged"], {"rgb": x})[0]
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-2)


def test_onnx_says_what_it_is_and_passes_the_checker(tiny: Path, tmp_path: Path) -> None:
    export(tiny, "-o", tmp_path / "tiny.onnx")

    model = onnx.load(tmp_path / "tiny.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    sides = [side.dim_param or side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", 3, "height", "width"]
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["model"] == "tiny"
    assert told["weights_sha256"] == load_weights(tiny).sha256


def test_openvino_reads_xml_and_bin(tiny: Path, tmp_path: Path, tiny_network: EMT, photo: np.ndarray) -> None:
    x = batch(photo, 33, 47)
    with torch.inference_mode():
        expected = tiny_network(torch.from_numpy(x)).numpy()

    result = export(tiny, "-o", tmp_path / "tiny.xml")

    assert result.stdout.split() == [str(tmp_path / "tiny.bin"), str(tmp_path / "tiny.xml")]
    compiled = openvino_core().compile_model(
        tmp_path / "tiny.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    np.testing.assert_allclose(compiled(x)[0], expected, rtol=1e-4, atol=1e-2)


def test_json_tells_files_and_the_largest_difference(tiny: Path, tmp_path: Path) -> None:
    told = json.loads(export(tiny, "-o", tmp_path / "tiny.onnx", "--json").stdout)

    assert told["files"] == [str(tmp_path / "tiny.onnx")]
    assert told["bytes"] == (tmp_path / "tiny.onnx").stat().st_size
    assert told["scale"] == 2
    assert 0 < told["largest_difference"] < 1e-2
    assert told["least_side"] == 5


@pytest.mark.parametrize("name", ["tiny.onnx", "tiny.xml"])
def test_a_file_that_answers_otherwise_is_not_kept(
    tiny: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folded, "EPSILON", np.float32(0.1))
    (tmp_path / "out").mkdir()

    result = export(tiny, "-o", tmp_path / "out" / name)

    assert result.exit_code == 9
    assert "otherwise than torch" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_what_exists_is_replaced_only_when_told(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.bin").write_text("mine")

    refused = export(tiny, "-o", tmp_path / "tiny.xml")
    assert refused.exit_code == 6
    assert (tmp_path / "tiny.bin").read_text() == "mine"
    assert not (tmp_path / "tiny.xml").exists()

    assert export(tiny, "-o", tmp_path / "tiny.xml", "-y").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("emt-lite", "-o", "x.pt"), "name it .onnx"),
        (("emt-lite", "-o", "x.onnx", "--scale", "5"), "scales: x2, x3, x4"),
        (("emt-lyte", "-o", "x.onnx"), "did you mean emt-lite"),
        (("emt-lite", "-o", "nowhere/x.onnx"), "does not exist"),
    ],
)
def test_impossible_wishes_are_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], what: str
) -> None:
    monkeypatch.chdir(tmp_path)

    result = export(*arguments)

    assert result.exit_code in (2, 4, 5)
    assert what in result.stderr
    assert result.stderr.count("\n") == 1


def test_missing_packages_are_named(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emt_cli.jobs.export.find_spec", lambda name: None)

    result = export(tiny, "-o", tmp_path / "tiny.onnx")

    assert result.exit_code == 2
    assert 'needs onnx and onnxruntime; pip install "emt-cli[export]"' in result.stderr


@pytest.mark.slow
def test_the_published_network_agrees_on_set5(shared: Path, tmp_path: Path) -> None:
    from emt_cli.media.picture.io import read_picture
    from emt_cli.media.resize import bicubic_downscale

    weights = shared / "weights" / "EMT_LSR_x4.pth"
    network = build_network(load_weights(weights))
    export(weights, "-o", tmp_path / "emt.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "emt.onnx", providers=["CPUExecutionProvider"])

    for path in sorted((shared / "data/benchmark/Set5/HR").iterdir())[:2]:
        lr = bicubic_downscale(read_picture(path).pixels, 4)
        x = np.ascontiguousarray(lr.transpose(2, 0, 1)[None].astype(np.float32))
        with torch.inference_mode():
            expected = network(torch.from_numpy(x)).numpy()
        assert np.abs(session.run(None, {"rgb": x})[0] - expected).max() < 1e-2

"""`emt benchmark --speed`: what is counted, what is measured, what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from emt_cli.cli import app
from emt_cli.engine.weights import save_weights
from emt_cli.evaluation.multiply_adds import count_multiply_adds
from emt_cli.evaluation.speed import make_cases
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT


@pytest.fixture
def tiny(tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, tiny_config, tiny_network.state_dict(), {"name": "tiny"})
    return path


def speed(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["benchmark", "--speed", "--runs", "2", *map(str, arguments)])


def test_counted_multiply_adds_equal_the_formula_where_windows_fit(tiny_config: EMTConfig) -> None:
    assert count_multiply_adds(tiny_config, 16, 24) == tiny_config.multiply_adds * 16 * 24


def test_published_network_needs_about_60_g_for_720p() -> None:
    assert count_multiply_adds(EMTConfig(scale=4), 180, 320) == pytest.approx(60e9, rel=0.03)


@pytest.mark.slow
def test_everything_asked_for_stands_side_by_side(tiny: Path) -> None:
    options = (
        "--engines",
        "torch,eager",
        "--precision",
        "fp32,bf16",
        "--tile",
        "off,16",
        "--size",
        "40x24,16x16",
    )

    result = speed("--model", tiny, "--json", *options)

    record = json.loads(result.stdout)
    cases = {(s["engine"], s["precision"], s["tile"], s["width"], s["height"]) for s in record["speeds"]}
    assert len(cases) == len(record["speeds"]) == 2 * (2 * 2 + 2)
    assert all(s["seconds"] > 0 and s["spread"] >= 0 and s["peak_bytes"] >= 0 for s in record["speeds"])
    tiled = next(s for s in record["speeds"] if s["tile"] == 16 and s["width"] == 40)
    assert tiled["tiles"] == 6
    assert tiled["pixels_per_second"] == pytest.approx(40 * 24 / tiled["seconds"], rel=0.01)


def test_share_is_the_rate_over_that_of_a_matrix_product(tiny: Path) -> None:
    record = json.loads(speed("--model", tiny, "--json", "--size", "32x32").stdout)

    (measured,) = record["speeds"]
    rate = record["machine"]["matrix_product_multiply_adds_per_second"]["float32"]
    share = measured["multiply_adds"] / measured["seconds"] / rate
    assert measured["matrix_product_share"] == pytest.approx(share, abs=1e-4)


def test_table_tells_parameters_and_machine(tiny: Path, tiny_network: EMT) -> None:
    result = speed("--model", tiny, "--size", "32x32")

    count = sum(parameter.numel() for parameter in tiny_network.parameters())
    assert result.exit_code == 0
    assert f"{count:,} parameters" in result.stdout
    assert "G multiply-adds/s in float32" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--size", "96"), "write WIDTHxHEIGHT"),
        (("--size", "0x96"), "write WIDTHxHEIGHT"),
        (("--engines", "tensorrt"), "not an engine"),
        (("--precision", "fp8"), "use auto"),
        (("--engines", "native", "--precision", "fp16"), "does not compute in fp16"),
        (("--model", "bicubic"), "for networks"),
        (("--set", "Set5"), "without pictures"),
    ],
)
def test_impossible_options_are_refused_in_a_line(arguments: tuple[str, ...], what: str) -> None:
    result = speed("--model", "emt-lite", *arguments)

    assert result.exit_code == 2
    assert what in result.stderr
    assert result.stderr.count("\n") == 1


def test_engines_are_measured_in_precisions_they_have(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emt_cli.engine.runner.has_bf16_kernels", lambda: False)
    result = speed("--model", tiny, "--json", "--engines", "auto,native,openvino", "--precision", "fp32,bf16")

    cases = [(s["engine"], s["precision"]) for s in json.loads(result.stdout)["speeds"]]
    assert cases == [
        ("native", "fp32"),
        ("torch", "bf16"),
        ("native", "fp32"),
        ("openvino", "fp32"),
        ("openvino", "bf16"),
    ]


def test_engine_without_tiles_is_measured_once() -> None:
    cases = make_cases(
        ["m"], [4], engines=["torch", "eager"], precisions=["fp32"], tiles=[None, 64], sizes=[(8, 8)]
    )

    assert [(case.engine, case.tile) for case in cases] == [("torch", None), ("torch", 64), ("eager", 0)]

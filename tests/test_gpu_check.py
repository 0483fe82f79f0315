"""The check of GPUs: it runs on a CPU as well, finds what is wrong, and says so where there is no GPU."""

from __future__ import annotations

import sys

import gpu_check
import numpy as np
import pytest


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *arguments])
    return gpu_check.main()


def test_without_a_gpu_it_is_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "has_gpu", lambda: False)

    assert run(monkeypatch) == 0

    assert capsys.readouterr().out.startswith("not run")


@pytest.mark.slow
def test_it_agrees_on_the_cpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--device", "cpu", "--size", "48x48", "--frames", "3", "emt-lite") == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["fp32", "fp16", "bf16", "video"]


def test_an_answer_that_differs_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.full((40, 40, 3), 90, np.float32)
    pixels[::2, ::5] = 200
    monkeypatch.setattr(gpu_check, "LEAST", {"bf16": 99.0})

    assert not gpu_check.check_model("emt-lite", "cpu", pixels, pixels)

    assert "WRONG" in capsys.readouterr().out

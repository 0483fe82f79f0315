"""Fixtures of runs of seconds: one thread, which is fastest for networks as small as these, and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def pictures(tmp_path: Path, photo: np.ndarray) -> Path:
    """A folder of three pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, part in (("a", photo), ("b", photo[::-1]), ("c", photo[:64, 20:])):
        cv2.imwrite(str(folder / f"{name}.png"), part[..., ::-1])
    return folder

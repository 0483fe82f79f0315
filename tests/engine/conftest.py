"""Fixtures of engines: networks of others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from emt_cli.engine.community.network import CommunityNetwork
from emt_cli.engine.models import load_model

Make = Callable[[str], CommunityNetwork]


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> Make:
    """Write a random network's file once, and read it."""
    community_networks = pytest.importorskip("community_networks", reason="needs spandrel")
    folder = tmp_path_factory.mktemp("community")

    def read(name: str) -> CommunityNetwork:
        path = folder / f"{name.replace(' ', '-')}.pth"
        if not path.exists():
            torch.save(community_networks.make(name, photo), path)
        network = load_model(path)
        assert isinstance(network, CommunityNetwork)
        return network

    return read

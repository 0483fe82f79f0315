"""Plans of pictures that are long and thin."""

from __future__ import annotations

import pytest

from emt_cli.engine.torch.network import weights_of
from emt_cli.engine.upscaler import Upscaler
from emt_cli.model.emt import EMT


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize("shape", [(1, 1 << 20), (1 << 20, 1), (3, 400_000)])
def test_a_long_thin_picture_is_cut_so_that_its_plan_stays_small(
    tiny_network: EMT, engine: str, shape: tuple[int, int]
) -> None:
    upscaler = Upscaler(weights_of(tiny_network), engine=engine)

    assert upscaler.peak_bytes(*shape) <= upscaler.runner.cpu_budget

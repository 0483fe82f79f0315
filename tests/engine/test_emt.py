"""The network: the released one's answers, and what holds for every config of the family."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from emt_cli.engine.torch.network import build_network
from emt_cli.engine.weights import load_weights
from emt_cli.model import layers
from emt_cli.model.attention import SWSA
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT
from emt_cli.model.layers import pixel_mix, shift

PAPER_WINDOWS = EMTConfig(scale=2, dim=12, blocks=1, layers=3, heads=1)

ODD_CONFIGS = {
    "dim no multiple of five": EMTConfig(2, 12, 1, 2, 1, heads=2, windows=((8, 4), (4, 8))),
    "three windows": EMTConfig(
        3, 18, 2, 3, 2, 2, windows=((8, 4), (4, 8), (6, 6)), shifts=((4, 2), (2, 4), (3, 3))
    ),
    "one window": EMTConfig(4, 8, 1, 2, 1, 4, windows=((8, 8),), shifts=((4, 4),)),
    "local layers only": EMTConfig(2, 10, 1, 2, 0, 1, mlp_ratio=3),
    "global layers only": EMTConfig(2, 10, 2, 2, 2, 1, mlp_ratio=1, windows=((5, 3), (3, 5))),
    "hidden channels and a half": EMTConfig(3, 10, 1, 2, 1, 1, mlp_ratio=1.5),
    "smallest": EMTConfig(2, 5, 1, 1, 1, 1, 1, windows=((1, 1),), shifts=((0, 0),)),
}


def picture(h: int, w: int, *, count: int = 1) -> Tensor:
    """Smooth colours, RGB (count, 3, h, w), 0..255."""
    generator = torch.Generator().manual_seed(h * 1000 + w)
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 255
    return F.interpolate(coarse, (h, w), mode="bilinear", align_corners=True)


def network_of(config: EMTConfig) -> EMT:
    torch.manual_seed(1)
    return EMT(config).eval()


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    "shape", ["odd", *(pytest.param(shape, marks=pytest.mark.slow) for shape in ("aligned", "wide"))]
)
def test_released_network_answers_the_golden_files(shared: Path, scale: int, shape: str) -> None:
    network = build_network(load_weights(shared / f"weights/EMT_LSR_x{scale}.pth"))
    golden = np.load(shared / f"golden/emt_x{scale}_{shape}.npz")
    low = torch.from_numpy(golden["lr"]).permute(2, 0, 1)[None].float()

    with torch.inference_mode():
        high = network(low)[0].permute(1, 2, 0).numpy()

    assert high.shape == golden["sr"].shape
    assert np.abs(high - golden["sr"]).max() < 0.001


@pytest.mark.parametrize(("scale", "published"), [(2, 670_572), (3, 678_687), (4, 690_048)])
def test_published_config_has_the_published_number_of_parameters(scale: int, published: int) -> None:
    with torch.device("meta"):
        network = EMT(EMTConfig(scale))

    assert sum(parameter.numel() for parameter in network.parameters()) == published


def test_multiply_adds_are_the_papers_for_a_picture_of_1280x720() -> None:
    assert EMTConfig(scale=4).multiply_adds * 320 * 180 == pytest.approx(60e9, rel=0.01)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 40), (40, 1), (2, 3), (16, 16), (17, 31), (32, 8)])
def test_sides_from_one_pixel_up_are_enlarged(h: int, w: int) -> None:
    network = network_of(PAPER_WINDOWS)

    with torch.inference_mode():
        high = network(picture(h, w))

    assert high.shape == (1, 3, 2 * h, 2 * w)
    assert high.isfinite().all()


def test_small_picture_is_answered_as_its_replicated_extension() -> None:
    network = network_of(PAPER_WINDOWS)
    low = picture(5, 7)

    with torch.inference_mode():
        high = network(low)
        extended = network(F.pad(low, (0, 25, 0, 27), mode="replicate"))

    torch.testing.assert_close(high, extended[..., :10, :14])


@pytest.mark.parametrize("config", ODD_CONFIGS.values(), ids=ODD_CONFIGS.keys())
def test_odd_configs_of_the_family_work(config: EMTConfig) -> None:
    network = network_of(config)

    with torch.inference_mode():
        high = network(picture(13, 22))

    assert high.shape == (1, 3, 13 * config.scale, 22 * config.scale)
    assert high.isfinite().all()


def test_batch_equals_its_pictures_one_by_one(tiny_network: EMT) -> None:
    low = picture(24, 17, count=3)

    with torch.inference_mode():
        together = tiny_network(low)
        singly = torch.cat([tiny_network(one[None]) for one in low])

    torch.testing.assert_close(together, singly, atol=1e-3, rtol=1e-5)


def test_every_second_attention_layer_is_shifted_counted_through_the_network() -> None:
    network = EMT(EMTConfig(2, 10, blocks=3, layers=2, attention_layers=1, heads=1))

    attention = [layer.mixer for layer in network.body if isinstance(layer.mixer, SWSA)]

    assert [any(map(any, mixer.shifts)) for mixer in attention] == [False, True, False]


def test_attention_is_the_softmax_of_q_with_itself_times_v() -> None:
    config = EMTConfig(
        2, 6, blocks=1, layers=1, attention_layers=1, heads=3, windows=((4, 4),), shifts=((2, 2),)
    )
    mixer = SWSA(config, shifted=False).eval()
    x = torch.randn(1, 4, 4, 6)

    with torch.inference_mode():
        y = mixer(x)
        tokens = mixer.norm(mixer.qv(x)).reshape(16, 2, 3, 2)  # token, q or v, head, channel
        q, v = tokens[:, 0].double(), tokens[:, 1].double()
        weights = torch.softmax(torch.einsum("inc,jnc->nij", q, q), -1)
        expected = mixer.proj(torch.einsum("nij,jnc->inc", weights, v).float().reshape(1, 4, 4, 6))

    torch.testing.assert_close(y, expected)


@pytest.fixture(params=["by slices", "by a table, as on a GPU"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "table" in request.param:
        monkeypatch.setattr(layers, "_moved", layers._gathered)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("channels", [5, 12])
def test_pixel_mix_reads_the_neighbours_around_circular_borders(channels: int) -> None:
    x = torch.randn(1, 4, 6, channels).numpy()

    mixed = pixel_mix(torch.from_numpy(x)).numpy()

    moves = [(0, -1), (0, 1), (-1, 0), (1, 0), (0, 0)]
    for channel in range(channels):
        expected = np.roll(x[..., channel], moves[channel % 5], axis=(1, 2))
        np.testing.assert_array_equal(mixed[..., channel], expected)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("channels", [10, 13])
def test_shift_reads_the_neighbours_and_zeros_beyond_the_borders(channels: int) -> None:
    x = torch.randn(1, 4, 6, channels).numpy()

    shifted = shift(torch.from_numpy(x)).numpy()

    around = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    offsets = [(0, 1), (0, -1), (1, 0), (-1, 0), (0, 0)]
    for channel in range(channels):
        dy, dx = offsets[min(channel // (channels // 5), 4)]
        expected = around[:, 1 + dy : 5 + dy, 1 + dx : 7 + dx, channel]
        np.testing.assert_array_equal(shifted[..., channel], expected)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("move", [pixel_mix, shift])
def test_hand_written_gradients_are_right(move) -> None:  # type: ignore[no-untyped-def]
    x = torch.randn(1, 3, 4, 7, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(move, (x,))


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": 5},
        {"dim": 0},
        {"dim": 61},
        {"layers": 0},
        {"attention_layers": 7},
        {"windows": ()},
        {"windows": ((0, 8), (8, 0))},
        {"windows": ((8, 8),)},
        {"mlp_ratio": -1},
        {"mlp_ratio": 1.51},
        {"mlp_ratio": float("nan")},
        {"mlp_ratio": float("inf")},
    ],
)
def test_impossible_configs_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must"):
        EMTConfig(**{"scale": 2, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "config",
    [EMTConfig(2), EMTConfig(4, dim=64, blocks=1, layers=7, attention_layers=1, heads=2, mlp_ratio=1.5)],
)
def test_a_config_knows_the_names_and_shapes_of_the_network(config: EMTConfig) -> None:
    network = EMT(config)

    assert config.tensor_shapes == {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert config.parameters == sum(parameter.numel() for parameter in network.parameters())

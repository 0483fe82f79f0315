"""Fixtures shared by all tests: reference data, tiny networks, small pictures."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emt_cli.engine.weights import save_weights
from emt_cli.jobs.target import Target
from emt_cli.jobs.video.plan import VideoJob
from emt_cli.jobs.video.run import run_video
from emt_cli.jobs.video.task import Settings
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT
from emt_cli.steps import finish

torch.set_num_threads(2)
for number in {getattr(signal, name, signal.SIGINT) for name in ("SIGINT", "SIGHUP")}:
    if signal.getsignal(number) == signal.SIG_IGN:  # by nohup, or & in a script
        # A signal that is ignored stays so in programs that are started; one that is handled does not.
        signal.signal(number, lambda *_: None)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep fetched models and compiled code away from the user's, and the user's defaults away from tests."""
    os.environ["EMT_CONFIG"] = ""
    os.environ["EMT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def denormal_numbers() -> Iterator[None]:
    """Undo what engines do to floating-point numbers for speed; hypothesis insists on all of them."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference data of the maintainers: golden outputs, released weights, standard test sets."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("the maintainers' reference data (golden outputs, Set5, ...) is not on this machine")
    return folder


@pytest.fixture(scope="session")
def tiny_config() -> EMTConfig:
    """A network of the family small enough for any test."""
    return EMTConfig(
        scale=2,
        dim=20,
        blocks=2,
        layers=2,
        attention_layers=1,
        heads=1,
        windows=((8, 4), (4, 8)),
        shifts=((4, 2), (2, 4)),
    )


@pytest.fixture(scope="session")
def tiny_network(tiny_config: EMTConfig) -> EMT:
    """Random weights, calm enough that single precision suffices; batch statistics other than 0 and 1."""
    torch.manual_seed(0)
    network = EMT(tiny_config)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A natural picture, RGB uint8 (96, 120, 3): the cat of scikit-image, halved."""
    from skimage.data import chelsea

    cat = chelsea()[40:232, 80:320].astype(np.float32)
    halved = cat.reshape(96, 2, 120, 2, 3).mean(axis=(1, 3))
    return np.round(halved).astype(np.uint8)


@pytest.fixture(scope="session")
def deep(photo: np.ndarray) -> np.ndarray:
    """The photo with 16 bits, the low ones in use."""
    noise = np.random.default_rng(0).integers(0, 257, photo.shape)
    return (photo.astype(np.uint32) * 256 + noise).clip(0, 65535).astype(np.uint16)


@pytest.fixture(scope="session")
def ramp(photo: np.ndarray) -> np.ndarray:
    """Alpha of the photo's size from clear to opaque, 8 bits."""
    return np.linspace(0, 255, photo[..., 0].size).astype(np.uint8).reshape(photo.shape[:2])


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_network: EMT) -> str:
    """A model file, x2, that takes no time."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_weights(path, tiny_network.config, tiny_network.state_dict(), {"name": "tiny"})
    return str(path)


@pytest.fixture
def enlarge(model: str) -> Callable[..., dict[str, Any]]:
    """Run a video job on a clip with settings that differ from the usual ones."""

    def run(clip: Path, output: Path | None = None, **settings: Any) -> dict[str, Any]:
        job = VideoJob(Settings(**{"target": Target(2), "model": model} | settings))
        return finish(run_video(job, job.open(clip, output)))

    return run

"""A network of others as a teacher: its answers are made once, or to the damaged patches of each step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image

from emt_cli.engine.models import load_model
from emt_cli.engine.upscaler import Upscaler
from emt_cli.errors import UsageError
from emt_cli.model.config import EMTConfig
from emt_cli.training.adversary import Adversary
from emt_cli.training.config import TrainConfig
from emt_cli.training.dataset import TEACHER, PictureMix, PictureStore
from emt_cli.training.live_teacher import LiveTeacher
from emt_cli.training.loop import train
from emt_cli.training.prepare import Source, prepare
from emt_cli.training.start import Place, check_sources
from emt_cli.training.tables import DiscriminatorConfig
from emt_cli.training.teacher import PART, add_answers, load_teacher

community_networks = pytest.importorskip("community_networks", reason="needs spandrel")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "compact-x2.pth"
    torch.save(community_networks.make("Compact", photo), path)
    return path


@pytest.fixture
def store(tmp_path: Path, photo: np.ndarray) -> PictureStore:
    (tmp_path / "pictures").mkdir()
    for index, part in enumerate((photo, photo[::-1], photo[:, ::-1])):
        Image.fromarray(part).save(tmp_path / "pictures" / f"{index}.png")
    return prepare(Source((tmp_path / "pictures",), 2, smallest=16), tmp_path / "store")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the pictures that the teacher is asked for."""
    asked: list[int] = []
    plain = Upscaler.upscale

    def upscale(self: Upscaler, image: np.ndarray, **how: object) -> np.ndarray:
        asked.append(len(asked))
        return plain(self, image, **how)

    monkeypatch.setattr(Upscaler, "upscale", upscale)
    return asked


def test_its_answers_are_spandrels(store: PictureStore, teacher: Path) -> None:
    taught = add_answers(store, str(teacher))

    network = load_model(teacher)
    x = torch.tensor(np.array(store.lr(0))).permute(2, 0, 1)[None].float() / 255
    expected = network.descriptor(x)[0].permute(1, 2, 0).numpy() * 255
    answer = taught.teacher(0)
    assert answer is not None
    assert np.abs(answer - expected).max() <= 0.51  # bytes
    patches = PictureMix([taught]).draw(1, 2, batch=4, side=16)
    assert patches.teacher is not None
    assert not np.array_equal(patches.teacher, patches.hr)


def test_answers_are_made_once(store: PictureStore, teacher: Path, asked: list[int]) -> None:
    add_answers(store, str(teacher))
    add_answers(store, str(teacher))

    assert len(asked) == 3


def test_answers_broken_off_go_on(store: PictureStore, teacher: Path, asked: list[int]) -> None:
    whole = (add_answers(store, str(teacher)).folder / TEACHER).read_bytes()
    (store.folder / TEACHER).unlink()
    (store.folder / PART).write_bytes(whole[: len(whole) * 2 // 3 - 5])
    asked.clear()

    add_answers(store, str(teacher))

    assert len(asked) == 2  # the second was cut off, the third missing
    assert (store.folder / TEACHER).read_bytes() == whole


def test_one_of_another_scale_is_refused(teacher: Path) -> None:
    with pytest.raises(UsageError, match="enlarges x2, the run x4; name one of x4"):
        load_teacher(str(teacher), 4)


def test_it_answers_damaged_patches_in_the_colours_of_the_originals(teacher: Path, photo: np.ndarray) -> None:
    lr = torch.tensor(photo[:20, :24].copy()).permute(2, 0, 1)[None].float()
    plain = (load_model(teacher).descriptor(lr / 255) * 255).clamp(0, 255)
    tint = torch.tensor([6.0, -3.0, 1.0]).view(1, 3, 1, 1)
    original = 0.8 * plain + 20 + tint

    answer = LiveTeacher(str(teacher), 2, Fabric(accelerator="cpu")).answer(lr, original)

    assert torch.allclose(cv_blur(answer), cv_blur(original), atol=2.0)
    detail = (plain - cv_blur(plain)).numpy()
    assert np.corrcoef(detail.ravel(), (answer - cv_blur(answer)).numpy().ravel())[0, 1] > 0.98


def cv_blur(x: torch.Tensor) -> torch.Tensor:
    """Return means over squares of 17 pixels, the border repeated."""
    planes = [cv2.blur(plane.numpy(), (17, 17), borderType=cv2.BORDER_REPLICATE) for plane in x[0]]
    return torch.tensor(np.stack(planes))[None]


def test_it_has_its_share_of_the_steps(
    tmp_path: Path, pictures: Path, teacher: Path, tiny_config: EMTConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.Size] = []
    plain = LiveTeacher.answer

    def answer(self: LiveTeacher, lr: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        asked.append(lr.shape)
        return plain(self, lr, original)

    monkeypatch.setattr(LiveTeacher, "answer", answer)
    config = TrainConfig(
        network=tiny_config, data=(str(pictures),), steps=8, batch=2, patch=12, warmup=2,
        teacher=str(teacher), teacher_sees="damaged", teacher_share=0.25,
    )  # fmt: skip

    list(train(config, Place(tmp_path / "run")))

    assert asked == [(2, 3, 12, 12)] * 2
    assert not list((tmp_path / "run").rglob(TEACHER))


@pytest.mark.parametrize("real", ["originals", "targets"])
def test_discriminator_tells_answers_from_originals_or_from_the_teachers(
    tmp_path: Path,
    pictures: Path,
    teacher: Path,
    tiny_config: EMTConfig,
    monkeypatch: pytest.MonkeyPatch,
    real: str,
) -> None:
    answers: list[torch.Tensor] = []
    originals: list[torch.Tensor] = []
    shown: list[torch.Tensor] = []
    answer_of, judged = LiveTeacher.answer, Adversary.discriminator_loss

    def answer(self: LiveTeacher, lr: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        answers.append(answer_of(self, lr, original))
        originals.append(original)
        return answers[-1]

    def judge(self: Adversary, ours: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        shown.append(real)
        return judged(self, ours, real)

    monkeypatch.setattr(LiveTeacher, "answer", answer)
    monkeypatch.setattr(Adversary, "discriminator_loss", judge)
    config = TrainConfig(
        network=tiny_config, data=(str(pictures),), steps=2, batch=2, patch=12, warmup=2,
        teacher=str(teacher), teacher_sees="damaged", teacher_share=0.5,
        discriminator=DiscriminatorConfig(weight=0.1, width=4, real=real),
    )  # fmt: skip

    list(train(config, Place(tmp_path / "run")))

    assert len(answers) == 1  # the second step's
    wanted = answers[0] if real == "targets" else originals[0]
    assert torch.equal(shown[1], wanted[:, :, 1:])
    assert not torch.equal(answers[0], originals[0])


def test_folder_cannot_answer_damaged_patches(tmp_path: Path, pictures: Path, tiny_config: EMTConfig) -> None:
    config = TrainConfig(
        network=tiny_config, data=(str(pictures),), patch=12, teacher=str(pictures), teacher_sees="damaged"
    )

    with pytest.raises(UsageError, match="a folder cannot answer damaged patches"):
        list(train(config, Place(tmp_path / "run")))


def test_teacher_of_grays_is_refused_before_pictures_are_decoded(
    tmp_path: Path, pictures: Path, tiny_config: EMTConfig, photo: np.ndarray
) -> None:
    torch.save(community_networks.make("Compact gray", photo), tmp_path / "gray.pth")
    config = TrainConfig(
        network=replace(tiny_config, scale=3), data=(str(pictures),), patch=12,
        teacher=str(tmp_path / "gray.pth"), teacher_sees="damaged",
    )  # fmt: skip

    with pytest.raises(UsageError, match="knows grays alone; name one of RGB"):
        check_sources(config, Place(tmp_path / "run"))

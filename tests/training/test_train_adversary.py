"""Runs with a discriminator: what it learns, what is kept of it, what a bad step leaves alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric")

from lightning_fabric import Fabric
from torch.nn.functional import softplus

from emt_cli.engine.weights import load_weights
from emt_cli.errors import InputError, UsageError
from emt_cli.model.config import EMTConfig
from emt_cli.training.adversary import Adversary
from emt_cli.training.checkpoint import load_checkpoint
from emt_cli.training.config import TrainConfig
from emt_cli.training.discriminator import Discriminator
from emt_cli.training.loop import TrainStep, train
from emt_cli.training.record import read_log
from emt_cli.training.start import Place
from emt_cli.training.tables import DiscriminatorConfig, LossConfig


@pytest.fixture
def config(pictures: Path, tiny_config: EMTConfig) -> TrainConfig:
    return TrainConfig(
        network=tiny_config,
        losses=LossConfig(pixel="charbonnier", frequency_weight=0.1, sharpen=0.5),
        discriminator=DiscriminatorConfig(weight=0.1, width=4, learning_rate=1e-3),
        data=(str(pictures),),
        steps=6,
        batch=2,
        patch=12,
        learning_rate=2e-3,
        warmup=2,
        ema=0.9,
        checkpoint_every=2,
    )


def finish(config: TrainConfig, out: Path, resume: str = "") -> list[TrainStep]:
    return list(train(config, Place(out, resume=resume)))


def judge(folder: Path, step: int) -> dict[str, torch.Tensor]:
    state = load_checkpoint(folder / f"checkpoints/step-{step:08d}.pt").discriminator
    assert state is not None
    return state["network"]


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_broken_off_run_goes_on_bit_exactly_with_its_discriminator(tmp_path: Path, config: TrainConfig):
    whole = finish(config, tmp_path / "whole")
    steps = train(config, Place(tmp_path / "parts"))
    first = [next(steps) for _ in range(3)]
    steps.close()

    rest = finish(config, tmp_path / "parts", "auto")

    assert [step.step for step in rest] == [3, 4, 5, 6]
    assert [step.losses for step in [*first[:2], *rest]] == [step.losses for step in whole]
    assert same(judge(tmp_path / "parts", 6), judge(tmp_path / "whole", 6))


def test_discriminator_comes_in_at_its_step(tmp_path: Path, config: TrainConfig):
    late = replace(config, discriminator=replace(config.discriminator, start=3))

    steps = finish(late, tmp_path / "run")

    assert ["discriminator" in step.losses for step in steps] == [False] * 3 + [True] * 3
    assert ["adversarial" in step.losses for step in steps] == [False] * 3 + [True] * 3


def test_log_has_each_term_of_the_loss(tmp_path: Path, config: TrainConfig):
    finish(config, tmp_path / "run")

    (line,) = [line for line in read_log(tmp_path / "run") if "loss" in line]
    terms = line["loss_pixel"] + line["loss_frequency"] + line["loss_adversarial"]
    assert line["loss"] == pytest.approx(terms, rel=1e-6)
    assert line["loss_discriminator"] == pytest.approx(math.log(2), abs=0.05)


@pytest.mark.parametrize("whose", ["generator_loss", "discriminator_loss"])
def test_bad_step_changes_neither_network(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch, whose: str
):
    true, calls = getattr(Adversary, whose), iter(range(100))

    def bad_at_the_fifth(adversary: Adversary, *tensors: torch.Tensor) -> torch.Tensor:
        return true(adversary, *tensors) * (math.nan if next(calls) == 4 else 1.0)

    monkeypatch.setattr(Adversary, whose, bad_at_the_fifth)
    steps = train(replace(config, checkpoint_every=1, keep=9), Place(tmp_path / "run"))

    losses = [next(steps).loss for _ in range(5)]
    steps.close()

    assert [math.isfinite(loss) for loss in losses] == [True] * 4 + [False]
    before, after = (load_checkpoint(tmp_path / f"run/checkpoints/step-{step:08d}.pt") for step in (4, 5))
    assert same(before.network, after.network)
    assert same(judge(tmp_path / "run", 4), judge(tmp_path / "run", 5))
    assert (tmp_path / "run/bad-step-00000004-0.npz").is_file()


def test_its_judgement_is_the_cross_entropy_of_its_logits(tmp_path: Path, photo: np.ndarray):
    adversary = Adversary(DiscriminatorConfig(weight=0.2, width=4), 3, Fabric(accelerator="cpu", devices=1))
    original = torch.tensor(photo[:32, :40].copy()).permute(2, 0, 1)[None].float()
    answer = original.roll(3, 2).requires_grad_()

    term = adversary.generator_loss(answer)
    own = adversary.discriminator_loss(answer, original)

    entropy = torch.nn.BCEWithLogitsLoss()
    adversary.network.eval()
    said, truth = adversary.network(answer), adversary.network(original)
    assert term.item() == pytest.approx(255 * 0.2 * entropy(said, torch.ones_like(said)).item(), rel=1e-4)
    halves = entropy(truth, torch.ones_like(said)) + entropy(said, torch.zeros_like(said))
    assert own.item() == pytest.approx(halves.item() / 2, rel=1e-3)  # its norms have been refined in between


def test_network_learns_from_the_discriminator_without_changing_it():
    adversary = Adversary(DiscriminatorConfig(weight=1, width=4), 3, Fabric(accelerator="cpu", devices=1))
    answer = (torch.rand(1, 3, 24, 24) * 255).requires_grad_()

    torch.autograd.backward(adversary.generator_loss(answer))

    assert answer.grad is not None
    assert answer.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in adversary.network.parameters())
    assert all(parameter.requires_grad for parameter in adversary.network.parameters())


def test_its_inner_layers_have_a_spectral_norm_of_one():
    torch.manual_seed(0)
    network = Discriminator(4)

    for _ in range(60):
        network(torch.rand(1, 3, 16, 16) * 255)

    layers = [*network.down, *network.up, *network.body]
    norms = [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in layers]
    assert norms == pytest.approx([1.0] * 8, abs=0.02)


@pytest.mark.parametrize("size", [(24, 24), (45, 33), (8, 9)])
def test_it_judges_every_pixel_of_any_size(size: tuple[int, int]):
    assert Discriminator(2)(torch.rand(1, 3, *size) * 255).shape == (1, 1, *size)


def test_damaged_discriminator_is_an_input_error(tmp_path: Path, config: TrainConfig):
    finish(replace(config, steps=2), tmp_path / "run")
    path = tmp_path / "run/checkpoints/step-00000002.pt"
    values = torch.load(path, weights_only=True)
    values["discriminator"]["network"]["tail.bias"] = torch.tensor([math.nan])
    torch.save(values, path)

    with pytest.raises(
        InputError, match=r"step-00000002\.pt: .*discriminator is damaged; there is none before it"
    ):
        finish(config, tmp_path / "run", "auto")


def test_discriminator_of_another_width_is_refused(tmp_path: Path, config: TrainConfig):
    finish(replace(config, steps=2), tmp_path / "run")
    wider = replace(config, discriminator=replace(config.discriminator, width=8))

    with pytest.raises(UsageError, match=r"discriminator\.width is 4 there and 8 in this run"):
        finish(wider, tmp_path / "run", "auto")


def test_discriminator_of_another_run_is_the_first_one(tmp_path: Path, config: TrainConfig):
    finish(replace(config, steps=2), tmp_path / "first")
    file = tmp_path / "first/checkpoints/step-00000002.pt"
    still = replace(config.discriminator, init=str(file), start=2)  # it does not learn before

    finish(replace(config, steps=2, seed=5, discriminator=still), tmp_path / "second")

    assert same(judge(tmp_path / "second", 2), judge(tmp_path / "first", 2))
    file.unlink()  # a run that goes on has its own
    assert finish(replace(config, seed=5, discriminator=still), tmp_path / "second", "auto")


def test_run_without_a_discriminator_may_go_on_with_another_runs(tmp_path: Path, config: TrainConfig):
    finish(replace(config, steps=2), tmp_path / "first")
    finish(replace(config, steps=2, discriminator=DiscriminatorConfig()), tmp_path / "second")
    file = tmp_path / "first/checkpoints/step-00000002.pt"
    still = replace(config.discriminator, init=str(file), start=4)  # it does not learn before

    finish(replace(config, steps=4, discriminator=still), tmp_path / "second", "auto")

    assert same(judge(tmp_path / "second", 4), judge(tmp_path / "first", 2))


def test_discriminator_of_another_run_must_be_there_and_fit(tmp_path: Path, config: TrainConfig):
    finish(replace(config, steps=2), tmp_path / "first")
    finish(replace(config, steps=2, discriminator=DiscriminatorConfig()), tmp_path / "none")
    there, none = (tmp_path / name / "checkpoints/step-00000002.pt" for name in ("first", "none"))

    for error, words, init, width in (
        (UsageError, r"has a width of 4; set discriminator\.width", there, 8),
        (UsageError, r"that run has no discriminator", none, 4),
        (InputError, r"no such checkpoint", tmp_path / "missing.pt", 4),
        (InputError, r"not a whole checkpoint", config_file(tmp_path), 4),
    ):
        chosen = replace(config.discriminator, init=str(init), width=width)
        with pytest.raises(error, match=words):
            finish(replace(config, discriminator=chosen), tmp_path / "second")


def test_damaged_discriminator_of_another_run_is_found_before_the_data_are_read(
    tmp_path: Path, config: TrainConfig
):
    finish(replace(config, steps=2, discriminator=DiscriminatorConfig()), tmp_path / "run")
    chosen = replace(config.discriminator, init=str(config_file(tmp_path)))
    going_on = replace(config, discriminator=chosen, data=(str(tmp_path / "no folder"),))

    with pytest.raises(InputError, match=r"recipe\.toml: not a whole checkpoint"):
        finish(going_on, tmp_path / "run", "auto")


def config_file(folder: Path) -> Path:
    path = folder / "recipe.toml"
    path.write_text("steps = 6")
    return path


def test_discriminator_of_a_teachers_answers_needs_a_teacher_that_gives_them(config: TrainConfig):
    with pytest.raises(UsageError, match=r"discriminator\.real = targets needs a teacher with"):
        replace(config, discriminator=replace(config.discriminator, real="targets"))


def test_run_without_a_discriminator_may_go_on_with_one(tmp_path: Path, config: TrainConfig):
    finish(replace(config, steps=2, discriminator=DiscriminatorConfig()), tmp_path / "run")

    steps = finish(config, tmp_path / "run", "auto")

    assert all("discriminator" in step.losses for step in steps)


def test_sharp_model_keeps_the_weights_it_was_trained_on_from(tmp_path: Path, config: TrainConfig):
    finish(replace(config, discriminator=DiscriminatorConfig(), steps=2), tmp_path / "first")
    first = tmp_path / "first" / "last.safetensors"

    finish(replace(config, init=str(first)), tmp_path / "second")
    sharp = tmp_path / "second" / "last.safetensors"

    started, mixed = load_weights(first), load_weights(sharp, sharpness=0)
    for name, value in started.tensors.items():
        assert np.array_equal(mixed.tensors[name], value), name
    assert not all(
        np.array_equal(load_weights(sharp).tensors[name], value) for name, value in started.tensors.items()
    )


def test_discriminator_learns_in_a_hundred_steps_what_a_faint_grid_is(photo: np.ndarray):
    torch.manual_seed(0)
    network = Discriminator(8)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, betas=(0.9, 0.99))
    picture = torch.from_numpy(photo.astype(np.float32)).permute(2, 0, 1)
    grid = torch.zeros(48, 48)
    grid[::4, ::4] = 12.0
    losses = []
    for _ in range(100):
        tops, lefts = (torch.randint(picture.shape[axis] - 47, (8,)).tolist() for axis in (1, 2))
        patches = [picture[:, y : y + 48, x : x + 48] for y, x in zip(tops, lefts, strict=True)]
        real, fake = torch.stack(patches[:4]), torch.stack(patches[4:]) + grid
        loss = softplus(-network(real)).mean() + softplus(network(fake)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() / 2)

    assert sum(losses[-20:]) / 20 < 0.3  # a guess would come to 0.69


def test_judges_see_every_place_of_the_tails_pixels_in_turn(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
):
    shapes = []
    judge = Adversary.generator_loss

    def seen(self: Adversary, answer: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(answer.shape[2:]))
        return judge(self, answer)

    monkeypatch.setattr(Adversary, "generator_loss", seen)

    finish(config, tmp_path / "run")

    side = config.patch * config.scale
    cut = [(side - height, side - width) for height, width in shapes]
    assert cut == [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1)]

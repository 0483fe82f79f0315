"""Runs: what is learnt, what is kept, how they go on, what stops them."""

from __future__ import annotations

import io
import math
import os
import shutil
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric")

from emt_cli.assets.model_choice import find_model
from emt_cli.engine.torch.network import build_network
from emt_cli.engine.weights import load_weights, save_weights
from emt_cli.errors import InputError, OutputError, OutputExistsError, UsageError
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT
from emt_cli.training import checkpoint as checkpoint_module
from emt_cli.training import loop as loop_module
from emt_cli.training import losses as losses_module
from emt_cli.training import run as run_module
from emt_cli.training.checkpoint import load_checkpoint, locked
from emt_cli.training.config import TrainConfig
from emt_cli.training.dataset import PictureStore
from emt_cli.training.first_network import first_network
from emt_cli.training.loop import TrainStep, train
from emt_cli.training.optimizer import Average, learning_rate_share, start_as_identity
from emt_cli.training.prepare import Source, prepare
from emt_cli.training.record import Record, read_log
from emt_cli.training.start import Place, changes, settings_of
from emt_cli.training.tables import DiscriminatorConfig
from emt_cli.training.validation import score_pictures


@pytest.fixture
def config(pictures: Path, tiny_config: EMTConfig) -> TrainConfig:
    """A run of seconds, with everything in it that has a state."""
    return TrainConfig(
        network=tiny_config,
        data=(str(pictures),),
        val=str(pictures),
        steps=8,
        batch=2,
        patch=12,
        optimizer="muon",
        learning_rate=2e-3,
        warmup=2,
        ema=0.9,
        clip=1.0,
        identity_start=True,
        validate_every=4,
        checkpoint_every=2,
    )


def finish(config: TrainConfig, out: Path, resume: str = "") -> list[TrainStep]:
    return list(train(config, Place(out, resume=resume)))


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in load_weights(path).tensors.items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_broken_off_run_goes_on_bit_exactly(tmp_path: Path, config: TrainConfig):
    whole = finish(config, tmp_path / "whole")
    steps = train(config, Place(tmp_path / "parts"))
    first = [next(steps) for _ in range(5)]
    steps.close()  # as after kill -9: nothing is saved on the way out

    rest = finish(config, tmp_path / "parts", "auto")

    assert [step.step for step in rest] == [5, 6, 7, 8]
    losses = {step.step: step.loss for step in first + rest}
    assert list(losses.values()) == [step.loss for step in whole]
    assert same(
        tensors_of(tmp_path / "parts/last.safetensors"), tensors_of(tmp_path / "whole/last.safetensors")
    )
    assert [line["step"] for line in read_log(tmp_path / "parts") if "loss" in line] == [4, 8]


def test_loss_falls_and_the_model_is_usable_at_once(tmp_path: Path, config: TrainConfig):
    config = replace(config, steps=60, validate_every=60)

    steps = finish(config, tmp_path / "run")

    losses = [step.loss for step in steps]
    assert np.mean(losses[-15:]) < 0.9 * np.mean(losses[:15])
    weights = load_weights(tmp_path / "run/best.safetensors")
    assert weights.metadata["steps"] == 60
    assert weights.metadata["training"]["data"] == ["pictures"]
    assert weights.metadata["scores"]["validation"]["psnr"] == pytest.approx(steps[-1].psnr, abs=1e-3)
    assert build_network(weights)(torch.zeros(1, 3, 20, 20)).shape == (1, 3, 40, 40)


def test_run_leaves_log_curves_samples_and_the_newest_checkpoints(tmp_path: Path, config: TrainConfig):
    list(train(config, Place(tmp_path / "run", save_samples=True)))

    there = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*.p*")}
    assert {"checkpoints/step-00000006.pt", "checkpoints/step-00000008.pt", "curves.png"} <= there
    assert {"samples/patches.png", "samples/step-00000004.png", "samples/step-00000008.png"} <= there
    assert "checkpoints/step-00000004.pt" not in there
    assert read_log(tmp_path / "run")[0]["settings"]["network.dim"] == config.network.dim


def test_folder_with_a_run_is_not_written_over(tmp_path: Path, config: TrainConfig):
    finish(config, tmp_path / "run")

    with pytest.raises(OutputExistsError, match="--resume auto"):
        finish(config, tmp_path / "run")


def test_checkpoint_of_another_config_is_refused(tmp_path: Path, config: TrainConfig):
    finish(config, tmp_path / "run")
    other = replace(config, network=replace(config.network, layers=3), steps=20)

    with pytest.raises(UsageError, match=r"network\.layers is 2 there and 3 in this run"):
        finish(other, tmp_path / "run", "auto")


def test_settings_newer_than_a_checkpoint_count_as_left_as_they_are_by_default(config: TrainConfig):
    older = settings_of(config) | {"seed": 99}
    del older["losses.grid_weight"]

    assert changes(older, config) == {"seed": (99, config.seed)}


def test_finished_run_has_nothing_left_to_do(tmp_path: Path, config: TrainConfig):
    """The command that was killed just before its end may be given again."""
    finish(config, tmp_path / "run")
    before = tensors_of(tmp_path / "run/last.safetensors")

    assert finish(config, tmp_path / "run", "auto") == []

    assert same(tensors_of(tmp_path / "run/last.safetensors"), before)


def test_run_past_its_steps_asks_for_more(tmp_path: Path, config: TrainConfig):
    finish(config, tmp_path / "run")

    with pytest.raises(UsageError, match="has its 8 steps already"):
        finish(replace(config, steps=6), tmp_path / "run", "auto")


def test_branch_from_a_checkpoint_leaves_the_run_alone(tmp_path: Path, config: TrainConfig):
    finish(config, tmp_path / "run")
    start = tmp_path / "run/checkpoints/step-00000006.pt"

    steps = finish(replace(config, steps=9, decay_steps=3), tmp_path / "branch", str(start))

    assert [step.step for step in steps] == [7, 8, 9]
    with pytest.raises(OutputExistsError):
        finish(replace(config, steps=9), tmp_path / "run", str(start))


def test_second_run_in_one_folder_is_refused(tmp_path: Path, config: TrainConfig):
    steps = train(config, Place(tmp_path / "run"))
    next(steps)

    with pytest.raises(UsageError, match="another run is at work"):
        finish(config, tmp_path / "run", "auto")
    steps.close()


def test_step_without_a_finite_loss_changes_nothing_and_keeps_its_batch(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
):
    true_loss = losses_module.F.l1_loss
    calls = iter(range(100))

    def bad_at_the_third(answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return true_loss(answer, target) * (float("nan") if next(calls) == 2 else 1.0)

    monkeypatch.setattr(losses_module.F, "l1_loss", bad_at_the_third)

    losses = [step.loss for step in finish(config, tmp_path / "run")]

    assert [number for number, loss in enumerate(losses) if not np.isfinite(loss)] == [2]
    kept = np.load(tmp_path / "run/bad-step-00000002-0.npz")
    assert kept["lr"].shape == (2, 12, 12, 3)
    assert all(value.isfinite().all() for value in tensors_of(tmp_path / "run/last.safetensors").values())


def test_run_without_any_finite_loss_ends(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run_module, "BAD_STEPS", 3)
    monkeypatch.setattr(
        losses_module.F, "l1_loss", lambda answer, target: (answer - target).sum() * float("inf")
    )

    with pytest.raises(UsageError, match="3 steps in a row without a finite loss"):
        finish(config, tmp_path / "run")


def test_step_of_broken_pixels_leaves_the_batch_statistics_alone(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
):
    true_placed, calls = run_module.Run._placed, iter(range(100))

    def bad_in_the_third_step(run: run_module.Run, pixels: np.ndarray) -> torch.Tensor:
        return true_placed(run, pixels) * (math.nan if next(calls) in (4, 5) else 1.0)

    monkeypatch.setattr(run_module.Run, "_placed", bad_in_the_third_step)

    losses = [step.loss for step in finish(replace(config, steps=4), tmp_path / "run")]

    assert [math.isfinite(loss) for loss in losses] == [True, True, False, True]
    assert all(value.isfinite().all() for value in tensors_of(tmp_path / "run/last.safetensors").values())


def test_process_without_a_picture_to_validate_adds_nothing_of_another_type(
    tmp_path: Path, config: TrainConfig, tiny_network: EMT, monkeypatch: pytest.MonkeyPatch
):
    """Processes can only add tensors of one type."""
    (tmp_path / "run").mkdir()
    store = prepare(Source((Path(config.data[0]),), 2), tmp_path / "store")
    types = []
    monkeypatch.setattr(run_module.distributed, "all_reduce", lambda total: types.append(total.dtype))

    for rank in range(len(store) + 1):
        fabric = SimpleNamespace(global_rank=rank, world_size=len(store) + 1, device="cpu")
        run_module.Run.validate(SimpleNamespace(fabric=fabric, _averaged=lambda: tiny_network), store)

    assert set(types) == {torch.float32}
    assert len(types) == len(store) + 1


def test_branch_has_a_best_model_of_its_own(tmp_path: Path, config: TrainConfig):
    """Even one whose scores stay below those of the run it comes from."""
    finish(config, tmp_path / "run")
    path = tmp_path / "run/checkpoints/step-00000006.pt"
    torch.save({**torch.load(path, weights_only=True), "best": 99.0}, path)

    finish(replace(config, steps=9), tmp_path / "branch", str(path))

    assert load_weights(tmp_path / "branch/best.safetensors").metadata["steps"] in (8, 9)


def test_run_stopped_before_its_first_validation_leaves_a_model(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
):
    stopped = threading.Event()
    stopped.set()
    monkeypatch.setattr(loop_module, "stop_signals", lambda: nullcontext(stopped))

    (step,) = finish(config, tmp_path / "run")

    assert step.step == 1
    assert load_weights(tmp_path / "run/best.safetensors").metadata["steps"] == 1


def test_damaged_newest_checkpoint_is_removed_and_the_run_goes_on(tmp_path: Path, config: TrainConfig):
    """As the error says."""
    finish(config, tmp_path / "run")
    newest = tmp_path / "run/checkpoints/step-00000008.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"step-00000008\.pt: .*; remove it and go on from the one before"):
        finish(config, tmp_path / "run", "auto")

    newest.unlink()

    assert [step.step for step in finish(config, tmp_path / "run", "auto")] == [7, 8]


def test_full_disk_is_an_error(tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "write_atomically", full)

    with pytest.raises(OutputError, match=r"step-00000002\.pt: not saved: No space left"):
        finish(config, tmp_path / "run")


def test_checkpoint_with_code_in_it_is_refused_unexecuted(tmp_path: Path):
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    stream = io.BytesIO()
    torch.save({"format": 1, "network": Bomb()}, stream)
    (tmp_path / "step-00000001.pt").write_bytes(stream.getvalue())

    with pytest.raises(InputError, match="not a whole checkpoint"):
        load_checkpoint(tmp_path / "step-00000001.pt")
    assert not (tmp_path / "executed").exists()


def test_fine_tuning_to_another_scale_takes_all_but_the_tail(tmp_path: Path, config: TrainConfig):
    finish(config, tmp_path / "x2")
    theirs = tensors_of(tmp_path / "x2/last.safetensors")
    three = replace(
        config, network=replace(config.network, scale=3), init=str(tmp_path / "x2/last.safetensors")
    )

    ours = first_network(three).state_dict()

    body = [name for name in theirs if not name.startswith("tail.")]
    assert all(torch.equal(ours[name], theirs[name]) for name in body)
    assert ours["tail.weight"].shape[0] == 27


def test_fine_tuning_from_x4_to_x2_starts_with_the_shrunk_answer(tmp_path: Path, tiny_config: EMTConfig):
    torch.manual_seed(0)
    four = EMT(replace(tiny_config, scale=4)).eval()
    save_weights(tmp_path / "x4.safetensors", four.config, four.state_dict(), {})
    x = torch.rand(1, 3, 16, 20) * 255

    two = first_network(TrainConfig(network=tiny_config, init=str(tmp_path / "x4.safetensors"))).eval()

    assert torch.allclose(two(x), torch.nn.functional.avg_pool2d(four(x), 2), atol=1e-2)


def test_narrower_network_starts_with_the_strongest_hidden_channels(tmp_path: Path):
    wide = EMT(EMTConfig(2, 10, 1, 2, 1, 1, mlp_ratio=2)).eval()
    weak = [1, 5, 8, 14, 18]  # one in each of the five shift groups
    for layer in wide.body:
        for channel in weak:
            torch.nn.init.zeros_(layer.mlp.fc2.weight[:, channel])
    save_weights(tmp_path / "wide.safetensors", wide.config, wide.state_dict(), {})
    narrow = replace(wide.config, mlp_ratio=1.5)
    x = torch.rand(1, 3, 16, 20) * 255

    first = first_network(TrainConfig(network=narrow, init=str(tmp_path / "wide.safetensors"))).eval()

    assert first.config.hidden == 15
    assert torch.allclose(first(x), wide(x), atol=1e-3)


def test_network_of_smaller_windows_starts_with_all_weights(tmp_path: Path):
    large = EMT(EMTConfig(2, 10, 1, 2, 1, 1, windows=((16, 4), (4, 16)), shifts=((8, 2), (2, 8))))
    save_weights(tmp_path / "large.safetensors", large.config, large.state_dict(), {})
    small = replace(large.config, windows=((8, 4), (4, 8)), shifts=((4, 2), (2, 4)))

    first = first_network(TrainConfig(network=small, init=str(tmp_path / "large.safetensors")))

    assert first.config == small
    for name, tensor in large.state_dict().items():
        torch.testing.assert_close(first.state_dict()[name], tensor)


def test_shallower_network_starts_with_the_layers_it_is_told_to_keep(tmp_path: Path):
    deep = EMT(
        EMTConfig(2, 10, 2, 3, 1, 1, mlp_ratio=2)
    ).eval()  # global, local, local, shifted, local, local
    save_weights(tmp_path / "deep.safetensors", deep.config, deep.state_dict(), {})
    config = TrainConfig(
        network=replace(deep.config, blocks=1), init=str(tmp_path / "deep.safetensors"), init_layers=(0, 2, 3)
    )
    x = torch.rand(1, 3, 32, 32) * 255

    first = first_network(config).eval()

    with torch.no_grad():
        start = features = deep.head(x - deep.mean).permute(0, 2, 3, 1).contiguous()
        features = deep.body[2](deep.body[0](features))
        features = features + deep.body[3].mlp(
            features
        )  # attention left out, as the third layer is local here
        tail = deep.tail((features + start).permute(0, 3, 1, 2))
        assert torch.allclose(first(x), torch.nn.functional.pixel_shuffle(tail, 2) + deep.mean, atol=1e-3)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((0, 1), "names 0, 1; this network takes 3, of 0 to 5"),
        ((0, 1, 6), "names 0, 1, 6; this network takes 3, of 0 to 5"),
        ((0, 2, 2), "names 0, 2, 2; this network takes 3, of 0 to 5, each once and in order"),
        ((0, 4, 2), "names 0, 4, 2; this network takes 3, of 0 to 5, each once and in order"),
        ((1, 2, 4), "layer 1 is local, and 0 of this network is global"),
    ],
)
def test_layers_that_cannot_be_kept_are_refused(tmp_path: Path, layers: tuple[int, ...], words: str):
    deep = EMT(EMTConfig(2, 10, 2, 3, 1, 1, mlp_ratio=2))
    save_weights(tmp_path / "deep.safetensors", deep.config, deep.state_dict(), {})
    config = TrainConfig(network=replace(deep.config, blocks=1), init_layers=layers)

    with pytest.raises(UsageError, match=words):
        first_network(replace(config, init=str(tmp_path / "deep.safetensors")))
    with pytest.raises(UsageError, match="name that model with --init"):
        first_network(config)


def test_layers_are_not_chosen_anew_on_the_way(tmp_path: Path, config: TrainConfig):
    finish(replace(config, steps=2), tmp_path / "run")

    with pytest.raises(UsageError, match="init_layers is"):
        finish(replace(config, steps=4, init_layers=(0, 1)), tmp_path / "run", "auto")


def test_model_to_start_from_is_not_changed_where_that_would_change_nothing(
    tmp_path: Path, config: TrainConfig
):
    finish(replace(config, steps=2), tmp_path / "first")
    first = tmp_path / "first/last.safetensors"

    with pytest.raises(UsageError, match=r"init is none there and .*last\.safetensors in this run"):
        finish(replace(config, steps=4, init=str(first)), tmp_path / "first", "auto")


def test_run_goes_on_without_the_model_it_started_from(tmp_path: Path, config: TrainConfig):
    finish(replace(config, steps=2), tmp_path / "first")
    first, moved = tmp_path / "first/last.safetensors", tmp_path / "moved"
    started = replace(config, steps=2, init=str(first))
    finish(started, tmp_path / "cut")
    finish(replace(started, steps=4), tmp_path / "whole")
    shutil.copytree(tmp_path / "cut", moved)

    first.rename(tmp_path / "elsewhere.safetensors")
    finish(replace(started, steps=4), tmp_path / "cut", "auto")
    finish(replace(started, steps=4, init="other/last.safetensors"), moved, "auto")

    there = tensors_of(tmp_path / "whole/last.safetensors")
    assert same(tensors_of(tmp_path / "cut/last.safetensors"), there)
    assert same(tensors_of(moved / "last.safetensors"), there)


def test_wider_network_than_that_of_the_weights_is_refused(tmp_path: Path):
    net = EMT(EMTConfig(2, 10, 1, 2, 1, 1, mlp_ratio=1.5))
    save_weights(tmp_path / "net.safetensors", net.config, net.state_dict(), {})
    wider = replace(net.config, mlp_ratio=2)

    with pytest.raises(UsageError, match=r"network\.mlp_ratio is 1\.5 there and 2 in this run"):
        first_network(TrainConfig(network=wider, init=str(tmp_path / "net.safetensors")))


def test_known_model_may_be_fine_tuned_by_its_name():
    path = find_model("emt-lite", 4).path

    network = first_network(TrainConfig(network=load_weights(path).config, init="emt-lite"))

    assert same(network.state_dict(), tensors_of(path))


def test_weights_of_another_network_are_refused(tmp_path: Path, config: TrainConfig):
    finish(config, tmp_path / "run")
    other = replace(
        config, network=replace(config.network, heads=2), init=str(tmp_path / "run/last.safetensors")
    )

    with pytest.raises(
        UsageError, match=r"network\.heads is 1 there and 2 in this run; .*--set network\.heads"
    ):
        first_network(other)


def test_teachers_answers_become_the_target(tmp_path: Path, config: TrainConfig):
    finish(config, tmp_path / "teacher")
    teacher = tmp_path / "teacher/last.safetensors"

    answers = replace(config, teacher=str(teacher), init=str(teacher), steps=1)

    (step,) = train(answers, Place(tmp_path / "pupil", save_samples=True))

    # The pupil starts as the teacher, but normalises by its batch, and patches have borders.
    network = build_network(load_weights(teacher))
    (folder,) = {path.parent for path in (tmp_path / "pupil").rglob("teacher.bin")}
    store = PictureStore(folder, 2, teacher=True)
    answer = network(torch.tensor(store.lr(0)).permute(2, 0, 1)[None].float())[0]
    assert np.abs(answer.detach().clamp(0, 255).permute(1, 2, 0).numpy() - store.teacher(0)).max() <= 0.51
    without = Place(tmp_path / "plain", cache=tmp_path / "pupil/pictures")
    (plain,) = train(replace(answers, teacher=""), without)
    assert step.loss < 0.8 * plain.loss


def test_identity_start_keeps_a_plain_colour():
    torch.manual_seed(3)
    network = EMT(EMTConfig(4, 40, 1, 4, 1, 2, 2, ((16, 8), (8, 16)), ((8, 4), (4, 8))))
    start_as_identity(network)
    x = torch.tensor([200.0, 90.0, 30.0]).view(1, 3, 1, 1).expand(1, 3, 32, 32)

    error = (network.eval()(x) - x.repeat_interleave(4, 2).repeat_interleave(4, 3)).abs()

    assert error[..., 32:-32, 32:-32].max() < 25


def test_learning_rate_rises_stays_and_falls_to_its_last_share():
    config = TrainConfig(steps=100, warmup=10, decay_steps=20, final_share=0.1)

    shares = [learning_rate_share(step, config) for step in range(101)]

    assert shares[0] == pytest.approx(0.1)
    assert shares[9:81] == [1.0] * 72
    assert shares[90] == pytest.approx(0.55)
    assert shares[100] == pytest.approx(0.1)


def test_average_forgets_the_first_steps_and_reaches_a_constant():
    network = torch.nn.Linear(1, 1, bias=False)
    average = Average(network, 0.9)
    torch.nn.init.constant_(network.weight, 5.0)

    for step in range(200):
        average.update(network, step)

    assert average.tensors["weight"].item() == pytest.approx(5.0, abs=1e-3)


def test_validation_scores_as_scikit_image_does(photo: np.ndarray, tiny_network: EMT):
    from skimage.metrics import peak_signal_noise_ratio

    lr = photo[:40, :44]
    with torch.inference_mode():
        answer = tiny_network(torch.tensor(lr.copy()).permute(2, 0, 1)[None].float())[0]
    rounded = answer.clamp(0, 255).round().permute(1, 2, 0).double().numpy()
    hr = np.clip(rounded + np.random.default_rng(0).integers(-9, 10, rounded.shape), 0, 255).astype(np.uint8)
    luma = [16 + image @ np.array([65.481, 128.553, 24.966]) / 255 for image in (rounded, hr.astype(float))]

    (scores,) = score_pictures(tiny_network, [(lr, hr)])

    expected = peak_signal_noise_ratio(luma[0][2:-2, 2:-2], luma[1][2:-2, 2:-2], data_range=255)
    assert scores[0] == pytest.approx(expected, abs=2e-2)


def test_scores_of_a_validation_are_in_log_and_model(tmp_path: Path, config: TrainConfig):
    steps = finish(config, tmp_path / "run")

    lines = [line for line in read_log(tmp_path / "run") if "psnr" in line]
    assert [line["step"] for line in lines] == [4, 8]
    assert steps[-1].scores is not None
    assert lines[-1]["ssim"] == pytest.approx(steps[-1].scores["ssim"])
    assert "niqe" not in lines[-1]  # pictures of two blocks of 96 pixels have one
    model = load_weights(tmp_path / "run/last.safetensors")
    assert model.metadata["scores"]["validation"]["ssim"] == pytest.approx(lines[-1]["ssim"], abs=1e-4)


def test_pictures_of_a_validation_are_in_tensorboard(tmp_path: Path, config: TrainConfig):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    finish(config, tmp_path / "run")

    events = reader.EventAccumulator(str(tmp_path / "run/events")).Reload()

    assert [event.step for event in events.Images("validation")] == [4, 8]
    picture = events.Images("validation")[0]
    assert picture.height == picture.width  # three pictures, three views of each


def test_pairs_may_be_given_for_validation(tmp_path: Path, config: TrainConfig):
    (tmp_path / "small").mkdir()
    for path in (tmp_path / "pictures").iterdir():
        hr = cv2.imread(str(path))
        lr = cv2.resize(hr, (hr.shape[1] // 2, hr.shape[0] // 2), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(tmp_path / "small" / path.name), lr)

    (step,) = finish(replace(config, steps=1, val_lr=str(tmp_path / "small")), tmp_path / "paired")
    (without,) = finish(replace(config, steps=1), tmp_path / "made")

    assert step.psnr != without.psnr


def test_best_model_may_be_the_newest(tmp_path: Path, config: TrainConfig):
    finish(replace(config, best="newest", learning_rate=1.0), tmp_path / "run")

    assert load_weights(tmp_path / "run/best.safetensors").metadata["steps"] == 8


def test_other_measure_begins_anew(tmp_path: Path, config: TrainConfig):
    finish(config, tmp_path / "run")

    finish(replace(config, best="ssim", steps=12), tmp_path / "run", "auto")

    checkpoint = load_checkpoint(tmp_path / "run/checkpoints/step-00000012.pt")
    assert 0 < checkpoint.best < 1


def test_other_validation_pictures_begin_anew(tmp_path: Path, config: TrainConfig):
    finish(config, tmp_path / "run")
    path = tmp_path / "run/checkpoints/step-00000008.pt"
    torch.save({**torch.load(path, weights_only=True), "best": 99.0}, path)  # they were easier
    (tmp_path / "others").mkdir()
    shutil.copy(tmp_path / "pictures/a.png", tmp_path / "others")

    finish(replace(config, val=str(tmp_path / "others"), steps=9), tmp_path / "run", "auto")

    assert load_weights(tmp_path / "run/best.safetensors").metadata["steps"] == 9


def test_pictures_without_the_score_that_the_best_is_chosen_by_are_refused(
    tmp_path: Path, config: TrainConfig
):
    with pytest.raises(InputError, match="pictures: no picture is large enough for best = niqe"):
        finish(replace(config, best="niqe"), tmp_path / "run")


def test_changed_betas_hold_from_there_on(tmp_path: Path, config: TrainConfig):
    config = replace(config, discriminator=DiscriminatorConfig(weight=0.1, width=4))
    finish(replace(config, steps=2), tmp_path / "run")
    slower = replace(config.discriminator, betas=(0.3, 0.4))

    finish(replace(config, steps=4, betas=(0.5, 0.6), discriminator=slower), tmp_path / "run", "auto")

    checkpoint = load_checkpoint(tmp_path / "run/checkpoints/step-00000004.pt")
    assert checkpoint.discriminator is not None
    assert checkpoint.optimizers[0]["param_groups"][0]["betas"] == (0.5, 0.6)
    assert checkpoint.discriminator["optimizer"]["param_groups"][0]["betas"] == (0.3, 0.4)


def test_held_folder_is_free_again_afterwards(tmp_path: Path):
    with locked(tmp_path), pytest.raises(UsageError), locked(tmp_path):
        pass

    with locked(tmp_path):
        pass


@pytest.mark.parametrize("part", ["network", "average", "optimizers", "step", "best", "config", "seconds"])
def test_checkpoint_with_a_damaged_part_is_an_input_error(tmp_path: Path, config: TrainConfig, part: str):
    """Damage whose checksums are right: values of another kind, shape or size."""
    finish(replace(config, steps=2), tmp_path / "run")
    path = tmp_path / "run/checkpoints/step-00000002.pt"
    values = torch.load(path, weights_only=True)
    damaged = {
        "network": {**values["network"], "tail.weight": torch.zeros(3)},
        "average": {name: tensor * math.nan for name, tensor in values["average"].items()},
        "optimizers": [{"state": {0: {"step": 1.0}}, "param_groups": []}] * 2,
        "step": "two",
        "best": math.nan,
        "config": {"network.dim": 10**9},
        "seconds": None,
    }
    torch.save({**values, part: damaged[part]}, path)

    with pytest.raises(InputError, match=r"step-00000002\.pt: .*there is none before it"):
        finish(config, tmp_path / "run", resume="auto")


def test_checkpoint_with_one_bit_turned_over_is_refused(tmp_path: Path, config: TrainConfig):
    finish(replace(config, steps=2), tmp_path / "run")
    path = tmp_path / "run/checkpoints/step-00000002.pt"
    data = bytearray(path.read_bytes())
    weight = load_checkpoint(path).network["tail.weight"].numpy().tobytes()
    data[data.index(weight)] ^= 1  # between the members of the archive lies padding, which nobody reads
    path.write_bytes(data)

    with pytest.raises(InputError, match="not a whole checkpoint"):
        load_checkpoint(path)


def test_damaged_log_does_not_stop_a_run_that_goes_on(tmp_path: Path, config: TrainConfig):
    finish(replace(config, steps=2), tmp_path / "run")
    log = tmp_path / "run/log.jsonl"
    log.write_bytes(
        log.read_bytes() + b'[1]\n"x"\n{"step": "x"}\n{"step": 1, "loss": []}\n\xff\n' + b"[" * 200_000
    )

    finish(config, tmp_path / "run", resume="auto")

    assert [line["step"] for line in read_log(tmp_path / "run") if "psnr" in line] == [2, 4, 8]


def test_events_are_those_that_tensorboard_reads(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    broken_off = Record(tmp_path, steps_done=0)
    for step in (50, 100, 150):
        broken_off.add(step, loss=step / 2, psnr=math.nan)

    gone_on = Record(tmp_path, steps_done=100)
    gone_on.add(150, loss=3.0, psnr=30.5)
    gone_on.close()

    events = reader.EventAccumulator(str(tmp_path / "events")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(50, 25), (100, 50), (150, 3)]
    assert [(event.step, event.value) for event in events.Scalars("psnr")] == [(150, 30.5)]


def test_frozen_normalisation_keeps_the_statistics_of_init(tmp_path: Path, config: TrainConfig):
    finish(replace(config, steps=2), tmp_path / "first")
    first = tmp_path / "first/last.safetensors"

    finish(replace(config, init=str(first), freeze_norm=True, identity_start=False), tmp_path / "second")

    started, trained = tensors_of(first), tensors_of(tmp_path / "second/last.safetensors")
    for name, value in started.items():
        kept = any(part in name for part in ("running_mean", "running_var", "num_batches_tracked"))
        assert torch.equal(value, trained[name]) is kept, name


def test_frozen_normalisation_needs_a_model_to_start_from(tmp_path: Path, config: TrainConfig):
    with pytest.raises(UsageError, match="freeze_norm keeps the statistics of init"):
        finish(replace(config, freeze_norm=True), tmp_path / "run")


def test_normalisation_may_be_frozen_on_the_way(tmp_path: Path, config: TrainConfig):
    finish(replace(config, steps=2), tmp_path / "run")

    finish(replace(config, steps=4, ema=0.0, freeze_norm=True), tmp_path / "run", "auto")

    first, last = (
        load_checkpoint(tmp_path / f"run/checkpoints/step-{step:08d}.pt").network for step in (2, 4)
    )
    for name in first:
        assert torch.equal(first[name], last[name]) is ("running" in name or "num_batches" in name), name

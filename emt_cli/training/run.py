"""One process's part of a run: networks, optimizers, averaged weights; one step, one validation."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed, nn

from emt_cli.atomic import write_atomically
from emt_cli.engine.weights import save_weights
from emt_cli.errors import InputError, UsageError
from emt_cli.model.emt import EMT
from emt_cli.training.adversary import Adversary
from emt_cli.training.checkpoint import Checkpoint, checkpoints, go_back
from emt_cli.training.config import SHIFTS, TrainConfig
from emt_cli.training.dataset import Patches, PictureStore, Pixels
from emt_cli.training.first_network import begins_with_another, first_discriminator, first_network
from emt_cli.training.live_teacher import LiveTeacher
from emt_cli.training.losses import Losses
from emt_cli.training.optimizer import Average, learning_rate_share, make_optimizers, restore_state
from emt_cli.training.recipe import settings_of
from emt_cli.training.shared_norm import freeze_statistics, share_statistics
from emt_cli.training.start import CHECKPOINTS, changes
from emt_cli.training.validation import SCORES, enlarged, score_pictures

BAD_STEPS = 20
"""Steps in a row without a finite loss that end a run."""


class Run:
    """The state of a run on this process's device."""

    def __init__(
        self, config: TrainConfig, fabric: Fabric, out: Path, start: tuple[Checkpoint, Path] | None = None
    ) -> None:
        """Begin, or go on from start: a checkpoint and its path.

        Learning rates, their end and betas are then the config's all the same. Raises InputError where the
        optimizers cannot go on from what a checkpoint holds for them.
        """
        self.config, self.fabric, self.out = config, fabric, out
        self.step = 0
        """Steps done."""
        self.best = -math.inf
        """Best validation score: PSNR in dB, or whatever the recipe chooses by; the greater, the better."""
        self.seconds = 0.0
        self.bad_steps = 0
        self.network = first_network(config, resumed=start is not None).to(fabric.device)
        if config.freeze_norm:
            freeze_statistics(self.network)
        elif fabric.world_size > 1:
            share_statistics(self.network)
        self.average = Average(self.network, config.ema)
        self.wrapped: nn.Module
        self.optimizers: list[Any]
        self.wrapped, *self.optimizers = fabric.setup(self.network, *make_optimizers(self.network, config))
        self.losses = Losses(config.losses, fabric.device, scale=config.scale)
        self.teacher = None
        if config.teacher and not config.answers_beforehand:
            self.teacher = LiveTeacher(config.teacher, config.scale, fabric)
        self.adversary = None
        self.faithful: dict[str, Tensor] | None = None
        """What a sharp network is trained on from, for --sharpness."""
        if config.discriminator.weight and config.init:
            self.faithful = {name: value.cpu().clone() for name, value in self.network.state_dict().items()}
        if config.discriminator.weight:
            self.adversary = Adversary(config.discriminator, config.seed + 1, fabric)
            if begins_with_another(config.discriminator, start and start[0]):
                self.adversary.network.load_state_dict(first_discriminator(config.discriminator))
        if start is not None:
            self._restore(*start)

    def _restore(self, checkpoint: Checkpoint, path: Path) -> None:
        self.network.load_state_dict(checkpoint.network)
        for name, value in checkpoint.average.items():
            self.average.tensors[name].copy_(value)
        try:
            for optimizer, state in zip(self.optimizers, checkpoint.optimizers, strict=True):
                restore_state(optimizer, state)
            if self.adversary is not None and checkpoint.discriminator is not None:
                self.adversary.restore(checkpoint.discriminator)
        except Exception as error:  # torch raises whatever the damage leads to
            raise InputError(
                f"{path}: the state of an optimizer or of the discriminator is damaged; {go_back(path)}"
            ) from error
        self.step, self.seconds = checkpoint.step, checkpoint.seconds
        if not changes(checkpoint.config, self.config).keys() & {"best", "val", "val_lr"}:
            self.best = checkpoint.best

    def checkpoint(self) -> Checkpoint:
        """Return the state after the last step."""
        return Checkpoint(
            self.step,
            settings_of(self.config),
            self.network.state_dict(),
            self.average.tensors,
            [optimizer.state_dict() for optimizer in self.optimizers],
            self.best,
            self.seconds,
            None if self.adversary is None else self.adversary.state(),
        )

    @property
    def learning_rate_share(self) -> float:
        """Share of the largest learning rate for the step to come."""
        return learning_rate_share(self.step, self.config)

    def take_step(self, patches: Patches, *, stop: bool = False) -> tuple[dict[str, float], bool]:
        """Do one step; return its losses over all processes, and whether any of them was asked to stop.

        They are "loss", its terms, and the discriminator's own. A step with a loss or a gradient that is not
        finite changes nothing, and has losses that are not numbers; its batch is kept for inspection. Raises
        UsageError after BAD_STEPS of them in a row.
        """
        adversary = self.adversary if self.step >= self.config.discriminator.start else None
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * self.learning_rate_share
            optimizer.zero_grad()
        if adversary is not None:
            adversary.set_rate(self.learning_rate_share)
        buffers = [*self.network.buffers(), *(adversary.network.buffers() if adversary else ())]
        statistics = [buffer.clone() for buffer in buffers]
        losses, norm, stopping = self._gradients(patches, adversary, stop)
        if math.isfinite(norm):
            for optimizer in [*self.optimizers, *([adversary.optimizer] if adversary else [])]:
                optimizer.step()
            self.average.update(self.network, self.step)
            self.bad_steps = 0
        else:
            losses = dict.fromkeys(losses, math.nan)
            for buffer, before in zip(buffers, statistics, strict=True):
                buffer.copy_(before)
            self._keep_bad(patches)
        self.step += 1
        return losses, stopping

    def _gradients(
        self, patches: Patches, adversary: Adversary | None, stop: bool
    ) -> tuple[dict[str, float], float, bool]:
        """Return the losses, the largest norm of a network's gradient, and whether any process is to stop.

        Whatever is not finite in one process makes the norm so in all of them.
        """
        lr, hr = self._placed(patches.lr), self._placed(patches.hr)
        real, answer = self._shifted(hr), self._shifted(self.wrapped(lr))
        if self.teacher is not None and self._is_taught:
            taught = self._shifted(self.losses.sharpened_answer(self.teacher.answer(lr, hr)))
            terms = self.losses.terms(answer, taught)
            if self.config.discriminator.real == "targets":
                real = taught
        else:
            terms = self._terms(answer, real, patches)
        if adversary is not None:
            terms["adversarial"] = adversary.generator_loss(answer)
        loss = torch.stack(list(terms.values())).sum()
        losses, stopping = self._agreed({"loss": loss, **terms}, stop)
        if not math.isfinite(losses["loss"]):
            return losses, math.inf, stopping
        self.fabric.backward(loss)
        limit = self.config.clip or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), limit))
        if adversary is None:
            return losses, norm, stopping
        own = adversary.discriminator_loss(answer, real)
        self.fabric.backward(own)
        losses |= self._agreed({"discriminator": own}, stop)[0]
        return losses, max(norm, adversary.gradient_norm()), stopping

    def _terms(self, answer: Tensor, original: Tensor, patches: Patches) -> dict[str, Tensor]:
        """Return the loss's terms against the originals, the teacher's answers, or both in their shares."""
        share = self.config.teacher_share if patches.teacher is not None else 0.0
        terms: dict[str, Tensor] = {}
        if share < 1:
            for name, value in self.losses.terms(answer, self.losses.sharpened(original)).items():
                terms[name] = (1 - share) * value
        if share > 0 and patches.teacher is not None:
            taught = self.losses.sharpened_answer(self._placed(patches.teacher))
            for name, value in self.losses.terms(answer, self._shifted(taught)).items():
                terms[name] = terms.get(name, 0) + share * value
        return terms

    @property
    def _is_taught(self) -> bool:
        """Whether a teacher of damaged patches has its say in this step."""
        share = self.config.teacher_share
        return math.floor((self.step + 1) * share) > math.floor(self.step * share)

    def _shifted(self, pixels: Tensor) -> Tensor:
        """Cut fewer than SHIFTS rows and columns off, by the step, where strided networks judge.

        What these are blind to would else lie at the same of the pixels that the tail makes of one: a grid.
        """
        if self.losses.perceptual is None and self.adversary is None:
            return pixels
        return pixels[:, :, self.step % SHIFTS :, self.step // SHIFTS % SHIFTS :]

    def _placed(self, pixels: Pixels) -> Tensor:
        return torch.from_numpy(pixels).to(self.fabric.device).permute(0, 3, 1, 2).float()

    def _agreed(self, losses: dict[str, Tensor], stop: bool) -> tuple[dict[str, float], bool]:
        """Return means over all processes, and whether any of them is to stop."""
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        values = torch.cat([values, values.new_tensor([float(stop)])])
        if self.fabric.world_size > 1:
            distributed.all_reduce(values)
            values /= self.fabric.world_size
        *means, stopping = values.tolist()
        return dict(zip(losses, means, strict=True)), stopping > 0

    def _keep_bad(self, patches: Patches) -> None:
        path = self.out / f"bad-step-{self.step:08d}-{self.fabric.global_rank}.npz"
        arrays: dict[str, Any] = {name: value for name, value in vars(patches).items() if value is not None}
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        write_atomically(path, stream.getvalue())
        self.bad_steps += 1
        if self.bad_steps >= BAD_STEPS:
            way = "begin again in another --out"
            if there := checkpoints(self.out / CHECKPOINTS):
                way = "--resume auto goes on"
                if len(there) > 1:
                    way = f"remove {there[-1].name}, and {way} from the one before"
            raise UsageError(
                f"{path}: {BAD_STEPS} steps in a row without a finite loss, their batches are kept;"
                f" {way}: with a smaller learning_rate, or --precision fp32"
            )

    def validate(self, store: PictureStore) -> dict[str, float]:
        """Return the mean SCORES of the averaged weights; every process takes some pictures.

        Pictures too small for a score are left out of its mean, which is not a number if all are.
        """
        mine = range(self.fabric.global_rank, len(store), self.fabric.world_size)
        scores = score_pictures(
            self._averaged(), ((store.lr(i), store.hr(i)) for i in mine), device=self.fabric.device
        )
        values = torch.tensor(scores, device=self.fabric.device, dtype=torch.float32).view(-1, len(SCORES))
        totals = torch.stack([values.nansum(0), (~values.isnan()).float().sum(0)])
        if self.fabric.world_size > 1:
            distributed.all_reduce(totals)
        return dict(zip(SCORES, (totals[0] / totals[1]).tolist(), strict=True))

    def is_best(self, scores: dict[str, float] | None) -> bool:
        """Tell whether the weights at hand are the best so far, and remember their score."""
        if scores is None or self.config.best == "newest":
            return scores is not None
        score = scores[self.config.best] * (-1 if self.config.best == "niqe" else 1)
        if not score > self.best:
            return False
        self.best = score
        return True

    def answer(self, lr: Pixels) -> Pixels:
        """Enlarge one picture (h, w, 3) with the averaged weights."""
        return enlarged(self._averaged(), lr, self.fabric.device)

    def _averaged(self) -> EMT:
        network = EMT(self.config.network)
        network.load_state_dict(self.average.tensors)
        return network

    def save_model(self, path: Path, scores: dict[str, float] | None) -> None:
        """Write the averaged weights as a model, with the recipe in its header."""
        settings = {
            key: value for key, value in settings_of(self.config).items() if not key.startswith("network.")
        }
        for key in ("data", "lr_data"):  # nobody else's business where they lie
            settings[key] = [Path(folder).name for folder in settings[key]]
        for key in ("val", "val_lr", "init", "teacher", "losses.perceptual_file", "discriminator.init"):
            settings[key] = Path(settings[key]).name
        metadata = {
            "name": path.parent.resolve().name,
            "steps": self.step,
            "hours": round(self.seconds / 3600, 2),
            "processes": self.fabric.world_size,
            "scores": {} if scores is None else {"validation": _rounded(scores)},
            "training": settings,
        }
        tensors = {name: value.cpu() for name, value in self.average.tensors.items()}
        save_weights(path, self.config.network, tensors, metadata, self.faithful)


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(score, 4) for name, score in scores.items() if math.isfinite(score)}

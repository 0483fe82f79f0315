"""One process's discriminator: what it says of answers, and how it learns."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from emt_cli.training.discriminator import Discriminator
from emt_cli.training.losses import grays
from emt_cli.training.optimizer import restore_state
from emt_cli.training.tables import DiscriminatorConfig


class Adversary:
    """A discriminator on this process's device, with its optimizer."""

    def __init__(self, config: DiscriminatorConfig, seed: int, fabric: Fabric) -> None:
        """Make a new one; seed decides its first weights."""
        self.config, self.fabric = config, fabric
        torch.manual_seed(seed)
        self.network = Discriminator(config.width).to(fabric.device)
        for parameter in self.network.parameters():
            if parameter.ndim == 4:  # twice as fast on CPUs
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(self.network.parameters(), config.learning_rate, betas=config.betas)
        self._wrapped: nn.Module
        self.optimizer: Any
        self._wrapped, self.optimizer = fabric.setup(self.network, optimizer)

    def set_rate(self, share: float) -> None:
        """Set the learning rate to a share of its largest, and forget gradients."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * share
        self.optimizer.zero_grad()

    def generator_loss(self, answer: Tensor) -> Tensor:
        """Return the weighted term of the network's loss: how little (b, 3, h, w) passes for photographs."""
        with self._frozen(), self.fabric.autocast():
            logits = self.network(self._seen(answer)).float()
        return 255 * self.config.weight * _cross_entropy(logits, real=True)

    def discriminator_loss(self, answer: Tensor, real: Tensor) -> Tensor:
        """Return the discriminator's own loss on answers and as many pictures that pass for real."""
        self.network.train()
        # One pass for both: a second one would change the spectral norms that the first one's gradient needs.
        logits = self._wrapped(self._seen(torch.cat([real, answer.detach()]))).float()
        of_real, of_answers = logits.chunk(2)
        return (_cross_entropy(of_real, real=True) + _cross_entropy(of_answers, real=False)) / 2

    def _seen(self, pixels: Tensor) -> Tensor:
        seen = grays(pixels) if self.config.gray else pixels
        return seen.contiguous(memory_format=torch.channels_last)  # twice as fast on CPUs

    def gradient_norm(self) -> float:
        """Return the norm of its gradient over all processes; not finite where that is not."""
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), math.inf))
        return norm if math.isfinite(norm) else math.inf

    @contextlib.contextmanager
    def _frozen(self) -> Iterator[None]:
        self.network.eval().requires_grad_(False)
        try:
            yield
        finally:
            self.network.requires_grad_(True)

    def state(self) -> dict[str, Any]:
        """Return all that a run needs to go on exactly."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from such a state; raises some exception for a damaged one."""
        for name, value in state["network"].items():
            if not value.isfinite().all():
                raise ValueError(f"{name} is not finite")
        self.network.load_state_dict(state["network"])
        restore_state(self.optimizer, state["optimizer"])


def _cross_entropy(logits: Tensor, *, real: bool) -> Tensor:
    """Return the cross-entropy of logits whose pixels are all real, or all made."""
    return F.softplus(-logits if real else logits).mean()

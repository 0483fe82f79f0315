"""Settings of a training run; no torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from emt_cli.errors import UsageError
from emt_cli.model.config import EMTConfig
from emt_cli.training.tables import (
    DiscriminatorConfig,
    LossConfig,
    PhotoConfig,
    RealConfig,
    check_kinds,
)

SHIFTS = 4
"""Places at which judges' strides meet the pixels that the tail makes of one, along either axis."""
LARGEST = {"steps": 99_999_999, "batch": 1 << 16, "patch": 4096, "seed": (1 << 63) - 1}
"""Greatest values that make sense, or that files and generators have room for."""


@dataclass(frozen=True)
class TrainConfig:
    """The recipe of one run; the defaults are the paper's (arXiv 2305.11403, section 4.1)."""

    network: EMTConfig = field(default_factory=lambda: EMTConfig(4))
    """The network: a table of its own in a file, [network], as are the next four."""
    losses: LossConfig = field(default_factory=LossConfig)
    """What the network is asked for."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """The discriminator."""
    photo: PhotoConfig = field(default_factory=PhotoConfig)
    """Ranges of the degradation photo."""
    real: RealConfig = field(default_factory=RealConfig)
    """Ranges of the degradation real."""

    data: tuple[str, ...] = ()
    """Training pictures: folders with all below them, or DIV2K, Flickr2K or DF2K."""
    data_weights: tuple[float, ...] = ()
    """How often a patch comes from each of data; empty: as often as they have pixels."""
    lr_data: tuple[str, ...] = ()
    """Folders of the LR pictures, one for each of data and named as there; empty: they are made of data."""
    val: str = ""
    """Validation pictures: a folder, or DIV2K-valid; empty: none."""
    val_lr: str = ""
    """Folder of their LR pictures; empty: they are made of val by the papers' bicubic."""
    degradation: Literal["bicubic", "photo", "real"] = "bicubic"
    """How LR patches come about: the papers' bicubic; or blur, noise and JPEG, once and mildly, or twice."""
    clean_share: float = 0.0
    """Share of patches that photo and real leave clean: reduced by the papers' bicubic."""
    halve_above: int = 0
    """Pictures with a longer side than this in pixels are halved first, by area; 0: none."""
    teacher: str = ""
    """Model whose answers on the training pictures are part of the target, or a folder of answers of any
    network, named as in data and `scale` times as large as the LR pictures; empty: none."""
    teacher_sees: Literal["clean", "damaged"] = "clean"
    """What the teacher answers: all pictures beforehand, undamaged; or patches as the network gets them."""
    teacher_share: float = 1.0
    """The teacher's part of the loss, 0..1, or of the steps where it sees damaged patches; the rest is the
    original picture's."""

    steps: int = 1_000_000
    """Steps of the optimizer, from the start of the run."""
    batch: int = 8
    """Patches in a step, over all processes."""
    patch: int = 64
    """Side of an LR patch in pixels."""
    seed: int = 0
    """Decides the first weights and everything drawn while training."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """fp32, or mixed with products in bf16."""

    init: str = ""
    """Model to start from, by name or a file; a tail of another scale is resampled, wider MLPs are narrowed.
    Empty: a new network."""
    init_layers: tuple[int, ...] = ()
    """Layers of init's body to keep, by number from 0, in order, for a shallower network; a global one that
    becomes local keeps its MLP alone. Empty: all."""
    freeze_norm: bool = False
    """Normalise by init's statistics, or the checkpoint's, instead of each batch's: for small batches."""
    identity_start: bool = False
    """Start a new network close to an identity mapping instead of at random."""
    optimizer: Literal["adam", "muon"] = "adam"
    """adam, or muon: Muon for the matrices of the body, Adam for the rest."""
    learning_rate: float = 5e-4
    """Adam's largest learning rate."""
    muon_learning_rate: float = 2e-3
    """Muon's largest learning rate, scaled to the size of Adam's updates."""
    final_share: float = 0.002
    """Share of the largest learning rate that is left at the last step."""
    warmup: int = 0
    """First steps, in which the learning rate rises from 0."""
    decay_steps: int = 0
    """Last steps, in which it falls along a cosine; between, it is constant. 0: all after the warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's memory of gradients and of their squares."""
    clip: float = 0.0
    """Largest norm of the gradient; 0: unlimited."""
    ema: float = 0.999
    """Decay of the averaged weights, which are validated and saved as models; 0: the last weights."""

    validate_every: int = 5000
    """Steps between validations."""
    best: Literal["psnr", "ssim", "niqe", "newest"] = "psnr"
    """What the best model is chosen by; a discriminator costs PSNR."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    keep: int = 2
    """How many of the newest checkpoints are kept."""

    def __post_init__(self) -> None:
        check_kinds(self)
        for name in ("steps", "batch", "patch", "validate_every", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("seed", "warmup", "decay_steps", "clip", "halve_above"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative: {getattr(self, name)}")
        for name, most in LARGEST.items():
            if getattr(self, name) > most:
                raise UsageError(f"{name} must be at most {most}, not {getattr(self, name)}")
        for name in ("learning_rate", "muon_learning_rate"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("teacher_share", "final_share", "clean_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        for name, value in (("ema", self.ema), ("betas", self.betas[0]), ("betas", self.betas[1])):
            if not 0 <= value < 1:
                raise UsageError(f"{name} must be at least 0 and below 1, not {value}")
        losses = self.losses
        if (
            not losses.pixel_weight
            + losses.frequency_weight
            + losses.perceptual_weight * bool(losses.perceptual)
        ):
            raise UsageError(
                "losses: give pixel_weight, frequency_weight or, beside perceptual, perceptual_weight a value"
                " above 0; the others leave too much open"
            )
        self._check_patch()
        self._check_data()

    def _check_patch(self) -> None:
        """Raise UsageError where patches are too small for what judges them, less what is cut off for it."""
        losses = self.losses
        perceptual = losses.perceptual if losses.perceptual_weight else ""
        least = {
            "discriminator": 8 if self.discriminator.weight else 0,
            "losses.perceptual": {"": 0, "efficientnet-lite0": 1, "vgg19": 16}[perceptual],
            # A border of 1 has no Laplacian.
            "losses.grid_weight": self.scale + 2 if losses.grid_weight else 0,
        }
        cut = SHIFTS - 1 if self.discriminator.weight or perceptual else 0
        for name, side in least.items():
            if side and self.patch * self.scale - cut < side:
                needed = -(-(side + cut) // self.scale)
                raise UsageError(f"patch {self.patch} is too small for {name}; set patch to {needed} or more")

    def _check_data(self) -> None:
        """Raise UsageError where folders, and what is done to their pictures, contradict each other."""
        for name in ("data_weights", "lr_data"):
            count = len(getattr(self, name))
            if self.data and count not in (0, len(self.data)):
                raise UsageError(f"{name} has {count} entries, data {len(self.data)}: write one for each")
        if any(weight < 0 for weight in self.data_weights) or (
            self.data_weights and not sum(self.data_weights)
        ):
            raise UsageError(f"data_weights must not be negative, nor all 0: {list(self.data_weights)}")
        if self.discriminator.real == "targets" and not (self.teacher and self.teacher_sees == "damaged"):
            raise UsageError(
                "discriminator.real = targets needs a teacher with teacher_sees = damaged;"
                " set both, or leave it out"
            )
        if self.val_lr and not self.val:
            raise UsageError("val_lr has no val: name the folder of the originals with --val")
        if self.lr_data and self.degradation != "bicubic":
            raise UsageError(f"degradation = {self.degradation} makes its own LR pictures: leave lr_data out")
        if self.degradation == "bicubic" and self.clean_share:
            raise UsageError("clean_share is for degradation = photo or real: leave it out")
        if self.lr_data and self.halve_above:
            raise UsageError("halve_above would part the pictures from lr_data: leave one of them out")

    @property
    def answers_beforehand(self) -> bool:
        """Whether a teacher's answers are made before the first step, and kept."""
        return bool(self.teacher) and self.teacher_sees == "clean"

    @property
    def scale(self) -> int:
        """Enlargement: 2, 3 or 4."""
        return self.network.scale


TABLES: dict[str, type[Any]] = {
    "network": EMTConfig,
    "losses": LossConfig,
    "discriminator": DiscriminatorConfig,
    "photo": PhotoConfig,
    "real": RealConfig,
}
"""Tables of a recipe."""

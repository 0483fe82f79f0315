"""Tables of a recipe beside its plain keys: losses, discriminator, ranges of the damages; no torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from emt_cli.errors import UsageError

Range = tuple[float, float]
"""Least and most."""
ANY = (0.0, math.inf)
SHARE = (0.0, 1.0)


@dataclass(frozen=True)
class LossConfig:
    """What the network is asked for; the weights are those of the field, for pixels of 0..1."""

    pixel: Literal["l1", "charbonnier"] = "l1"
    """Distance of pixels."""
    pixel_weight: float = 1.0
    """Weight of the distance of pixels."""
    perceptual: Literal["", "efficientnet-lite0", "vgg19"] = ""
    """Network whose features are compared; empty: none."""
    perceptual_weight: float = 1.0
    """Weight of the distance of features."""
    perceptual_file: str = ""
    """File of that network; empty: the one in efficientnet-lite0's package, vgg19's as fetched by --fetch."""
    frequency_weight: float = 0.0
    """Weight of the distance of Fourier transforms."""
    colour_weight: float = 0.0
    """Weight of the distance of colours over 16 x 16 pixels, which the terms below let drift."""
    chroma_weight: float = 0.0
    """Weight of the distance of colours less their grays, pixel by pixel."""
    grid_weight: float = 0.0
    """Weight against grids: what repeats with the scale x scale pixels that the tail makes of one."""
    gray: bool = False
    """Whether features are those of grays, so that colours follow the pixels."""
    spectrum_weight: float = 0.0
    """Weight of the distance of grays' local power spectra: how much there is of each fineness and direction,
    wherever it lies. Takes away patterns that features let pass, and softness."""
    sharpen: float = 0.0
    """How much originals are sharpened for pixels and features, not for the discriminator; often 0.5."""
    sharpen_answers: float = 0.0
    """How much a teacher's answers are sharpened, finely: the network makes them softer than they are."""

    def __post_init__(self) -> None:
        _check(
            self,
            "losses",
            pixel_weight=ANY,
            perceptual_weight=ANY,
            frequency_weight=ANY,
            colour_weight=ANY,
            chroma_weight=ANY,
            grid_weight=ANY,
            spectrum_weight=ANY,
            sharpen=(0, 10),
            sharpen_answers=(0, 10),
        )


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator: a U-Net with spectral normalisation (arXiv 2107.10833, section 3.4)."""

    weight: float = 0.0
    """Weight of its judgement in the network's loss; 0: there is none."""
    width: int = 64
    """Channels of its first layer."""
    learning_rate: float = 1e-4
    """Its Adam's largest learning rate; it rises and falls as the network's."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Its Adam's memory of gradients and of their squares."""
    start: int = 0
    """Steps before it is trained and heard."""
    gray: bool = False
    """Whether it sees grays alone, so that colours follow the other losses."""
    real: Literal["originals", "targets"] = "originals"
    """What it tells answers from: originals; or targets, in a teacher's steps (teacher_sees = damaged) its
    answers, sharpened by losses.sharpen_answers, and in the others originals."""
    init: str = ""
    """Checkpoint of another run, whose discriminator is the first one; empty: a new one."""

    def __post_init__(self) -> None:
        _check(self, "discriminator", weight=ANY, width=(1, 1024), learning_rate=(1e-12, 1), start=ANY)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"discriminator.betas must be at least 0 and below 1, not {list(self.betas)}")


@dataclass(frozen=True)
class PhotoConfig:
    """Ranges of degradation = photo, one pass of mild damages."""

    bicubic_share: float = 0.5
    """Share of patches reduced by the papers' bicubic; the others are blurred, then resized by any kernel."""
    blur: Range = (0.0, 0.5)
    """Standard deviation of the blur in LR pixels."""
    noise_share: float = 0.4
    """Share of patches with noise."""
    noise: Range = (0.0, 8.0)
    """Standard deviation of the noise, 0..255."""
    quality: tuple[int, int] = (25, 95)
    """JPEG qualities."""
    saves: tuple[float, float, float] = (0.1, 0.6, 0.3)
    """Shares of patches that are saved as JPEG not, once, twice."""

    def __post_init__(self) -> None:
        _check(
            self,
            "photo",
            bicubic_share=SHARE,
            blur=(0, 10),
            noise_share=SHARE,
            noise=(0, 255),
            quality=(1, 100),
            saves=SHARE,
        )


@dataclass(frozen=True)
class RealConfig:
    """Ranges of degradation = real, two passes of damages; defaults of Real-ESRGAN."""

    photo_share: float = 0.0
    """Share of patches that are damaged as by degradation = photo instead."""
    kernels: tuple[float, float, float, float, float, float] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    """Shares of blurs: Gaussian, generalised Gaussian, plateau, each round and then stretched."""
    radius: tuple[int, int] = (3, 10)
    """Pixels from a kernel's centre to its border."""
    sinc_share: float = 0.1
    """Share of sinc filters in the place of blurs, in both passes."""
    final_sinc_share: float = 0.8
    """Share of patches with a sinc filter in the end."""
    generalised: Range = (0.5, 4.0)
    """Shape of generalised Gaussians: 1 is a Gaussian."""
    plateau: Range = (1.0, 2.0)
    """Shape of plateaus."""
    blur: Range = (0.2, 3.0)
    """Standard deviation of the first blur in HR pixels."""
    resizes: tuple[float, float, float] = (0.2, 0.7, 0.1)
    """Shares of patches enlarged, reduced, kept in the first pass."""
    resize: Range = (0.15, 1.5)
    """Side after the first resize, in sides of the original."""
    gaussian_share: float = 0.5
    """Share of Gaussian noise, in both passes; the rest has Poisson noise."""
    gray_share: float = 0.4
    """Share of noise that is the same in all colours, in both passes."""
    gaussian: Range = (1.0, 30.0)
    """Standard deviation of the first pass's Gaussian noise, 0..255."""
    poisson: Range = (0.05, 3.0)
    """Strength of the first pass's Poisson noise."""
    quality: tuple[int, int] = (30, 95)
    """JPEG qualities of the first pass."""
    second_blur_share: float = 0.8
    """Share of patches blurred in the second pass."""
    second_blur: Range = (0.2, 1.5)
    """As blur, in the second pass."""
    second_resizes: tuple[float, float, float] = (0.3, 0.4, 0.3)
    """As resizes, in the second pass."""
    second_resize: Range = (0.3, 1.2)
    """Side after the second resize, in sides of the LR picture."""
    second_gaussian: Range = (1.0, 25.0)
    """As gaussian, in the second pass."""
    second_poisson: Range = (0.05, 2.5)
    """As poisson, in the second pass."""
    second_quality: tuple[int, int] = (30, 95)
    """JPEG qualities of the second pass."""

    def __post_init__(self) -> None:
        shares = ["photo_share", "kernels", "sinc_share", "final_sinc_share", "resizes", "gaussian_share"]
        shares += ["gray_share", "second_blur_share", "second_resizes"]
        _check(
            self,
            "real",
            **dict.fromkeys(shares, SHARE),
            **dict.fromkeys(("blur", "second_blur", "generalised", "plateau"), (0.05, 20.0)),
            **dict.fromkeys(("resize", "second_resize"), (0.1, 4.0)),
            **dict.fromkeys(("gaussian", "second_gaussian"), (0.0, 255.0)),
            **dict.fromkeys(("poisson", "second_poisson"), (0.0, 100.0)),
            **dict.fromkeys(("quality", "second_quality"), (1.0, 100.0)),
            radius=(1, 10),
        )


def types_of(kind: type) -> dict[str, Any]:
    """Return the types of a settings class's fields by name."""
    hints = get_type_hints(kind)
    return {item.name: hints[item.name] for item in fields(kind)}


def check_kinds(settings: Any, table: str = "") -> None:
    """Raise UsageError where a choice is none of its words, or a number is not finite."""
    for name, hint in types_of(type(settings)).items():
        value, key = getattr(settings, name), f"{table}{name}"
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        if choices and value not in choices:
            raise UsageError(f"{key}: {value!r} is none of {', '.join(word for word in choices if word)}")
        if any(isinstance(part, float) and not math.isfinite(part) for part in _parts(value)):
            raise UsageError(f"{key} must be finite, not {_plain(value)}")


def _check(settings: Any, table: str, **limits: tuple[float, float]) -> None:
    """Check a table's choices and limits; pairs are ranges, the least first, more numbers are shares of 1."""
    check_kinds(settings, f"{table}.")
    for name, (least, most) in limits.items():
        value = getattr(settings, name)
        parts, key = _parts(value), f"{table}.{name}"
        if not all(least <= part <= most for part in parts):
            bounds = f"at least {least:g}" if most == math.inf else f"between {least:g} and {most:g}"
            raise UsageError(f"{key} must be {bounds}, not {_plain(value)}")
        if len(parts) == 2 and parts[0] > parts[1]:
            raise UsageError(f"{key}: {_plain(value)} is no range: write the least first")
        if len(parts) > 2 and abs(sum(parts) - 1) > 1e-6:
            raise UsageError(f"{key}: the shares {_plain(value)} do not come to 1")


def _parts(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

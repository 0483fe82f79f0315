"""Perceptual distance: pictures compared by what networks trained on ImageNet see in them."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emt_cli.assets.features import FEATURE_FILES, FeatureFile, feature_file
from emt_cli.errors import ModelError

LITE_STAGES = ((0, 1), (1, 3), (3, 5), (5, 11))
"""Blocks of EfficientNet-Lite0 whose last features are compared: of 1/2, 1/4, 1/8 and 1/16 of the size."""
LITE_STRIDED = (1, 3, 5)
"""Blocks that halve the size."""
LITE_SCALES = (4.74, 6.41, 5.53, 4.37)
"""Mean absolute features in those stages of CID22's photographs."""
LITE_EPSILON = 1e-3
"""Of its batch normalisation."""
VGG_STAGES = ((0, 2), (5, 7), (10, 12, 14, 16), (19, 21, 23, 25), (28, 30, 32, 34))
"""Convolutions of VGG19, by their numbers in torchvision's file; the last of each stage is compared."""
VGG_WEIGHTS = (0.1, 0.1, 1.0, 1.0, 1.0)
"""Weights of its stages, those of ESRGAN's successors."""


class PerceptualDistance(nn.Module):
    """Weighted sum over stages of the mean absolute differences of features."""

    def __init__(
        self,
        stages: Sequence[nn.Module],
        weights: Sequence[float],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """mean, std: of the pixels that the stages know, for RGB of 0..255."""
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.weights = tuple(weights)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, answer: Tensor, target: Tensor) -> Tensor:
        """Return the distance of RGB (b, 3, h, w), 0..255, from its target, which gets no gradient."""
        with torch.no_grad():
            wanted = self.features(target)
        distances = [
            weight * F.l1_loss(ours.float(), theirs.float())
            for weight, ours, theirs in zip(self.weights, self.features(answer), wanted, strict=True)
        ]
        return torch.stack(distances).sum()

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the features of each stage."""
        x = (x - self.mean) / self.std
        kept = []
        for stage in self.stages:
            x = stage(x)
            kept.append(x)
        return kept


def load_perceptual(name: str, file: str = "") -> PerceptualDistance:
    """Build a perceptual distance from its pinned file; raises ModelError for any other, or none."""
    tensors = _read(feature_file(name, file), FEATURE_FILES[name])
    if name == "vgg19":
        return PerceptualDistance(
            vgg19_stages(tensors), VGG_WEIGHTS, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
        )
    weights = [1 / scale for scale in LITE_SCALES]
    return PerceptualDistance(efficientnet_lite0_stages(tensors), weights, (127.0,) * 3, (128.0,) * 3)


def _read(path: Path, file: FeatureFile) -> dict[str, Tensor]:
    """Read a file of torch.save whose content is known; nothing in it is executed."""
    try:
        data = path.read_bytes() if path.stat().st_size == file.size else b""
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror or error}); check path and permissions"
        ) from error
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise ModelError(f"{path}: not {file.name} as it is known; remove it and fetch or copy it again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensors: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return tensors


def vgg19_stages(tensors: dict[str, Tensor]) -> list[nn.Module]:
    """Build VGG19 (arXiv 1409.1556) up to its last convolution, each stage without its last activation."""
    stages: list[nn.Module] = []
    for number, convolutions in enumerate(VGG_STAGES):
        layers: list[nn.Module] = [nn.ReLU(), nn.MaxPool2d(2)] if number else []
        for place in convolutions:
            if place != convolutions[0]:
                layers.append(nn.ReLU())
            weight, bias = tensors[f"features.{place}.weight"], tensors[f"features.{place}.bias"]
            layers.append(_convolution(weight, bias, padding=1))
        stages.append(nn.Sequential(*layers))
    return stages


def efficientnet_lite0_stages(tensors: dict[str, Tensor]) -> list[nn.Module]:
    """Build the first stages of EfficientNet-Lite0 (arXiv 1905.11946, without squeeze and excitation)."""
    stem = nn.Sequential(_Padded(_normalised(tensors, "_conv_stem", "_bn0", stride=2)), nn.ReLU6())
    stages: list[nn.Module] = []
    for first, end in LITE_STAGES:
        blocks = [_Inverted(tensors, number) for number in range(first, end)]
        stages.append(nn.Sequential(*([] if first else [stem]), *blocks))
    return stages


class _Inverted(nn.Module):
    """Inverted residual: expand, filter each channel, project (arXiv 1801.04381)."""

    def __init__(self, tensors: dict[str, Tensor], number: int) -> None:
        super().__init__()
        name = f"_blocks.{number}."
        layers: list[nn.Module] = []
        if number:
            layers += [_normalised(tensors, f"{name}_expand_conv", f"{name}_bn0"), nn.ReLU6()]
        stride = 2 if number in LITE_STRIDED else 1
        depthwise = _normalised(tensors, f"{name}_depthwise_conv", f"{name}_bn1", stride, groups=True)
        layers += [_Padded(depthwise), nn.ReLU6()]
        layers.append(_normalised(tensors, f"{name}_project_conv", f"{name}_bn2"))
        self.layers = nn.Sequential(*layers)
        self.residual = tensors[f"{name}_depthwise_conv.weight"].shape[0] // 6 == len(layers[-1].bias)  # type: ignore[arg-type]
        self.residual = self.residual and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class _Padded(nn.Module):
    """TensorFlow's "same" padding: what is odd goes right and below."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.convolution.kernel_size[0], self.convolution.stride[0]
        pads = []
        for size in (x.shape[3], x.shape[2]):
            missing = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads += [missing // 2, missing - missing // 2]
        y: Tensor = self.convolution(F.pad(x, pads))
        return y


def _normalised(
    tensors: dict[str, Tensor], convolution: str, norm: str, stride: int = 1, *, groups: bool = False
) -> nn.Conv2d:
    """Make a convolution with the batch normalisation after it folded in."""
    weight = tensors[f"{convolution}.weight"]
    gain = tensors[f"{norm}.weight"] * torch.rsqrt(tensors[f"{norm}.running_var"] + LITE_EPSILON)
    bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * gain
    return _convolution(
        weight * gain.view(-1, 1, 1, 1), bias, stride=stride, groups=len(weight) if groups else 1
    )


def _convolution(
    weight: Tensor, bias: Tensor, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> nn.Conv2d:
    out, width, kernel, _ = weight.shape
    layer = nn.Conv2d(width * groups, out, kernel, stride, padding, groups=groups)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(bias)
    return layer

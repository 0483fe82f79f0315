"""The Efficient Mixed Transformer: head, Mixed Transformer Blocks, tail."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emt_cli.model.attention import SWSA
from emt_cli.model.config import MEAN_RGB, EMTConfig
from emt_cli.model.layers import MLP, PixelMixer


class Layer(nn.Module):
    """One transformer layer: x + mixer(x), then x + mlp(x); no norm in front (paper section 3.1)."""

    def __init__(self, config: EMTConfig, mixer: SWSA | PixelMixer) -> None:
        super().__init__()
        self.mixer = mixer
        self.mlp = MLP(config.dim, config.hidden)

    def forward(self, x: Tensor, maps: list[Tensor] | None = None) -> Tensor:
        """Map (b, h, w, dim) to the same shape; maps gets a global layer's attention weights."""
        x = x + (self.mixer(x, maps) if isinstance(self.mixer, SWSA) else self.mixer(x))
        y: Tensor = x + self.mlp(x)
        return y


class EMT(nn.Module):
    """The network of arXiv 2305.11403: RGB, 0..255, (b, 3, h, w) to (b, 3, h * scale, w * scale)."""

    def __init__(self, config: EMTConfig) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Conv2d(3, config.dim, 3, padding=1)
        layers: list[nn.Module] = []
        for kind in config.mixers:
            local = kind == "local"
            mixer = PixelMixer(config.dim) if local else SWSA(config, shifted=kind == "shifted")
            layers.append(Layer(config, mixer))
        self.body = nn.Sequential(*layers)
        self.tail = nn.Conv2d(config.dim, 3 * config.scale**2, 3, padding=1)
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(3, 1, 1), persistent=False)

    mean: Tensor

    def forward(self, x: Tensor, maps: list[Tensor] | None = None) -> Tensor:
        """Enlarge RGB (b, 3, h, w) with sides from 1 pixel up.

        maps: gets the attention weights of each global layer in turn, of all its window shapes, as
        `emt_cli.model.attention.attend` says; they are large.
        """
        h, w = x.shape[-2:]
        scale = self.config.scale
        x = self.pad_small(x)
        with torch.autocast(x.device.type, enabled=False):
            features = self.head(x - self.mean).permute(0, 2, 3, 1).contiguous()
        start = features
        for layer in self.body:
            features = layer(features, maps)
        features = features + start
        with torch.autocast(x.device.type, enabled=False):
            tail = self.tail(features.permute(0, 3, 1, 2))
        y = F.pixel_shuffle(tail, scale) + self.mean
        return y[..., : h * scale, : w * scale]

    def pad_small(self, x: Tensor) -> Tensor:
        """Extend sides too short for the reflect padding inside the attention; others stay as they are."""
        bottom, right = self.config.small_pads(*x.shape[-2:])
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        return x

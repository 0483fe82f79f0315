"""The shape of one network of the EMT family."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, lcm, prod
from typing import Literal

MEAN_RGB = (0.4690 * 255, 0.4490 * 255, 0.4036 * 255)
"""Mean of the paper's training pictures, subtracted before the head and added after the tail."""

Pair = tuple[int, int]

MIX_OFFSETS = ((0, 1), (0, -1), (1, 0), (-1, 0))
SHIFT_OFFSETS = ((0, 1), (0, -1), (1, 0), (-1, 0))
"""Of pixel mixer and shifts: a group's output at (y, x) is its input at (y + dy, x + dx); the fifth stays."""

Mixer = Literal["local", "global", "shifted"]
"""Token mixer of a layer: pixel mixer; SWSA; SWSA with its windows rolled by half a window."""

LARGEST = 4096
"""Most channels, layers and pixels of a shift that are taken for a network, and not for damage."""
LARGEST_WORK = 1 << 30
"""Most multiply-adds for one pixel, about the number of weights; the published network has 0.7 million."""
LARGEST_WINDOW = 1024
"""Longest side of a window, and largest tile that all windows must fit into without a rest."""


@dataclass(frozen=True)
class EMTConfig:
    """Sizes of an EMT; the defaults are the published network (arXiv 2305.11403, section 4.1)."""

    scale: int
    """Enlargement: 2, 3 or 4."""
    dim: int = 60
    """Channels of the residual stream."""
    blocks: int = 6
    """Mixed Transformer Blocks (MTB)."""
    layers: int = 6
    """Layers in a block: first the global (GTL), then the local ones (LTL)."""
    attention_layers: int = 2
    """Global layers (GTL) at the start of each block."""
    heads: int = 3
    """Attention heads of each window shape."""
    mlp_ratio: float = 2
    """Hidden channels of an MLP, as a multiple of dim; dim * mlp_ratio is a whole number."""
    windows: tuple[Pair, ...] = ((32, 8), (8, 32))
    """Striped windows (height, width) in pixels; the channels are shared out among them."""
    shifts: tuple[Pair, ...] = ((16, 4), (4, 16))
    """Rolls (down, right) in pixels of every second attention layer, one for each window."""

    def __post_init__(self) -> None:
        if self.scale not in (2, 3, 4):
            raise ValueError(f"scale must be 2, 3 or 4, not {self.scale}")
        for name in ("dim", "blocks", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.dim < 5:
            raise ValueError(f"dim must be at least 5 (five shift groups), not {self.dim}")
        if not 0 <= self.attention_layers <= self.layers:
            raise ValueError(
                f"attention_layers must lie between 0 and layers ({self.layers}), not {self.attention_layers}"
            )
        if not self.windows or len(self.windows) != len(self.shifts):
            raise ValueError("windows and shifts must be of the same number, at least one")
        if any(side < 1 for window in self.windows for side in window):
            raise ValueError(f"window sides must be at least 1 pixel: {self.windows}")
        parts = len(self.windows) * self.heads
        if self.dim % parts:
            raise ValueError(
                f"dim {self.dim} must be a multiple of windows x heads"
                f" ({len(self.windows)} x {self.heads} = {parts})"
            )
        if not 5 <= self.dim * self.mlp_ratio < inf or self.dim * self.mlp_ratio % 1:
            raise ValueError(
                f"mlp_ratio {self.mlp_ratio:g} must give a whole number of hidden channels, at least 5"
            )
        self._check_sizes()

    def _check_sizes(self) -> None:
        """Raise ValueError for sizes that would take any memory there is."""
        counts = [self.hidden, self.blocks * self.layers, len(self.windows) * self.heads]
        counts += [abs(shift) for pair in self.shifts for shift in pair]
        windows = [side for window in self.windows for side in window]
        largest = max(windows) if max(windows) > LARGEST_WINDOW else self.window_multiple
        if max(counts) > LARGEST or largest > LARGEST_WINDOW or self.multiply_adds > LARGEST_WORK:
            raise ValueError(
                f"a network far beyond the family's sizes (at most {LARGEST} channels and layers,"
                f" {LARGEST_WINDOW} pixels to fit all windows)"
            )

    @property
    def hidden(self) -> int:
        """Hidden channels of an MLP."""
        return int(self.dim * self.mlp_ratio)

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.dim // (len(self.windows) * self.heads)

    @property
    def mixers(self) -> tuple[Mixer, ...]:
        """Token mixer of each layer of the body, in order.

        Every second global layer is shifted, counted through the whole network.
        """
        mixers: list[Mixer] = []
        for block in range(self.blocks):
            for position in range(self.layers):
                if position >= self.attention_layers:
                    mixers.append("local")
                else:
                    odd = (block * self.attention_layers + position) % 2
                    mixers.append("shifted" if odd else "global")
        return tuple(mixers)

    def small_pads(self, height: int, width: int) -> tuple[int, int]:
        """Return how many pixels a picture is extended by, bottom and right, before anything else.

        0 unless a side is too short for the reflect padding inside the attention.
        """
        pads = [0, 0]
        for axis, side in enumerate((height, width)):
            if any(-side % window[axis] >= side for window in self.windows):
                pads[axis] = -side % self.window_multiple
        return pads[0], pads[1]

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all tensors, under the names of emt_cli.model.emt.EMT."""
        dim, hidden = self.dim, self.hidden
        shapes: dict[str, tuple[int, ...]] = {"head.weight": (dim, 3, 3, 3), "head.bias": (dim,)}

        def linear(name: str, inputs: int, outputs: int) -> None:
            shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

        for index, mixer in enumerate(self.mixers):
            layer = f"body.{index}"
            channels = dim if mixer == "local" else 2 * dim
            if mixer != "local":
                linear(f"{layer}.mixer.qv", dim, 2 * dim)
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{layer}.mixer.norm.{part}"] = (channels,)
            shapes[f"{layer}.mixer.norm.num_batches_tracked"] = ()
            if mixer != "local":
                linear(f"{layer}.mixer.proj", dim, dim)
            linear(f"{layer}.mlp.fc1", dim, hidden)
            linear(f"{layer}.mlp.fc2", hidden, dim)
        return shapes | {"tail.weight": (3 * self.scale**2, dim, 3, 3), "tail.bias": (3 * self.scale**2,)}

    @property
    def parameters(self) -> int:
        """Numbers that are trained."""
        trained = (shape for name, shape in self.tensor_shapes.items() if name.endswith(("weight", "bias")))
        return sum(map(prod, trained))

    @property
    def window_multiple(self) -> int:
        """Pixels that tile origins must be a multiple of, so that tiles see the same windows."""
        return lcm(*(side for window in self.windows for side in window))

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one input pixel, padding left out (section 4, Multi-Adds)."""
        attention = 3 * self.dim**2 + 2 * self.dim * sum(h * w for h, w in self.windows) // len(self.windows)
        convolutions = 27 * self.dim * (1 + self.scale**2)
        mlp = 2 * self.hidden * self.dim
        return convolutions + self.blocks * (self.attention_layers * attention + self.layers * mlp)

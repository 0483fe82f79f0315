"""A folded network in torch, one layer at a time in strips of rows.

Two feature maps of the whole input are kept; everything else is the size of a strip and reused, so the
memory is about `bytes_per_pixel` an input pixel, the strips stay in the processor's cache, and no attention
matrix is ever larger than a strip's. The numbers are those of `EMT` in evaluation mode, to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from emt_cli.engine.folded import Affine, FoldedAttention, FoldedLayer, FoldedMixer, FoldedNetwork
from emt_cli.engine.tiling import Floats
from emt_cli.model.config import MIX_OFFSETS, SHIFT_OFFSETS, EMTConfig
from emt_cli.steps import Steps, finish, part

STRIP_PIXELS = 8192
"""Pixels of a strip on a CPU: its hidden channels (4 MB at dim 60) stay in the last-level cache."""

LEAST_ROWS = 4
"""Rows of a strip of a very wide picture: each strip computes a row more above and below."""


@dataclass(frozen=True)
class _Mix:
    """The five taps of a pixel mixer as one depthwise 3x3 convolution."""

    kernel: Tensor  # (c, 1, 3, 3)
    bias: Tensor  # (c,)


@dataclass(frozen=True)
class _Attention:
    """SWSA, one matrix of queries and values for each window shape."""

    windows: tuple[tuple[int, int], ...]
    shifts: tuple[tuple[int, int], ...]
    qv: list[tuple[Tensor, Tensor]]  # transposed weight (c, 2c / parts), bias
    proj: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _Step:
    mixer: _Mix | _Attention
    fc1: tuple[Tensor, Tensor]
    fc2: tuple[Tensor, Tensor]


class InferenceEMT:
    """RGB float32 (b, 3, h, w), 0..255, to float32 (b, 3, h * scale, w * scale), unclamped.

    The body runs in `dtype`; mean shift, tail and output stay in float32. whole_heads: extend heads with
    zeros to a multiple of 16 channels, which torch's fused kernels take on GPUs and are quicker with on CPUs.
    """

    def __init__(
        self,
        network: FoldedNetwork,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        strip_pixels: int = STRIP_PIXELS,
        whole_heads: bool = True,
    ) -> None:
        self.config: EMTConfig = network.config
        self.device = torch.device(device)
        self.dtype = dtype
        self.strip_pixels = strip_pixels
        self.extra_channels = -network.config.head_dim % 16 if whole_heads else 0
        self._mean = self._place(network.mean.reshape(3, 1, 1), torch.float32)
        self._head, self._tail = (
            (self._place(weight, torch.float32), self._place(bias, torch.float32))
            for weight, bias in (network.head, network.tail)
        )
        self._steps = [self._step(layer) for layer in network.layers]

    def _place(self, array: Floats, dtype: torch.dtype | None = None) -> Tensor:
        return torch.tensor(array, dtype=dtype or self.dtype, device=self.device)

    def _linear(self, layer: Affine) -> tuple[Tensor, Tensor]:
        weight, bias = layer
        return self._place(np.ascontiguousarray(weight.T)), self._place(bias)

    def _step(self, layer: FoldedLayer) -> _Step:
        mixer = (
            self._mix(layer.mixer) if isinstance(layer.mixer, FoldedMixer) else self._attention(layer.mixer)
        )
        return _Step(mixer, self._linear(layer.fc1), self._linear(layer.fc2))

    def _mix(self, mixer: FoldedMixer) -> _Mix:
        kernel = np.zeros((mixer.taps.shape[1], 1, 3, 3), np.float32)
        for (dy, dx), factors in zip(((0, 0), *MIX_OFFSETS), mixer.taps, strict=True):
            kernel[:, 0, 1 + dy, 1 + dx] = factors
        return _Mix(self._place(kernel), self._place(mixer.bias))

    def _attention(self, mixer: FoldedAttention) -> _Attention:
        return _Attention(
            mixer.windows, mixer.shifts, list(map(self._linear, mixer.qv)), self._linear(mixer.proj)
        )

    @property
    def bytes_per_pixel(self) -> int:
        """Working memory for each input pixel, the float32 output included, strips not."""
        body = 2 * self.config.dim * self.dtype.itemsize
        indices = 8 * 2 * len(self.config.windows)
        return body + indices + 12 * self.config.scale**2 + 24

    def __call__(self, x: Tensor) -> Tensor:
        """Enlarge RGB (b, 3, h, w); sides from 1 pixel up."""
        return finish(self.steps(x))

    @torch.inference_mode()
    def steps(self, x: Tensor) -> Steps[Tensor]:
        """Enlarge as a call does, yielding the share done after each layer."""
        scale = self.config.scale
        h, w = x.shape[-2:]
        bottom, right = self.config.small_pads(h, w)
        padded = F.pad(x.to(self.device, torch.float32), (0, right, 0, bottom), mode="replicate")
        b, _, ph, pw = padded.shape
        y = torch.empty((b, 3, ph * scale, pw * scale), device=self.device)
        run = _Run(self, ph, pw)
        for index, (source, target) in enumerate(zip(padded - self._mean, y, strict=True)):
            yield from part(run.enlarge(source, target), index / b, (index + 1) / b)
        y += self._mean
        return y[..., : h * scale, : w * scale]


class _Run:
    """Buffers and window indices for pictures of one size."""

    def __init__(self, net: InferenceEMT, h: int, w: int) -> None:
        self.net, self.h, self.w = net, h, w
        self.rows = min(h, max(LEAST_ROWS, net.strip_pixels // w))
        c, hidden = net.config.dim, net.config.hidden
        like = torch.empty(0, device=net.device, dtype=net.dtype)
        self.now = like.new_empty((h, w, c))
        self.then = like.new_empty((h, w, c))
        self.shifted = like.new_empty((self.rows + 2, w, hidden))
        self.hidden = like.new_empty((self.rows + 2, w, hidden))
        self.indices: dict[tuple[int, int, int, int], tuple[Tensor, Tensor]] = {}

    def enlarge(self, source: Tensor, target: Tensor) -> Steps[None]:
        """Run the network on source (3, h, w), mean removed, into target (3, h * scale, w * scale)."""
        for top, bottom in self._strips():
            self.now[top:bottom] = self._head(source, top, bottom)
        for index, step in enumerate(self.net._steps):
            if isinstance(step.mixer, _Attention):
                self._attend(step.mixer)
            for top, bottom in self._strips():
                self._local(step, top, bottom)
            self.now, self.then = self.then, self.now
            yield (index + 1) / len(self.net._steps)
        scale = self.net.config.scale
        for top, bottom in self._strips():
            above, below = max(top - 1, 0), min(bottom + 1, self.h)
            features = self.now[above:below].float() + self._head(source, above, below)
            weight, bias = self.net._tail
            tail = F.conv2d(features.permute(2, 0, 1)[None], weight, bias, padding=1)
            inner = tail[:, :, top - above : top - above + bottom - top]
            target[:, top * scale : bottom * scale] = F.pixel_shuffle(inner, scale)[0]

    def _strips(self) -> list[tuple[int, int]]:
        return [(top, min(top + self.rows, self.h)) for top in range(0, self.h, self.rows)]

    def _head(self, source: Tensor, top: int, bottom: int) -> Tensor:
        """Head features (rows, w, c) of the rows top..bottom; cheap enough to compute twice."""
        above, below = max(top - 1, 0), min(bottom + 1, self.h)
        weight, bias = self.net._head
        head = F.conv2d(source[None, :, above:below], weight, bias, padding=1)
        return head[0, :, top - above : top - above + bottom - top].permute(1, 2, 0)

    def _local(self, step: _Step, top: int, bottom: int) -> None:
        """Rows top..bottom of the pixel mixer (in a local layer) and the MLP, from `now` into `then`."""
        above, below = max(top - 1, 0), min(bottom + 1, self.h)  # rows of hidden channels needed
        first, last = max(above - 1, 0), min(below + 1, self.h)  # rows of the MLP's input needed
        mixer = step.mixer
        x = self._mix(mixer, first, last) if isinstance(mixer, _Mix) else self.now[first:last]
        hidden = self._linear(self._shift(x, above - first, below - above), step.fc1, self.hidden)
        F.silu(hidden, inplace=True)
        out = self._linear(self._shift(hidden, top - above, bottom - top), step.fc2, self.then[top:bottom])
        out += x[top - first : bottom - first]

    def _mix(self, mix: _Mix, first: int, last: int) -> Tensor:
        """Rows first..last of the pixel mixer with its residual; the picture's borders are circular."""
        rows = torch.arange(first - 1, last + 1, device=self.net.device) % self.h
        inside = first > 0 and last < self.h
        x = self.now[first - 1 : last + 1] if inside else self.now.index_select(0, rows)
        out = _depthwise(x, mix)[1:-1]
        # The convolution met zeros left and right; there the opposite border belongs.
        for column, neighbours in ((0, (-1, 0, 1)), (self.w - 1, (-2, -1, 0))):
            three = [x[:, (neighbour % self.w)] for neighbour in neighbours]
            out[:, column] = _depthwise(torch.stack(three, 1), mix)[1:-1, 1]
        return out

    def _shift(self, x: Tensor, first: int, rows: int) -> Tensor:
        """Rows first..first + rows of shift(x); rows beyond x are the picture's border, zero."""
        have, _, c = x.shape
        out = self.shifted.view(-1)[: rows * self.w * c].view(rows, self.w, c)
        size = c // 5
        for group, (dy, dx) in enumerate(SHIFT_OFFSETS):
            part = slice(group * size, (group + 1) * size)
            if dx > 0:
                out[:, :-1, part] = x[first : first + rows, 1:, part]
                out[:, -1, part] = 0
            elif dx < 0:
                out[:, 1:, part] = x[first : first + rows, :-1, part]
                out[:, 0, part] = 0
            else:
                top, bottom = max(first + dy, 0), min(first + dy + rows, have)
                start = top - first - dy
                out[start : start + bottom - top, :, part] = x[top:bottom, :, part]
                out[:start, :, part] = 0
                out[start + bottom - top :, :, part] = 0
        out[..., 4 * size :] = x[first : first + rows, :, 4 * size :]
        return out

    def _linear(self, x: Tensor, layer: tuple[Tensor, Tensor], buffer: Tensor) -> Tensor:
        weight, bias = layer
        out = buffer[: len(x)].view(-1, weight.shape[1])
        torch.addmm(bias, x.reshape(-1, weight.shape[0]), weight, out=out)
        return out.view(len(x), self.w, -1)

    def _attend(self, attention: _Attention) -> None:
        """Add the attention's answer to `now`, window chunk by window chunk; `then` holds it meanwhile."""
        heads, c = self.net.config.heads, self.net.config.dim
        width = c // len(attention.windows)
        pixels = self.now.view(-1, c)
        answer = self.then.view(-1, c)
        for index, (window, offset) in enumerate(zip(attention.windows, attention.shifts, strict=True)):
            source, target = self._window_order(window, offset)
            tokens = window[0] * window[1]
            weight, bias = attention.qv[index]
            chunk = max(1, self.net.strip_pixels // tokens) * tokens
            for start in range(0, len(source), chunk):
                x = pixels.index_select(0, source[start : start + chunk])
                qv = torch.addmm(bias, x, weight).view(-1, tokens, 2, heads, width // heads)
                q, v = qv[:, :, 0].transpose(1, 2), qv[:, :, 1].transpose(1, 2)
                if self.net.extra_channels:
                    q, v = (F.pad(x, (0, self.net.extra_channels)) for x in (q, v))
                out = F.scaled_dot_product_attention(q, q, v, scale=1.0)
                out = out[..., : width // heads].transpose(1, 2).reshape(-1, width)
                where = target[start : start + chunk]
                kept = where >= 0
                if not bool(kept.all()):
                    out, where = out[kept], where[kept]
                answer[:, index * width : (index + 1) * width].index_copy_(0, where, out)
        weight, bias = attention.proj
        for top, bottom in self._strips():
            rows = slice(top * self.w, bottom * self.w)
            pixels[rows].addmm_(answer[rows], weight)
        pixels += bias

    def _window_order(self, window: tuple[int, int], offset: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Pixel read by each token, and pixel written by it (-1 for padding), window after window."""
        key = (*window, *offset)
        if key not in self.indices:
            axes = []
            for side, length, roll in zip(window, (self.h, self.w), offset, strict=True):
                place = torch.arange(length + -length % side).roll(roll)
                reflected = torch.where(place < length, place, 2 * (length - 1) - place)
                axes.append((reflected.view(-1, side), (place < length).view(-1, side)))
            (ys, y_real), (xs, x_real) = axes
            read = ys[:, None, :, None] * self.w + xs[None, :, None, :]
            real = y_real[:, None, :, None] & x_real[None, :, None, :]
            write = torch.where(real, read, -1)
            self.indices[key] = (
                read.reshape(-1).to(self.net.device),
                write.reshape(-1).to(self.net.device),
            )
        return self.indices[key]


def _depthwise(x: Tensor, mix: _Mix) -> Tensor:
    y: Tensor = F.conv2d(x.permute(2, 0, 1)[None], mix.kernel, mix.bias, padding=1, groups=x.shape[-1])
    return y[0].permute(1, 2, 0)

"""The network written the plain way, as the released code computes it: the yardstick for speed and parity.

Channels first, every shift a depthwise convolution with a constant mask, attention matrices materialised,
batch normalisation as a layer of its own. Takes the state of `emt_cli.model.emt.EMT`. Used by tests and by

    python tests/released_reference.py WEIGHTS [WIDTHxHEIGHT ...]     # all engines, as ratios to this code
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from emt_cli.model.emt import EMT

OFFSETS = ((0, 1), (0, -1), (1, 0), (-1, 0), (0, 0))


class ReleasedEMT(nn.Module):
    """EMT with the released code's operations."""

    def __init__(self, network: EMT) -> None:
        super().__init__()
        self.network = network
        dim, hidden = network.config.dim, network.config.hidden
        mix = torch.zeros(dim, 1, 3, 3)
        for channel in range(dim):
            dy, dx = OFFSETS[channel % 5]
            mix[channel, 0, 1 + dy, 1 + dx] = 1
        self.register_buffer("mix", mix)
        self.register_buffer("shift1", shift_mask(dim))
        self.register_buffer("shift2", shift_mask(hidden))

    def forward(self, x: Tensor) -> Tensor:
        net = self.network
        first = net.head(x - net.mean)
        features = first
        for layer in net.body:
            if hasattr(layer.mixer, "windows"):
                features = features + self.attention(layer.mixer, features)
            else:
                padded = F.pad(features, (1, 1, 1, 1), mode="circular")
                mixed = F.conv2d(padded, self.mix, groups=self.mix.shape[0])
                features = features + norm(layer.mixer.norm, mixed - features)
            features = features + self.mlp(layer.mlp, features)
        return F.pixel_shuffle(net.tail(features + first), net.config.scale) + net.mean

    def mlp(self, mlp: nn.Module, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.shift1, padding=1, groups=x.shape[1])
        x = F.silu(conv1x1(mlp.fc1, x))
        return conv1x1(mlp.fc2, F.conv2d(x, self.shift2, padding=1, groups=x.shape[1]))

    def attention(self, mixer: nn.Module, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        parts = norm(mixer.norm, conv1x1(mixer.qv, x)).chunk(len(mixer.windows), dim=1)
        answers = []
        for part, (wh, ww), offset in zip(parts, mixer.windows, mixer.shifts, strict=True):
            part = F.pad(part, (0, -w % ww, 0, -h % wh), mode="reflect").roll(offset, (2, 3))
            rows, columns = part.shape[2] // wh, part.shape[3] // ww
            q, v = rearrange(
                part, "b (t n d) (y h) (x w) -> t (b y x) n (h w) d", t=2, n=mixer.heads, h=wh, w=ww
            )
            answer = (q @ q.transpose(-2, -1)).softmax(-1) @ v
            answer = rearrange(answer, "(b y x) n (h w) d -> b (n d) (y h) (x w)", y=rows, x=columns, h=wh)
            answers.append(answer.roll((-offset[0], -offset[1]), (2, 3))[..., :h, :w])
        return conv1x1(mixer.proj, torch.cat(answers, 1))


def shift_mask(channels: int) -> Tensor:
    mask = torch.zeros(channels, 1, 3, 3)
    for channel in range(channels):
        dy, dx = OFFSETS[min(channel // (channels // 5), 4)]
        mask[channel, 0, 1 + dy, 1 + dx] = 1
    return mask


def conv1x1(linear: nn.Linear, x: Tensor) -> Tensor:
    return F.conv2d(x, linear.weight[:, :, None, None], linear.bias)


def norm(layer: nn.BatchNorm1d, x: Tensor) -> Tensor:
    return F.batch_norm(
        x, layer.running_mean, layer.running_var, layer.weight, layer.bias, layer.training, layer.momentum
    )


def main() -> None:
    """Print thousand input pixels a second, from bytes to bytes, of this code and of all engines."""
    import statistics
    import sys
    import time
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

    from emt_cli.engine.runner import ENGINES
    from emt_cli.engine.torch.network import build_network, weights_of
    from emt_cli.engine.upscaler import Upscaler
    from emt_cli.engine.weights import load_weights
    from emt_cli.errors import EmtError
    from emt_cli.evaluation.multiply_adds import count_multiply_adds
    from emt_cli.evaluation.speed import synthetic

    def seconds(call: Callable[..., object], *arguments: object, runs: int) -> float:
        call(*arguments)
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            call(*arguments)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    network = build_network(load_weights(Path(sys.argv[1])))
    sizes = [tuple(map(int, text.split("x"))) for text in sys.argv[2:]] or [(160, 96), (512, 512)]
    released = ReleasedEMT(network).eval()

    @torch.inference_mode()
    def plain(net: nn.Module, image: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        return net(x)[0].clamp(0, 255).round().byte().permute(1, 2, 0).contiguous().numpy()

    a = torch.rand(2048, 2048)
    rate = 2048**3 / seconds(torch.matmul, a, a, runs=5)
    print(f"{torch.get_num_threads()} threads, matrix product {rate / 1e9:.0f} G multiply-adds/s")
    for width, height in sizes:
        image = synthetic(height, width)
        runs = 5 if height * width < 1 << 16 else 1
        work = count_multiply_adds(network.config, height, width)
        slow = seconds(plain, released, image, runs=runs)
        exact = plain(released, image).astype(int)
        rows = [("released operations", slow, exact)]
        for engine in reversed(ENGINES):
            try:
                upscaler = Upscaler(weights_of(network), engine=engine)
            except EmtError as error:
                print(error)
                continue
            took = seconds(upscaler.upscale, image, runs=runs)
            rows.append((f"engine {engine}", took, upscaler.upscale(image).astype(int)))
        for name, took, answer in rows:
            speed = height * width / took / 1000
            print(
                f"{width}x{height}  {name:20} {speed:7.1f} kpx/s  {slow / took:5.2f} times"
                f"  {100 * work / took / rate:4.0f} % of matrix product"
                f"  off by {abs(answer - exact).max()} in {(answer != exact).mean():.1e} of samples"
            )


if __name__ == "__main__":
    main()

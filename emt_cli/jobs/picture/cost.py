"""What a picture will take: tiles, and bytes of memory."""

from __future__ import annotations

from dataclasses import dataclass

from emt_cli.jobs.networks import Networks
from emt_cli.jobs.picture.plan import Plan
from emt_cli.media.picture.encode import encoder_bytes
from emt_cli.media.picture.formats import PictureFormat

_RESIZING = 160 << 20
"""Bytes that resizing takes at most, beside what there is before and after it."""


@dataclass(frozen=True)
class Cost:
    """What a picture will take beside its decoded self: tiles, and bytes, estimated."""

    tiles: int
    """Of the colour picture, all passes together."""
    enlarging: int
    """Pixels before and after the dearest pass, but for those decoded."""
    network: int
    """Memory of the network in its dearest pass."""
    writing: int
    """Pixels to write, and what the encoder holds."""

    @property
    def pixels(self) -> int:
        """Most bytes outside the network."""
        return max(self.enlarging, self.writing)


def cost_of(
    networks: Networks, plan: Plan, format: PictureFormat, *, samples: int, alpha: bool, itemsize: int
) -> Cost:
    """Estimate what a picture will take; samples: of a pixel's colour, 1 or 3, of itemsize bytes each."""
    tiles, height, width, enlarging, network = 0, plan.height, plan.width, 0, 0
    written = plan.out_height * plan.out_width * (samples + alpha) * itemsize
    waiting = written if alpha else 0  # an enlarged picture, while its alpha is enlarged
    for index, scale in enumerate(plan.passes):
        upscaler = networks.get(scale)
        last = index == len(plan.passes) - 1
        kept = itemsize if last and not plan.resized else 4
        before = height * width * samples * (itemsize if index == 0 else 4)
        if index == 0 and not alpha:  # as it was decoded
            before = 0
        after = height * width * scale**2 * samples * kept
        enlarging = max(enlarging, before + after)
        beside = waiting + before + after
        tiles += len(upscaler.tiles(height, width, beside=beside))
        network = max(network, upscaler.peak_bytes(height, width, beside=beside))
        height, width = height * scale, width * scale
    resizing = (height * width * samples * 4 + written + _RESIZING) if plan.resized else 0
    encoding = written + encoder_bytes(format, plan.out_height * plan.out_width, itemsize)
    return Cost(tiles, waiting + enlarging, network, waiting + max(resizing, encoding))

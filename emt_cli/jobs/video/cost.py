"""What enlarging a video will cost: tiles, memory, disk, seconds a frame."""

from __future__ import annotations

import time

from emt_cli.errors import InputError
from emt_cli.jobs.networks import Networks
from emt_cli.jobs.picture.plan import Plan
from emt_cli.media.video.codecs import Encoding, find_encoder
from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.read import VideoReader

QUEUE = 16 << 20
"""Bytes of frames that may wait before the network; one frame may always."""
REMEMBERED = 128 << 20
"""Bytes of frames, small and large, that are kept to recognise duplicates; the last one always is."""
_SAMPLE = 320
"""Side in pixels of the part of a frame that speed is measured on."""
_BITS_A_PIXEL = {"h264": 0.2, "hevc": 0.15, "av1": 0.1, "ffv1": 10.0, "prores": 3.5}
"""Of results, for an estimate: what films take at the default quality."""


def tiles_of(networks: Networks, plan: Plan) -> tuple[int, int]:
    """Return the side in input pixels of the last pass's tiles, and the tiles of a frame in all passes."""
    tiles, tile, height, width = 0, 0, plan.height, plan.width
    for scale in plan.passes:
        upscaler = networks.get(scale)
        tiles += len(upscaler.tiles(height, width))
        tile = upscaler.tile_size(height, width)
        height, width = height * scale, width * scale
    return tile, tiles


def memory_of(
    networks: Networks, info: VideoInfo, plan: Plan, workers: int, *, encoding: Encoding, compare: bool
) -> int:
    """Estimate the bytes of memory needed at most: the network's, waiting frames, the encoder's.

    workers: frames that are enlarged at the same time.
    """
    dearest, height, width = 0, plan.height, plan.width
    for scale in plan.passes:
        frame = height * width * 3 * (4 + 4 * scale**2)
        dearest = max(dearest, frame + networks.get(scale).peak_bytes(height, width))
        height, width = height * scale, width * scale
    sample = 3 * (1 if info.bits == 8 else 2)
    before = plan.height * plan.width * sample
    written = plan.out_height * plan.out_width * (3 if compare else 1)
    after = written * sample
    encoder = written * find_encoder(encoding.name(info.bits)).held_bytes(encoding.preset, info.bits)
    waiting = max(QUEUE, before) + (workers + 3) * (before + after)
    remembered = max(REMEMBERED, before + after)
    return workers * dearest + waiting + remembered + encoder


def disk_of(info: VideoInfo, plan: Plan, codec: str, frames: int, *, of: int, compare: bool) -> int:
    """Estimate the bytes of segments and result together, for some frames of all."""
    bits = _BITS_A_PIXEL.get(codec, _BITS_A_PIXEL["h264"]) * info.bits / 8
    video = bits / 8 * plan.out_height * plan.out_width * frames * (3 if compare else 1)
    others = info.path.stat().st_size * frames / of if len(info.streams) > 1 else 0
    return int(2 * video + others)


def seconds_a_frame(
    networks: Networks, info: VideoInfo, plan: Plan, *, pts: int, deinterlace: bool = False
) -> float:
    """Measure how long the network takes for a frame, by enlarging a part of the one at pts.

    Raises InputError when nothing can be decoded there.
    """
    with VideoReader(info, deinterlace=deinterlace) as reader:
        frame = next(iter(reader.frames(pts)), None)
    if frame is None:
        raise InputError(f"{info.path}: nothing can be decoded in its middle; get an undamaged copy")
    height, width = (min(side, _SAMPLE) for side in frame.pixels.shape[:2])
    top, left = (frame.pixels.shape[0] - height) // 2, (frame.pixels.shape[1] - width) // 2
    part = frame.pixels[top : top + height, left : left + width]
    seconds, factor = 0.0, 1
    for scale in plan.passes:
        upscaler = networks.get(scale)
        upscaler.upscale(part)  # once to warm up
        began = time.perf_counter()
        upscaler.upscale(part)
        taken = time.perf_counter() - began
        read = sum(
            (tile.read_bottom - tile.read_top) * (tile.read_right - tile.read_left)
            for tile in upscaler.tiles(plan.height * factor, plan.width * factor)
        )
        seconds += taken * read / (height * width)
        factor *= scale
    return seconds / len(networks.devices)

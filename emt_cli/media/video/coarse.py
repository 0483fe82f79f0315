"""Whether a video was coded so coarsely that its blocks and rings are better taken away than enlarged."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from av.sidedata.encparams import VideoEncParams, VideoEncParamsType
from av.video.frame import VideoFrame

TELL_QUANTIZERS = {"export_side_data": "venc_params"}
"""Options of a decoder that is to say how frames were quantised."""

# Where emt-lite-photo begins to win over emt-lite on moving pictures of Kodak24 (tests/model_choice.py).
_LEAST = {VideoEncParamsType.H264: 27, VideoEncParamsType.VP9: 160, VideoEncParamsType.MPEG2: 8}
"""By the kind of quantiser: H.264's QP, 0 to 51; VP9's base index, 0 to 255; twice MPEG-2's and MPEG-4's."""
_BLOCKS = 500
"""How many of a frame's blocks are looked at."""


def is_coarse(frames: Iterable[VideoFrame]) -> bool:
    """Tell it of a video's first frames, decoded with TELL_QUANTIZERS; no other codec is ever coarse."""
    found = quantizers(frames)
    kinds = {kind for kind, _ in found}
    if len(kinds) != 1:
        return False
    return statistics.mean(value for _, value in found) >= _LEAST.get(kinds.pop(), math.inf)


def quantizers(frames: Iterable[VideoFrame]) -> list[tuple[VideoEncParamsType, float]]:
    """Return the kind and the mean of the quantisers of each frame that tells them."""
    return [
        (VideoEncParamsType(data.codec_type), _mean(data))
        for frame in frames
        for data in frame.side_data
        if isinstance(data, VideoEncParams)
    ]


def _mean(data: VideoEncParams) -> float:
    places = range(0, data.nb_blocks, 1 + data.nb_blocks // _BLOCKS)
    changes = [data.block_params(place).delta_qp for place in places]
    return data.qp + (statistics.mean(changes) if changes else 0.0)

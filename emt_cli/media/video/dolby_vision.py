"""Whether a picture is Dolby Vision's own, which looks green and purple to whatever does not know it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from emt_cli.media.video.mp4 import sample_descriptions
from emt_cli.media.video.transport_stream import descriptor, stream_descriptors

_RECORD = re.compile(rb"(?:dv[cvw]C|\x41\xed\x98)[\x01-\x03]\x00(..)(.)", re.DOTALL)
"""The configuration record of 24 bytes behind its name in MP4, or as BlockAddIDExtraData in MKV."""
_HEAD = 1 << 20
"""Bytes at the beginning of an MKV in which its tracks are described."""
_DESCRIPTOR = 0xB0
"""Tag of the record in a transport stream's program map."""


@dataclass(frozen=True)
class DolbyVision:
    """What the configuration record says (Dolby Vision Streams Within the ISO Base Media File Format)."""

    profile: int
    compatibility: int
    """What else the picture can be shown as: 1 is HDR10, 2 SDR, 4 HLG, 6 HDR10 of discs, 0 nothing."""

    @property
    def alone(self) -> bool:
        """Whether the colours are Dolby Vision's own (IPT-PQ-c2)."""
        return self.profile in (5, 10, 20) and self.compatibility == 0


def dolby_vision(path: Path, container: str, track: int) -> DolbyVision | None:
    """Read a track's record in MP4, MOV, MKV or MPEG-TS; None where there is none. Raises OSError.

    container: ffmpeg's name of the demuxer. In MKV, which names no track there, it is that of any.
    """
    if container == "mpegts":
        return _of_transport_stream(path, track)
    if container.startswith("mov"):
        data = sample_descriptions(path).get(track, b"")
    elif container.startswith("matroska"):
        with path.open("rb") as stream:
            data = stream.read(_HEAD)
    else:
        return None
    found = _RECORD.search(data)
    return None if found is None else DolbyVision(found[1][0] >> 1, found[2][0] >> 4)


def _of_transport_stream(path: Path, pid: int) -> DolbyVision | None:
    """Read the descriptor of a stream (Dolby Vision Streams Within the MPEG-2 Transport Stream Format)."""
    body = descriptor(stream_descriptors(path).get(pid, b""), _DESCRIPTOR)
    if body is None or len(body) < 5:
        return None
    base_layer = body[3] & 1
    rest = body[4:] if base_layer else body[6:]  # the PID of the base layer stands between
    return DolbyVision(body[2] >> 1, rest[0] >> 4 if rest else 0)

"""Dolby Vision by what containers say of it."""

from __future__ import annotations

import struct
from pathlib import Path

import clips
import pytest

from emt_cli.errors import InputError
from emt_cli.media.video.probe import probe


def dolby(path: Path, profile: int, compatibility: int) -> Path:
    """Write a configuration record into the description of an MP4's picture; ffmpeg carries it to MKV."""
    plain, made = path.with_name("plain.mp4"), path.with_name("made.mp4")
    clips.clip(plain, "-tag:v", "hvc1", "-x265-params", "log-level=none", seconds=0.2, codec=clips.X265)
    data = bytearray(plain.read_bytes())
    numbers = profile << 9 | 1 << 3 | 0b101
    body = b"\1\0" + struct.pack(">HB", numbers, compatibility << 4) + bytes(19)
    box = struct.pack(">I4s", 8 + len(body), b"dvcC" if profile < 8 else b"dvvC") + body
    parents, begin, end = [], 0, len(data)
    for kind, inside in (
        (b"moov", 8),
        (b"trak", 8),
        (b"mdia", 8),
        (b"minf", 8),
        (b"stbl", 8),
        (b"stsd", 16),
        (b"hvc1", 8),
    ):
        at = data.index(kind, begin, end) - 4
        parents.append(at)
        begin, end = at + inside, at + int.from_bytes(data[at : at + 4], "big")
    data[end:end] = box
    for at in parents:
        size = int.from_bytes(data[at : at + 4], "big") + len(box)
        data[at : at + 4] = size.to_bytes(4, "big")
    made.write_bytes(data)
    clips.ffmpeg("-i", made, "-c", "copy", "-strict", "unofficial", path)
    assert f"profile: {profile}" in clips.facts(path)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("profile", [5, 10])
def test_colours_of_dolby_visions_own_are_refused(tmp_path: Path, suffix: str, profile: int) -> None:
    source = dolby(tmp_path / f"a{suffix}", profile, 0)

    with pytest.raises(InputError, match=rf"Dolby Vision's own \(profile {profile}\)"):
        probe(source)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_dolby_vision_beside_hdr10_is_named_as_missing(tmp_path: Path, suffix: str) -> None:
    source = dolby(tmp_path / f"a{suffix}", 8, 1)

    assert probe(source).left_out == ("Dolby Vision",)

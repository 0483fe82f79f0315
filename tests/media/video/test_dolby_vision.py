"""Dolby Vision by what containers say of it."""

from __future__ import annotations

import struct
from pathlib import Path

import clips
import pytest

from emt_cli.errors import InputError
from emt_cli.media.video.probe import probe
from emt_cli.media.video.transport_stream import stream_descriptors


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


def dolby_ts(path: Path, profile: int, compatibility: int, *, stamped: bool = False) -> Path:
    """Write a TS, or M2TS, whose program map has Dolby Vision's descriptor for its picture."""
    plain = path.with_name("plain.ts")
    clips.clip(plain, "-x265-params", "log-level=none", seconds=0.2, codec=clips.X265)
    data = bytearray(plain.read_bytes())
    body = b"\1\0" + struct.pack(">HB", profile << 9 | 1 << 3 | 0b101, compatibility << 4)
    added = bytes([0xB0, len(body)]) + body
    for at in range(0, len(data), 188):
        if data[at + 1 : at + 3] == b"\x50\x00":  # the map begins: PID 0x1000
            start = at + 5
            length = int.from_bytes(data[start + 1 : start + 3], "big") & 0xFFF
            section = data[start : start + 3 + length - 4] + added
            section[1:3] = (0xB000 | length + len(added)).to_bytes(2, "big")
            info = int.from_bytes(section[15:17], "big") & 0xFFF
            section[15:17] = (0xF000 | info + len(added)).to_bytes(2, "big")
            section += crc(section).to_bytes(4, "big")
            data[start : at + 188] = section.ljust(183, b"\xff")
    packets = [bytes(data[at : at + 188]) for at in range(0, len(data), 188)]
    path.write_bytes(b"".join(bytes(4) * stamped + packet for packet in packets))
    assert f"profile: {profile}" in clips.facts(path)
    return path


def crc(data: bytes) -> int:
    """Return the CRC-32 of sections (ISO/IEC 13818-1, annex A)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


@pytest.mark.parametrize("stamped", [False, True])
def test_a_transport_streams_map_tells_it_as_well(tmp_path: Path, stamped: bool) -> None:
    own = dolby_ts(tmp_path / "own.ts", 5, 0, stamped=stamped)
    beside = dolby_ts(tmp_path / "beside.ts", 8, 1, stamped=stamped)

    with pytest.raises(InputError, match=r"Dolby Vision's own \(profile 5\)"):
        probe(own)
    assert probe(beside).left_out == ("Dolby Vision",)
    assert probe(tmp_path / "plain.ts").left_out == ()


def test_a_program_map_that_is_damaged_tells_nothing(tmp_path: Path) -> None:
    data = bytearray(dolby_ts(tmp_path / "a.ts", 5, 0).read_bytes())
    path = tmp_path / "b.ts"

    for length in (0, 3, 187, 188, 400, 560, 700):
        path.write_bytes(data[:length])
        assert set(stream_descriptors(path)) <= {0x100}
    path.write_bytes(bytes(5000))
    assert stream_descriptors(path) == {}


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

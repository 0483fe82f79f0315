"""Packets that show no picture are neither frames nor losses."""

from __future__ import annotations

from pathlib import Path

import av
import clips
import pytest
from av.bitstream import BitStreamFilterContext

from emt_cli.media.video.hidden import shows_picture
from emt_cli.media.video.probe import probe
from emt_cli.media.video.read import VideoReader, survey


def hidden_references(path: Path, pix_fmt: str = "yuv420p") -> Path:
    """VP9 whose hidden reference frames are packets of their own, as hardware and older muxers write them."""
    whole = path.with_name("superframes.webm")
    codec = ("-c:v", "libvpx-vp9", "-b:v", "100k", "-cpu-used", "5", "-pix_fmt", pix_fmt)
    for number in ("1", "2"):  # libvpx hides frames only when it encodes a second time
        passes = ("-pass", number, "-passlogfile", path.with_name("first"))
        clips.clip(whole, *passes, size="64x64", seconds=1.6, codec=codec)
    options = {"fflags": "-autobsf"}  # the muxer would merge them again
    with av.open(str(whole)) as source, av.open(str(path), "w", options=options) as target:
        template = source.streams.video[0]
        stream = target.add_stream_from_template(template)
        split = BitStreamFilterContext("vp9_superframe_split", template)
        for packet in source.demux(template):
            time = packet.pts
            for part in split.filter(packet) if packet.size else []:
                if part.pts is None:  # a hidden one; a little earlier than the frame it came with
                    time -= 1
                part.stream, part.pts, part.dts = stream, time, time
                target.mux(part)
                time = packet.pts
    return path


def read(path: Path) -> tuple[int, list[str]]:
    with VideoReader(probe(path)) as reader:
        return len(list(reader.frames())), reader.damage


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv444p12le"])
def test_hidden_reference_frames_in_packets_of_their_own_are_no_loss(tmp_path: Path, pix_fmt: str) -> None:
    path = hidden_references(tmp_path / "hidden.webm", pix_fmt)
    shown = clips.times(path)
    assert len(clips.packets(path, "0:v:0")) > len(shown) == 40

    count, damage = read(path)

    assert (count, damage) == (40, [])
    info = probe(path)
    assert [info.seconds(pts) for pts in survey(info).times] == shown


def test_what_ffmpeg_drops_as_hidden_is_hidden(tmp_path: Path) -> None:
    path = hidden_references(tmp_path / "hidden.webm")
    # The merged packets show a picture each, so those that come before one and not by themselves are hidden.
    merged = tmp_path / "superframes.webm"

    with av.open(str(path)) as split, av.open(str(merged)) as whole:
        shown = [shows_picture(packet, "vp9") for packet in split.demux(video=0) if packet.size]
        every = [shows_picture(packet, "vp9") for packet in whole.demux(video=0) if packet.size]

    assert all(every)
    assert shown.count(True) == len(every) < len(shown)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_packets_of_messages_alone_are_no_loss(tmp_path: Path, codec: str) -> None:
    encoder = {"h264": clips.X264, "hevc": ("-c:v", "libx265", "-x265-params", "bframes=0")}[codec]
    source, path = clips.clip(tmp_path / "plain.mp4", size="64x64", codec=encoder), tmp_path / "told.mkv"
    message = bytes.fromhex("06052c" if codec == "h264" else "4e01052c") + bytes(44) + b"\x80"
    with av.open(str(source)) as container, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(container.streams.video[0])
        for packet in [packet for packet in container.demux(video=0) if packet.size]:
            time, base = packet.pts, packet.time_base
            packet.stream = stream
            target.mux(packet)
            told = av.Packet(len(message).to_bytes(4, "big") + message)
            told.stream, told.time_base = stream, base
            told.pts = told.dts = time + 200
            target.mux(told)

    count, damage = read(path)

    assert len(clips.packets(path, "0:v:0")) == 50
    assert (count, damage) == (25, [])

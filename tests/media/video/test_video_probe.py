"""What probe() tells of a file, and what it refuses to open."""

from __future__ import annotations

import io
import json
import shutil
import socket
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import clips
import numpy as np
import pytest
from PIL import Image

from emt_cli.errors import InputError
from emt_cli.media.video.info import VideoInfo
from emt_cli.media.video.probe import probe
from emt_cli.media.video.read import VideoReader


def test_rates_and_time_bases_are_exact_fractions(tmp_path: Path) -> None:
    film = probe(clips.clip(tmp_path / "film.mp4", rate="24000/1001"))
    sport = probe(clips.clip(tmp_path / "sport.mkv", rate="60000/1001"))

    assert (film.rate, film.time_base) == (Fraction(24000, 1001), Fraction(1, 24000))
    assert (sport.rate, sport.time_base) == (Fraction(60000, 1001), Fraction(1, 1000))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotated_clip_is_described_and_read_upright(tmp_path: Path, degrees: int) -> None:
    path = clips.rotated(tmp_path / "turned.mp4", degrees)

    info = probe(path)
    with VideoReader(info) as reader:
        pixels = next(iter(reader.frames())).pixels

    assert info.rotation == degrees
    assert (info.width, info.height) == (96, 64)
    assert pixels.shape == (64, 96, 3)
    corner = pixels[8:24, 8:40].reshape(-1, 3).mean(axis=0)
    assert corner[0] > 240
    assert corner[1:].max() < 15


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [(), ("-display_hflip",)])
def test_each_of_the_eight_display_matrices_shows_what_ffmpeg_shows(
    tmp_path: Path, turn: int, flip: tuple[str, ...]
) -> None:
    flat, path, raw = tmp_path / "flat.mp4", tmp_path / "turned.mp4", tmp_path / "shown.rgb"
    clips.clip(flat, "-pix_fmt", "yuv444p", seconds=0.1)
    clips.ffmpeg("-display_rotation", str(turn), *flip, "-i", flat, "-c", "copy", path)
    clips.ffmpeg("-i", path, "-frames:v", "1", "-pix_fmt", "rgb24", "-f", "rawvideo", raw)

    info = probe(path)
    with VideoReader(info) as reader:
        pixels = next(iter(reader.frames())).pixels

    theirs = np.fromfile(raw, np.uint8).reshape(info.height, info.width, 3)
    assert np.abs(pixels.astype(int) - theirs).mean() < 2  # the turned picture is off by more than 50


def test_quarter_turn_turns_the_sample_aspect_as_well(tmp_path: Path) -> None:
    flat = clips.clip(tmp_path / "flat.mp4", "-vf", "setsar=4/3")
    turned = tmp_path / "turned.mp4"
    clips.ffmpeg("-display_rotation", "-90", "-i", flat, "-c", "copy", turned)

    info = probe(turned)

    assert (info.width, info.height, info.rotation) == (64, 96, 90)
    assert (probe(flat).sar, info.sar) == (Fraction(4, 3), Fraction(3, 4))


def test_untagged_colours_are_guessed_by_height_and_said_to_be(tmp_path: Path) -> None:
    small = probe(clips.clip(tmp_path / "small.mp4", seconds=0.1)).colour
    large = probe(clips.clip(tmp_path / "large.mp4", size="1280x720", seconds=0.1)).colour

    assert (small.matrix, small.range, small.primaries) == ("smpte170m", "tv", "smpte170m")
    assert (large.matrix, large.range, large.transfer) == ("bt709", "tv", "bt709")
    assert small.guessed == large.guessed == ("matrix", "range", "primaries", "transfer")


def test_hdr10_metadata_are_read_exactly(tmp_path: Path) -> None:
    info = probe(clips.hdr10(tmp_path / "hdr.mp4"))

    assert (info.bits, info.dtype) == (10, "uint16")
    assert info.colour.guessed == ()
    assert (info.colour.matrix, info.colour.primaries) == ("bt2020nc", "bt2020")
    assert info.colour.transfer == "smpte2084"
    assert info.hdr is not None
    assert info.hdr.primaries is not None
    assert info.hdr.primaries[0] == (Fraction(34, 50), Fraction(16, 50))
    assert info.hdr.luminance == (Fraction(5, 1000), Fraction(1000))
    assert info.hdr.light_level == (1000, 400)


def test_hlg_is_known_by_its_transfer(tmp_path: Path) -> None:
    info = probe(clips.hlg(tmp_path / "hlg.mp4"))

    assert (info.colour.transfer, info.hdr) == ("arib-std-b67", None)


def test_every_stream_is_listed_with_language_title_and_disposition(tmp_path: Path) -> None:
    info = probe(clips.every_stream(tmp_path / "all.mkv"))

    assert [(stream.kind, stream.codec, stream.language) for stream in info.streams[:6]] == [
        ("video", "h264", None),
        ("audio", "opus", "eng"),
        ("audio", "opus", "deu"),
        ("subtitle", "ass", "fra"),
        ("subtitle", "subrip", "eng"),
        ("subtitle", "hdmv_pgs_subtitle", None),
    ]
    assert info.streams[6].kind == "attachment"
    assert info.streams[1].tags["title"] == "Plain"
    assert (info.streams[2].disposition, info.streams[4].disposition) == (("default",), ("forced",))
    assert (info.chapters, info.tags["title"]) == (2, "A film")


def test_cover_picture_is_not_taken_for_the_video(tmp_path: Path) -> None:
    picture, music, film = tmp_path / "cover.png", tmp_path / "music.m4a", tmp_path / "film.mp4"
    clips.ffmpeg("-f", "lavfi", "-i", "color=red:size=32x32", "-frames:v", "1", picture)
    clips.clip(tmp_path / "plain.mp4", audio=True)
    cover = ("-map", "0", "-map", "1", "-c", "copy", "-disposition:v:1", "attached_pic")
    clips.ffmpeg("-i", tmp_path / "plain.mp4", "-i", picture, *cover, film)
    clips.ffmpeg(
        "-i", film, "-map", "0:a", "-map", "0:v:1", "-c", "copy", "-disposition:v:0", "attached_pic", music
    )

    assert probe(film).codec == "h264"
    with pytest.raises(InputError, match="no video stream"):
        probe(music)


def test_interlaced_clip_is_recognised(tmp_path: Path) -> None:
    fields = ("-vf", "interlace", "-flags", "+ilme+ildct", "-x264-params", "tff=1")

    assert probe(clips.clip(tmp_path / "fields.mp4", *fields, rate="50")).interlaced
    assert not probe(clips.clip(tmp_path / "frames.mp4")).interlaced


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.mp4", b"", "not a video"),
        ("text.mkv", b"hello, world\n" * 50, "not a video"),
        ("zeros.mp4", bytes(5000), "not a video"),
        ("still.png", None, "does not move"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    path = tmp_path / name
    if content is None:
        clips.ffmpeg("-f", "lavfi", "-i", "color=red:size=32x32", "-frames:v", "1", path)
    else:
        path.write_bytes(content)

    with pytest.raises(InputError, match=words) as caught:
        probe(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        probe(tmp_path / "nothing.mp4")
    with pytest.raises(InputError, match="is a folder"):
        probe(tmp_path)


def test_video_without_a_frame_is_refused(tmp_path: Path) -> None:
    path = clips.clip(tmp_path / "none.mkv", "-frames:v", "0")

    with pytest.raises(InputError, match=r"no frame|not a video"):
        probe(path)


def test_playlists_never_open_what_they_name(tmp_path: Path) -> None:
    clips.clip(tmp_path / "secret.ts")
    server = socket.create_server(("127.0.0.1", 0))
    asked: list[object] = []
    threading.Thread(target=lambda: asked.append(server.accept()), daemon=True).start()
    address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
    lists = {
        "list.m3u8": f"#EXTM3U\n#EXTINF:1,\nsecret.ts\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": "ffconcat version 1.0\nfile secret.ts\n",
        "list.mp4": f"#EXTM3U\n#EXTINF:1,\n{address}\n",
        "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    }

    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="not a video"):
            probe(tmp_path / name)

    assert asked == []
    server.close()


def test_names_that_look_like_options_or_addresses_are_plain_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips.clip(tmp_path / "plain.mp4", seconds=0.2)
    monkeypatch.chdir(tmp_path)

    for name in ("-i.mp4", "concat:plain.mp4", "日本 %03d 100%.mp4"):
        shutil.copy("plain.mp4", Path(name))
        assert probe(Path(name)).codec == "h264"


def test_facts_are_plain_values(tmp_path: Path) -> None:
    info = probe(clips.clip(tmp_path / "plain.mp4"))

    assert isinstance(info, VideoInfo)
    assert json.dumps([stream.tags for stream in info.streams])
    assert np.dtype(info.dtype) == np.uint8


def test_frames_with_exif_are_read(tmp_path: Path, photo: np.ndarray) -> None:
    """Cameras put EXIF into each picture of MJPEG, which PyAV has no name for."""
    exif, picture = Image.Exif(), io.BytesIO()
    exif[0x010E] = "a camera"
    Image.fromarray(photo).save(picture, "jpeg", exif=exif)
    with av.open(str(tmp_path / "clip.mov"), "w") as container:
        stream: Any = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = photo.shape[1], photo.shape[0], "yuvj420p"
        for number in range(3):
            packet = av.Packet(picture.getvalue())
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
            container.mux(packet)

    info = probe(tmp_path / "clip.mov")

    assert (info.codec, info.width, info.rotation) == ("mjpeg", 120, 0)


def test_what_marks_3d_is_named(tmp_path: Path) -> None:
    source = clips.clip(tmp_path / "clip.mkv", "-x264-params", "frame-packing=3", seconds=0.2)

    assert probe(source).left_out == ("the mark of a 3D video",)

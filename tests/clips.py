"""Hard video clips, made with the ffmpeg that imageio-ffmpeg ships, and what that ffmpeg says of files.

The package decodes and encodes through PyAV, which brings another build of the libraries: what is written by
the one is read by the other.
"""

from __future__ import annotations

import re
import struct
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "10", "-threads", "1")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le")
MASTER = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
"""Of a display mastered in P3 with D65 white, 0.005 to 1000 cd/m², as x265 writes it."""


def ffmpeg(*arguments: str | Path) -> str:
    """Run ffmpeg, return what it says on both outputs; AssertionError with its words when it fails."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def clip(
    path: Path,
    *options: str | Path,
    size: str = "96x64",
    rate: str = "25",
    seconds: float = 1,
    codec: tuple[str, ...] = X264,
    picture: str = "testsrc2",
    audio: bool = False,
) -> Path:
    """Make a clip of a moving test picture; options stand after its codec and before its name."""
    source = ["-f", "lavfi", "-i", f"{picture}=size={size}:rate={rate}:duration={seconds}"]
    if audio:
        source += ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={seconds}"]
        source += ["-c:a", "aac", "-b:a", "48k"]
    ffmpeg(*source, *codec, *options, path)
    return path


def vfr(path: Path) -> Path:
    """24 frames at times that follow no rate, in units of 1/90000 s, with B-frames."""
    times = "settb=1/90000,setpts='3003*N+211*mod(N*N,13)+5400*gt(N,11)'"
    return clip(
        path, "-vf", times, "-fps_mode", "passthrough", "-enc_time_base", "1/90000",
        "-video_track_timescale", "90000", "-bf", "3",
    )  # fmt: skip


def offset(path: Path, seconds: str = "1.4") -> Path:
    """Picture and sound that begin later than 0, with B-frames."""
    shift = ["-output_ts_offset", seconds]
    if path.suffix == ".ts":
        shift += ["-muxdelay", "0", "-muxpreload", "0"]
    return clip(path, "-bf", "3", *shift, audio=True)


def wrapping(path: Path) -> Path:
    """MPEG-TS whose clock, of 33 bits, starts anew after 1.1 s; it begins before 0 by all accounts."""
    near = ["-muxdelay", "0", "-muxpreload", "0", "-output_ts_offset", "95442.6"]
    return clip(path, "-bf", "3", "-g", "20", *near, seconds=2, audio=True)


def captioned(path: Path) -> Path:
    """MPEG-2 with closed captions (ATSC A/53) in the user data of every picture."""
    stream, captions = path.with_suffix(".m2v"), b"\x00\x00\x01\xb2GA94\x03\x41\xff\xfc\x94\x20\xff"
    clip(stream, codec=("-c:v", "mpeg2video", "-bf", "0"))
    first_slice = b"\x00\x00\x01\x01"
    stream.write_bytes(stream.read_bytes().replace(first_slice, captions + first_slice))
    ffmpeg("-fflags", "+genpts", "-r", "25", "-i", stream, "-c", "copy", path)
    return path


def hdr10(path: Path, *options: str) -> Path:
    """HEVC of 10 bits in BT.2020 and PQ, with mastering display and light levels."""
    tags = f"colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:hdr10=1:master-display={MASTER}"
    return clip(path, "-x265-params", f"log-level=none:{tags}:max-cll=1000,400", *options, codec=X265)


def hlg(path: Path) -> Path:
    """HEVC of 10 bits in BT.2020 and HLG."""
    tags = "log-level=none:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc"
    return clip(path, "-x265-params", tags, codec=X265)


def bars(path: Path, matrix: str, range: str, *, pix_fmt: str = "yuv444p", tag: bool = True) -> np.ndarray:
    """Eight flat bars of 24 columns in lossless H.264; returns their colours (8, 3), computed here.

    The samples are written as raw YUV made by the definition of the matrix, so no converter is involved.
    """
    kr, kb = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593)}[matrix]
    bits = 10 if pix_fmt.endswith("10le") else 8
    colours = np.array(
        [[235, 235, 235], [200, 200, 20], [20, 200, 200], [30, 180, 30], [190, 30, 190], [180, 24, 24],
         [24, 24, 200], [128, 128, 128]]
    )  # fmt: skip
    rgb = colours / 255
    luma = rgb @ np.array([kr, 1 - kr - kb, kb])
    blue, red = (rgb[:, 2] - luma) / (2 * (1 - kb)), (rgb[:, 0] - luma) / (2 * (1 - kr))
    scale = 2 ** (bits - 8)
    if range == "tv":
        planes = [16 + 219 * luma, 128 + 224 * blue, 128 + 224 * red]
        planes = [plane * scale for plane in planes]
    else:
        top = 2**bits - 1
        planes = [top * luma, 128 * scale + top * blue, 128 * scale + top * red]
    kind = np.uint16 if bits > 8 else np.uint8
    tall, wide = (32, 16) if "420" in pix_fmt else (64, 16) if "422" in pix_fmt else (64, 32)
    frame = b""
    for index, plane in enumerate(planes):
        rows, columns = (64, 32) if index == 0 else (tall, wide)
        line = np.repeat(np.clip(np.rint(plane), 0, 2**bits - 1).astype(kind), columns)
        frame += np.tile(line, (rows, 1)).tobytes()
    raw = path.with_suffix(".yuv")
    raw.write_bytes(frame * 5)
    tags = ["-color_range", range]
    if tag:
        tags += ["-colorspace", matrix]
    ffmpeg(
        "-f", "rawvideo", "-pix_fmt", pix_fmt, "-video_size", "256x64", "-framerate", "25", *tags, "-i", raw,
        "-c:v", "libx264", "-qp", "0", "-preset", "ultrafast", *tags, path,
    )  # fmt: skip
    return colours


def rotated(path: Path, degrees: int) -> Path:
    """A clip whose display matrix turns it; the picture's upper left quarter is red when shown upright."""
    upright = path.with_name(f"{path.stem}_upright.mp4")
    turn = {0: "null", 90: "transpose=2", 180: "hflip,vflip", 270: "transpose=1"}[degrees]
    corner = "drawbox=x=0:y=0:w=iw/2:h=ih/2:color=red:t=fill"
    clip(upright, "-vf", f"{corner},{turn}", "-pix_fmt", "yuv420p", "-bf", "0")
    ffmpeg("-display_rotation", str(-degrees), "-i", upright, "-c", "copy", path)
    return path


def every_stream(path: Path) -> Path:
    """MKV with two languages of sound, ASS, SubRip and picture subtitles, chapters, a font and tags."""
    folder = path.parent
    picture, first, second = folder / "es_v.mkv", folder / "es_1.mka", folder / "es_2.mka"
    clip(picture, "-bf", "2", seconds=2)
    for file, pitch in ((first, 440), (second, 660)):
        ffmpeg(
            "-f", "lavfi", "-i", f"sine=frequency={pitch}:duration=2", "-c:a", "libopus", "-b:a", "32k", file
        )
    texts = folder / "es.srt"
    texts.write_text("1\n00:00:00,200 --> 00:00:00,900\nHello\n\n2\n00:00:01,200 --> 00:00:01,900\nWorld\n")
    styled, pictures, font = folder / "es.ass", folder / "es.sup", folder / "font.ttf"
    ffmpeg("-i", texts, styled)
    pictures.write_bytes(picture_subtitles())
    font.write_bytes(bytes(range(256)) * 4)
    chapters = folder / "es.txt"
    chapters.write_text(
        ";FFMETADATA1\ntitle=A film\nartist=Somebody\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\n"
        "title=One\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=1000\nEND=2000\ntitle=Two\n"
    )
    ffmpeg(
        "-i", picture, "-i", first, "-i", second, "-i", styled, "-i", texts, "-i", pictures, "-i", chapters,
        "-map", "0", "-map", "1", "-map", "2", "-map", "3", "-map", "4", "-map", "5", "-map_metadata", "6",
        "-map_chapters", "6", "-c", "copy", "-attach", font,
        "-metadata:s:t", "mimetype=application/x-truetype-font", "-metadata:s:a:0", "language=eng",
        "-metadata:s:a:0", "title=Plain", "-metadata:s:a:1", "language=deu",
        "-metadata:s:s:0", "language=fra", "-metadata:s:s:1", "language=eng", "-disposition:a:0", "0",
        "-disposition:a:1", "default", "-disposition:s:1", "forced", path,
    )  # fmt: skip
    return path


def picture_subtitles() -> bytes:
    """Return a PGS stream (Blu-ray) that shows a small square from 0.5 to 1 s."""

    def segment(seconds: float, kind: int, body: bytes) -> bytes:
        return b"PG" + struct.pack(">IIBH", int(seconds * 90000), 0, kind, len(body)) + body

    def composition(number: int, state: int, objects: bytes) -> bytes:
        return struct.pack(">HHBHBBBB", 96, 64, 0x10, number, state, 0, 0, len(objects) // 8) + objects

    window = struct.pack(">BBHHHH", 1, 0, 8, 8, 8, 8)
    palette = struct.pack(">BBBBBBB", 0, 0, 1, 235, 128, 128, 255)
    runs = (b"\x00\x88\x01" + b"\x00\x00") * 8
    image = (
        struct.pack(">HBB", 0, 0, 0xC0) + (len(runs) + 4).to_bytes(3, "big") + struct.pack(">HH", 8, 8) + runs
    )
    shown = composition(0, 0x80, struct.pack(">HBBHH", 0, 0, 0, 8, 8))
    bodies = (
        (0.5, 0x16, shown),
        (0.5, 0x17, window),
        (0.5, 0x14, palette),
        (0.5, 0x15, image),
        (0.5, 0x80, b""),
    )
    bodies += ((1.0, 0x16, composition(1, 0, b"")), (1.0, 0x17, window), (1.0, 0x80, b""))
    return b"".join(segment(*body) for body in bodies)


def size_change(path: Path) -> Path:
    """Ten frames of 96x64, then ten of 128x80."""
    parts = [path.with_name(f"{path.stem}_{size}.h264") for size in ("96x64", "128x80")]
    for part, size in zip(parts, ("96x64", "128x80"), strict=True):
        clip(part, size=size, seconds=0.4)
    whole = path.with_name(f"{path.stem}.h264")
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    ffmpeg("-r", "25", "-i", whole, "-c", "copy", path)
    return path


def damaged(path: Path, source: Path) -> Path:
    """Copy a file with noise over a twentieth of it, a little after its middle."""
    data = bytearray(source.read_bytes())
    start, length = int(len(data) * 0.55), len(data) // 20
    data[start : start + length] = np.random.default_rng(0).bytes(length)
    path.write_bytes(bytes(data))
    return path


@dataclass(frozen=True)
class Shown:
    """One frame as ffmpeg's framehash sees it."""

    time: Fraction
    """When, in seconds."""
    digest: str


def shown(path: Path, *filters: str) -> list[Shown]:
    """Return when ffmpeg shows every frame that it decodes, and the frame's hash."""
    after = ["-fps_mode", "passthrough", "-enc_time_base", "demux", *filters]
    return _hashes(
        ffmpeg(
            "-v",
            "error",
            "-copyts",
            "-noautorotate",
            "-i",
            path,
            "-map",
            "0:V:0",
            *after,
            "-f",
            "framehash",
            "-hash",
            "md5",
            "-",
        )
    )


def packets(path: Path, stream: str) -> list[Shown]:
    """Return time and hash of every packet of a stream, 0:a:1 for the second sound track."""
    return _hashes(
        ffmpeg(
            "-v",
            "error",
            "-copyts",
            "-i",
            path,
            "-map",
            stream,
            "-c",
            "copy",
            "-f",
            "framehash",
            "-hash",
            "md5",
            "-",
        )
    )


def _hashes(text: str) -> list[Shown]:
    base = Fraction(0)
    frames = []
    for line in text.splitlines():
        if match := re.match(r"#tb 0: (\d+)/(\d+)", line):
            base = Fraction(int(match[1]), int(match[2]))
        elif re.match(r"0, ", line):
            fields = [field.strip() for field in line.split(",")]
            frames.append(Shown(int(fields[2]) * base, fields[5]))
    return frames


def times(path: Path) -> list[Fraction]:
    """Return when ffmpeg shows every frame, in seconds."""
    return [frame.time for frame in shown(path)]


def facts(path: Path) -> str:
    """Return what ffmpeg prints about a file: streams, tags, chapters."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-i", str(path)]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stderr

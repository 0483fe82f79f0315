"""The encoders a video can be written with: their settings, and how HDR metadata are handed to them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

import av
import cv2

from emt_cli.media.video.colour import Colour, chroma_location
from emt_cli.media.video.side_data import Hdr

_AVX_512F = 13  # OpenCV's number of it, which not all of its builds name
_PLAIN_PRESETS = ("ultrafast", "superfast")
"""Of x264: those that look at each frame by itself before they encode it."""
_THREADS = 4
"""Of x264 and frames at once of x265: what they write depends on it, and not on the machine's processors."""


@dataclass(frozen=True)
class Encoder:
    """One of ffmpeg's encoders with settings that keep what a network has drawn."""

    encoder: str
    """ffmpeg's name."""
    formats: tuple[str, str, str]
    """Pixel formats of sources of 8, 10, and 12 or more bits."""
    crf: int | None = None
    """Default of the quality."""
    quality: str = "crf"
    """The encoder's option of it."""
    preset: str | None = None
    speed: str = "preset"
    """The encoder's option of it."""
    swift: dict[str, str] = field(default_factory=dict)
    """What goes with the default preset: the rest of the machine is the network's."""
    fixed: dict[str, str] = field(default_factory=dict)
    least_width: int = 1
    largest: tuple[int, int] = (65535, 65535)
    """Width and height that it takes at most."""
    memory: tuple[int, int] = (100, 100)
    """Bytes that it holds for each pixel of 8 bits, measured: with its default preset, with slower ones."""
    takes_hdr: bool = False
    """Whether HDR10 metadata can be handed to it."""

    def pixel_formats(self) -> list[str]:
        """Return the pixel formats the encoder takes, by ffmpeg's names."""
        return [format.name for format in av.Codec(self.encoder, "w").video_formats or ()]

    def held_bytes(self, preset: str | None, bits: int) -> int:
        """Return the bytes of memory that it takes for each pixel of a picture, about."""
        held = self.memory[preset not in (None, self.preset, *_PLAIN_PRESETS)]
        return held if bits == 8 else held * 3 // 2

    def kept_hdr(self, hdr: Hdr | None) -> Hdr | None:
        """Return what a result will have of HDR metadata: no mastering display that is not complete."""
        if hdr is None or not self.takes_hdr:
            return None
        whole = hdr.primaries is not None and hdr.luminance is not None
        kept = hdr if whole else replace(hdr, primaries=None, luminance=None)
        return None if kept == Hdr() else kept

    def options(self, crf: int | None, preset: str | None, colour: Colour, hdr: Hdr | None) -> dict[str, str]:
        """Return ffmpeg's options for a quality and a speed; None is the default of each."""
        options = self.fixed | (self.swift if preset is None else {})
        crf = self.crf if crf is None else crf
        preset = self.preset if preset is None else preset
        if crf is not None and self.quality:
            options[self.quality] = str(crf)
        if preset is not None:
            options[self.speed] = preset
        options["chroma_sample_location"] = chroma_location(colour, self.encoder)
        hdr = self.kept_hdr(hdr)
        if self.encoder == "libx264":
            options["x264-params"] = _x264(hdr, preset)
        elif self.encoder == "libx265":
            options["x265-params"] = _x265(hdr)
        elif self.encoder == "libsvtav1":
            options["svtav1-params"] = _svt(hdr)
        return options


ENCODERS = {
    "h264": Encoder(
        "libx264",
        ("yuv420p", "yuv420p10le", "yuv420p10le"),
        crf=18,
        preset="superfast",
        # Whole pixels suffice where all is smooth, and no looking ahead for how many B-frames or keyframes
        # are best: 40 % less work for 0.3 dB and a smaller file.
        swift={"subq": "0", "b_strategy": "0", "weightp": "0", "sc_threshold": "0"},
        largest=(16384, 16384),
        memory=(100, 640),
        takes_hdr=True,
    ),
    # Below 64 pixels x265 4.2 writes outside its memory.
    "hevc": Encoder(
        "libx265",
        ("yuv420p", "yuv420p10le", "yuv420p12le"),
        crf=14,
        preset="superfast",
        least_width=64,
        memory=(480, 700),
        takes_hdr=True,
    ),
    "av1": Encoder(
        "libsvtav1",
        ("yuv420p", "yuv420p10le", "yuv420p10le"),
        crf=18,
        preset="8",
        largest=(16384, 8704),
        memory=(560, 700),
        takes_hdr=True,
    ),
    "ffv1": Encoder(
        "ffv1",
        ("yuv444p", "yuv444p10le", "yuv444p12le"),
        quality="",
        fixed={"level": "3", "g": "1", "slicecrc": "1"},
    ),
    "prores": Encoder(
        "prores_ks",
        ("yuv422p10le", "yuv422p10le", "yuv422p10le"),
        quality="",
        speed="profile",
        preset="hq",
        fixed={"vendor": "apl0"},
    ),
}
"""In software, by the names people know."""

HARDWARE = {
    f"{codec}_{maker}": Encoder(f"{codec}_{maker}", (eight, deep, deep), crf=18, quality=quality, fixed=fixed)
    for maker, quality, fixed in (
        ("nvenc", "cq", {"rc": "vbr", "b": "0"}),
        ("qsv", "global_quality", {}),
        ("amf", "qp_i", {"rc": "cqp"}),
        ("videotoolbox", "", {"q": "75"}),
    )
    for codec, eight, deep in (
        ("h264", "nv12", "nv12"),
        ("hevc", "nv12", "p010le"),
        ("av1", "nv12", "p010le"),
    )
}
"""On graphics hardware, by ffmpeg's names; most machines open none or a few of them."""


def _x264(hdr: Hdr | None, preset: str | None) -> str:
    parameters = ["open-gop=0", f"threads={_THREADS}"]
    if preset not in _PLAIN_PRESETS and cv2.checkHardwareSupport(_AVX_512F):
        # x264's macroblock tree reads past its rows with AVX-512: of most widths, each run gives other bytes.
        parameters.append("asm=avx2,fma3,bmi1,bmi2,lzcnt")
    if hdr and hdr.primaries:
        parameters.append(f"mastering-display={_master(hdr)}")
    if hdr and hdr.light_level:
        parameters.append("cll={},{}".format(*hdr.light_level))
    return ":".join(parameters)


def _x265(hdr: Hdr | None) -> str:
    # An open GOP would make a segment look into its neighbour. The list of its settings that x265 puts into
    # the stream (info) names the machine's processor.
    parameters = ["open-gop=0", f"frame-threads={_THREADS}", "info=0", "log-level=none"]
    if hdr:
        parameters.append("hdr10=1")
    if hdr and hdr.primaries:
        parameters.append(f"master-display={_master(hdr)}")
    if hdr and hdr.light_level:
        parameters.append("max-cll={},{}".format(*hdr.light_level))
    return ":".join(parameters)


def _svt(hdr: Hdr | None) -> str:
    parameters = ["irefresh-type=2"]
    if hdr and hdr.primaries and hdr.luminance:
        red, green, blue, white = (f"{float(x):.5f},{float(y):.5f}" for x, y in hdr.primaries)
        least, most = (f"{float(value):.4f}" for value in hdr.luminance)
        parameters.append(f"mastering-display=G({green})B({blue})R({red})WP({white})L({most},{least})")
    if hdr and hdr.light_level:
        parameters.append("content-light={},{}".format(*hdr.light_level))
    return ":".join(parameters)


def _master(hdr: Hdr) -> str:
    """Write a mastering display as x264 and x265 read it: CIE xy in 0.00002, luminance in 0.0001 cd/m²."""
    assert hdr.primaries is not None
    assert hdr.luminance is not None

    def steps(value: Fraction, unit: int) -> int:
        return round(value * unit)

    red, green, blue, white = (f"{steps(x, 50_000)},{steps(y, 50_000)}" for x, y in hdr.primaries)
    least, most = (steps(value, 10_000) for value in hdr.luminance)
    return f"G({green})B({blue})R({red})WP({white})L({most},{least})"

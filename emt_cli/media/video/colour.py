"""How a video's numbers mean colours: matrix, range, primaries, transfer; names are ffmpeg's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from emt_cli.media.samples import Pixels

# ITU-T H.273's code points, which ffmpeg uses as well, with ffmpeg's names.
MATRICES = {0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco"}
MATRICES |= {9: "bt2020nc", 10: "bt2020c", 11: "smpte2085", 12: "chroma-derived-nc"}
MATRICES |= {13: "chroma-derived-c", 14: "ictcp", 15: "ipt-c2", 16: "ycgco-re", 17: "ycgco-ro"}
RANGES = {1: "tv", 2: "pc"}
PRIMARIES = {1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020"}
PRIMARIES |= {10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213"}
TRANSFERS = {1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100"}
TRANSFERS |= {10: "log316", 11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10"}
TRANSFERS |= {15: "bt2020-12", 16: "smpte2084", 17: "smpte428", 18: "arib-std-b67"}

CONVERTIBLE = {"gbr", "bt709", "fcc", "bt470bg", "smpte170m", "smpte240m", "bt2020nc"}
"""The matrices that are converted exactly; others (ICtCp, YCgCo, constant luminance) are refused."""

FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
"""swscale's ways that keep a round trip over RGB within two levels; its default ones lose twenty."""


@dataclass(frozen=True)
class Colour:
    """What the samples of a video mean."""

    matrix: str
    """From YUV to RGB: bt709, smpte170m, bt2020nc, ..., or gbr for samples that are RGB already."""
    range: str
    """tv (16 to 235) or pc (0 to 255)."""
    primaries: str
    transfer: str
    guessed: tuple[str, ...] = ()
    """Which of the four the file does not say."""


def code_points(colour: Colour) -> tuple[int, int, int, int]:
    """Return H.273's numbers of matrix, range, primaries and transfer."""
    tables = (MATRICES, RANGES, PRIMARIES, TRANSFERS)
    names = (colour.matrix, colour.range, colour.primaries, colour.transfer)
    numbers = [
        {name: code for code, name in table.items()}[name] for table, name in zip(tables, names, strict=True)
    ]
    return (numbers[0], numbers[1], numbers[2], numbers[3])


WHITE_16 = 65280
"""White in the 16-bit RGB that swscale makes YUV of, and of YUV: 255 * 256, since it only shifts."""
_WEIGHTS = {"bt709": (0.2126, 0.0722), "bt2020nc": (0.2627, 0.0593), "fcc": (0.30, 0.11)}
_WEIGHTS |= {"smpte240m": (0.212, 0.087), "bt470bg": (0.299, 0.114), "smpte170m": (0.299, 0.114)}
"""Of red and blue in the luma of a matrix (H.273)."""


def white_of(bits: int, colour: Colour) -> int:
    """Return what swscale makes of white in samples of so many bits, as 16-bit RGB."""
    if colour.matrix == "gbr":
        return 65535
    return WHITE_16 if colour.range == "tv" else (2**bits - 1) << (16 - bits)


def add_half_a_step(pixels: Pixels, colour: Colour, bits: int) -> Pixels:
    """Return RGB uint16 (h, w, 3) from which swscale's full-range chroma comes out rounded, not cut off.

    Half a step of both chroma samples, of so many bits, is added to it, seen as RGB.
    """
    red, blue = _WEIGHTS[colour.matrix]
    of_red, of_blue = 2 * (1 - red), 2 * (1 - blue)
    of_green = -(red * of_red + blue * of_blue) / (1 - red - blue)
    step = WHITE_16 / (2**bits - 1) / 2
    added: Any = (of_red * step, of_green * step, of_blue * step, 0.0)
    return np.asarray(cv2.add(pixels, added))


def stretch(pixels: Pixels, low: int, white: int, *, to: int) -> Pixels:
    """Return pixels uint8 or uint16 with low moved to 0 and white to `to`, rounded and clipped."""
    if low == 0 and white == to:
        return pixels
    if low == 0:
        flat = np.ascontiguousarray(pixels).reshape(pixels.shape[0], -1)
        factor: Any = to / white  # which OpenCV's annotations do not know to be allowed
        return np.asarray(cv2.multiply(flat, factor)).reshape(pixels.shape)
    moved = (pixels.astype(np.float32) - low) * np.float32(to / (white - low))
    stretched: Pixels = np.clip(np.rint(moved), 0, to).astype(pixels.dtype)
    return stretched


def chroma_location(colour: Colour, codec: str) -> str:
    """Return where the chroma samples of a video with fewer of them lie; PyAV does not tell what a file says.

    In the middle of theirs for JPEG and its oldest kin, at their upper left for BT.2020, else at their left.
    """
    if codec in ("mjpeg", "mpeg1video", "h261", "h263", "flv1"):
        return "center"
    return "topleft" if colour.primaries == "bt2020" else "left"


def swscale_matrix(matrix: str) -> str:
    """Return swscale's name of a convertible matrix."""
    return {"bt2020nc": "bt2020", "bt470bg": "bt470"}.get(matrix, matrix)


def guess_colour(
    matrix: int, range_: int, primaries: int, transfer: int, *, height: int, rgb: bool
) -> Colour:
    """Name H.273's code points, and guess the missing ones.

    The usual rule: as of 720 rows a video is BT.709, below BT.601 (of 625 lines with 576 or 288 rows, else
    of 525), with a range of 16 to 235. RGB samples are sRGB of full range. What is known leads the rest: a
    BT.2020 matrix has BT.2020 primaries.
    """
    guessed = []
    if rgb:
        names = ["gbr", "pc", "bt709", "iec61966-2-1"]
        return Colour(
            "gbr",
            "pc",
            PRIMARIES.get(primaries, names[2]),
            TRANSFERS.get(transfer, names[3]),
        )
    family = "bt709" if height >= 720 else "bt470bg" if height in (576, 288) else "smpte170m"
    by_matrix = {"bt709": "bt709", "bt470bg": "bt470bg", "smpte170m": "smpte170m", "bt2020nc": "bt2020"}
    by_matrix |= {"bt2020c": "bt2020", "ictcp": "bt2020", "smpte240m": "smpte240m", "fcc": "bt470m"}
    by_primaries = {"bt709": "bt709", "bt470bg": "bt470bg", "smpte170m": "smpte170m", "bt2020": "bt2020nc"}
    by_primaries |= {"smpte240m": "smpte240m", "bt470m": "fcc"}
    by_family = {"bt709": "bt709", "bt2020": "bt2020-10", "smpte240m": "smpte240m"}
    found_matrix, found_primaries = MATRICES.get(matrix), PRIMARIES.get(primaries)
    found_transfer, found_range = TRANSFERS.get(transfer), RANGES.get(range_)
    if found_matrix is None or found_matrix == "gbr":
        found_matrix = by_primaries.get(found_primaries or family, family)
        guessed.append("matrix")
    if found_range is None:
        found_range = "tv"
        guessed.append("range")
    if found_primaries is None:
        found_primaries = by_matrix.get(found_matrix, family)
        guessed.append("primaries")
    if found_transfer is None:
        found_transfer = by_family.get(found_primaries, "smpte170m")
        guessed.append("transfer")
    return Colour(found_matrix, found_range, found_primaries, found_transfer, tuple(guessed))

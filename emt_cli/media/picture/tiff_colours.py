"""Colour spaces of TIFF files to gray or RGB: white as zero, palettes, YCbCr, CMYK, Lab."""

from collections.abc import Callable
from dataclasses import dataclass

import imagecodecs
import numpy as np
import tifffile
from PIL import ImageCms

from emt_cli.media.picture.formats import UnsupportedError
from emt_cli.media.picture.metadata import profile_space
from emt_cli.media.picture.tiff_segments import JPEG, YCBCR
from emt_cli.media.samples import Pixels, full_scale, widened

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5
_LAB = (8, 9)
"""CIELab with a and b signed, ICCLab with both moved up by half of their range."""
_FAX = (2, 3, 4)
_SIZE = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, 8: 3, 9: 3}
_NAMES = {
    4: "a mask",
    10: "ITULab",
    32803: "raw sensor data",
    32844: "LogL",
    32845: "LogLuv",
    34892: "raw data",
}

Conversion = Callable[[Pixels], Pixels]


@dataclass(frozen=True)
class Space:
    """What the samples of a page mean."""

    photometric: int
    colours: int
    """Samples of a pixel that are colours; others may follow."""
    alpha: int | None
    """Which of the samples is opacity, None for none."""
    multiplied: bool
    """Whether the colours are multiplied by it."""

    @property
    def gray(self) -> bool:
        """Whether the colours are one plane of grays."""
        return self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)


def read_space(page: tifffile.TiffPage) -> Space:
    """Return what a page's tags say of its samples; UnsupportedError for spaces that are not read."""
    extras = tuple(int(kind) for kind in page.extrasamples)
    if 262 in page.tags:
        photometric = int(page.photometric)
    elif page.samplesperpixel - len(extras) >= 3:
        photometric = RGB  # as libtiff guesses
    else:
        photometric = WHITE_IS_ZERO if page.compression in _FAX else BLACK_IS_ZERO
    colours = _SIZE.get(photometric)
    if colours is None:
        raise UnsupportedError(
            f"TIFF with {_NAMES.get(photometric, f'colours of kind {photometric}')} is not read"
        )
    if photometric in _LAB and page.samplesperpixel - len(extras) == 1:
        raise UnsupportedError("TIFF with the lightness of Lab alone is not read")
    if photometric == CMYK and (
        page.samplesperpixel - len(extras) not in (4, 5) or _number(page, 332, 1) != 1
    ):
        raise UnsupportedError("TIFF with inks other than CMYK is not read")
    if page.samplesperpixel < colours:
        raise ValueError("its tags do not describe a picture")
    if photometric in (PALETTE, CMYK, YCBCR, *_LAB) and (page.dtype is None or page.dtype.kind not in "bu"):
        raise UnsupportedError(f"TIFF with such colours in samples of type {page.dtype} is not read")
    if page.dtype is not None and (
        page.dtype.kind == "i" or (page.bitspersample > 32 and page.dtype.kind == "u")
    ):
        raise UnsupportedError(f"TIFF with samples of type {page.dtype} is not read")
    # Extra samples: 1 alpha already multiplied into the colours, 2 plain alpha, 0 of no stated meaning.
    kinds = extras or (2,) * (page.samplesperpixel > colours)
    at = next((index for index, kind in enumerate(kinds) if kind in (1, 2)), None)
    alpha = None if at is None or colours + at >= page.samplesperpixel else colours + at
    return Space(photometric, colours, alpha, alpha is not None and kinds[at or 0] == 1)


def conversion(page: tifffile.TiffPage, space: Space, icc: bytes | None) -> tuple[Conversion, str]:
    """Return what makes gray (n, w, 1) or RGB (n, w, 3) of colour samples (n, w, c), and a note on it.

    The result is uint8, uint16 or float32; samples of other widths are stretched to the next larger type, and
    those of more than 16 bits rounded to 16.
    """
    bits = page.bitspersample
    assert page.dtype is not None
    note = f"{bits}-bit samples rounded to 16 bits" if page.dtype.kind == "u" and bits > 16 else ""

    def plain(samples: Pixels) -> Pixels:
        return widened(samples, bits)

    if space.photometric == PALETTE:
        return _palette(page), note
    if space.photometric == WHITE_IS_ZERO:
        return lambda samples: _inverted(plain(samples)), note
    if space.photometric == YCBCR and not (page.compression in JPEG and page.planarconfig == 1):
        return _ycbcr(page), note
    if space.photometric == CMYK:
        convert, note = _cmyk(icc)
        return lambda samples: convert(plain(samples)), note
    if space.photometric in _LAB:
        signed = space.photometric == 8
        return lambda samples: _lab(samples, bits, signed=signed), "Lab converted to sRGB"
    return plain, note


def is_plain(page: tifffile.TiffPage, space: Space) -> bool:
    """Tell whether samples are RGB and nothing else, and need no conversion."""
    assert page.dtype is not None
    deep = page.dtype == np.float32 or (page.dtype.kind == "u" and page.bitspersample in (8, 16))
    return space.photometric == RGB and space.alpha is None and deep


def stored_size(page: tifffile.TiffPage, space: Space) -> int:
    """Return the bytes of a converted sample: 1, 2 or 4."""
    assert page.dtype is not None
    if page.dtype.kind == "f":
        return 4
    if space.photometric == PALETTE:
        return _palette(page)(np.zeros((1, 1, 1), np.uint8)).itemsize
    return 1 if page.bitspersample <= 8 else 2


def _number(page: tifffile.TiffPage, tag: int, default: int) -> int:
    value = page.tags.valueof(tag, default)
    return int(value[0] if isinstance(value, tuple) else value)


def _inverted(samples: Pixels) -> Pixels:
    return np.asarray(samples.dtype.type(full_scale(samples.dtype)) - samples)


def _palette(page: tifffile.TiffPage) -> Conversion:
    """Look colours up; entries of 16 bits that repeat their high byte, or leave the low one zero, hold 8."""
    table = np.asarray(page.tags.valueof(320, ()), np.uint16).reshape(3, -1).T
    if page.bitspersample > 16 or len(table) < 2**page.bitspersample:
        raise ValueError("its palette is incomplete")
    high, low = table >> 8, table & 255
    if not high.any():
        table = table.astype(np.uint8)  # some programs write 0..255
    elif (low == 0).all() or (low == high).all():
        table = high.astype(np.uint8)
    return lambda samples: table[samples[..., 0].astype(np.intp)]


def _ycbcr(page: tifffile.TiffPage) -> Conversion:
    """Convert by the coefficients and the reference levels of the file (TIFF 6.0, section 21)."""
    if page.bitspersample != 8:
        raise UnsupportedError(f"TIFF with YCbCr of {page.bitspersample} bits is not read")
    red, green, blue = _ratios(page, 529) or (0.299, 0.587, 0.114)
    levels = _ratios(page, 532) or (0, 255, 128, 255, 128, 255)
    if (
        len(levels) != 6
        or min(red, green, blue) <= 0
        or any(b == w for b, w in zip(levels[::2], levels[1::2], strict=True))
    ):
        raise ValueError("its tags do not describe a picture")
    black = np.array(levels[::2], np.float32)
    scale = np.array((255, 127, 127), np.float32) / (np.array(levels[1::2], np.float32) - black)

    def convert(samples: Pixels) -> Pixels:
        y, cb, cr = np.moveaxis((samples.astype(np.float32) - black) * scale, -1, 0)
        r, b = y + cr * (2 - 2 * red), y + cb * (2 - 2 * blue)
        g = (y - blue * b - red * r) / green
        return np.asarray(np.clip(np.rint(np.stack([r, g, b], axis=-1)), 0, 255), np.uint8)

    return convert


def _ratios(page: tifffile.TiffPage, tag: int) -> tuple[float, ...]:
    values = page.tags.valueof(tag, ())
    field = page.tags.get(tag)
    if field is None or not isinstance(values, tuple):
        return ()
    if field.dtype == 5:
        return tuple(n / d if d else 0.0 for n, d in zip(values[::2], values[1::2], strict=True))
    return tuple(float(value) for value in values)


def _cmyk(icc: bytes | None) -> tuple[Conversion, str]:
    """Return how CMYK becomes sRGB: by its own profile, else by a simple rule; 0 is no ink."""
    if profile_space(icc) == "CMYK" and icc is not None:
        return _by_profile(icc), "CMYK converted to sRGB by its profile"

    def simply(samples: Pixels) -> Pixels:
        top = np.float32(full_scale(samples.dtype))
        light = top - samples.astype(np.float32)
        return np.asarray(np.rint(light[..., :3] * light[..., 3:] / top), samples.dtype)

    return simply, "CMYK without a profile converted to RGB by a simple rule"


def _by_profile(icc: bytes) -> Conversion:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    kinds = imagecodecs.CMS

    def convert(samples: Pixels) -> Pixels:
        values = imagecodecs.cms_transform(
            np.ascontiguousarray(samples),
            icc,
            srgb,
            colorspace="cmyk",
            planar=False,
            outcolorspace="rgb",
            outplanar=False,
            outdtype=samples.dtype,
            intent=kinds.INTENT.RELATIVE_COLORIMETRIC,
            flags=kinds.FLAGS.BLACKPOINTCOMPENSATION,
        )
        return np.asarray(values)

    return convert


def _lab(samples: Pixels, bits: int, *, signed: bool) -> Pixels:
    """Convert CIE Lab under D50 to sRGB (CIE 15, IEC 61966-2-1; Bradford's adaptation to D65)."""
    if bits not in (8, 16):
        raise UnsupportedError(f"TIFF with Lab of {bits} bits is not read")
    step = np.float32(1 if bits == 8 else 256)
    lightness = samples[..., 0].astype(np.float32) * np.float32(
        100 / (2**bits - 1 if signed or bits == 8 else 65280)
    )
    kind = np.dtype(f"i{bits // 8}")
    moved = samples[..., 1:].view(kind) if signed else samples[..., 1:].astype(np.float32) - 128 * step
    a, b = np.moveaxis(moved.astype(np.float32) / step, -1, 0)
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) * np.float32(3 * (6 / 29) ** 2)) * _WHITE
    linear = np.clip(xyz @ _XYZ_TO_SRGB.T, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(curved * np.float32(2**bits - 1)), samples.dtype)


_WHITE = np.array([0.9642, 1.0, 0.8249], np.float32)
_XYZ_TO_SRGB = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ],
    np.float32,
)

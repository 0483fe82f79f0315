"""BMP files: pixels of any layout of bits, alpha and profile, in and out (Windows' headers 3 to 5)."""

import struct
from dataclasses import dataclass
from typing import IO

import numpy as np

from emt_cli.media.picture.formats import UnsupportedError, check_input
from emt_cli.media.picture.metadata import Metadata
from emt_cli.media.samples import BAND, Decoded, Pixels, Samples, widened

_INFO, _V5 = 40, 124
_PLAIN, _RUNS, _FIELDS, _ALPHA_FIELDS = 0, (1, 2), 3, 6
_HEADERS = (12, 16, _INFO, 52, 56, 64, 108, _V5)
_EMBEDDED = b"DEBM"  # PROFILE_EMBEDDED, stored as a number
_INCHES_PER_METRE = 1 / 0.0254
_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 24: (0xFF0000, 0xFF00, 0xFF, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}


@dataclass(frozen=True)
class BmpHead:
    """What the headers of a BMP file say."""

    width: int
    height: int
    """Rows; the first is the lowest unless `downwards`."""
    downwards: bool
    bits: int
    masks: tuple[int, int, int, int]
    """Bits of red, green, blue and alpha in a pixel; zeros where there is a palette."""
    start: int
    """Where the pixels lie in the file."""
    dpi: tuple[float, float] | None
    profile: tuple[int, int] | None
    """Where an ICC profile lies, and its length."""
    palette: tuple[int, int, int]
    """Where a palette lies, how many entries it has, and the bytes of each."""
    runs: bool
    """Whether pixels are stored as run lengths."""

    @property
    def deep(self) -> bool:
        """Whether a sample has more than 8 bits."""
        return max(mask.bit_count() for mask in self.masks) > 8


def read_bmp_head(data: bytes | memoryview) -> BmpHead:
    """Read the headers; ValueError for damaged ones, UnsupportedError for kinds that are not read."""
    start, size = struct.unpack_from("<II", data, 10)
    if size not in _HEADERS:
        raise ValueError("its header is of no known size")
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression, x, y = _PLAIN, 0, 0
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
        compression, _, x, y = struct.unpack_from("<IIii", data, 30) if size >= _INFO else (0, 0, 0, 0)
    if compression not in (_PLAIN, *_RUNS, _FIELDS, _ALPHA_FIELDS) or (size == 64 and compression > 2):
        raise UnsupportedError(f"BMP with compression {compression} is not read")
    if bits not in (1, 2, 4, 8, 16, 24, 32):
        raise UnsupportedError(f"BMP of {bits} bits to a pixel is not read")
    masks = _MASKS.get(bits, (0, 0, 0, 0))
    if compression in (_FIELDS, _ALPHA_FIELDS) and bits in (16, 32):
        with_alpha = size >= 56 or compression == _ALPHA_FIELDS
        masks = struct.unpack_from("<4I" if with_alpha else "<3I", data, 14 + _INFO)
        masks = (*masks, 0)[:4]
    if any(mask >> bits or not _is_run(mask) for mask in masks) or (bits > 8 and not any(masks[:3])):
        raise ValueError("its bits overlap or lie apart")
    profile = None
    if size == _V5 and bytes(data[70:74]) == _EMBEDDED:
        place, length = struct.unpack_from("<II", data, 14 + 112)
        profile = (14 + place, length)
    dpi = (x / _INCHES_PER_METRE, y / _INCHES_PER_METRE) if x > 0 and y > 0 else None
    told = struct.unpack_from("<I", data, 46)[0] if size >= _INFO else 0
    palette = (14 + size, min(told or 2**bits, 2**bits), 3 if size == 12 else 4)
    if bits <= 8 and start <= palette[0]:  # some programs forget their palette
        start = palette[0] + palette[1] * palette[2]
    runs = compression in _RUNS
    return BmpHead(width, abs(height), height < 0, bits, masks, start, dpi, profile, palette, runs)


def read_bmp(data: bytes, *, name: str, max_pixels: int) -> Decoded | BmpHead:
    """Decode a file; of one stored as run lengths return the head."""
    head = read_bmp_head(data)
    check_input(name, height=head.height, width=head.width, max_pixels=max_pixels)
    if head.runs:
        return head
    stride = (head.width * head.bits + 31) // 32 * 4
    if head.start + stride * head.height > len(data):
        raise ValueError("the file is cut short")
    lines = np.frombuffer(data, np.uint8, stride * head.height, head.start).reshape(head.height, stride)
    if not head.downwards:
        lines = lines[::-1]
    if head.bits <= 8:
        return _looked_up(data, lines, head)
    kind = np.uint16 if head.deep else np.uint8
    pixels = np.empty((head.height, head.width, 3), kind)
    alpha = np.empty(pixels.shape[:2], kind) if head.masks[3] else None
    step = max(1, BAND // head.width)
    for top in range(0, head.height, step):
        numbers = _numbers(lines[top : top + step], head)
        for channel, mask in enumerate(head.masks[:3]):
            pixels[top : top + step, :, channel] = _field(numbers, mask, kind)
        if alpha is not None:
            alpha[top : top + step] = _field(numbers, head.masks[3], kind)
    if alpha is not None and not alpha.any():
        alpha = None  # as browsers have it: a program that knew of no alpha left it zero
    return Decoded(pixels, alpha, False, bmp_metadata(data, head))


def _looked_up(data: bytes, lines: Pixels, head: BmpHead) -> Decoded:
    """Decode indices into a palette; it is one of grays where all its entries are."""
    place, count, size = head.palette
    count = min(count, max(0, head.start - place) // size)
    entries = np.frombuffer(data, np.uint8, count * size, place).reshape(-1, size)
    table = np.zeros((2**head.bits, 3), np.uint8)  # what is missing is black
    table[:count] = entries[:, 2::-1]
    pixels = np.empty((head.height, head.width, 3), np.uint8)
    shifts = np.arange(8 - head.bits, -1, -head.bits, dtype=np.uint8)
    step = max(1, BAND // head.width)
    for top in range(0, head.height, step):
        packed = lines[top : top + step, :, None] >> shifts & (2**head.bits - 1)
        pixels[top : top + step] = table[packed.reshape(len(packed), -1)[:, : head.width]]
    gray = bool((table[:count] == table[:count, :1]).all())
    return Decoded(pixels, None, gray, bmp_metadata(data, head))


def bmp_metadata(data: bytes, head: BmpHead) -> Metadata:
    """Return profile and resolution."""
    icc = None
    if head.profile is not None and 0 < head.profile[1] <= len(data) - head.profile[0]:
        icc = data[head.profile[0] : sum(head.profile)]
    return Metadata(icc=icc, dpi=head.dpi)


def write_bmp(stream: IO[bytes], samples: Samples, metadata: Metadata) -> None:
    """Write 8-bit samples with their profile: gray with a palette, RGB with 24 bits, with alpha 32."""
    gray = samples.channels == 1
    if samples.gray and not gray:  # with alpha
        samples = Samples(samples.pixels, samples.alpha, False, samples.dtype)
    bits = {1: 8, 3: 24, 4: 32}[samples.channels]
    five = bool(metadata.icc) or bits == 32
    size = _V5 if five else _INFO
    palette = b"".join(bytes((level, level, level, 0)) for level in range(256)) if gray else b""
    stride = (samples.width * bits + 31) // 32 * 4
    start, body = 14 + size + len(palette), stride * samples.height
    profile = metadata.icc or b""
    x, y = (round(dots * _INCHES_PER_METRE) for dots in metadata.dpi or (0, 0))
    stream.write(b"BM" + struct.pack("<IHHI", (start + body + len(profile)) & 0xFFFFFFFF, 0, 0, start))
    compression = _FIELDS if bits == 32 else _PLAIN
    count = 256 if gray else 0
    stream.write(
        struct.pack(
            "<IiiHHIIiiII", size, samples.width, samples.height, 1, bits, compression, body, x, y, count, 0
        )
    )
    if five:
        masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000) if bits == 32 else (0, 0, 0, 0)
        space = _EMBEDDED if profile else b"BGRs"  # LCS_sRGB, stored as a number
        behind = start + body - 14 if profile else 0
        stream.write(struct.pack("<4I4s48xIIII", *masks, space, 4, behind, len(profile), 0))
    stream.write(palette)
    order = [2, 1, 0, 3][: samples.channels] if samples.channels > 1 else [0]
    for first, last in reversed(samples.bands()):
        rows = samples.rows(first, last)[::-1, :, order].reshape(last - first, -1)
        lines = np.zeros((last - first, stride), np.uint8)
        lines[:, : rows.shape[1]] = rows
        stream.write(lines.tobytes())
    stream.write(profile)


def _is_run(mask: int) -> bool:
    """Tell whether the bits of a mask follow each other."""
    low = mask >> max(0, (mask & -mask).bit_length() - 1)
    return low & (low + 1) == 0


def _numbers(lines: Pixels, head: BmpHead) -> Pixels:
    """Return each pixel's bits as one number, (rows, width)."""
    if head.bits == 24:
        triples = lines[:, : head.width * 3].reshape(len(lines), head.width, 3).astype(np.uint32)
        return np.asarray(triples[..., 0] | triples[..., 1] << 8 | triples[..., 2] << 16)
    wide = np.ascontiguousarray(lines).view(f"<u{head.bits // 8}")
    return wide[:, : head.width].astype(np.uint32)


def _field(numbers: Pixels, mask: int, kind: type[np.generic]) -> Pixels:
    """Return the bits under a mask, stretched to full scale."""
    bits = mask.bit_count()
    if not bits:
        return np.zeros(numbers.shape, kind)
    values = (numbers & mask) >> ((mask & -mask).bit_length() - 1)
    if kind is np.uint16:
        most = 2**bits - 1
        return np.asarray((values.astype(np.uint64) * 65535 * 2 + most) // (2 * most), kind)
    return widened(values.astype(np.uint8), bits)

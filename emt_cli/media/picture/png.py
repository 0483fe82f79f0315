"""PNG files chunk by chunk: a check that nothing is missing, and a writer for 8 and 16 bits.

Neither Pillow (no 16-bit colour) nor OpenCV (no gray with alpha, little metadata) writes all the kinds that
are read. This writer needs a few megabytes beside the picture and compresses on several threads.
"""

import io
import struct
import zlib
from collections.abc import Iterable
from typing import IO

import numpy as np
import numpy.typing as npt

from emt_cli.media.picture import iptc
from emt_cli.media.picture.metadata import PNG_COLOUR, PNG_TEXT, Metadata
from emt_cli.media.picture.xmp import JPEG_NAME
from emt_cli.media.samples import Samples, in_order

# On enlarged photographs ISA-L, with the filters below, comes within 3 % of zlib's level 3 in a ninth of its
# time, and level 3 within 6 % of level 6 in a quarter. ISA-L is not built for every processor.
try:
    from isal.isal_zlib import adler32, compressobj

    _LEVEL = 2
except ImportError:
    from zlib import adler32, compressobj  # type: ignore[assignment]  # called alike

    _LEVEL = 3

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_HIDDEN = b"Raw profile type "
_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
_INCHES_PER_METRE = 1 / 0.0254
_SAMPLED = 7
"""One byte in so many is enough to choose a row's filter by; no pixel has a multiple of 7 bytes."""
_PIECE = 1 << 20
_PROFILE_LIMIT = 1 << 26
_MOST_CHUNKS = 1 << 18
_COLOUR_LENGTHS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"mDCV": 24, b"cLLI": 8}
_TEXT_LIMIT = 1 << 20
"""Longest text that travels on; readers such as Pillow refuse a file for a longer one."""


def read_chunks(
    data: bytes | memoryview, *, unread: tuple[bytes, ...] = ()
) -> list[tuple[bytes, memoryview]]:
    """Return the chunks of a PNG file in order, without empty and damaged ancillary ones.

    unread: kinds whose bodies are not looked into, damaged or not. ValueError when the file is cut short or
    damaged.
    """
    view = memoryview(data)
    chunks: list[tuple[bytes, memoryview]] = []
    at, kind = len(SIGNATURE), b""
    for _ in range(_MOST_CHUNKS):
        if at + 12 > len(view):
            raise ValueError("the file is cut short")
        length, kind = struct.unpack_from(">I4s", view, at)
        body = view[at + 8 : at + 8 + length]
        at += 12 + length
        if at > len(view):
            raise ValueError("the file is cut short")
        if length or kind == b"IEND":
            if kind in unread or zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(view[at - 4 : at]):
                chunks.append((kind, body))
            elif kind[:1].isupper():
                raise ValueError("its data are damaged (checksum)")
        if kind == b"IEND":
            return chunks
    raise ValueError(f"it is in more than {_MOST_CHUNKS} chunks")


def bare_file(chunks: Iterable[tuple[bytes, memoryview]], *, palette: bool) -> bytes:
    """Return a PNG file of the image alone: decoders stumble over damaged or very long text beside it."""
    stream = io.BytesIO()
    stream.write(SIGNATURE)
    for kind, body in chunks:
        if kind in (b"IHDR", b"IDAT", b"IEND") or (palette and kind in (b"PLTE", b"tRNS")):
            _write_chunk(stream, kind, body)
    return stream.getvalue()


def read_metadata(chunks: Iterable[tuple[bytes, bytes | memoryview]]) -> Metadata:
    """Return profile, EXIF, XMP, IPTC, resolution, and the chunks that travel from PNG to PNG.

    What is damaged is left out; profiles that older programs hide in text serve where there is no other.
    """
    icc = exif = xmp = dpi = None
    kept: list[tuple[bytes, bytes]] = []
    hidden: dict[bytes, bytes] = {}
    profiles = 0
    for kind, view in chunks:
        body = bytes(view) if kind not in (b"IDAT", b"fdAT") else b""
        keyword, _, rest = body.partition(b"\0")
        if kind == b"iCCP":
            profiles += 1
            icc = _inflate(rest[1:]) if profiles == 1 else icc  # more than one is an error, or an attack
        elif kind == b"eXIf":
            exif = body.removeprefix(b"Exif\0\0")
        elif kind == b"pHYs" and len(body) == 9 and body[8] == 1:
            x, y = struct.unpack(">II", body[:8])
            dpi = (x / _INCHES_PER_METRE, y / _INCHES_PER_METRE) if x and y else None
        elif kind == b"iTXt" and keyword == _XMP_KEYWORD:
            text = rest[2:].split(b"\0", 2)[-1]
            xmp = _inflate(text) if rest[:1] == b"\1" else text
        elif keyword.startswith(_HIDDEN) and kind in PNG_TEXT:
            profile = _raw_profile(_inflate(rest[1:]) if kind == b"zTXt" else rest)
            hidden.setdefault(keyword.removeprefix(_HIDDEN).lower(), profile or b"")
        elif len(body) == _COLOUR_LENGTHS.get(kind) or (
            kind in PNG_TEXT and _is_fit_text(kind, keyword, rest)
        ):
            kept.append((kind, body))
    app1 = hidden.get(b"app1", b"")
    exif = exif or hidden.get(b"exif") or (app1 if app1[:2] in (b"II", b"MM") else None)
    xmp = xmp or hidden.get(b"xmp") or (app1.removeprefix(JPEG_NAME) if app1.startswith(JPEG_NAME) else None)
    icc = icc or hidden.get(b"icc") or hidden.get(b"icm") or None
    record = hidden.get(b"iptc") or hidden.get(b"8bim") or b""
    record = record.removeprefix(iptc.JPEG_NAME)
    if record.startswith(b"8BIM"):
        record = iptc.read_resources(record)[0] or b""
    return Metadata(icc=icc, exif=exif, xmp=xmp, iptc=record or None, dpi=dpi, png=tuple(kept))


def _is_fit_text(kind: bytes, keyword: bytes, rest: bytes) -> bool:
    """Tell whether a text is one to pass on: no profile in disguise, not damaged, not beyond all measure."""
    if keyword.startswith(_HIDDEN) or len(rest) > _TEXT_LIMIT:
        return False
    if kind == b"zTXt":
        return _inflate(rest[1:], _TEXT_LIMIT) is not None
    if kind == b"iTXt" and rest[:1] == b"\1":
        return _inflate(rest[2:].split(b"\0", 2)[-1], _TEXT_LIMIT) is not None
    return True


def _inflate(packed: bytes, limit: int = _PROFILE_LIMIT) -> bytes | None:
    """Inflate text or a profile; None for a damaged one, or one of more bytes than the limit."""
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(packed, limit)
    except zlib.error:
        return None
    return data if inflate.eof else None


def _raw_profile(text: bytes | None) -> bytes | None:
    """Return what ImageMagick writes as a line break, a name, a length and lines of hexadecimal digits."""
    try:
        profile = bytes.fromhex(b"".join((text or b"").split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return None
    return profile.removeprefix(b"Exif\0\0")


def holds_samples(chunks: Iterable[tuple[bytes, memoryview]], size: int) -> bool:
    """Whether the image data inflate to at least a number of bytes; costs time but no memory."""
    inflate = zlib.decompressobj()
    total = 0
    for kind, body in chunks:
        if kind != b"IDAT":
            continue
        pending: bytes | memoryview = body
        while pending and total < size:
            total += len(inflate.decompress(pending, _PIECE))
            pending = inflate.unconsumed_tail
    return total >= size


def write_png(stream: IO[bytes], samples: Samples, metadata: Metadata) -> None:
    """Write 8- or 16-bit samples as PNG with their profile, EXIF, XMP, resolution and kept chunks."""
    bits = samples.dtype.itemsize * 8
    stream.write(SIGNATURE)
    header = (samples.width, samples.height, bits, _COLOUR_TYPE[samples.channels], 0, 0, 0)
    _write_chunk(stream, b"IHDR", struct.pack(">IIBBBBB", *header))
    for kind, body in metadata.png:
        if kind in PNG_COLOUR and not (kind == b"sRGB" and metadata.icc):
            _write_chunk(stream, kind, body)
    if metadata.icc:
        _write_chunk(stream, b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi:
        x, y = (round(dots * _INCHES_PER_METRE) for dots in metadata.dpi)
        _write_chunk(stream, b"pHYs", struct.pack(">IIB", x, y, 1))
    if metadata.exif:
        _write_chunk(stream, b"eXIf", metadata.exif)
    if metadata.xmp:
        _write_chunk(stream, b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp)
    if metadata.iptc:
        block = iptc.resources(metadata.iptc)
        text = b"\niptc\n%8d\n%s\n" % (len(block), block.hex().encode())
        _write_chunk(stream, b"zTXt", _HIDDEN + b"iptc\0\0" + zlib.compress(text))
    for kind, body in metadata.png:
        if kind in PNG_TEXT:
            _write_chunk(stream, kind, body)
    _write_image(stream, samples)
    _write_chunk(stream, b"IEND", b"")


def _write_chunk(stream: IO[bytes], kind: bytes, body: bytes | memoryview) -> None:
    stream.write(struct.pack(">I4s", len(body), kind))
    stream.write(body)
    stream.write(struct.pack(">I", zlib.crc32(body, zlib.crc32(kind))))


def _write_image(stream: IO[bytes], samples: Samples) -> None:
    """Write the IDAT chunks: every band is deflated on its own and ends on a byte, so that they join."""

    def deflate(band: tuple[int, int]) -> tuple[memoryview, bytes]:
        raw = _filtered(samples, *band)
        packer = compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
        ending = zlib.Z_FINISH if band[1] == samples.height else zlib.Z_SYNC_FLUSH
        return raw, packer.compress(raw) + packer.flush(ending)

    check = 1
    start = b"\x78\x5e"  # zlib header: deflate, 32 kB window, fast
    for raw, packed in in_order(deflate, samples.bands()):
        check = adler32(raw, check)
        _write_chunk(stream, b"IDAT", start + packed)
        start = b""
    _write_chunk(stream, b"IDAT", struct.pack(">I", check))


def _filtered(samples: Samples, start: int, stop: int) -> memoryview:
    """Return rows as PNG wants them, each behind the number of its filter: Up (2) or Average (3)."""
    first = max(0, start - 1)
    values = samples.rows(first, stop)
    pixel = samples.channels * samples.dtype.itemsize
    if samples.dtype.itemsize == 2:
        values = values.astype(">u2")
    lines = values.reshape(stop - first, -1).view(np.uint8)
    if start == 0:
        lines = np.concatenate((np.zeros_like(lines[:1]), lines))
    above, rows = lines[:-1], lines[1:]
    up = rows - above
    average = np.empty_like(up)
    average[:, :pixel] = rows[:, :pixel] - (above[:, :pixel] >> 1)
    left, over, inner = rows[:, :-pixel], above[:, pixel:], average[:, pixel:]
    np.bitwise_xor(left, over, out=inner)
    inner >>= 1
    inner += left & over
    np.subtract(rows[:, pixel:], inner, out=inner)
    better = _cost(average) < _cost(up)
    out = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    out[:, 0] = np.where(better, 3, 2)
    out[better, 1:] = average[better]
    out[~better, 1:] = up[~better]
    return out.data.cast("B")


def _cost(lines: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return the sum of the absolute differences in each row, the usual guess at its compressed size."""
    sampled = lines[:, ::_SAMPLED].copy()  # numpy is slow on what does not lie side by side
    cost: npt.NDArray[np.int64] = np.minimum(sampled, np.negative(sampled)).sum(axis=1, dtype=np.int64)
    return cost

"""AVIF of more than 8 bits: the picture by libavif, its metadata in boxes put beside it (ISO/IEC 23008-12).

Pillow writes AVIF with all metadata but 8 bits; imagecodecs writes 12 bits but no metadata.
"""

import os
import struct
from typing import IO

import numpy as np

from emt_cli.media.picture.metadata import Metadata
from emt_cli.media.samples import Samples

_BITS = 12
_SRGB, _MATRIX = (1, 13), 6
_SPEED = 6
"""Pillow's choice too: slower ones take minutes, and are hardly smaller."""
_XMP_TYPE = b"application/rdf+xml\0"
_PLAIN_PLACES = b"\x44\0"
"""Sizes of the numbers in iloc: four bytes for places and lengths, none for what is not used."""


def write_deep_avif(stream: IO[bytes], samples: Samples, metadata: Metadata, *, quality: int) -> None:
    """Write 16-bit samples as AVIF of 12 bits, with profile, EXIF and XMP."""
    import imagecodecs

    rows = samples.rows(0, samples.height)
    most = np.float32((1 << _BITS) - 1)
    rows = np.rint(rows * (most / np.float32(65535))).astype(np.uint16)
    if samples.gray:
        rows = np.concatenate([np.repeat(rows[..., :1], 3, axis=2), rows[..., 1:]], axis=2)
    data = imagecodecs.avif_encode(
        np.ascontiguousarray(rows),
        level=quality,
        bitspersample=_BITS,
        pixelformat="444" if quality >= 90 else "420",
        primaries=_SRGB[0],
        transfer=_SRGB[1],
        matrix=_MATRIX,
        speed=_SPEED,
        numthreads=os.cpu_count() or 1,
    )
    stream.write(_with_metadata(bytes(data), metadata))


def _with_metadata(data: bytes, metadata: Metadata) -> bytes:
    """Return a file of libavif with a profile, EXIF and XMP of its first item."""
    boxes = dict(_children(data))
    parts = dict(_children(boxes[b"meta"][4:]))
    primary = struct.unpack_from(">H", parts[b"pitm"], 4)[0]
    blocks = [(b"Exif", b"", bytes(4) + metadata.exif)] if metadata.exif else []
    blocks += [(b"mime", _XMP_TYPE, metadata.xmp)] if metadata.xmp else []
    count = struct.unpack_from(">H", parts[b"iinf"], 4)[0]
    if parts[b"iloc"][:6] != bytes(4) + _PLAIN_PLACES:
        raise RuntimeError("libavif lays its files out in a way that is not known here")
    first = max(struct.unpack_from(">H", parts[b"iloc"], 8 + 14 * index)[0] for index in range(count)) + 1
    entries = references = b""
    for item, (kind, type, _) in enumerate(blocks, first):
        entries += _box(b"infe", struct.pack(">IHH4s", 2 << 24, item, 0, kind) + b"\0" + type)
        references += _box(b"cdsc", struct.pack(">HHH", item, 1, primary))
    parts[b"iinf"] = (
        parts[b"iinf"][:4] + struct.pack(">H", count + len(blocks)) + parts[b"iinf"][6:] + entries
    )
    if references:
        parts[b"iref"] = parts.get(b"iref", bytes(4)) + references
    if metadata.icc:
        parts[b"iprp"] = _with_profile(parts[b"iprp"], primary, metadata.icc)
    order = [b"hdlr", b"pitm", b"iloc", b"iinf", b"iref", b"iprp"]
    grown = len(blocks) * 14 + sum(len(_box(kind, parts[kind])) for kind in order if kind in parts) + 4
    shift = grown - len(boxes[b"meta"])
    places = bytearray(parts[b"iloc"])
    for index in range(count):
        at = 8 + 14 * index + 6
        struct.pack_into(">I", places, at, struct.unpack_from(">I", places, at)[0] + shift)
    at = len(data) + shift + 8
    for item, (_, _, block) in enumerate(blocks, first):
        places += struct.pack(">HHHII", item, 0, 1, at, len(block))
        at += len(block)
    struct.pack_into(">H", places, 6, count + len(blocks))
    parts[b"iloc"] = bytes(places)
    meta = bytes(4) + b"".join(_box(kind, parts[kind]) for kind in order if kind in parts)
    tail = _box(b"mdat", b"".join(block for _, _, block in blocks)) if blocks else b""
    return _box(b"ftyp", boxes[b"ftyp"]) + _box(b"meta", meta) + _box(b"mdat", boxes[b"mdat"]) + tail


def _with_profile(body: bytes, primary: int, icc: bytes) -> bytes:
    parts = dict(_children(body))
    number = len(_children(parts[b"ipco"])) + 1
    owners = bytearray(parts[b"ipma"])
    at = 8
    while struct.unpack_from(">H", owners, at)[0] != primary:
        at += 3 + owners[at + 2]
    owners.insert(at + 3 + owners[at + 2], number)
    owners[at + 2] += 1
    return _box(b"ipco", parts[b"ipco"] + _box(b"colr", b"prof" + icc)) + _box(b"ipma", bytes(owners))


def _children(data: bytes) -> list[tuple[bytes, bytes]]:
    at, boxes = 0, []
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        boxes.append((kind, data[at + 8 : at + size]))
        at += size
    return boxes


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body

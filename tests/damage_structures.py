"""Damage to the parts that a format is made of, whose lengths and sums are right again."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import TypeVar

from damage import ANY, EXTREMES, Damage, png_with_sums

Part = TypeVar("Part")

CONTAINERS = {
    *(b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"meta", b"iprp", b"ipco"),
    *(b"iinf", b"iref", b"moof", b"traf"),
}
"""Boxes of ISO files (MP4, MOV, HEIC, AVIF, JPEG XL) that hold boxes."""
TS_PACKET = 188


def rearranged(
    parts: list[Part], random: Random, change: Callable[[Part], Part], lead: int = 0
) -> list[Part]:
    """Change one part, or have one twice, elsewhere, or not at all; the first `lead` ones stay in place."""
    if len(parts) <= lead:
        return parts
    at, to = random.randrange(lead, len(parts)), random.randrange(lead, len(parts))
    way = random.randrange(8)
    if way == 0:
        return [*parts[:to], parts[at], *parts[to:]]
    if way == 1:
        return parts[:at] + parts[at + 1 :]
    if way == 2:
        parts = list(parts)
        parts[at], parts[to] = parts[to], parts[at]
        return parts
    return [*parts[:at], change(parts[at]), *parts[at + 1 :]]


def _any(body: bytes, random: Random) -> bytes:
    return random.choice(ANY)(body, random) if body else random.randbytes(4)


def jpeg_segments(data: bytes, random: Random) -> bytes:
    """Segments of a JPEG, EXIF's directories among them; a scan stays behind its header."""
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = struct.unpack_from(">H", data, at + 2)[0]
        segments.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length

    def change(segment: tuple[int, bytes]) -> tuple[int, bytes]:
        marker, body = segment
        if body.startswith(b"Exif\0\0") and random.random() < 0.7:
            return marker, body[:6] + tiff_entries(body[6:], random)
        return (random.choice((marker, marker, 0xC0 + random.randrange(16))), _any(body, random)[:65533])

    segments = rearranged(segments, random, change)
    joined = b"".join(
        bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body for marker, body in segments
    )
    return data[:2] + joined + data[at:]


def tiff_entries(data: bytes, random: Random) -> bytes:
    """One entry of a TIFF's directory has another tag, type, count, value or offset."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    (at,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
    (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, at)
    first, size = (at + 8, 20) if big else (at + 2, 12)
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2))):
        place = first + size * random.randrange(count)
        which = random.randrange(4)
        if which < 2:  # tag, type
            near = struct.unpack_from(f"{order}H", out, place + 2 * which)[0] + random.choice((-1, 1))
            number = random.choice((near % 65536, random.randrange(1, 19), 330, 273, 257, 65535))
            struct.pack_into(f"{order}H", out, place + 2 * which, number)
        else:  # count, value
            code, width = ("Q", 8) if big else ("I", 4)
            old = struct.unpack_from(f"{order}{code}", out, place + 4 + width * (which - 2))[0]
            number = random.choice((old + 1, old - 1, old * 2, len(data), at, *EXTREMES)) % (1 << 8 * width)
            struct.pack_into(f"{order}{code}", out, place + 4 + width * (which - 2), number)
    return bytes(out)


def riff_chunks(data: bytes, random: Random) -> bytes:
    """Chunks of a WebP."""
    chunks, at = [], 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    kinds = b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"ICCP"
    chunks = rearranged(
        chunks, random, lambda c: (random.choice((c[0], c[0], random.choice(kinds))), _any(c[1], random))
    )
    body = b"".join(
        kind + struct.pack("<I", len(held)) + held + b"\0" * (len(held) % 2) for kind, held in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + data[8:12] + body


def bmp_fields(data: bytes, random: Random) -> bytes:
    """A field of a BMP's headers is another number."""
    out = bytearray(data)
    fields = [
        (2, 4),
        (10, 4),
        (14, 4),
        (18, 4),
        (22, 4),
        (26, 2),
        (28, 2),
        (30, 4),
        (34, 4),
        (46, 4),
        (54, 4),
    ]
    for _ in range(random.choice((1, 1, 2))):
        at, size = random.choice(fields)
        old = int.from_bytes(out[at : at + size], "little")
        choices = (old + 1, old - 1, old * 2, -old, random.choice((1, 4, 8, 16, 24, 32)), *EXTREMES)
        out[at : at + size] = (random.choice(choices) % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(out)


def iso_boxes(data: bytes, random: Random) -> bytes:
    """Boxes of an ISO file, at any depth, with the right sizes all the way up."""
    boxes, at = [], 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        size = size if size >= 8 else len(data) - at
        boxes.append((kind, data[at + 8 : at + size]))
        at += size

    def change(box: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        kind, body = box
        if kind in CONTAINERS and random.random() < 0.9:
            lead = {b"meta": 4, b"iinf": 6}.get(kind, 0)
            return kind, body[:lead] + iso_boxes(body[lead:], random)
        return (random.choice((kind, kind, kind, b"free")), _any(body, random))

    boxes = rearranged(boxes, random, change)
    return b"".join(struct.pack(">I4s", len(body) + 8, kind) + body for kind, body in boxes)


def ebml_elements(data: bytes, random: Random) -> bytes:
    """Elements of a Matroska file, two levels down, with the right sizes."""
    elements, at = [], 0
    while at < len(data):
        long = 9 - data[at].bit_length()
        width = 9 - data[at + long].bit_length()
        size = int.from_bytes(data[at + long : at + long + width], "big") - (1 << 7 * width)
        if size == (1 << 7 * width) - 1:  # not known: up to the end
            size = len(data) - at - long - width
        begin = at + long + width
        elements.append((data[at : at + long], data[begin : begin + size]))
        at = begin + size

    def change(element: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        name, body = element
        inner = name in (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0", b"\x1f\x43\xb6\x75")
        if inner and random.random() < 0.9:  # segment, tracks, track, its video, cluster
            return name, ebml_elements(body, random)
        return name, _any(body, random)

    elements = rearranged(elements, random, change)
    return b"".join(name + (len(body) | 1 << 56).to_bytes(8, "big") + body for name, body in elements)


def ts_packets(data: bytes, random: Random) -> bytes:
    """Packets of a transport stream are missing, twice, elsewhere, or changed behind their sync byte."""
    packets = [data[at : at + TS_PACKET] for at in range(0, len(data), TS_PACKET)]
    for _ in range(random.choice((1, 3, 10))):
        packets = rearranged(
            packets, random, lambda packet: packet[:1] + _any(packet[1:], random)[: TS_PACKET - 1]
        )
    return b"".join(packets)


STRUCTURES: dict[str, Damage] = {
    ".png": png_with_sums,
    ".jpg": jpeg_segments,
    ".tif": tiff_entries,
    ".webp": riff_chunks,
    ".bmp": bmp_fields,
    ".heic": iso_boxes,
    ".avif": iso_boxes,
    ".jxl": iso_boxes,
    ".mp4": iso_boxes,
    ".mov": iso_boxes,
    ".mkv": ebml_elements,
    ".webm": ebml_elements,
    ".ts": ts_packets,
}
"""Makers of such damage by the suffix of a file."""

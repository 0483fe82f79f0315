"""Makers of damage, for any bytes and for what knows its own checksums; all drawn from a seeded Random."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random

Damage = Callable[[bytes, Random], bytes]

EXTREMES = [
    0,
    1,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 32,
    (1 << 63) - 1,
    (1 << 64) - 1,
]
"""Numbers that sizes, counts and offsets are forged to."""


# Damage of any bytes


def flipped(data: bytes, random: Random) -> bytes:
    """One to eight bits are turned over."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        out[random.randrange(len(out))] ^= 1 << random.randrange(8)
    return bytes(out)


def flipped_in_front(data: bytes, random: Random) -> bytes:
    """A few bits of the first 200 bytes, where sizes stand, are turned over."""
    out = bytearray(data)
    for _ in range(random.randint(1, 4)):
        out[random.randrange(min(200, len(out)))] ^= 1 << random.randrange(8)
    return bytes(out)


def cut(data: bytes, random: Random) -> bytes:
    """The end is missing."""
    return data[: random.randrange(len(data))]


def cut_a_little(data: bytes, random: Random) -> bytes:
    """The last few bytes are missing."""
    return data[: -random.randint(1, min(16, len(data)))]


def zeroed(data: bytes, random: Random) -> bytes:
    """A block holds zeros, as after a crash of a file system."""
    start, length = _block(data, random)
    return data[:start] + bytes(length) + data[start + length :]


def filled(data: bytes, random: Random) -> bytes:
    """A block holds ones, as erased flash does."""
    start, length = _block(data, random)
    return data[:start] + b"\xff" * length + data[start + length :]


def noisy(data: bytes, random: Random) -> bytes:
    """A block holds noise."""
    start, length = _block(data, random)
    return data[:start] + random.randbytes(length) + data[start + length :]


def spliced(data: bytes, random: Random) -> bytes:
    """A block is overwritten with another one of the same file."""
    start, length = _block(data, random)
    other = random.randrange(len(data) - length + 1)
    return data[:start] + data[other : other + length] + data[start + length :]


def left_out(data: bytes, random: Random) -> bytes:
    """A block is missing, and all behind it has moved up."""
    start, length = _block(data, random)
    return data[:start] + data[start + length :]


def stuttered(data: bytes, random: Random) -> bytes:
    """A block is there twice."""
    start, length = _block(data, random)
    return data[: start + length] + data[start:]


def grown(data: bytes, random: Random) -> bytes:
    """Something foreign hangs at the end."""
    return data + random.choice((bytes(1000), random.randbytes(300), data, b"\n"))


def forged(data: bytes, random: Random) -> bytes:
    """A number of 2, 4 or 8 bytes is an extreme one."""
    size = random.choice((2, 4, 4, 8))
    at = random.randrange(max(1, min(len(data), 600) - size))
    number = random.choice(EXTREMES) & ((1 << 8 * size) - 1)
    return data[:at] + number.to_bytes(size, random.choice(("little", "big"))) + data[at + size :]


def as_text(data: bytes, random: Random) -> bytes:
    """A transfer in text mode has changed line ends or dropped the high bits."""
    if random.random() < 0.5:
        return data.replace(b"\n", b"\r\n")
    return data.decode("utf-8", "replace").encode("utf-8")


ANY: tuple[Damage, ...] = (
    flipped,
    flipped,
    flipped_in_front,
    cut,
    cut_a_little,
    zeroed,
    filled,
    noisy,
    spliced,
    left_out,
    stuttered,
    grown,
    forged,
    forged,
    as_text,
)


def _block(data: bytes, random: Random) -> tuple[int, int]:
    length = random.randint(1, max(1, min(len(data) // 2, random.choice((4, 16, 64, 512, 4096)))))
    return random.randrange(len(data) - length + 1), length


# Damage behind checksums


def png_with_sums(data: bytes, random: Random) -> bytes:
    """Any damage to a PNG's chunks, whose checksums are right again, so that it gets further inside."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    victim = random.randrange(len(chunks))
    kind, body = chunks[victim]
    way = random.randrange(6)
    if way == 0:
        chunks.insert(random.randrange(len(chunks)), chunks[victim])
    elif way == 1:
        del chunks[victim]
    elif way == 2:
        random.shuffle(chunks)
    elif body:
        chunks[victim] = (kind, random.choice(ANY)(body, random))
    if way == 5:
        chunks = [(kind, _inflated(body, random) if kind == b"IDAT" else body) for kind, body in chunks]
    return data[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _inflated(body: bytes, random: Random) -> bytes:
    try:
        lines = zlib.decompress(body)
    except zlib.error:
        return body
    return zlib.compress(random.choice(ANY)(lines, random))


def zip_with_sums(data: bytes, random: Random) -> bytes:
    """Any damage to one member of a zip file, whose checksums are right again."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        names = old.namelist()
        victim = random.choice([name for name in names if name.endswith("data.pkl")] + names)
        for name in names:
            body = old.read(name)
            if name == victim and body:
                body = random.choice(ANY)(body, random)
            new.writestr(name, body)
    return stream.getvalue()


def safetensors_header(data: bytes, random: Random) -> bytes:
    """One value somewhere in a .safetensors file's header is another one; its length is right."""
    length = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8 : 8 + length])
    if random.random() < 0.5:
        about = json.loads(header["__metadata__"]["emt"])
        change_value(about["config"] if random.random() < 0.8 else about, random)
        header["__metadata__"]["emt"] = json.dumps(about)
    else:
        change_value(header, random)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


STRANGE = [
    None,
    True,
    -1,
    0,
    1,
    3,
    10**9,
    2**63,
    2**70,
    1e308,
    -0.5,
    "",
    "x" * 5000,
    [],
    {},
    [[1, 2]],
    [0, 0],
]
"""JSON values to put where another one is expected."""


def change_value(value: object, random: Random) -> None:
    """Change, drop or add one value somewhere inside lists and dicts of JSON values."""
    while True:
        places = list(value) if isinstance(value, dict) else list(range(len(value)))  # type: ignore[arg-type,call-overload]
        if not places:
            return
        place = random.choice(places)
        inner = value[place]  # type: ignore[index]
        if isinstance(inner, dict | list) and inner and random.random() < 0.7:
            value = inner
            continue
        way = random.random()
        if way < 0.15:
            del value[place]  # type: ignore[attr-defined]
        elif way < 0.25 and isinstance(value, dict):
            value["strange"] = random.choice(STRANGE)
        else:
            value[place] = random.choice(STRANGE)  # type: ignore[index]
        return

"""Picture files made without the code under test."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image


def by_pillow(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def by_opencv(image: np.ndarray, suffix: str, *options: int) -> bytes:
    order = [2, 1, 0, 3][: image.shape[2]] if image.ndim == 3 else slice(None)
    return cv2.imencode(suffix, image[..., order] if image.ndim == 3 else image, options)[1].tobytes()


def by_tifffile(image: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **options)
    return buffer.getvalue()


def by_exiftool(data: bytes, tmp_path: Path) -> dict[str, object]:
    """What exiftool reads in a file, names with their groups."""
    tool = shutil.which("exiftool")
    if tool is None:
        pytest.skip("exiftool is not installed")
    (tmp_path / "file").write_bytes(data)
    line = [tool, "-json", "-G", "-struct", str(tmp_path / "file")]
    found = json.loads(subprocess.run(line, capture_output=True, check=True).stdout)[0]
    assert not any(name.endswith((":Warning", ":Error")) for name in found), found
    return found


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_file(width: int, height: int, bits: int, colour: int, lines: bytes, extra: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = (
        png_chunk(b"IHDR", head) + extra + png_chunk(b"IDAT", zlib.compress(lines)) + png_chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def three(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane[..., None], 3, axis=2)


def cmyk_profile() -> bytes:
    """A made-up press whose cyan ink is red: white paper, cyan Lab (50, 60, 0), other inks black."""
    table = b""
    for corner in range(16):
        cyan, rest = corner >> 3, corner & 7
        table += (
            bytes([0, 128, 128]) if rest else (bytes([128, 188, 128]) if cyan else bytes([255, 128, 128]))
        )
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    ramp = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + table + ramp * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    tags, body, directory = [(b"A2B0", lut), (b"wtpt", white)], b"", b""
    for name, value in tags:
        directory += struct.pack(">4sII", name, 128 + 4 + 12 * len(tags) + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    rest = struct.pack(">I", len(tags)) + directory + body
    head = struct.pack(">I4sI4s4s4s", 128 + len(rest), bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return head.ljust(128, b"\0") + rest


def srgb_of_lab(lightness: float, a: float, b: float) -> np.ndarray:
    """Lab under D50 to sRGB bytes, by the formulas of the CIE and IEC 61966-2-1 (Bradford adaptation)."""
    fy = (lightness + 16) / 116
    f = np.array([fy + a / 500, fy, fy - b / 200])
    xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2) * [0.9642, 1.0, 0.8249]
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(np.array(matrix) @ xyz, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def tiff_file(
    width: int,
    height: int,
    body: bytes,
    extra: dict[int, object] | None = None,
    *,
    bits: int = 8,
    samples: int = 1,
    photometric: int | None = 1,
    order: str = "<",
) -> bytes:
    """A TIFF of one plain strip; extra tags are numbers, pairs of them, or the packed bytes of many."""
    tags: dict[int, object] = {256: width, 257: height, 259: 1, 273: 8, 277: samples, 278: height}
    tags |= {258: struct.pack(order + "H", bits) * samples, 262: photometric, 279: len(body)} | (extra or {})
    place = 8 + len(body) + len(body) % 2
    table, values = b"", b""
    at = place + 2 + 12 * sum(value is not None for value in tags.values()) + 4
    for tag, value in sorted(tags.items()):
        if value is None:
            continue
        kind, size = {258: (3, 2), 532: (5, 8)}.get(tag, (4, 4))
        if isinstance(value, tuple):
            kind, size, value = 3, 2, struct.pack(order + "2H", *value)
        raw = value if isinstance(value, bytes) else struct.pack(order + "I", value)
        table += struct.pack(order + "HHI", tag, kind, len(raw) // size)
        if len(raw) > 4:
            table += struct.pack(order + "I", at + len(values))
            values += raw
        else:
            table += raw.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, place)
    count = struct.pack(order + "H", len(table) // 12)
    return head + body.ljust(place - 8, b"\0") + count + table + bytes(4) + values

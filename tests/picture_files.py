"""Picture files made without the code under test."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
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

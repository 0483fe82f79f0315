"""IPTC records, and the resources of Photoshop that hold them in JPEG, PNG and TIFF."""

import struct

JPEG_NAME = b"Photoshop 3.0\0"
_IPTC = 0x0404
_NOTHING_LOST = {_IPTC, 0x0425, 0x03ED, 0x0409, 0x040C}
"""IPTC, its checksum, resolution, thumbnails of the old picture."""


def read_resources(block: bytes) -> tuple[bytes | None, bool]:
    """Return the IPTC record in a block of resources, and whether it holds others that go with the picture.

    A damaged end is left out.
    """
    at, iptc, others = 0, None, False
    while block[at : at + 4] == b"8BIM" and at + 12 <= len(block):
        number = struct.unpack_from(">H", block, at + 4)[0]
        at += 6 + (block[at + 6] + 2) // 2 * 2
        if at + 4 > len(block):
            break
        size = struct.unpack_from(">I", block, at)[0]
        body = block[at + 4 : at + 4 + size]
        if len(body) < size:
            break
        if number == _IPTC and body and iptc is None:
            iptc = body
        others = others or number not in _NOTHING_LOST
        at += 4 + size + size % 2
    return iptc, others


def resources(iptc: bytes) -> bytes:
    """Return an IPTC record as a block of resources."""
    return b"8BIM" + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)

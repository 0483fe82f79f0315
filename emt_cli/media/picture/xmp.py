"""XMP packets as bytes: numbers in them, packets in two parts, and what they promise of other pictures."""

import hashlib
import re
import struct
from collections.abc import Iterable

JPEG_NAME = b"http://ns.adobe.com/xap/1.0/\0"
JPEG_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
JPEG_LIMIT = 65533 - len(JPEG_NAME)
_PART = 65400
_MOST_EXTENSION = 1 << 26

_EXTENDED = re.compile(rb"""\s+xmpNote:HasExtendedXMP\s*=\s*["']([0-9A-Fa-f]{32})["']""")
_EXTENDED_ELEMENT = re.compile(rb"<xmpNote:HasExtendedXMP>\s*([0-9A-Fa-f]{32})\s*</xmpNote:HasExtendedXMP>")
_RDF = re.compile(rb"<rdf:RDF\b([^>]*)>(.*)</rdf:RDF>", re.DOTALL)
_NAMESPACE = re.compile(rb"""\sxmlns:([\w.-]+)\s*=\s*(?:"[^"]*"|'[^']*')""")

# Gain maps (Ultra HDR, Apple), the list of pictures and films behind a JPEG, films in "motion photos".
_PROMISED = rb"(?:hdrgm|HDRGainMap|Container|Item):[\w.-]+|GCamera:(?:MotionPhoto|MicroVideo)[\w.-]*"
_PROMISES = (
    re.compile(rb"<(%s)\b[^>]*(?<!/)>.*?</\1\s*>" % _PROMISED, re.DOTALL),
    re.compile(rb"<(?:%s)\b[^>]*/>" % _PROMISED),
    re.compile(rb"""\s(?:%s)\s*=\s*(?:"[^"]*"|'[^']*')""" % _PROMISED),
)


def with_number(xmp: bytes, name: bytes, value: int) -> bytes:
    """Set a number that XMP stores as an attribute (name="1") or an element (<name>1</name>)."""
    return re.sub(rb"(%s\s*(?:=\s*[\"']|>)\s*)\d+" % re.escape(name), rb"\g<1>%d" % value, xmp)


def upright(xmp: bytes) -> bytes:
    """Return XMP whose tiff:Orientation, where it has one, is 1."""
    return with_number(xmp, b"tiff:Orientation", 1)


def without_promises(xmp: bytes) -> tuple[bytes, bool]:
    """Return XMP that says nothing of further pictures in the file, and whether it did."""
    rest = xmp
    for pattern in _PROMISES:
        rest = pattern.sub(b"", rest)
    return rest, rest != xmp


def joined(main: bytes, segments: Iterable[bytes]) -> tuple[bytes, bool]:
    """Return a packet with the extension it names in it, and whether the extension was whole.

    segments: of a JPEG, behind the name of extensions (XMP specification, part 3, section 1.1.3.1).
    """
    found = _EXTENDED.search(main) or _EXTENDED_ELEMENT.search(main)
    if found is None:
        return main, True
    parts: dict[int, bytes] = {}
    total = 0
    for segment in segments:
        if segment[:32].upper() == found[1].upper() and len(segment) >= 40:
            total, start = struct.unpack_from(">II", segment, 32)
            parts[start] = segment[40:]
    extension = b"".join(parts[start] for start in sorted(parts))
    main = _EXTENDED_ELEMENT.sub(b"", _EXTENDED.sub(b"", main))
    inner, outer = _RDF.search(extension), _RDF.search(main)
    if not extension or len(extension) != total or total > _MOST_EXTENSION or inner is None or outer is None:
        return main, False
    known = set(_NAMESPACE.findall(outer[1]))
    spaces = b"".join(match[0] for match in _NAMESPACE.finditer(inner[1]) if match[1] not in known)
    end = outer.end(2)
    return main[: outer.end(1)] + spaces + main[outer.end(1) : end] + inner[2] + main[end:], True


def parted(xmp: bytes) -> tuple[bytes, list[bytes]]:
    """Return what of a packet goes into one segment of a JPEG, and the bodies of those for the rest."""
    if len(xmp) <= JPEG_LIMIT:
        return xmp, []
    begin, end = xmp.find(b"<x:xmpmeta"), xmp.rfind(b"</x:xmpmeta>")
    whole = xmp[begin : end + len(b"</x:xmpmeta>")] if 0 <= begin < end else xmp
    name = hashlib.md5(whole, usedforsecurity=False).hexdigest().upper().encode()
    main = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        b' xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="%s"/></rdf:RDF></x:xmpmeta>'
    )
    parts = [
        JPEG_EXTENSION + name + struct.pack(">II", len(whole), at) + whole[at : at + _PART]
        for at in range(0, len(whole), _PART)
    ]
    return main % name, parts

"""JPEG XL through libjxl: pixels by imagecodecs with all their bits, profile and writing by pylibjxl."""

from dataclasses import replace
from importlib.util import find_spec
from typing import IO

import numpy as np

from emt_cli.errors import InputError
from emt_cli.media.picture.alpha import divided_by_alpha
from emt_cli.media.picture.formats import UnsupportedError, check_input
from emt_cli.media.picture.jxl_head import JxlHead, jxl_boxes, read_jxl_head
from emt_cli.media.picture.metadata import Metadata
from emt_cli.media.picture.xmp import without_promises
from emt_cli.media.samples import Decoded, Samples, widened

_MOST_INFLATED = 1 << 26
_NEEDS = 'needs pip install "emt-cli[jxl]"'


def read_jxl(data: bytes, *, name: str, max_pixels: int) -> Decoded:
    """Decode the first frame, upright; InputError, UnsupportedError or ValueError for what is not read."""
    head = read_jxl_head(data)
    check_input(name, height=head.height, width=head.width, max_pixels=max_pixels)
    if head.lossy and head.profile:
        raise UnsupportedError("lossy JPEG XL with a colour profile is not read")  # comes as linear light
    if head.colours is None and not head.profile:
        raise UnsupportedError("JPEG XL with colours of its own kind is not read")
    if any(head.extras[1:]) or head.extras[:1] not in ((), (0,)):
        raise UnsupportedError("JPEG XL with channels beside colours and alpha is not read")
    import imagecodecs  # heavy

    samples = np.atleast_3d(np.asarray(imagecodecs.jpegxl_decode(data, index=0 if head.moving else None)))
    colours = 1 if head.gray else 3
    if samples.shape != (head.height, head.width, colours + len(head.extras)):
        raise ValueError("its data are damaged")
    samples = widened(samples, 32 if head.floats else head.bits)
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise InputError(f"{name}: holds NaN or infinite values; replace them first")
    pixels = np.empty((head.height, head.width, 3), samples.dtype)
    pixels[...] = samples[..., :colours]
    alpha = np.ascontiguousarray(samples[..., -1]) if head.extras else None
    if alpha is not None and head.multiplied:
        pixels = divided_by_alpha(pixels, alpha)
    notes = ("it moves: only the first frame is read",) if head.moving else ()
    return Decoded(pixels, alpha, head.gray, _metadata(data, head, name), orientation=1, notes=notes)


def _metadata(data: bytes, head: JxlHead, name: str) -> Metadata:
    exif = xmp = icc = None
    for kind, body in jxl_boxes(data):
        if kind == b"brob":
            kind, body = bytes(body[:4]), memoryview(_inflated(body[4:]))
        if kind == b"Exif" and len(body) > 8:
            exif = bytes(body[4 + int.from_bytes(body[:4], "big") :]) or None
        elif kind == b"xml " and body:
            xmp = without_promises(bytes(body))[0]
    if head.profile:
        if find_spec("pylibjxl") is None:
            raise InputError(f"{name}: JPEG XL with a colour profile {_NEEDS}; or convert it to PNG or TIFF")
        import pylibjxl

        icc = pylibjxl.decode(data, metadata=True)[1].get("icc")
    return Metadata(icc=icc or None, exif=exif, xmp=xmp, png=head.colours or ())


def _inflated(packed: memoryview) -> bytes:
    import imagecodecs

    try:
        return bytes(imagecodecs.brotli_decode(bytes(packed), out=_MOST_INFLATED))
    except RuntimeError:
        return b""  # damaged, or a bomb: left out


def write_jxl(stream: IO[bytes], samples: Samples, metadata: Metadata, *, quality: int) -> tuple[str, ...]:
    """Write 8-bit JPEG XL, lossless at quality 100; return notes on metadata that it cannot hold."""
    import pylibjxl

    notes = []
    icc = metadata.icc
    if samples.channels == 2:  # libjxl's binding knows no gray with alpha
        samples = replace(samples, gray=False)
        if icc is not None:
            notes.append("colour profile of grays left out: JPEG XL with alpha is written in RGB")
            icc = None
    if metadata.iptc:
        notes.append("JPEG XL holds no IPTC: left out")
    rows = samples.rows(0, samples.height)
    packed = pylibjxl.encode(
        np.ascontiguousarray(rows),
        lossless=quality == 100,
        distance=_distance(quality),
        exif=metadata.exif,
        xmp=metadata.xmp,
        icc=icc,
    )
    stream.write(packed)
    return tuple(notes)


def _distance(quality: int) -> float:
    """Return how far from the original, in steps just seen, by libjxl's own scale of qualities."""
    if quality == 100:
        return 0.0
    return 0.1 + (100 - quality) * 0.09 if quality >= 30 else 53 / 3000 * quality**2 - 23 / 20 * quality + 25

"""HEIC through libheif and AVIF through libavif, with all their bits, alpha and colours."""

import io
import struct
from dataclasses import replace
from importlib.util import find_spec
from typing import IO, Any, TypeAlias

import numpy as np

from emt_cli.errors import InputError
from emt_cli.media.picture.formats import check_input
from emt_cli.media.picture.heif_head import HeifHead, read_heif_head
from emt_cli.media.picture.metadata import Metadata
from emt_cli.media.picture.pillow import open_image
from emt_cli.media.picture.xmp import without_promises
from emt_cli.media.samples import BAND, Decoded, Pixels, Samples, widened

_UNSTATED = 2
_LIKE_SRGB = (1, 6, 13, 14, 15)
"""Transfers of ordinary video and sRGB, by their numbers; screens show them alike."""
_GAIN_MAP = "HDR gain map left out: the result is the picture as ordinary screens show it"
_Found: TypeAlias = tuple[Pixels, Metadata, int | None, int, int]
"""Samples, metadata, turns still to be made, pictures in the file, bits of a sample."""
_HEIC_BITS = 10
"""Of pictures with 16 bits, as phones and cameras write them."""


def read_heif(data: bytes, *, avif: bool, name: str, max_pixels: int) -> Decoded:
    """Decode the main picture, turned as the file says; InputError or ValueError for what is not read."""
    head = read_heif_head(data, cut=not avif)
    check_input(name, height=head.coded[1], width=head.coded[0], max_pixels=max_pixels)
    samples, metadata, orientation, frames, bits = _avif(data, head) if avif else _heic(data, name)
    metadata = replace(metadata, png=_stated(head) if metadata.icc is None else ())
    notes = [_GAIN_MAP] if head.gain_map else []
    if metadata.xmp is not None:
        metadata = replace(metadata, xmp=without_promises(metadata.xmp)[0])
    height, width, channels = samples.shape
    kind = np.uint8 if bits <= 8 else np.uint16
    pixels = np.empty((height, width, 3), kind)
    alpha = np.empty((height, width), kind) if channels in (2, 4) else None
    step = max(1, BAND // width)
    for top in range(0, height, step):
        rows = widened(samples[top : top + step], bits)
        pixels[top : top + step] = rows[..., : 3 if channels > 2 else 1]
        if alpha is not None:
            alpha[top : top + step] = rows[..., -1]
    return Decoded(pixels, alpha, head.gray, metadata, orientation, frames, notes=tuple(notes))


def _heic(data: bytes, name: str) -> _Found:
    if find_spec("pillow_heif") is None:
        raise InputError(
            f'{name}: HEIC needs pip install "emt-cli[heif]"; or convert it to PNG, JPEG or TIFF'
        )
    import pillow_heif

    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    image = file[file.primary_index]
    # A copy: the samples of pillow-heif before 1.6 are gone with the image.
    samples = np.atleast_3d(np.array(image))
    bits = 8
    if samples.dtype == np.uint16:  # the box that declares it may be missing
        bits = int(file.info["bit_depth"])
        samples = samples >> (16 - bits)
    info: Any = image.info
    return samples, _metadata(info.get("exif"), info.get("xmp"), info.get("icc_profile")), 1, len(file), bits


def _avif(data: bytes, head: HeifHead) -> _Found:
    with open_image(io.BytesIO(data), "avif") as image:
        frames = getattr(image, "n_frames", 1)
        info = image.info
        metadata = _metadata(info.get("exif"), info.get("xmp"), info.get("icc_profile"))
        if head.bits <= 8:
            return np.atleast_3d(np.asarray(image)), metadata, None, frames, 8
        size = image.size
    import imagecodecs  # Pillow cuts to 8 bits

    samples = np.asarray(imagecodecs.avif_decode(data))
    samples = samples[0] if samples.ndim == 4 else samples
    if samples.shape[:2] != (size[1], size[0]) or samples.dtype != np.uint16:
        raise ValueError("its data are damaged")
    return np.atleast_3d(samples), metadata, None, frames, head.bits


def _metadata(exif: bytes | None, xmp: bytes | None, icc: bytes | None) -> Metadata:
    block = exif.removeprefix(b"Exif\0\0") if exif else None
    return Metadata(icc=icc or None, exif=block or None, xmp=xmp or None)


def _stated(head: HeifHead) -> tuple[tuple[bytes, bytes], ...]:
    """Return colours that are not those of sRGB as PNG states them."""
    if head.colours is None or _UNSTATED in head.colours:
        return ()
    primaries, transfer = head.colours
    if transfer in _LIKE_SRGB:
        transfer = 13
    if (primaries, transfer) == (1, 13) or max(primaries, transfer) > 255:
        return ()
    return ((b"cICP", struct.pack("BBBB", primaries, transfer, 0, 1)),)


def write_heic(stream: IO[bytes], samples: Samples, metadata: Metadata, *, quality: int) -> None:
    """Write HEIC: 8 bits, or 10 for deeper samples, colours in full resolution from quality 90 on."""
    import pillow_heif

    deep = samples.dtype.itemsize > 1
    if samples.channels == 2 or (deep and samples.gray):
        samples = replace(samples, gray=False)  # libheif has no gray with alpha, and no deep gray
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[samples.channels] + (";16" if deep else "")
    rows: Any = samples.rows(0, samples.height)
    if deep:
        most = np.float32((1 << _HEIC_BITS) - 1)
        rows = np.rint(rows * (most / np.float32(65535))).astype(np.uint16) << (16 - _HEIC_BITS)
    file = pillow_heif.from_bytes(mode, (samples.width, samples.height), rows.tobytes())
    image = file[0]
    if metadata.icc:
        info: Any = image.info
        info["icc_profile"], info["icc_profile_type"] = metadata.icc, "prof"
    exif = b"Exif\0\0" + metadata.exif if metadata.exif else None
    file.save(
        stream, quality=quality, chroma=444 if quality >= 90 else 420, exif=exif, xmp=metadata.xmp or None
    )

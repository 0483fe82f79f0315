"""Bytes of a picture file to samples: Pillow for 8 bits, OpenCV for 16-bit PNG, tifffile for TIFF."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from emt_cli.errors import InputError
from emt_cli.media.picture import png
from emt_cli.media.picture.bmp import bmp_metadata, read_bmp
from emt_cli.media.picture.formats import SourceFormat, UnsupportedError, check_input
from emt_cli.media.picture.heif import read_heif
from emt_cli.media.picture.jpeg import check_jpeg, read_extras
from emt_cli.media.picture.jxl import read_jxl
from emt_cli.media.picture.kind import kind_of, png_kind
from emt_cli.media.picture.metadata import Metadata, profile_space
from emt_cli.media.picture.pillow import open_image
from emt_cli.media.picture.raw import read_raw
from emt_cli.media.picture.webp import check_webp
from emt_cli.media.samples import BAND, Decoded, Pixels, full_scale

# What our readers, Pillow and zlib raise for damaged files: with a reason worth showing, or without.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError)
_OBSCURE_DAMAGE = (
    struct.error,
    zlib.error,
    UnidentifiedImageError,
    Image.DecompressionBombError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    ImageCms.PyCMSError,
)

_GRAY_MODES = {"1": "L", "L": "L", "LA": "LA", "La": "LA"}
_COLOUR_MODES = {"P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA", "RGBa": "RGBA"}
_COLOUR_MODES |= {"CMYK": "RGB", "YCbCr": "RGB"}


def decode(data: bytes, format: SourceFormat, *, name: str, max_pixels: int) -> Decoded:
    """Decode the first picture of a file; InputError when it is damaged, cut short, too large or foreign."""
    with readable_damage(name):
        if format == "png":
            return _decode_png(data, name, max_pixels)
        if format == "tiff":
            from emt_cli.media.picture.tiff import read_tiff  # tifffile is imported when a TIFF is met

            return read_tiff(data, name=name, max_pixels=max_pixels)
        if format == "raw":
            return read_raw(data, name=name, max_pixels=max_pixels)
        if format in ("avif", "heic"):
            return read_heif(data, avif=format == "avif", name=name, max_pixels=max_pixels)
        if format == "jxl":
            return read_jxl(data, name=name, max_pixels=max_pixels)
        if format == "bmp":
            return _decode_bmp(data, name, max_pixels)
        if format == "webp":
            check_webp(data)
        return _decode_with_pillow(data, format, name, max_pixels)


@contextlib.contextmanager
def readable_damage(name: str) -> Iterator[None]:
    """Turn what decoders raise for damaged files into InputError."""
    try:
        yield
    except UnsupportedError as error:
        raise InputError(f"{name}: {error}; save it as gray or RGB, as PNG or plain TIFF") from error
    except MemoryError as error:
        raise InputError(f"{name}: needs more memory than there is; cut it into parts") from error
    except _OBSCURE_DAMAGE as error:
        raise InputError(f"{name}: its data are damaged or cut short; get an undamaged copy") from error
    except _DAMAGE as error:
        reason = next(iter(str(error).splitlines()), "its data are damaged")
        raise InputError(f"{name}: cannot be decoded, {reason}; get an undamaged copy") from error


def _decode_png(data: bytes, name: str, max_pixels: int) -> Decoded:
    width, height, bits, colour_type = struct.unpack_from(">IIBB", data, 16)
    check_input(name, height=height, width=width, max_pixels=max_pixels)
    chunks = png.read_chunks(data)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    if not png.holds_samples(chunks, height * (1 + width * channels * bits // 8)):
        raise ValueError("the file is cut short")  # libpng and Pillow would fill it up
    bare = png.bare_file(chunks, palette=colour_type == 3)
    if bits == 16:
        decoded = _decode_deep_png(bare, (height, width), gray=channels < 3)
    else:
        decoded = _decode_with_pillow(bare, "png", name, max_pixels)
    alpha = decoded.alpha
    key = next((bytes(body) for kind, body in chunks if kind == b"tRNS"), b"")
    if colour_type in (0, 2) and len(key) == {0: 2, 2: 6}[colour_type]:
        scale = 255 // (2**bits - 1) if bits < 8 else 1
        # Only as many bits as a sample has are used, the specification says.
        colour = [(value & (1 << bits) - 1) * scale for value in struct.unpack(f">{len(key) // 2}H", key)]
        opaque = (decoded.pixels != np.array(colour)).any(axis=2)
        alpha = np.where(opaque, full_scale(decoded.pixels.dtype), 0).astype(decoded.pixels.dtype)
    frames = next((struct.unpack_from(">I", body)[0] for kind, body in chunks if kind == b"acTL"), 1)
    metadata = png.read_metadata(chunks)
    gray = decoded.gray and not (colour_type == 3 and profile_space(metadata.icc) == "RGB")
    kind = png_kind(chunks, height * width, colour_type, bits)
    return Decoded(decoded.pixels, alpha, gray, metadata, frames=frames, kind=kind)


def _decode_bmp(data: bytes, name: str, max_pixels: int) -> Decoded:
    found = read_bmp(data, name=name, max_pixels=max_pixels)
    if isinstance(found, Decoded):
        return found
    decoded = _decode_with_pillow(data, "bmp", name, max_pixels)
    return replace(decoded, metadata=bmp_metadata(data, found))


def _decode_deep_png(data: bytes, shape: tuple[int, int], *, gray: bool) -> Decoded:
    import cv2

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError("its data are damaged") from error
    if image is None or image.dtype != np.uint16 or image.shape[:2] != shape:
        raise ValueError("its data are damaged")
    pixels = _three(image.reshape(*shape, -1)[..., 0]) if gray else np.ascontiguousarray(image[..., 2::-1])
    alpha = np.ascontiguousarray(image[..., 3]) if image.ndim == 3 and image.shape[2] == 4 else None
    return Decoded(pixels, alpha, gray)


def _decode_with_pillow(data: bytes, format: SourceFormat, name: str, max_pixels: int) -> Decoded:
    with open_image(io.BytesIO(data), format) as image:
        check_input(name, height=image.height, width=image.width, max_pixels=max_pixels)
        if format == "jpeg":
            check_jpeg(data)
        # A JPEG's further pictures (previews, depth, gain maps) are not frames of it.
        frames = 1 if format == "jpeg" else getattr(image, "n_frames", 1)
        image.load()
        exif, dpi = image.info.get("exif"), image.info.get("dpi")
        metadata = Metadata(
            icc=image.info.get("icc_profile") or None,
            exif=exif.removeprefix(b"Exif\0\0") if exif else None,
            xmp=image.info.get("xmp") or None,
            dpi=(float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None,
        )
        kind = kind_of(image, io.BytesIO(data))
        decoded = replace(_from_pillow(image, metadata, frames), kind=kind)
    if format != "jpeg":
        return decoded
    extras = read_extras(data, metadata.xmp)
    metadata = replace(decoded.metadata, xmp=extras.xmp, iptc=extras.iptc)
    return replace(decoded, metadata=metadata, notes=decoded.notes + extras.notes)


def _from_pillow(image: Image.Image, metadata: Metadata, frames: int) -> Decoded:
    """Copy a loaded picture band by band, so that Pillow's copy and ours are the only whole ones."""
    mode, notes, convert = image.mode, tuple[str, ...](), None
    target = (_GRAY_MODES | _COLOUR_MODES).get(mode)
    if target is None:
        raise UnsupportedError(f"{image.format} with colours of the kind {mode} is not read")
    gray = mode in _GRAY_MODES
    if mode == "P":
        target = "RGBA" if "transparency" in image.info else "RGB"
        palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
        gray = bool((palette == palette[:, :1]).all()) and profile_space(metadata.icc) != "RGB"
    elif mode == "CMYK":
        convert, note = _cmyk_conversion(metadata.icc)
        notes = (note,)
        metadata = Metadata(exif=metadata.exif, xmp=metadata.xmp, dpi=metadata.dpi)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    alpha = np.empty(pixels.shape[:2], np.uint8) if target.endswith("A") else None
    step = max(1, BAND // image.width)
    for start in range(0, image.height, step):
        stop = min(start + step, image.height)
        part = image.crop((0, start, image.width, stop))
        band = np.asarray(convert(part) if convert else part.convert(target)).reshape(
            stop - start, image.width, -1
        )
        pixels[start:stop] = band[..., : 1 if target in ("L", "LA") else 3]
        if alpha is not None:
            alpha[start:stop] = band[..., -1]
    return Decoded(pixels, alpha, gray, metadata, frames=frames, notes=notes)


def _cmyk_conversion(icc: bytes | None) -> tuple[Callable[[Image.Image], Image.Image], str]:
    """Return how a CMYK picture becomes sRGB: by its own profile, else by Pillow's simple rule."""
    if icc is not None and profile_space(icc) == "CMYK":
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
            "CMYK",
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )

        def convert(part: Image.Image) -> Image.Image:
            return ImageCms.applyTransform(part, transform) or part

        return convert, "CMYK converted to sRGB by its profile"
    return lambda part: part.convert("RGB"), "CMYK without a profile converted to RGB by a simple rule"


def _three(plane: Pixels) -> Pixels:
    return np.repeat(plane[..., None], 3, axis=2)

"""Where other models are nearer to originals than emt-lite: python tests/model_choice.py Kodak24 [DRAWINGS].

The folder's pictures are reduced to a quarter and saved as JPEG, WebP and video of several qualities;
videos are seven frames in which the picture moves by two pixels each, of which the fifth is taken. Prints the
mean PSNR (Y, dB) of both models, in how many pictures the photo model wins, and what tells the quality: the
thresholds of media/picture/kind.py and media/video/coarse.py follow from it. With a folder of drawings
(python samples/line_art.py DRAWINGS --held-out --count 20 --seed 2) it prints tables of both instead: the
bits that a sample takes as PNG at full size and reduced, emt-art's PSNR, and how many are taken for drawn, in
colour and gray, as PNG and WebP; then what losses change, by quality (--lossy: these alone).
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emt_cli import Upscaler
from emt_cli.media.metrics import psnr
from emt_cli.media.picture.head import read_head, read_kind
from emt_cli.media.picture.webp_quality import first_frame, webp_quantizer
from emt_cli.media.resize import bicubic_downscale
from emt_cli.media.video.coarse import TELL_QUANTIZERS, quantizers

Pixels = NDArray[np.uint8]
SCALE, FRAMES, TAKEN, STEP = 4, 7, 4, 8
LOSSY = [("JPEG", 30), ("JPEG", 50), ("JPEG", 75), ("JPEG", 90), ("JPEG", 98), ("WEBP", 30), ("WEBP", 75)]
PICTURES = {"JPEG": (60, 75, 80, 85, 90, 95), "WEBP": (50, 60, 70, 75, 80, 90)}
VIDEOS: dict[str, tuple[str, dict[str, str], tuple[int, ...]]] = {
    "libx264": ("crf", {}, (18, 20, 23, 26, 30)),
    "libvpx-vp9": ("crf", {"b": "0", "deadline": "good", "cpu-used": "4"}, (32, 38, 45, 52)),
    "mpeg2video": ("qmin", {}, (2, 4, 5, 6, 8)),
    "mpeg4": ("qmin", {}, (2, 4, 5, 6, 8)),
}


def saved(picture: Pixels, format: str, quality: int) -> tuple[Pixels, float]:
    """Return a picture as it comes back, and what tells its quality."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format, quality=quality)
    told = webp_quantizer(stream, first_frame(stream)[1]) if format == "WEBP" else quality
    stream.seek(0)
    return np.asarray(Image.open(stream).convert("RGB")), float(told or 0)


def coded(
    frames: list[Pixels], codec: str, key: str, value: int, options: dict[str, str]
) -> tuple[Pixels, float]:
    """Return one frame as it comes back, and the mean quantiser."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="matroska") as container:
        track: Any = container.add_stream(codec, rate=25)
        track.height, track.width = frames[0].shape[:2]
        track.pix_fmt = "yuv420p"
        track.options = options | {key: str(value)} | ({"qmax": str(value)} if key == "qmin" else {})
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format="yuv420p", dst_colorspace=1)
            container.mux(track.encode(picture))
        container.mux(track.encode())
    stream.seek(0)
    with av.open(stream) as source:
        source.streams.video[0].codec_context.options = TELL_QUANTIZERS
        decoded = list(source.decode(video=0))
    told = statistics.mean(value for _, value in quantizers(decoded))
    return decoded[TAKEN].reformat(format="rgb24", src_colorspace=1).to_ndarray(), told


def rows(originals: list[Pixels]) -> Iterator[tuple[str, Callable[[Pixels], tuple[Pixels, Pixels, float]]]]:
    """Yield each quality by name, with what makes (original, damaged, what tells) of a picture."""
    for format, qualities in PICTURES.items():
        for quality in qualities:
            yield (
                f"{format} {quality}",
                lambda hr, f=format, q=quality: (hr, *saved(bicubic_downscale(hr, SCALE), f, q)),
            )
    for codec, (key, options, values) in VIDEOS.items():
        for value in values:

            def moving(hr: Pixels, how: Any = (codec, key, value, options)) -> tuple[Pixels, Pixels, float]:
                height, width = (side // 64 * 64 - 64 for side in hr.shape[:2])
                views = [hr[16 : 16 + height, STEP * t : STEP * t + width] for t in range(FRAMES)]
                small = [np.ascontiguousarray(bicubic_downscale(view, SCALE)) for view in views]
                return (views[TAKEN], *coded(small, *how))

            yield f"{codec} {value}", moving


def pictures(folder: Path) -> list[Pixels]:
    """Read a folder's PNGs, cut to whole pixels of the reduced ones."""
    found = [np.array(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))]
    return [x[: x.shape[0] // SCALE * SCALE, : x.shape[1] // SCALE * SCALE] for x in found]


def size(picture: Pixels) -> int:
    """Return how many bytes a picture takes as PNG."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return len(stream.getvalue())


def bits(picture: Pixels) -> float:
    """Return how many bits a sample takes."""
    return 8 * size(picture) / picture.size


def drawn(group: list[Pixels], format: str, *, gray: bool = False, **options: Any) -> int:
    """Return how many are taken for drawn, saved with options; gray: without colour, but as if in colour."""
    found = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture")
        for picture in group:
            image = Image.fromarray(picture)
            image = image.convert("L").convert("RGB") if gray else image
            image.save(path, format, **options)
            found += read_kind(path, read_head(path)) == "drawn"
    return found


def compare_drawn(folders: dict[str, Path]) -> None:
    """Print the tables of photographs and drawings that were saved without loss."""
    models = [Upscaler.from_model(name, SCALE) for name in ("emt-lite", "emt-art")]
    print("\n| | bits a sample, PNG | reduced | emt-lite | emt-art | art wins |\n|---|---|---|---|---|---|")
    told = []
    for name, folder in folders.items():
        originals = pictures(folder)
        small = [np.ascontiguousarray(bicubic_downscale(hr, SCALE)) for hr in originals]
        whole, reduced = ([bits(picture) for picture in group] for group in (originals, small))
        scores = [
            [psnr(model.upscale(lr), hr, border=SCALE) for model in models]
            for lr, hr in zip(small, originals, strict=True)
        ]
        lite, art = np.mean(scores, axis=0)
        print(
            f"| {name} | {min(whole):.1f} to {max(whole):.1f} | {min(reduced):.1f} to {max(reduced):.1f} "
            f"| {lite:.2f} | {art:.2f} | {sum(after > before for before, after in scores)} of {len(scores)} |"
        )
        counts = [
            " and ".join(str(drawn(group, format, gray=gray, lossless=True)) for group in (originals, small))
            for gray in (False, True)
            for format in ("PNG", "WEBP")
        ]
        told.append(f"| {name}, whole and reduced | {' | '.join(counts)} |")
    print("\n| taken for drawn | PNG | WebP | gray PNG | gray WebP |\n|---|---|---|---|---|", *told, sep="\n")


def compare_lossy(photographs: Path, drawings: Path) -> None:
    """Print the table of drawings saved with losses, and how many of both are taken for drawn."""
    models = [Upscaler.from_model(name, SCALE) for name in ("emt-photo", "emt-art")]
    groups = [pictures(folder) for folder in (drawings, photographs)]
    groups = [group for hr in groups for group in (hr, [bicubic_downscale(one, SCALE) for one in hr])]
    print(
        "\n| saved as | emt-photo | emt-art | art nearer | drawings taken for drawn, whole and reduced",
        end="",
    )
    print(" | photographs | without colour |\n|---|---|---|---|---|---|---|")
    for format, quality in LOSSY:
        scores = [
            [psnr(model.upscale(saved(lr, format, quality)[0]), hr, border=SCALE) for model in models]
            for hr, lr in zip(*groups[:2], strict=True)
        ]
        photo, art = np.mean(scores, axis=0)
        nearer = sum(after > before for before, after in scores)
        told = [drawn(group, format, quality=quality) for group in groups]
        gray = [drawn(group, format, gray=True, quality=quality) for group in groups[2:]]
        print(f"| {format} {quality} | {photo:.2f} | {art:.2f} | {nearer} of {len(scores)} ", end="")
        print(f"| {told[0]} and {told[1]} | {told[2]} and {told[3]} | {gray[0]} and {gray[1]} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Where the other models win.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("drawings", type=Path, nargs="?")
    parser.add_argument("--lossy", action="store_true")
    options = parser.parse_args()
    if options.drawings is not None:
        if not options.lossy:
            compare_drawn({"photographs": options.folder, "drawings": options.drawings})
        compare_lossy(options.folder, options.drawings)
        return
    originals = pictures(options.folder)
    models = [Upscaler.from_model(name) for name in ("emt-lite", "emt-lite-photo")]
    print("| saved as | told by | emt-lite | emt-lite-photo | photo wins |\n|---|---|---|---|---|")
    for name, damage in rows(originals):
        scores, told = [], []
        for original in originals:
            hr, damaged, tells = damage(original)
            scores.append([psnr(model.upscale(damaged), hr, border=SCALE) for model in models])
            told.append(tells)
        lite, photo = np.mean(scores, axis=0)
        wins = sum(after > before for before, after in scores)
        print(
            f"| {name} | {statistics.mean(told):.1f} | {lite:.2f} | {photo:.2f} | {wins} of {len(scores)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""The one object every command enlarges pixels with: a network on a device, whole or in tiles."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from math import ceil, isqrt
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from emt_cli.assets.model_choice import find_model
from emt_cli.engine.agreement import EDGE_SHARE, SMOOTHING, Agreement, disagrees
from emt_cli.engine.community.network import CommunityNetwork
from emt_cli.engine.device import (
    Device,
    Precision,
    choose_device,
    device_type,
)
from emt_cli.engine.memory import spare_memory
from emt_cli.engine.models import Model, load_model, precision_for, runner_for
from emt_cli.engine.pixels import WHITE, Pixels, check, finisher, floats, with_border
from emt_cli.engine.precision import MEASURED
from emt_cli.engine.runner import BandRunner, BatchRunner, Runner, Take, make_runner
from emt_cli.engine.tiling import Floats, Mosaic, Numbers, Place, Tile, plan_tiles
from emt_cli.engine.weights import load_weights
from emt_cli.errors import DeviceError, UsageError, is_out_of_memory
from emt_cli.steps import Steps, finish, part

log = logging.getLogger(__name__)

HALO, WIDE_HALO = 32, 64
"""Input pixels read around a tile: agreement at the seams is 64 to 75 dB with 32, and 47 to 50 with 16. The
seams of small tiles make up more of the picture, so these get the wide one."""

SMALL_TILE = 256
"""Tiles below this side get the wide halo."""

LEAST_TILE = 64
"""Side of the smallest tiles that are chosen for their memory: still smaller ones are nearly all halo."""

BORDER = 4
"""Mirrored pixels around a picture: the network wraps around at borders, and darkens corners without them."""

GRAY, CALM = np.float32(127.5), np.float32(0.8)
"""Middle gray, and the share of contrast about it with which a region is done again."""

BATCH_PIXELS, MOST_BATCHED = 1 << 18, 16
"""On a GPU, pictures smaller than these many pixels are computed several at once."""


class Upscaler:
    """A network, its device and its tile size; threads may share it.

    tile: None chooses by free memory, 0 never cuts, other values are the tile's side in input pixels.
    ensemble: average the answers for eight flips and rotations; eight times the work.
    engine: auto, or one of runner.ENGINES, as --engine takes it.
    memory: bytes that a tile may take on the device; None takes what is free.
    exact: compute what the paper computes, for benchmarks: without the mirrored border that keeps wrapped
    pixels out of the picture, and without the check that the answer still shows its source.

    Its threads and memory go with close(), or at the end of a with block.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: Device = "cpu",
        precision: Precision = "fp32",
        tile: int | None = None,
        ensemble: bool = False,
        engine: str = "auto",
        memory: int | None = None,
        exact: bool = False,
    ) -> None:
        self.model = model
        self.device = device
        self._runner: Runner | None = runner_for(engine, model, device, precision)
        self.memory = memory
        self.border = 0 if exact or isinstance(model, CommunityNetwork) else BORDER
        self._guarded = not exact and shows_its_source(model)
        self._edge_share = SMOOTHING.get(model.metadata.get("name", ""), EDGE_SHARE)
        self._substitute: Runner | None = None
        self.tile = tile
        self.ensemble = ensemble
        self._limit: int | None = None  # side of the tiles that fitted after memory ran out

    @classmethod
    def from_model(
        cls,
        model: str = "auto",
        scale: int | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
        ensemble: bool = False,
        engine: str = "auto",
        memory: int | None = None,
        sharpness: float | None = None,
    ) -> Upscaler:
        """Load a model by name (auto, emt-lite ...; x4 unless told), or from a file, whose own scale counts.

        device, precision, engine and sharpness: as the command line takes them. Nothing is fetched. Raises
        EmtError.
        """
        found = find_model(model, scale or 4)
        read = load_model(found.path, sharpness=sharpness)
        if scale not in (None, read.scale):
            raise UsageError(f"{found.path}: enlarges x{read.scale}, not x{scale}")
        chosen = choose_device(device)
        kind = precision_for(precision, chosen, engine, read)
        return cls(
            read,
            device=chosen,
            precision=kind,
            tile=tile,
            ensemble=ensemble,
            engine=engine,
            memory=memory,
        )

    @property
    def runner(self) -> Runner:
        """The engine; raises ValueError after close()."""
        if self._runner is None:
            raise ValueError("this Upscaler is closed")
        return self._runner

    def close(self) -> None:
        """Let go of the network and its memory; calls under way end as usual, later ones raise ValueError."""
        self._runner = None

    def __enter__(self) -> Upscaler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def scale(self) -> int:
        """Enlargement of the network."""
        return self.model.scale

    @property
    def multiple(self) -> int:
        """Pixels that tile sides are multiples of: all windows of the network fit in."""
        if isinstance(self.model, CommunityNetwork):
            return self.model.multiple
        return self.model.config.window_multiple

    def halo(self, size: int) -> int:
        """Input pixels read around tiles of this side."""
        if isinstance(self.model, CommunityNetwork):
            return self._measured_halo
        return ceil((HALO if size >= SMALL_TILE else WIDE_HALO) / self.multiple) * self.multiple

    @cached_property
    def _measured_halo(self) -> int:
        from emt_cli.engine.community.seams import AGREEMENT, MARGIN, measured_halo

        def enlarge(pixels: Floats) -> Floats:
            return finish(self.runner.steps(pixels))

        def begin() -> None:
            log.warning("%s: measuring how wide a halo its tiles need, this once", name)

        name = self.model.metadata["name"]
        halo = measured_halo(self.model.sha256, self.multiple, enlarge, begin)
        if halo.decibels < AGREEMENT + MARGIN:
            log.warning(
                "%s: its tiles agree with the whole picture by %.0f dB only; --tile off does not cut",
                name,
                halo.decibels,
            )
        return halo.pixels

    def tile_size(self, height: int, width: int, *, beside: int = 0) -> int:
        """Side in input pixels of the tiles for a picture; one that holds the picture means no tiles.

        beside: bytes of this machine's free memory that the work will take beside the tile.
        """
        whole = ceil(max(height, width) / self.multiple) * self.multiple
        if self._limit is not None:
            return min(whole, self._limit)
        if self.tile == 0:
            return whole
        if self.tile is not None:
            return min(whole, max(self.multiple, self.tile // self.multiple * self.multiple))
        spare = spare_memory(self.device)
        budget = spare * 3 // 4
        if device_type(self.device) == "cpu":
            budget = min(budget, max(0, spare - beside), self.runner.cpu_budget)
        if self.memory is not None:
            budget = min(budget, self.memory)
        around = 2 * self.border
        if self._tile_bytes(height + around, width + around) <= budget:
            return whole
        pixels = max(0, budget - self.runner.fixed_bytes) // self.runner.bytes_per_pixel
        least = ceil(LEAST_TILE / self.multiple) * self.multiple
        # Tiles of a row or column are of nearly equal size: most are smaller than they may be.
        side = min(whole, 2 * isqrt(pixels) // self.multiple * self.multiple)
        while side > least and self._largest_bytes(height, width, side) > budget:
            side -= self.multiple
        return max(least, side)

    def _largest_bytes(self, height: int, width: int, side: int) -> int:
        """Memory of the largest of a picture's tiles of this side."""
        around = 2 * self.border
        sizes = {
            (t.read_bottom - t.read_top + around, t.read_right - t.read_left + around)
            for t in self._plan(height, width, side)
        }
        return max(self._tile_bytes(*size) for size in sizes)

    def _tile_bytes(self, height: int, width: int) -> int:
        views = 24 * self.scale**2 * height * width if self.ensemble else 0  # an answer more, and the sum
        return self.runner.tile_bytes(height, width) + views

    def tiles(self, height: int, width: int, *, beside: int = 0) -> list[Tile]:
        """Plan the tiles of a picture; beside: as tile_size takes it."""
        return self._plan(height, width, self.tile_size(height, width, beside=beside))

    def peak_bytes(self, height: int, width: int, *, beside: int = 0) -> int:
        """Estimate the memory one picture takes beside its input and output."""
        return self._largest_bytes(height, width, self.tile_size(height, width, beside=beside))

    def upscale(
        self,
        image: Pixels,
        *,
        dtype: DTypeLike | None = None,
        progress: Callable[[float], None] | None = None,
        stop: Event | None = None,
    ) -> Pixels:
        """Enlarge RGB (h, w, 3), RGBA (h, w, 4) or gray (h, w) by `scale`.

        The answer is rounded once, to the input's sample type or dtype: uint8, uint16, or float32 with white
        at 1, which is not clamped: the network may answer a little below 0 or above 1. Colours are spread
        under transparent pixels first. progress: called with the share done, 0 to 1. stop: once set, the call
        ends with StoppedError. Raises DeviceError when not even the smallest tile fits the memory, and
        ValueError for what is no picture.
        """
        check(image)
        if image.ndim == 3 and image.shape[2] == 4:
            answer: Pixels = finish(self._with_alpha(image, dtype), progress, stop)
            return answer
        return finish(self.steps(image, dtype=dtype), progress, stop)

    def _with_alpha(self, image: Pixels, dtype: DTypeLike | None) -> Steps[Any]:
        from emt_cli.media.picture.alpha import bleed_alpha, keep_extremes

        alpha: Pixels = image[..., 3].copy()
        colours = bleed_alpha(image[..., :3].copy(), alpha)
        large = yield from part(self.steps(colours, dtype=dtype), 0, 0.5)
        plane = yield from part(self.steps(alpha, dtype=alpha.dtype), 0.5, 1)
        keep_extremes(plane, alpha)
        if plane.dtype != large.dtype:
            plane = finisher(large.dtype)(plane.astype(np.float32) / np.float32(WHITE[plane.dtype.name]))
        answer: Any = np.concatenate([large, plane[..., None]], axis=2)
        return answer

    def batch_size(self, height: int, width: int) -> int:
        """How many pictures of this size upscale_batch best gets at once: 1 where batching does not pay."""
        if device_type(self.device) != "cuda" or self.ensemble:
            return 1
        return max(1, min(MOST_BATCHED, BATCH_PIXELS // (height * width)))

    def upscale_batch(self, images: Sequence[Pixels], *, dtype: DTypeLike | None = None) -> list[Pixels]:
        """Enlarge pictures of one size and kind, as `upscale` does each of them; on a GPU small ones at once.

        Raises ValueError where their shapes or sample types differ.
        """
        if len({(image.shape, image.dtype) for image in images}) > 1:
            raise ValueError("a batch is of one size and one sample type")
        runner = self.runner
        if (
            len(images) < 2
            or self.batch_size(*images[0].shape[:2]) < 2
            or not isinstance(runner, BatchRunner)
        ):
            return [self.upscale(image, dtype=dtype) for image in images]
        kind = np.dtype(dtype or images[0].dtype)
        (whole,) = plan_tiles(*images[0].shape[:2], size=1 << 30, halo=0, multiple=1)
        try:
            sources = [floats(with_border(image, whole, self.border)) for image in images]
            answers = runner.batch(np.stack(sources))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return [self.upscale(image, dtype=dtype) for image in images]
        finish_pixels, enlarged = finisher(kind), []
        for image, source, answer in zip(images, sources, answers, strict=True):
            if self._guarded and disagrees(source, answer, self.scale, self._edge_share):
                enlarged.append(self.upscale(image, dtype=dtype))
                continue
            inner = self._inner(answer)
            enlarged.append(finish_pixels(inner.mean(axis=2) if image.ndim == 2 else inner))
        return enlarged

    def _inner(self, answer: Floats) -> Floats:
        """Cut the enlarged border off."""
        cut = self.border * self.scale
        return answer[cut : len(answer) - cut, cut : answer.shape[1] - cut]

    def steps(
        self, image: Pixels, *, dtype: DTypeLike | None = None, notes: set[str] | None = None
    ) -> Steps[Pixels]:
        """Enlarge RGB or gray as `upscale` does, yielding the share done after each layer of each tile.

        notes: gets what a person may want to know of the answer.
        """
        height, width = image.shape[:2]
        kind = np.dtype(dtype or image.dtype)
        picture: Pixels = np.empty((height * self.scale, width * self.scale, *image.shape[2:]), kind)
        colours = picture[..., None] if image.ndim == 2 else picture
        mosaic = Mosaic(colours, finisher(kind), scale=self.scale)
        first_row, size = 0, self.tile_size(height, width, beside=picture.nbytes)
        while first_row < height:
            for tile in self._plan(height, width, size, first_row):
                before = tile.top * width + (tile.bottom - tile.top) * tile.left
                after = before + (tile.bottom - tile.top) * (tile.right - tile.left)
                place = mosaic.place(tile)
                enlarging = self._enlarge(image, place, set() if notes is None else notes)
                done = yield from part(enlarging, before / (height * width), after / (height * width))
                if not done:
                    # Out of memory: begin this row of tiles again, with smaller ones.
                    size = self._halve(tile)
                    break
                place.close()
                if tile.right == width:
                    first_row = tile.bottom
        return picture

    def _plan(self, height: int, width: int, size: int, first_row: int = 0) -> list[Tile]:
        halo = self.halo(size) if size < max(height, width) else 0
        return plan_tiles(height, width, size=size, halo=halo, multiple=self.multiple, first_row=first_row)

    def _enlarge(self, image: Pixels, place: Place, notes: set[str]) -> Steps[bool]:
        """Run the network on what a tile reads, into its place; False when memory ran out."""
        region = with_border(image, place.tile, self.border)
        plain = region.dtype == np.uint8 and region.ndim == 3
        pixels: Any = region if plain else floats(region)
        cut = self.border * self.scale
        height, width = (side * self.scale - 2 * cut for side in region.shape[:2])

        def keep(first: int, rows: Floats) -> None:
            first = first * self.scale - cut
            inner = rows[max(0, -first) : max(0, height - first), cut : cut + width]
            if image.ndim == 2:
                inner = inner.mean(axis=2, keepdims=True)
            place.add(max(0, first), inner)

        try:
            agreement = Agreement(pixels, self.scale, self._edge_share) if self._guarded else None
            yield from self._compute(self.runner, pixels, keep, agreement)
            if agreement is not None and agreement.lost:
                yield from self._again(pixels, keep, notes)
        except FloatingPointError as error:
            raise DeviceError(f"{self.device}: {error}; try --device cpu, or another model") from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    def _compute(
        self, runner: Runner, pixels: Numbers, take: Take, agreement: Agreement | None = None
    ) -> Steps[None]:
        """Run a network on (h, w, 3); its answer is looked at, then taken."""

        def look(first: int, rows: Floats) -> None:
            if agreement is not None:
                agreement.add(first, rows)
            take(first, rows)

        if isinstance(runner, BandRunner) and not self.ensemble:
            yield from runner.bands(pixels, look)
        else:
            whole = pixels.astype(np.float32, copy=False)
            look(0, (yield from runner.steps(whole, ensemble=self.ensemble)))

    def _again(self, pixels: Numbers, keep: Take, notes: set[str]) -> Steps[None]:
        """Enlarge a region on which the network lost itself: with less contrast, else by emt-lite."""
        agreement = Agreement(pixels, self.scale, self._edge_share)

        def restore(first: int, rows: Floats) -> None:
            rows -= GRAY
            rows /= CALM
            rows += GRAY
            agreement.add(first, rows)
            keep(first, rows)

        calm = pixels - GRAY
        calm *= CALM
        calm += GRAY
        yield from self._compute(self.runner, calm, restore)
        if not agreement.lost:
            notes.add("the network lost itself on a part: done again with less contrast")
            return
        if self._substitute is None:
            weights = load_weights(find_model("emt-lite", self.scale).path)
            self._substitute = make_runner("auto", weights, "cpu", "fp32")
        notes.add("the network lost itself on a part: done again by emt-lite")
        yield from self._compute(self._substitute, pixels, keep)

    def _halve(self, tile: Tile) -> int:
        """Return the next smaller tile size, and keep to it from now on."""
        if device_type(self.device) == "cuda":
            from emt_cli.engine.torch.devices import release_memory

            release_memory(self.device)
        side = max(tile.bottom - tile.top, tile.right - tile.left)
        smaller = side // 2 // self.multiple * self.multiple
        if smaller < self.multiple:
            raise DeviceError(
                f"{self.device}: out of memory even with tiles of {side} pixels;"
                " close other programs or try --device cpu"
            )
        log.warning("%s: out of memory with tiles of %d pixels: going on with %d", self.device, side, smaller)
        self._limit = min(smaller, self._limit or smaller)  # another thread may have found less
        return self._limit


def shows_its_source(model: Model) -> bool:
    """Tell whether a model's answer, reduced, is known to be its input: of the bundled and released ones.

    Those that take damage away say so in their header ("restores"). Of models of one's own nothing is known:
    a badly trained one is to answer as it does.
    """
    return model.sha256 in MEASURED and not model.metadata.get("restores")

"""Decoded training pictures in flat, memory-mapped files, and the patches cut from them."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
INDEX, LR, HR, TEACHER = "index.json", "lr.bin", "hr.bin", "teacher.bin"


class Degrade(Protocol):
    """Makes an LR patch (side, side, 3) of an HR patch with a margin all around, RGB uint8."""

    @property
    def margin(self) -> int:
        """LR pixels around the patch that it uses up."""

    def __call__(self, wide: Pixels, random: np.random.Generator, /) -> Pixels:
        """Damage one patch."""


@dataclass(frozen=True)
class Patches:
    """One batch, RGB uint8."""

    lr: Pixels
    """(b, side, side, 3)"""
    hr: Pixels
    """(b, side * scale, side * scale, 3)"""
    teacher: Pixels | None
    """The teacher's answers, shaped as hr."""


class PictureStore:
    """The pictures of one data set: RGB, one after the other in lr.bin and hr.bin; index.json lists them."""

    def __init__(self, folder: Path, scale: int, *, teacher: bool = False) -> None:
        """Open a store; raises ValueError (or another of its kind) where its files do not belong together."""
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        self.folder, self.scale = folder, scale
        self.names: list[str] = [str(name) for name, _, _ in index["pictures"]]
        self.sides = np.array([(int(h), int(w)) for _, h, w in index["pictures"]], dtype=np.int64)
        """Heights and widths of the LR pictures."""
        if not self.names or self.sides.min() < 1 or self.sides.max() >= 1 << 30:
            raise ValueError("sizes that no picture has")
        self.areas = self.sides.prod(axis=1)
        """Their pixels."""
        self.skipped: list[str] = [str(fault) for fault in index.get("skipped", [])]
        """What was wrong with the files that were left out."""
        self._starts = np.cumsum(self.areas) - self.areas
        samples = int(self.areas.sum()) * 3
        self._lr = _mapped(folder / LR, samples)
        self._hr = _mapped(folder / HR, samples * scale**2)
        self._teacher = _mapped(folder / TEACHER, samples * scale**2) if teacher else None

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the files again in another process, instead of sending all pixels."""
        return functools.partial(PictureStore, teacher=self._teacher is not None), (self.folder, self.scale)

    def __len__(self) -> int:
        return len(self.names)

    def lr(self, picture: int) -> Pixels:
        """Return an LR picture (h, w, 3), read-only and not in memory yet."""
        return self._picture(self._lr, picture, 1)

    def hr(self, picture: int) -> Pixels:
        """Return an HR picture (h * scale, w * scale, 3)."""
        return self._picture(self._hr, picture, self.scale)

    def teacher(self, picture: int) -> Pixels | None:
        """Return the teacher's answer to an LR picture, shaped as its HR picture."""
        return None if self._teacher is None else self._picture(self._teacher, picture, self.scale)

    def _picture(self, pixels: Pixels, picture: int, scale: int) -> Pixels:
        h, w = (int(side) * scale for side in self.sides[picture])
        start = int(self._starts[picture]) * 3 * scale**2
        return pixels[start : start + h * w * 3].reshape(h, w, 3)


class PictureMix:
    """Several stores to draw patches from."""

    def __init__(
        self, stores: Sequence[PictureStore], weights: Sequence[float] = (), *, smallest: int = 1
    ) -> None:
        """Weigh them by how often a patch comes from each, or by their pixels.

        LR pictures with a side below smallest are left out. Raises ValueError where none is left.
        """
        self.stores, self.scale = stores, stores[0].scale
        shares = []
        for number, store in enumerate(stores):
            areas = np.where(store.sides.min(axis=1) >= smallest, store.areas, 0)
            shares.append(areas / areas.sum() * weights[number] if weights and areas.any() else areas)
        if not np.concatenate(shares).any():
            raise ValueError("no picture is left")
        self.shares = np.concatenate(shares) / np.concatenate(shares).sum()
        self._places = [(store, picture) for store in stores for picture in range(len(store))]

    def draw(
        self,
        seed: int,
        step: int,
        *,
        batch: int,
        side: int,
        part: slice = slice(None),
        degrade: Degrade | None = None,
    ) -> Patches:
        """Cut the batch of one step: random places, flips and quarter turns; seed and step decide all.

        side: of an LR patch in pixels. part: which of the batch to cut, for one process of several. degrade:
        makes the LR patch of the HR patch with its margin all around; else it is cut ready-made.
        """
        random = np.random.default_rng([seed, step])
        margin = degrade.margin if degrade else 0
        pictures = random.choice(len(self.shares), batch, p=self.shares)
        places = random.random((batch, 2))
        moves = random.integers(0, 8, batch)
        lr, hr, teacher = [], [], []
        for index in range(batch)[part]:
            (store, picture), move = self._places[int(pictures[index])], int(moves[index])
            room = store.sides[picture] - side - 2 * margin + 1
            y, x = (margin + int(p * free) for p, free in zip(places[index], room, strict=True))
            inner = _window(y, x, side, self.scale)
            hr.append(_moved(store.hr(picture)[inner], move))
            if degrade:
                outer = _window(y - margin, x - margin, side + 2 * margin, self.scale)
                wide = _moved(store.hr(picture)[outer], move)
                lr.append(degrade(wide, np.random.default_rng([seed, step, index])))
            else:
                lr.append(_moved(store.lr(picture)[_window(y, x, side, 1)], move))
            answer = store.teacher(picture)
            if answer is not None:
                teacher.append(_moved(answer[inner], move))
        return Patches(np.stack(lr), np.stack(hr), np.stack(teacher) if teacher else None)


def _mapped(path: Path, size: int) -> Pixels:
    if path.stat().st_size != size:
        raise ValueError(f"{path.name} has not the {size} bytes its index tells of")
    return np.memmap(path, np.uint8, "r")


def _window(y: int, x: int, side: int, scale: int) -> tuple[slice, slice]:
    return slice(y * scale, (y + side) * scale), slice(x * scale, (x + side) * scale)


def _moved(patch: Pixels, move: int) -> Pixels:
    """Return one of the eight flips and quarter turns of (h, w, 3)."""
    turned = np.rot90(patch, move % 4)
    return turned[:, ::-1] if move >= 4 else turned

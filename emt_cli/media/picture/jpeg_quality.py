"""How good a JPEG still is, told by its quantisation tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

# The luma table of the JPEG standard's annex K.1, which libjpeg scales by quality; in any order.
_STANDARD = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)


def jpeg_quality(tables: Mapping[int, Sequence[int]], luma: int = 0) -> int | None:
    """Return the quality, 1 to 100, with which libjpeg makes a luma table as coarse as this one.

    tables: by number, 64 entries each, as Pillow's `quantization`; luma: the number of that of the first
    component. None where there is no such table.
    """
    table = tables.get(luma)
    if table is None or len(table) != 64:
        return None
    coarse = sum(table)
    return min(range(1, 101), key=lambda quality: abs(_coarseness(quality) - coarse))


@lru_cache(maxsize=100)
def _coarseness(quality: int) -> int:
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return sum(max(1, min(255, (entry * percent + 50) // 100)) for entry in _STANDARD)

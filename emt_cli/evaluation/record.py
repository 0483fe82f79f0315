"""The record of a benchmark: means beside published figures, as JSON or CSV; two records compared."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from math import isfinite
from pathlib import Path
from typing import Any, TypeAlias

from emt_cli import __version__
from emt_cli.assets.benchmarks import FoundSet
from emt_cli.errors import InputError, UsageError
from emt_cli.evaluation.methods import Method
from emt_cli.evaluation.published import others, own_figures
from emt_cli.evaluation.quality import Score, mean_scores

Record: TypeAlias = dict[str, Any]
"""JSON values: format, emt, settings, means, published, pictures."""
FORMAT = 1
_MAKE_ONE = "the same command with --json > FILE makes one"


def make_record(
    scores: Sequence[Score],
    sets: Sequence[FoundSet],
    methods: Sequence[Method],
    settings: Mapping[str, Any],
) -> Record:
    """Put scores together with their means and what papers report for the same sets.

    Published figures appear for known sets with all their pictures only.
    """
    means: list[dict[str, Any]] = []
    published: list[dict[str, Any]] = []
    for found in sets:
        for scale in dict.fromkeys(method.scale for method in methods):
            here = [method for method in methods if method.scale == scale]
            for method in here:
                means.append(_mean(scores, found, method))
            if found.complete and means:
                first = means[-len(here)]
                for paper, (psnr, ssim) in others({method.figures for method in here}, found.name, scale):
                    published.append(
                        {
                            "set": found.name,
                            "scale": scale,
                            "method": paper.name,
                            "psnr": psnr,
                            "ssim": ssim,
                            "source": paper.source,
                            "difference": _difference(first, psnr, ssim),
                        }
                    )
    return {
        "format": FORMAT,
        "emt": __version__,
        "settings": dict(settings),
        "means": means,
        "published": published,
        "pictures": [_finite(asdict(score)) for score in scores],
    }


def to_csv(record: Record) -> str:
    """Return the scores of all pictures, then the means (picture "mean"), as CSV with a head line."""
    names = [field.name for field in fields(Score)]
    stream = io.StringIO()
    table = csv.DictWriter(stream, names, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(record["pictures"])
    table.writerows({"picture": "mean", **mean} for mean in record["means"])
    return stream.getvalue()


def read_record(path: Path) -> Record:
    """Read a record written with --json; raises InputError for anything else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); check path and permissions"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a record of `emt benchmark --json`; {_MAKE_ONE}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT or not _well_formed(record):
        raise InputError(
            f"{path}: not a record of `emt benchmark --json` that this version reads; {_MAKE_ONE}"
        )
    return record


def regressions(new: Record, old: Record, *, psnr: float, ssim: float, name: str) -> list[str]:
    """Say, in a line each, which means of new are worse than those of old by more than psnr dB or ssim.

    Methods of other names are compared where each record has one of its own for a set and scale. A mean of
    old that new lacks is worse. Raises UsageError, with old's name, where the records have nothing in common.
    """
    lines, compared = [], 0
    for before in old["means"]:
        where = f"{before['set']} x{before['scale']} {before['method']}"
        after = _partner(before, new, old)
        if after is None:
            lines.append(f"{where}: not measured now")
            continue
        compared += 1
        if after["pictures"] != before["pictures"]:
            lines.append(f"{where}: {after['pictures']} pictures now, {before['pictures']} then")
        for measure, tolerance in (("psnr", psnr), ("ssim", ssim)):
            if _value(before[measure]) - _value(after[measure]) > tolerance:
                lines.append(
                    f"{where}: {measure} {_value(after[measure]):.4f} now, {_value(before[measure]):.4f} then"
                )
    if not compared:
        raise UsageError(f"{name}: has no set, scale and model in common with this run")
    return lines


def _partner(before: dict[str, Any], new: Record, old: Record) -> dict[str, Any] | None:
    place = (before["set"], before["scale"])
    candidates = [mean for mean in new["means"] if (mean["set"], mean["scale"]) == place]
    for mean in candidates:
        if mean["method"] == before["method"]:
            return dict(mean)
    then = {mean["method"] for mean in old["means"] if (mean["set"], mean["scale"]) == place}
    only_new = [mean for mean in candidates if mean["method"] not in then]
    only_old = then - {mean["method"] for mean in candidates}
    return dict(only_new[0]) if len(only_new) == len(only_old) == 1 else None


def _mean(scores: Sequence[Score], found: FoundSet, method: Method) -> dict[str, Any]:
    own = [
        score
        for score in scores
        if (score.set, score.scale, score.method) == (found.name, method.scale, method.name)
    ]
    mean: dict[str, Any] = {
        "set": found.name,
        "scale": method.scale,
        "method": method.name,
        "pictures": len(own),
        **_finite(mean_scores(own)),
        "published": None,
        "difference": None,
    }
    figures = own_figures(method.figures, found.name, method.scale) if found.complete else None
    if figures is not None:
        mean["published"] = {"psnr": figures[0], "ssim": figures[1]}
        mean["difference"] = _difference(mean, *figures)
    return mean


def _difference(mean: Mapping[str, Any], psnr: float, ssim: float) -> dict[str, float]:
    return {"psnr": round(_value(mean["psnr"]) - psnr, 4), "ssim": round(_value(mean["ssim"]) - ssim, 5)}


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values for JSON, where the infinite PSNR of equal pictures is null."""
    return {
        key: None if isinstance(value, float) and not isfinite(value) else value
        for key, value in values.items()
    }


def _value(number: float | None) -> float:
    return float("inf") if number is None else number


def _well_formed(record: Mapping[str, Any]) -> bool:
    wanted = {"set": str, "scale": int, "method": str, "pictures": int}
    means = record.get("means")
    return (
        isinstance(means, list)
        and bool(means)
        and all(
            isinstance(mean, dict)
            and all(isinstance(mean.get(key), kind) for key, kind in wanted.items())
            and all(isinstance(mean.get(key, ""), int | float | None) for key in ("psnr", "ssim"))
            for mean in means
        )
    )

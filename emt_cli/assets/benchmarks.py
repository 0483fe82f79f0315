"""The standard test sets by name: where copies lie on this machine, and how to fetch the public ones."""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from emt_cli.assets.catalog import cache_folder
from emt_cli.assets.datasets import LARGEST_PICTURE, Report, check_room, transfer
from emt_cli.errors import InputError, OutputError, UsageError
from emt_cli.lock import lock

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
HOME = "https://huggingface.co/datasets/eugenesiow"
"""Collection of super-resolution test sets; the checksums of its folders are those DeepInverse publishes."""
LARGEST_SET = 1000
"""Most files taken out of one archive."""


@dataclass(frozen=True)
class TestSet:
    """A set of HR pictures that papers report on."""

    name: str
    pictures: int
    other_name: str = ""
    path: str = ""
    """Of the archive below HOME; empty where there is no public home."""
    folder_md5: str = ""
    """md5 of the md5s, in hexadecimal, of the files in the order of their names."""
    size: int = 0
    """Bytes of the archive, about."""

    __test__ = False


TEST_SETS = {
    entry.name: entry
    for entry in (
        TestSet(
            "Set5",
            5,
            "",
            "Set5/resolve/main/data/Set5_HR.tar.gz",
            "e128ede786dabb7ebeee99e5fa1ad985",
            852_000,
        ),
        TestSet(
            "Set14",
            14,
            "",
            "Set14/resolve/main/data/Set14_HR.tar.gz",
            "3fce01c3dfe9760194e8a22f6bc032c5",
            4_980_000,
        ),
        TestSet(
            "B100",
            100,
            "BSD100",
            "BSD100/resolve/main/data/BSD100_HR.tar.gz",
            "2288d442262c1c26343fda3b36f05b03",
            16_000_000,
        ),
        TestSet(
            "Urban100",
            100,
            "",
            "Urban100/resolve/main/data/Urban100_HR.tar.gz",
            "6e0640850d436a359e0a9baf5eabd27b",
            135_000_000,
        ),
        TestSet("Manga109", 109),
    )
}


@dataclass(frozen=True)
class FoundSet:
    """A set of HR pictures on this machine."""

    name: str
    """The known name, or the folder's."""
    pictures: tuple[Path, ...]

    @property
    def complete(self) -> bool:
        """Whether it is a known set with as many pictures as papers use."""
        known = TEST_SETS.get(self.name)
        return known is not None and len(self.pictures) == known.pictures


def find_set(
    name: str,
    scale: int,
    *,
    data_dir: Path | None = None,
    fetch: bool = False,
    report: Report | None = None,
) -> FoundSet:
    """Return the pictures of a set given by name or as a folder.

    Sets by name are looked for below data_dir (or $EMT_DATA), then in the cache; fetch: download one that is
    in neither. The scale counts for collections that keep HR pictures once for each scale. Raises UsageError
    for unknown names, InputError for what is missing or empty, OutputError where the cache cannot be written.
    """
    known = _known(name)
    if known is None:
        folder = Path(name)
        if not folder.is_dir():
            raise UsageError(f"--set {name}: {_suggestion(name)}")
        plain = folder.resolve()
        named = _known((plain.parent if plain.name.upper() == "HR" else plain).name)
        return FoundSet(named.name if named else plain.name, _pictures(folder, scale))
    chosen = data_dir or (Path(os.environ["EMT_DATA"]) if os.environ.get("EMT_DATA") else None)
    if data_dir is not None and not data_dir.is_dir():
        raise InputError(f"--data-dir {data_dir}: no such folder; name one that holds test sets")
    local = chosen and _copy_below(chosen, known)
    folder = local or cache_folder() / "datasets" / known.name
    if not folder.is_dir():
        if not known.path:
            raise InputError(
                f"{known.name}: not on this machine, and it has no public home: ask its authors"
                " (www.manga109.org) and name the folder above it with --data-dir"
            )
        if not fetch:
            raise InputError(
                f"{known.name}: not on this machine; --fetch downloads {known.size / 1e6:.0f} MB into"
                f" {folder.parent}, --data-dir FOLDER uses a copy"
            )
        fetch_set(known, folder, report=report)
    return FoundSet(known.name, _pictures(folder, scale))


def fetch_set(known: TestSet, folder: Path, *, home: str = HOME, report: Report | None = None) -> None:
    """Download a set into a folder that does not exist yet; nothing stays there unless its checksum fits.

    Another process that is fetching it is waited for. Raises InputError, OutputError.
    """
    try:
        with lock(folder.parent / f".{known.name}.lock", busy="", wait=True):
            if not folder.is_dir():  # no other process has fetched it meanwhile
                _fetch(known, f"{home}/{known.path}", folder, report)
    except OSError as error:
        raise OutputError(
            f"{folder}: {error.strerror or error}; make room, or set EMT_CACHE=FOLDER"
        ) from error


def _fetch(known: TestSet, url: str, folder: Path, report: Report | None) -> None:
    part = folder.parent / f"{known.name}.tar.gz.part"
    unpacked = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(unpacked, ignore_errors=True)  # of a run that was killed
    transfer(known.name, url, part, known.size, report)
    try:
        unpacked.mkdir()
        _unpack(part, unpacked)
        found = folder_md5(unpacked)
        if found != known.folder_md5:
            raise InputError(f"{url}: wrong checksum: the folder's md5 is {found}; it was removed, try again")
        unpacked.replace(folder)
        part.unlink()
    except InputError:
        part.unlink()
        raise
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def folder_md5(folder: Path) -> str:
    """Return the md5 of the hexadecimal md5s of a folder's files, in the order of their names."""
    whole = hashlib.md5(usedforsecurity=False)
    for path in sorted(folder.iterdir()):
        whole.update(hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest().encode())
    return whole.hexdigest()


def _unpack(archive: Path, folder: Path) -> None:
    """Take the pictures out of a tar file, under their own names only; anything else stays in it."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            size = 0
            for count, member in enumerate(tar):
                name = PurePosixPath(member.name).name
                if not member.isfile() or name.startswith(".") or Path(name).suffix.lower() not in SUFFIXES:
                    continue
                if member.size > LARGEST_PICTURE or count > LARGEST_SET:
                    raise InputError(f"{archive.name}: more in it than a test set holds; it was removed")
                size += member.size
                check_room(size, archive)
                stream = tar.extractfile(member)
                if stream is not None:
                    with stream, (folder / name).open("xb") as file:
                        shutil.copyfileobj(stream, file, 1 << 20)
    except (tarfile.TarError, EOFError, zlib.error, FileExistsError) as error:
        raise InputError(f"{archive.name}: damaged archive; it was removed, try again") from error


def _known(name: str) -> TestSet | None:
    lowered = name.lower().removesuffix("_hr")
    matching = (
        entry
        for entry in TEST_SETS.values()
        if lowered in (entry.name.lower(), entry.other_name.lower() or entry.name.lower())
    )
    return next(matching, None)


def _suggestion(name: str) -> str:
    names = {known.lower(): known for known in (*TEST_SETS, "BSD100")}
    close = difflib.get_close_matches(Path(name).name.lower(), names, n=1, cutoff=0.5)
    meant = f"did you mean {names[close[0]]}? " if close else ""
    return f"no such set or folder; {meant}sets known by name are {', '.join(TEST_SETS)}"


def _copy_below(folder: Path, known: TestSet) -> Path | None:
    """Find a set below a folder, below its "benchmark", or in the folder itself."""
    places = [folder / "benchmark", folder]
    children = [child for place in places if place.is_dir() for child in sorted(place.iterdir())]
    return next((path for path in (*children, folder) if path.is_dir() and _known(path.name) == known), None)


def _pictures(folder: Path, scale: int) -> tuple[Path, ...]:
    """Return the HR pictures in a folder: in HR, or image_SRF_4 (which holds LR too), or in it directly."""
    mixed = folder / f"image_SRF_{scale}"
    place = next((path for path in (folder / "HR", mixed) if path.is_dir()), folder)
    found = [
        path
        for path in sorted(place.iterdir())
        if path.is_file() and path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    if place == mixed:
        found = [path for path in found if path.stem.endswith("_HR")]
    if not found:
        raise InputError(f"{place}: no pictures in it ({', '.join(SUFFIXES)}); name another folder")
    return tuple(found)

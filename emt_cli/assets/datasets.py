"""Public data sets by name: addresses, checksums, terms; fetched and unpacked only when asked for."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from emt_cli.assets.catalog import cache_folder
from emt_cli.assets.transfer import TransferError, receive
from emt_cli.errors import InputError, OutputError
from emt_cli.lock import lock

PICTURES = (".png", ".jpg", ".jpeg")
LARGEST_PICTURE = 200 << 20
"""Most bytes that one unpacked file may have."""
MOST_LONGER = 1.5
"""How much longer than its known size an archive may be, and how much more than it the pictures inside."""

Report = Callable[[str, int, int], None]
"""Called with what is being done, the bytes done, and the bytes in all."""


@dataclass(frozen=True)
class Archive:
    """A zip file of pictures, pinned by its checksum."""

    name: str
    url: str
    sha256: str
    size: int
    """Bytes, about."""
    terms: str


ARCHIVES = {
    archive.name: archive
    for archive in (
        Archive(
            "DIV2K",
            "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip",
            "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
            3_530_603_713,
            "for academic research",
        ),
        Archive(
            "DIV2K-valid",
            "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_valid_HR.zip",
            "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
            448_993_893,
            "for academic research",
        ),
        Archive(
            "Flickr2K",
            "https://huggingface.co/datasets/goodfellowliu/Flickr2K/resolve/main/Flickr2K.zip",
            "401a5b1d247d18d1114b77b069e3c7bf235c80f06b8b9caaef0086d07f1d42a3",
            11_600_000_000,
            "for academic research",
        ),
    )
}
SETS = {**{name: (name,) for name in ARCHIVES}, "DF2K": ("DIV2K", "Flickr2K")}
"""Names that --data takes, and the archives they stand for."""


def picture_folders(name: str, *, fetch: bool = False, report: Report | None = None) -> tuple[Path, ...]:
    """Return the folders of a data set: of its name, or of the folder that name is itself.

    A folder of that name comes first. fetch: download what is missing. Raises InputError, OutputError.
    """
    if Path(name).is_dir() or name not in SETS:
        if not Path(name).is_dir():
            raise InputError(f"{name}: no such folder; data sets known by name are {', '.join(SETS)}")
        return (Path(name),)
    return tuple(_folder(ARCHIVES[part], fetch, report) for part in SETS[name])


def _folder(archive: Archive, fetch: bool, report: Report | None) -> Path:
    folder = cache_folder() / "datasets" / archive.name
    if folder.is_dir():
        return folder
    if not fetch:
        raise InputError(
            f"{archive.name}: not on this machine; --fetch downloads {archive.size / 1e9:.1f} GB"
            f" ({archive.terms}) into {folder.parent}"
        )
    part = folder.parent / f"{archive.name}.zip.part"
    try:
        with lock(folder.parent / f".{archive.name}.lock", busy="", wait=True):
            if folder.is_dir():  # another process has fetched it meanwhile
                return folder
            download(archive, part, report)
            unpack(part, folder)
            part.unlink()
    except OSError as error:
        raise OutputError(
            f"{folder}: {error.strerror or error}; make room, or set EMT_CACHE=FOLDER"
        ) from error
    return folder


def download(archive: Archive, target: Path, report: Report | None = None) -> None:
    """Fetch an archive, going on where an earlier try broke off; raises InputError for another content."""
    transfer(archive.name, archive.url, target, archive.size, report)
    with target.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    if digest.hexdigest() != archive.sha256:
        target.unlink()
        raise InputError(
            f"{archive.url}: wrong checksum: sha256 is {digest.hexdigest()}; it was removed, try again"
        )


def transfer(name: str, url: str, target: Path, size: int, report: Report | None = None) -> None:
    """Fetch a file, going on where an earlier try broke off; raises InputError where that fails.

    size: bytes, about; an answer far longer is refused.
    """
    try:
        with target.open("ab") as file:
            receive(
                url,
                file,
                most=MOST_LONGER * size + (1 << 20),
                report=report and (lambda done: report(name, done, max(done, size))),
            )
    except TransferError as error:
        if not target.stat().st_size:
            target.unlink()
        raise InputError(f"{url}: {error}; try again, it goes on from there") from error


def unpack(path: Path, folder: Path) -> None:
    """Unpack the pictures of a zip file into folder, all or none; names that lead elsewhere are refused."""
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if _is_picture(info, path)]
            check_room(sum(info.file_size for info in members), path)
            for info in members:
                target = temporary.joinpath(*PurePosixPath(info.filename).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
        if not members:
            raise InputError(f"{path}: no pictures in this archive; remove it and fetch it again")
        temporary.replace(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # or encrypted, or foreign
        raise InputError(f"{path}: damaged archive; remove it and fetch it again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_room(size: int, archive: Path) -> None:
    """Raise InputError when so many bytes would come out of an archive of compressed pictures: a bomb."""
    if size > MOST_LONGER * archive.stat().st_size + (64 << 20):
        raise InputError(f"{archive}: would unpack to {size:,} bytes, far more than pictures do; remove it")


def _is_picture(info: zipfile.ZipInfo, path: Path) -> bool:
    name = PurePosixPath(info.filename)
    if name.is_absolute() or ".." in name.parts or "\\" in info.filename or ":" in info.filename:
        raise InputError(f"{path}: a name in it leads out of its folder: {info.filename}; remove it")
    if info.file_size > LARGEST_PICTURE:
        raise InputError(f"{path}: {info.filename} would unpack to {info.file_size:,} bytes; remove it")
    hidden = any(part.startswith((".", "__")) for part in name.parts)
    return not info.is_dir() and not hidden and name.suffix.lower() in PICTURES

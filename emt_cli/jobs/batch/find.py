"""Find the pictures a batch is to enlarge: in folders, by patterns, from lists; never its own results."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path, PurePosixPath

from emt_cli.errors import EmtError, InputError, UsageError
from emt_cli.jobs.batch.earlier_results import is_earlier_result
from emt_cli.jobs.batch.folder import JOURNALS, BatchFolder, canonical
from emt_cli.media.picture.formats import SUFFIXES


@dataclass(frozen=True)
class Found:
    """A file to enlarge, and the folder its result goes to, relative to the output folder."""

    path: Path
    folder: PurePosixPath


@dataclass(frozen=True)
class Selection:
    """Which files of folders are taken."""

    recursive: bool = False
    include: tuple[str, ...] = ()
    """Patterns of names or paths inside the folder, one of which must fit; none means all."""
    exclude: tuple[str, ...] = ()
    """Patterns of names or paths of files and folders that are left out."""

    def takes(self, inside: PurePosixPath) -> bool:
        """Whether a file with this path inside the folder is wanted."""
        return (not self.include or _fits(inside, self.include)) and not _fits(inside, self.exclude)


@dataclass
class Findings:
    """What was found, what could not be looked into, and what was passed over."""

    pictures: list[Found] = field(default_factory=list)
    failures: list[tuple[str, EmtError]] = field(default_factory=list)
    """Inputs and folders that cannot be read."""
    notes: list[str] = field(default_factory=list)
    foreign: Counter[str] = field(default_factory=Counter)
    """Files in folders that are not named as pictures, by their suffixes."""
    results: int = 0
    """Results of this batch or of earlier ones that lie among the inputs."""


def read_list(data: bytes, name: str, *, null: bool = False) -> list[str]:
    """Split a list of paths, one a line or, with `null`, each ended by a NUL byte; empty ones are left out.

    Paths may be of any bytes the system allows. Raises UsageError, with name in front.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            data = data.decode("utf-16").encode()  # as PowerShell writes it
        except UnicodeError as error:
            raise UsageError(f"{name}: begins as UTF-16 and is not ({error}); save it as UTF-8") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    if null:
        paths = data.split(b"\0")
    elif b"\0" in data:
        raise UsageError(f"{name}: its paths are separated by NUL bytes; add -0")
    else:
        paths = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [os.fsdecode(path) for path in paths if path]


def find_pictures(
    named: Sequence[str],
    listed: Sequence[str],
    selection: Selection,
    into: BatchFolder,
    *,
    base: Path | None = None,
) -> Findings:
    """Find the pictures that inputs name: files, folders and, if not from a list, patterns like "a/**/*.jpg".

    Results mirror the tree inside a folder, or from the fixed part of a pattern on; those of single files go
    straight into the output folder, or mirror the path relative to `base`. Of folders and patterns, files
    named as pictures are taken; hidden ones, the output folder and results of earlier batches are passed
    over. Links are followed, each folder is read once.
    """
    search = _Search(selection, into, base)
    for text, literal in [*((text, False) for text in named), *((text, True) for text in listed)]:
        path = Path(text)
        try:
            if path.is_dir():
                search.folder(path)
            elif not literal and has_magic(text) and not os.path.lexists(path):
                search.pattern(text)
            else:
                search.file(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            search.findings.failures.append(
                (text, InputError(f"{text}: cannot be looked at ({reason}); check path and permissions"))
            )
    return search.findings


class _Search:
    """The state of one search."""

    def __init__(self, selection: Selection, into: BatchFolder, base: Path | None) -> None:
        self.selection = selection
        self.base = base
        self.findings = Findings()
        self._taken: set[str] = set()
        self._own = into.results()
        self._output_id = _identity(into.path) if into.path.is_dir() else None

    def file(self, path: Path) -> None:
        """Take a file that was named."""
        place = PurePosixPath()
        if self.base is not None:
            relative = os.path.relpath(path, self.base)
            place = PurePosixPath(Path(relative).parent.as_posix())
            if ".." in place.parts or place.is_absolute():
                error = UsageError(f"{path}: does not lie in {self.base}, which --base names")
                self.findings.failures.append((str(path), error))
                return
        self._take(path, place)

    def folder(self, root: Path) -> None:
        """Take the pictures of a folder and, if asked for, of all folders in it."""
        place = PurePosixPath()
        if self.base is not None:
            relative = PurePosixPath(Path(os.path.relpath(root, self.base)).as_posix())
            place = relative if ".." not in relative.parts else place
        before = len(self.findings.pictures) + self.findings.results + len(self.findings.failures)
        unentered = [0]
        for path, inside in self._walk(root, deep=self.selection.recursive, unentered=unentered):
            if self.selection.takes(inside):
                self._take(path, place / inside.parent, walked=True)
        if unentered[0]:
            folders = "1 folder" if unentered[0] == 1 else f"{unentered[0]} folders"
            self.findings.notes.append(f"{root}: {folders} in it not entered; -r enters them")
        elif before == len(self.findings.pictures) + self.findings.results + len(self.findings.failures):
            self.findings.notes.append(f"{root}: holds no pictures to enlarge")

    def pattern(self, text: str) -> None:
        """Take the pictures whose paths fit a pattern; ** stands for any folders."""
        parts = Path(text).parts
        fixed = next(index for index, part in enumerate(parts) if has_magic(part))
        root, wanted = Path(*parts[:fixed]), parts[fixed:]
        before = len(self.findings.pictures) + self.findings.results
        for path, inside in self._walk(root, deep=len(wanted) > 1):
            if _fits_parts(inside.parts, wanted) and self.selection.takes(inside):
                self._take(path, inside.parent, walked=True)
        if before == len(self.findings.pictures) + self.findings.results:
            error = InputError(f"{text}: no picture fits this pattern")
            self.findings.failures.append((text, error))

    def _take(self, path: Path, place: PurePosixPath, *, walked: bool = False) -> None:
        """Take a file once; walked: one that nobody named, so that it may be a result."""
        place_of_file = canonical(path)
        if place_of_file in self._taken:
            return
        self._taken.add(place_of_file)
        if place_of_file in self._own or (walked and is_earlier_result(path)):
            self.findings.results += 1
        else:
            self.findings.pictures.append(Found(path, place))

    def _walk(
        self, root: Path, *, deep: bool, unentered: list[int] | None = None
    ) -> Iterator[tuple[Path, PurePosixPath]]:
        """Yield files named as pictures with their paths inside root, in the order of their names.

        Folders that are links come last, so that each folder is read by its own name where it has one.
        """
        links: deque[tuple[Path, PurePosixPath]] = deque()
        seen: dict[tuple[int, int], Path] = {}
        folders = [(root, PurePosixPath())]
        while folders or links:
            folder, inside = folders.pop() if folders else links.popleft()
            try:
                identity = _identity(folder)
                if identity in seen:
                    note = f"{folder}: a link to {seen[identity]}, which is read already"
                    self.findings.notes.append(note)
                    continue
                seen[identity] = folder
                if identity == self._output_id and inside.parts:
                    continue
                with os.scandir(folder) as entries:
                    listing = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                unread = InputError(f"{folder}: cannot be read ({error.strerror}); its pictures are left out")
                self.findings.failures.append((str(folder), unread))
                continue
            if inside.parts and any(fnmatchcase(entry.name, JOURNALS) for entry in listing):
                self._own |= BatchFolder(folder).results()
            deeper: list[tuple[Path, PurePosixPath]] = []
            for entry in listing:
                path, place = folder / entry.name, inside / entry.name
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    if _fits(place, self.selection.exclude):
                        continue
                    if deep:
                        (links if entry.is_symlink() else deeper).append((path, place))
                    elif unentered is not None:
                        unentered[0] += 1
                elif place.suffix.lower() in SUFFIXES and (entry.is_symlink() or entry.is_file()):
                    yield path, place
                else:
                    self.findings.foreign[place.suffix.lower()] += 1
            folders += reversed(deeper)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _fits(inside: PurePosixPath, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns fits a name, or a path inside the folder."""
    return any(
        fnmatchcase(inside.name, pattern)
        or fnmatchcase(f"/{inside}", f"*/{pattern[3:]}" if pattern.startswith("**/") else f"/{pattern}")
        for pattern in patterns
    )


def _fits_parts(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether names of folders and a file fit patterns one by one; ** fits any number of folders."""
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_fits_parts(names[skip:], patterns[1:]) for skip in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], patterns[0]) and _fits_parts(names[1:], patterns[1:])

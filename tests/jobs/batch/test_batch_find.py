"""Finding the pictures of a batch and naming its results."""

from __future__ import annotations

import os
import time
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from emt_cli.errors import UsageError
from emt_cli.jobs.batch.find import Findings, Selection, find_pictures, read_list
from emt_cli.jobs.batch.folder import BatchFolder
from emt_cli.jobs.batch.naming import Template, find_collisions
from emt_cli.jobs.journal import Journal

VALUES = {
    "stem": "cat",
    "ext": ".png",
    "type": "jpg",
    "folder": "pets",
    "scale": "4",
    "width": "8",
    "height": "6",
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of empty files, which is also where the process is."""
    for name in ("a.png", "b.JPG", "notes.txt", ".hidden.png", "sub/c.webp", "sub/deep/d.tif", ".git/e.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def find(*inputs: str, output: str = "out", listed: tuple[str, ...] = (), **options: Any) -> Findings:
    """Find pictures; base is told apart from what selects them."""
    base = options.pop("base", None)
    return find_pictures(inputs, listed, Selection(**options), BatchFolder(Path(output)), base=base)


def places(findings: Findings) -> list[str]:
    """Where results would lie, by the names of their sources."""
    return sorted(str(found.folder / found.path.name) for found in findings.pictures)


def test_folders_are_mirrored_and_only_pictures_in_sight_are_taken(tree: Path) -> None:
    flat, deep = find("in"), find("in", recursive=True)

    assert places(flat) == ["a.png", "b.JPG"]
    assert flat.notes == ["in: 1 folder in it not entered; -r enters them"]
    assert places(deep) == ["a.png", "b.JPG", "sub/c.webp", "sub/deep/d.tif"]
    assert deep.foreign == {".txt": 1}


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("*.png",), (), ["a.png"]),
        (("sub/*",), (), ["sub/c.webp", "sub/deep/d.tif"]),
        ((), ("deep",), ["a.png", "b.JPG", "sub/c.webp"]),
        ((), ("sub",), ["a.png", "b.JPG"]),
        ((), ("**/*.tif", "b*"), ["a.png", "sub/c.webp"]),
        (("**/*.png",), (), ["a.png"]),
    ],
)
def test_patterns_choose_among_the_files_of_a_folder(
    tree: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]
) -> None:
    assert places(find("in", recursive=True, include=include, exclude=exclude)) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*", ["a.png", "b.JPG"]),
        ("in/*.png", ["a.png"]),
        ("in/**/*", ["a.png", "b.JPG", "sub/c.webp", "sub/deep/d.tif"]),
        ("in/*/*", ["sub/c.webp"]),
        ("in/s?b/**/d.tif", ["sub/deep/d.tif"]),
        ("i[nm]/a.png", ["in/a.png"]),
    ],
)
def test_globs_mirror_from_their_fixed_part_on(tree: Path, pattern: str, expected: list[str]) -> None:
    assert places(find(pattern)) == expected


def test_a_glob_that_fits_nothing_is_a_failure(tree: Path) -> None:
    assert [name for name, _ in find("in/*.bmp").failures] == ["in/*.bmp"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tree: Path) -> None:
    (tree / "a[1].png").touch()
    (tree / "a1.png").touch()

    assert places(find("a[1].png")) == ["a[1].png"]
    assert places(find(listed=("a[1].png", "*.png"))) == ["*.png", "a[1].png"]


def test_listed_files_lie_flat_or_below_the_base(tree: Path) -> None:
    listed = ("in/a.png", "in/sub/c.webp")

    assert places(find(listed=listed)) == ["a.png", "c.webp"]
    assert places(find(listed=listed, base=Path("in"))) == ["a.png", "sub/c.webp"]
    outside = find(listed=listed, base=Path("in/sub"))
    assert places(outside) == ["c.webp"]
    assert "--base" in str(outside.failures[0][1])


def test_a_file_named_twice_is_taken_once(tree: Path) -> None:
    assert places(find("in", "in/a.png", "./in/../in/a.png", str(tree / "in" / "a.png"))) == [
        "a.png",
        "b.JPG",
    ]


def test_the_output_folder_inside_the_input_is_not_read(tree: Path) -> None:
    (tree / "in" / "large").mkdir()
    (tree / "in" / "large" / "a_x4.png").touch()

    assert "large/a_x4.png" not in places(find("in", output="in/large", recursive=True))
    assert "large/a_x4.png" in places(find("in", output="elsewhere", recursive=True))


def test_results_that_a_journal_knows_are_never_read(tree: Path) -> None:
    for folder in ("in", "in/sub"):
        (tree / folder / "a_x4.png").touch()
        with Journal(tree / folder / ".emt-batch-1of1.jsonl") as journal:
            file = {"path": "a_x4.png", "size": 0, "time": 0, "sha256": ""}
            journal.append({"name": "a_x4.png", "time": 0.5, "source": {}, "files": [file]})

    found = find("in", "in/a_x4.png", output="in", recursive=True)

    assert places(found) == ["a.png", "b.JPG", "sub/c.webp", "sub/deep/d.tif"]
    assert found.results == 2


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_loops_of_links_end_and_linked_folders_are_read_once(tree: Path) -> None:
    (tree / "in" / "sub" / "loop").symlink_to("..")
    (tree / "in" / "again").symlink_to("sub")
    (tree / "in" / "itself").symlink_to("itself")
    (tree / "other").mkdir()
    (tree / "other" / "o.png").touch()
    (tree / "in" / "link").symlink_to(tree / "other")
    (tree / "in" / "nowhere.png").symlink_to("missing.png")

    found = find("in", recursive=True)

    expected = ["a.png", "b.JPG", "link/o.png", "nowhere.png", "sub/c.webp", "sub/deep/d.tif"]
    assert places(found) == expected
    assert sorted(note.split(":")[0] for note in found.notes) == ["in/again", "in/sub/loop"]


def test_a_folder_that_cannot_be_read_is_reported_and_the_rest_is_found(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: Path) -> Any:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)

    found = find("in", recursive=True)

    assert places(found) == ["a.png", "b.JPG", "sub/c.webp"]
    assert [name for name, _ in found.failures] == [str(Path("in/sub/deep"))]
    assert "Permission denied" in str(found.failures[0][1])


def test_lists_take_any_name(tree: Path) -> None:
    names = ["-y.png", "sp ace.png", "new\nline.png", "🐈.png", "caf\udce9.png"]
    data = b"\0".join(os.fsencode(name) for name in names) + b"\0"

    assert read_list(data, "list", null=True) == names
    assert read_list(b"a.png\r\n\r\n-b.png\n", "list") == ["a.png", "-b.png"]
    assert read_list("\ufeffä.png\n".encode("utf-16"), "list") == ["ä.png"]
    with pytest.raises(UsageError, match="-0"):
        read_list(data, "list")
    with pytest.raises(UsageError, match=r"list: .*truncated"):
        read_list("a.png\n".encode("utf-16")[:-1], "list")


def test_ten_thousand_files_are_found_quickly(tmp_path: Path) -> None:
    for folder in range(100):
        (tmp_path / str(folder)).mkdir()
        for name in range(100):
            os.close(os.open(tmp_path / str(folder) / f"{name}.png", os.O_CREAT))
    start = time.perf_counter()

    found = find(str(tmp_path), recursive=True)

    assert len(found.pictures) == 10_000
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{stem}_x{scale}{ext}", "cat_x4.png"),
        ("{folder}/{stem}.{type}{ext}", "pets/cat.jpg.png"),
        ("{stem}", "cat.png"),
        ("{stem}.webp", "cat.webp"),
        ("{{{width}}}{ext}", "{8}.png"),
    ],
)
def test_templates_are_filled(template: str, name: str) -> None:
    assert Template(template).fill(VALUES) == PurePosixPath(name)


def test_a_literal_ending_asks_for_a_format() -> None:
    assert Template("{stem}.webp").format == "webp"
    assert Template("{stem}{ext}").format is None
    assert Template("{stem}.2x").format is None


@pytest.mark.parametrize(
    "template",
    [
        "{name}",
        "{stem",
        "{stem!r}",
        "{stem:>9}",
        "{}",
        "{0}",
        "{stem.__class__}",
        "../{stem}",
        "/{stem}",
        "a//{stem}",
    ],
)
def test_templates_that_make_no_sense_or_lead_elsewhere_are_refused(template: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        Template(template)


@pytest.mark.parametrize(("template", "folder"), [("{folder}/{stem}", ".."), ("{folder}/{stem}", "")])
def test_values_never_lead_out_of_the_output_folder(template: str, folder: str) -> None:
    with pytest.raises(UsageError, match="inside"):
        Template(template).fill(VALUES | {"folder": folder})


def test_collisions_are_found_by_case_and_by_unicode_form() -> None:
    names = ["a.png", "A.png", "caf\u00e9.png", "cafe\u0301.png", "sub/a.png", "b.png"]
    names += ["Stra\u00dfe.png", "STRASSE.png"]

    collisions = find_collisions((PurePosixPath(name), Path(f"{name}.source")) for name in names)

    assert [[source.name for source in sources] for _, sources in collisions] == [
        ["a.png.source", "A.png.source"],
        ["caf\u00e9.png.source", "cafe\u0301.png.source"],
        ["Stra\u00dfe.png.source", "STRASSE.png.source"],
    ]

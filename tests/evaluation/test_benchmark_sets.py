"""Where test sets are found, and how the public ones are fetched."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytest_httpserver import HTTPServer

from emt_cli.assets import transfer
from emt_cli.assets.benchmarks import TEST_SETS, fetch_set, find_set, folder_md5
from emt_cli.errors import InputError, UsageError


@pytest.fixture(autouse=True)
def no_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EMT_DATA", raising=False)


def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(stream, "png")
    return stream.getvalue()


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png())
    return path


def archive(*names: str) -> bytes:
    """A tar.gz of one small picture under each name."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(png())
            tar.addfile(info, io.BytesIO(png()))
    return stream.getvalue()


@pytest.mark.parametrize(
    "place",
    ["Set5/HR/a.png", "Set5/a.png", "set5_HR/a.png", "benchmark/Set5/HR/a.png", "Set5/image_SRF_4/a_HR.png"],
)
def test_copy_is_found_in_the_usual_layouts(tmp_path: Path, place: str) -> None:
    path = touch(tmp_path / "data" / place)

    found = find_set("Set5", 4, data_dir=tmp_path / "data")

    assert found.name == "Set5"
    assert found.pictures == (path,)


def test_bsd100_is_b100(tmp_path: Path) -> None:
    touch(tmp_path / "BSD100" / "a.png")

    assert find_set("b100", 4, data_dir=tmp_path).name == "B100"
    assert find_set("BSD100", 4, data_dir=tmp_path).name == "B100"


def test_lr_pictures_beside_hr_are_no_hr_pictures(tmp_path: Path) -> None:
    hr = touch(tmp_path / "Urban100" / "image_SRF_2" / "img_001_SRF_2_HR.png")
    touch(tmp_path / "Urban100" / "image_SRF_2" / "img_001_SRF_2_LR.png")

    assert find_set("Urban100", 2, data_dir=tmp_path).pictures == (hr,)


def test_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = touch(tmp_path / "here" / "Set14" / "a.png")
    monkeypatch.setenv("EMT_DATA", str(tmp_path / "here"))

    assert find_set("Set14", 4).pictures == (path,)


def test_any_folder_is_a_set(tmp_path: Path) -> None:
    path = touch(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "notes.txt").write_text("none")

    found = find_set(str(tmp_path / "photos"), 4)

    assert (found.name, found.pictures, found.complete) == ("photos", (path,), False)


def test_folder_with_a_known_name_is_that_set(shared: Path) -> None:
    found = find_set(str(shared / "data" / "benchmark" / "Set5" / "HR"), 4)

    assert found.name == "Set5"
    assert found.complete


def test_incomplete_copy_is_told_from_the_set(tmp_path: Path) -> None:
    touch(tmp_path / "Set5" / "a.png")

    assert not find_set("Set5", 4, data_dir=tmp_path).complete


@pytest.mark.parametrize(
    ("name", "meant"), [("Urban10", "Urban100"), ("st14", "Set14"), ("manga", "Manga109")]
)
def test_unknown_set_suggests_a_known_one(name: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean {meant}"):
        find_set(name, 4)


def test_missing_set_says_how_to_get_it() -> None:
    with pytest.raises(InputError, match=r"Set5: not on this machine; --fetch .*--data-dir"):
        find_set("Set5", 4)
    with pytest.raises(InputError, match=r"no public home.*--data-dir"):
        find_set("Manga109", 4, fetch=True)


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures"):
        find_set(str(tmp_path), 4)


@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_published_checksum_is_that_of_the_set(shared: Path, name: str) -> None:
    assert folder_md5(shared / "data" / "benchmark" / name / "HR") == TEST_SETS[name].folder_md5


def fake_set(*names: str) -> object:
    one = hashlib.md5(png()).hexdigest()
    return dataclasses.replace(
        TEST_SETS["Set5"], folder_md5=hashlib.md5((one * len(names)).encode()).hexdigest()
    )


def test_fetched_set_is_unpacked_flat(tmp_path: Path, httpserver: HTTPServer) -> None:
    names = ("Set5_HR/a.png", "Set5_HR/b.png", "Set5_HR/.hidden.png", "Set5_HR/readme.txt")
    known = fake_set(*names[:2])
    httpserver.expect_request(f"/{known.path}").respond_with_data(archive(*names))

    fetch_set(known, tmp_path / "Set5", home=httpserver.url_for(""))

    assert sorted(path.name for path in (tmp_path / "Set5").iterdir()) == ["a.png", "b.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["Set5"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (archive("a.png"), "wrong checksum"),
        (archive("x/a.png", "y/a.png"), "damaged"),
        (archive("a.png", "b.png")[:-40], "damaged"),
        (b"<html>not found</html>", "damaged"),
    ],
)
def test_wrong_archive_leaves_nothing(
    tmp_path: Path, httpserver: HTTPServer, content: bytes, problem: str
) -> None:
    known = fake_set("a.png", "b.png")
    httpserver.expect_request(f"/{known.path}").respond_with_data(content)

    with pytest.raises(InputError, match=problem):
        fetch_set(known, tmp_path / "Set5", home=httpserver.url_for(""))

    assert list(tmp_path.iterdir()) == []


def test_archive_cannot_write_outside_its_folder(tmp_path: Path, httpserver: HTTPServer) -> None:
    known = fake_set("a.png")
    httpserver.expect_request(f"/{known.path}").respond_with_data(archive("../../a.png"))

    fetch_set(known, tmp_path / "deep" / "Set5", home=httpserver.url_for(""))

    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")] == [Path("deep/Set5/a.png")]


def test_no_network_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSE", 0)

    with pytest.raises(InputError, match=r"Set5.*: no connection; try again"):
        fetch_set(TEST_SETS["Set5"], tmp_path / "Set5", home="http://127.0.0.1:9")

"""Data sets by name: fetched only when asked for, checked, unpacked safely."""

from __future__ import annotations

import hashlib
import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from emt_cli.assets import datasets, transfer
from emt_cli.assets.datasets import ARCHIVES, Archive, download, picture_folders, unpack
from emt_cli.errors import InputError


def zipped(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


DATA = zipped(
    **{"set/0001.png": b"one", "set/0002.png": b"two", "set/readme.txt": b"text", "__MACOSX/x.png": b"3"}
)


@pytest.fixture
def archive(httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "cache"))
    found = Archive(
        "tiny", httpserver.url_for("/tiny.zip"), hashlib.sha256(DATA).hexdigest(), len(DATA), "free"
    )
    monkeypatch.setitem(ARCHIVES, "tiny", found)
    monkeypatch.setitem(datasets.SETS, "tiny", ("tiny",))
    return found


def test_nothing_is_fetched_unasked(archive: Archive):
    with pytest.raises(InputError, match=r"tiny: not on this machine; --fetch downloads"):
        picture_folders("tiny")


def test_fetched_set_is_unpacked_once(archive: Archive, httpserver: HTTPServer):
    httpserver.expect_ordered_request("/tiny.zip").respond_with_data(DATA)

    (folder,) = picture_folders("tiny", fetch=True)

    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == [
        "set/0001.png",
        "set/0002.png",
    ]
    assert picture_folders("tiny", fetch=True) == (folder,)  # a second request would be refused
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_other_content_is_refused_and_removed(archive: Archive, httpserver: HTTPServer, tmp_path: Path):
    httpserver.expect_request("/tiny.zip").respond_with_data(b"<html>please log in</html>")

    with pytest.raises(InputError, match=r"wrong checksum.*; it was removed, try again"):
        picture_folders("tiny", fetch=True)

    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_broken_download_goes_on_where_it_stopped(archive: Archive, httpserver: HTTPServer, tmp_path: Path):
    (tmp_path / "part").write_bytes(DATA[:100])
    rest = httpserver.expect_request("/tiny.zip", headers={"Range": "bytes=100-"})
    rest.respond_with_data(DATA[100:], status=206)

    download(archive, tmp_path / "part")

    assert (tmp_path / "part").read_bytes() == DATA


def test_absent_server_is_an_input_error_and_leaves_nothing(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(transfer, "PAUSE", 0)
    nowhere = replace(archive, url="http://127.0.0.1:9/tiny.zip")

    with pytest.raises(InputError, match="no connection; try again"):
        download(nowhere, tmp_path / "part")

    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize(
    "name", ["../outside.png", "/outside.png", "a/../../outside.png", "a\\..\\outside.png"]
)
def test_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str):
    (tmp_path / "evil.zip").write_bytes(zipped(**{"good.png": b"1", name: b"2"}))

    with pytest.raises(InputError, match="leads out of its folder"):
        unpack(tmp_path / "evil.zip", tmp_path / "in" / "set")

    assert {path.name for path in tmp_path.rglob("*")} <= {"evil.zip", "in"}


def test_damaged_archive_leaves_nothing(tmp_path: Path):
    (tmp_path / "broken.zip").write_bytes(DATA[:-30])

    with pytest.raises(InputError, match="damaged archive"):
        unpack(tmp_path / "broken.zip", tmp_path / "set")

    assert [path.name for path in tmp_path.iterdir()] == ["broken.zip"]


def test_unknown_name_lists_the_known():
    with pytest.raises(InputError, match="DIV2K, DIV2K-valid, Flickr2K, DF2K"):
        picture_folders("DIV3K")


def test_folder_of_a_sets_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "DIV2K").mkdir()
    monkeypatch.chdir(tmp_path)

    assert picture_folders("DIV2K") == (Path("DIV2K"),)


def test_archive_that_would_fill_the_disk_is_refused(tmp_path: Path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in range(5):
            archive.writestr(f"{name}.png", bytes(20_000_000))
    (tmp_path / "bomb.zip").write_bytes(stream.getvalue())

    with pytest.raises(InputError, match="far more than pictures do"):
        unpack(tmp_path / "bomb.zip", tmp_path / "set")

    assert [path.name for path in tmp_path.iterdir()] == ["bomb.zip"]


def test_answer_without_end_is_cut_off(archive: Archive, httpserver: HTTPServer, tmp_path: Path):
    httpserver.expect_request("/tiny.zip").respond_with_data(bytes(5 << 20))

    with pytest.raises(InputError, match="far longer"):
        download(archive, tmp_path / "part")

    assert not (tmp_path / "part").exists()


def test_leftovers_of_a_killed_run_are_removed(archive: Archive, httpserver: HTTPServer, tmp_path: Path):
    httpserver.expect_request("/tiny.zip").respond_with_data(DATA)
    left = tmp_path / "cache" / "datasets" / ".tiny.unpacking" / "set" / "0001.png"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")

    (folder,) = picture_folders("tiny", fetch=True)

    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    assert (folder / "set" / "0001.png").read_bytes() == b"one"


def test_two_processes_fetch_a_set_once(archive: Archive, httpserver: HTTPServer):
    httpserver.expect_oneshot_request("/tiny.zip").respond_with_data(DATA)

    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: picture_folders("tiny", fetch=True), range(4)))

    assert len(folders) == 1
    assert len(httpserver.log) == 1

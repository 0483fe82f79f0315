"""Fetching models: only the pinned files get into the cache, whatever the way."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from emt_cli.assets import catalog, download, transfer
from emt_cli.assets.catalog import ReleasedFile, cache_folder
from emt_cli.assets.download import pull
from emt_cli.errors import ModelError, OutputError

CONTENT = {scale: bytes([scale]) * (100_000 + scale) for scale in (2, 3, 4)}
PINNED = tuple(
    ReleasedFile(scale, f"EMT_LSR_x{scale}.pth", hashlib.sha256(data).hexdigest(), len(data))
    for scale, data in CONTENT.items()
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, small stand-ins for the released files, and no waiting between attempts."""
    folder = tmp_path / "cache"
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "EMT_MIRROR",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EMT_CACHE", str(folder))
    monkeypatch.setattr(catalog, "RELEASED", PINNED)
    monkeypatch.setattr(download, "RELEASED", PINNED)
    monkeypatch.setattr(transfer, "PAUSE", 0)
    return folder


@pytest.fixture
def mirror(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> HTTPServer:
    """A server that offers the files and is used instead of the authors'."""
    monkeypatch.setenv("EMT_MIRROR", httpserver.url_for("/models/"))
    return httpserver


def offer(server: HTTPServer, scale: int, data: bytes | None = None) -> None:
    server.expect_request(f"/models/EMT_LSR_x{scale}.pth").respond_with_data(data or CONTENT[scale])


def refused(*scales: int, source: Path | None = None) -> str:
    with pytest.raises((ModelError, OutputError)) as caught:
        pull("emt", scales, source=source)
    message = str(caught.value)
    assert "\n" not in message
    assert "; " in message  # and what to try after it
    assert caught.value.exit_code == (4 if "cannot be written" in message else 5)
    return message


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")} if folder.exists() else set()


# Over the network


def test_pulled_files_are_those_of_the_server(mirror: HTTPServer, cache: Path) -> None:
    for scale in CONTENT:
        offer(mirror, scale)

    paths = pull("emt")

    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert files(cache) == {path.name for path in paths}


def test_only_the_wanted_scales_are_fetched(mirror: HTTPServer, cache: Path) -> None:
    offer(mirror, 4)

    assert pull("emt", [4]) == [cache / "EMT_LSR_x4.pth"]
    assert len(mirror.log) == 1


def test_file_in_the_cache_is_not_fetched_again(mirror: HTTPServer) -> None:
    offer(mirror, 4)
    pull("emt", [4])

    pull("emt", [4])

    assert len(mirror.log) == 1


def test_damaged_file_in_the_cache_is_replaced(mirror: HTTPServer, cache: Path) -> None:
    offer(mirror, 4)
    cache.mkdir()
    (cache / "EMT_LSR_x4.pth").write_bytes(CONTENT[4][:-1] + b"!")

    pull("emt", [4])

    assert (cache / "EMT_LSR_x4.pth").read_bytes() == CONTENT[4]


def test_fetched_file_can_be_read_by_others_as_the_umask_says(mirror: HTTPServer) -> None:
    offer(mirror, 4)
    before = os.umask(0o022)
    try:
        (path,) = pull("emt", [4])
    finally:
        os.umask(before)

    assert path.stat().st_mode & 0o777 == 0o644


def test_wrong_content_is_kept_out_and_both_checksums_are_named(mirror: HTTPServer, cache: Path) -> None:
    wrong = CONTENT[4][:-1] + b"!"
    offer(mirror, 4, wrong)

    message = refused(4)

    assert hashlib.sha256(wrong).hexdigest() in message
    assert PINNED[2].sha256 in message
    assert files(cache) == set()


def test_wrong_content_leaves_the_old_file_alone(mirror: HTTPServer, cache: Path) -> None:
    offer(mirror, 4, b"<html>please log in</html>")
    cache.mkdir()
    (cache / "EMT_LSR_x4.pth").write_bytes(b"old")

    refused(4)

    assert (cache / "EMT_LSR_x4.pth").read_bytes() == b"old"


def test_endless_answer_is_cut_short(mirror: HTTPServer, cache: Path) -> None:
    sent = 0

    def endless(request: Request) -> Response:
        def flood() -> Iterator[bytes]:
            nonlocal sent
            while sent < 1 << 30:
                sent += 1 << 16
                yield bytes(1 << 16)

        return Response(flood())

    mirror.expect_request("/models/EMT_LSR_x4.pth").respond_with_handler(endless)

    assert "longer" in refused(4)
    assert sent < 100 << 20
    assert files(cache) == set()


def test_broken_transfer_is_tried_again(mirror: HTTPServer) -> None:
    broken = Response(CONTENT[4][:5000])
    broken.headers["Content-Length"] = str(len(CONTENT[4]))
    broken.automatically_set_content_length = False
    address = "/models/EMT_LSR_x4.pth"
    mirror.expect_ordered_request(address).respond_with_response(broken)
    mirror.expect_ordered_request(address).respond_with_data("busy", status=503)
    mirror.expect_ordered_request(address).respond_with_data(CONTENT[4])

    (path,) = pull("emt", [4])

    assert path.read_bytes() == CONTENT[4]


def test_transfer_that_always_breaks_is_given_up(mirror: HTTPServer, cache: Path) -> None:
    broken = Response(CONTENT[4][:5000])
    broken.headers["Content-Length"] = str(len(CONTENT[4]))
    broken.automatically_set_content_length = False
    mirror.expect_request("/models/EMT_LSR_x4.pth").respond_with_response(broken)

    message = refused(4)

    assert "broke off" in message or "only 5000 of" in message
    assert len(mirror.log) == transfer.ATTEMPTS
    assert files(cache) == set()


def test_missing_file_is_reported_at_once(mirror: HTTPServer) -> None:
    mirror.expect_request("/models/EMT_LSR_x4.pth").respond_with_data("no", status=404)

    assert "404" in refused(4)
    assert len(mirror.log) == 1


def test_no_network_is_reported_with_ways_around(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("EMT_MIRROR", f"http://127.0.0.1:{port}/")

    message = refused(4)

    assert "no connection" in message
    assert "--from" in message


@pytest.mark.parametrize("address", ["http://", "ftp://host/folder", "nonsense", "http://[", "file:///tmp"])
def test_impossible_mirror_is_one_line(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("EMT_MIRROR", address)

    refused(4)


def test_password_of_a_mirror_is_not_printed(mirror: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMT_MIRROR", f"http://me:hunter2@{mirror.host}:{mirror.port}/models?key=s3cret")
    mirror.expect_request("/models").respond_with_data("no", status=404)

    message = refused(4)

    assert "hunter2" not in message
    assert "s3cret" not in message


def test_proxy_of_the_environment_is_used(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMT_MIRROR", "http://models.invalid/emt")
    monkeypatch.setenv("http_proxy", httpserver.url_for("/"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    httpserver.expect_request("/emt/EMT_LSR_x2.pth").respond_with_data(CONTENT[2])

    (path,) = pull("emt", [2])

    assert path.read_bytes() == CONTENT[2]


def test_progress_counts_up_to_the_size(mirror: HTTPServer) -> None:
    offer(mirror, 4)
    seen: list[tuple[str, float, float]] = []

    pull("emt", [4], report=lambda *step: seen.append(step))

    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1] == ("EMT_LSR_x4.pth", len(CONTENT[4]), len(CONTENT[4]))


def test_several_pulls_at_once_all_succeed(mirror: HTTPServer, cache: Path) -> None:
    for scale in CONTENT:
        offer(mirror, scale)

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: pull("emt"), range(6)))

    assert all(paths == results[0] for paths in results)
    assert [path.read_bytes() for path in results[0]] == list(CONTENT.values())
    assert files(cache) == {file.name for file in PINNED}


# From a disk


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    for file in PINNED:
        (folder / file.name).write_bytes(CONTENT[file.scale])
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*arguments: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.mark.usefixtures("no_network")
def test_files_are_copied_from_a_folder(stick: Path, cache: Path) -> None:
    pull("emt", source=stick)

    assert files(cache) == files(stick)


@pytest.mark.usefixtures("no_network")
def test_single_file_of_any_name_is_known_by_its_content(stick: Path, cache: Path) -> None:
    renamed = (stick / "EMT_LSR_x3.pth").rename(stick / "download (1)")

    assert pull("emt", source=renamed) == [cache / "EMT_LSR_x3.pth"]
    assert (cache / "EMT_LSR_x3.pth").read_bytes() == CONTENT[3]


@pytest.mark.parametrize("content", [b"", b"text", CONTENT[4][:-1] + b"!", CONTENT[4] + b"!"])
def test_wrong_file_on_disk_is_kept_out(stick: Path, cache: Path, content: bytes) -> None:
    (stick / "EMT_LSR_x4.pth").write_bytes(content)

    assert PINNED[2].sha256 in refused(4, source=stick)
    assert PINNED[2].sha256 in refused(4, source=stick / "EMT_LSR_x4.pth")
    assert files(cache) == set()


def test_absent_source_is_one_line(stick: Path) -> None:
    (stick / "EMT_LSR_x4.pth").unlink()

    assert "No such file" in refused(4, source=stick)
    assert "No such file" in refused(4, source=stick / "nowhere")


def test_released_files_pass_their_checksums(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for file in catalog.RELEASED:
        path = shared / "weights" / file.name

        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
        assert path.stat().st_size == file.size


# The cache


def test_cache_that_cannot_be_made_is_one_line(
    stick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "occupied").write_text("a file")
    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "occupied" / "cache"))

    message = refused(source=stick)

    assert "cannot be written" in message
    assert "EMT_CACHE" in message


def test_full_disk_is_one_line_and_leaves_nothing(
    stick: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    assert "No space" in refused(source=stick)
    assert files(cache) == set()


def test_account_without_a_home_has_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(*arguments: object) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("EMT_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_path", no_home)

    assert cache_folder().is_absolute()


@pytest.mark.parametrize("name", ["emt-lite", "emt-large", "../emt", ""])
def test_only_the_released_model_can_be_pulled(name: str) -> None:
    with pytest.raises(ModelError):
        pull(name)


def test_unknown_scale_is_one_line() -> None:
    assert "x5" in refused(5)


@pytest.mark.parametrize("name", ["emt-art", "emt-base", "emt-lite", "emt-lite-photo", "emt-photo"])
def test_bundled_models_need_no_fetching(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} comes with the package"):
        pull(name)

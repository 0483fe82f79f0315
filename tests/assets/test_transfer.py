"""Receiving a file: what came before a transfer broke off is not asked for again."""

from __future__ import annotations

import io

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from emt_cli.assets import transfer
from emt_cli.assets.transfer import receive

CONTENT = bytes(range(250)) * 1000


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_that_breaks_off_goes_on_where_the_server_lets_it(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    monkeypatch.setattr(transfer, "PAUSE", 0)
    asked: list[int] = []

    def answer(request: Request) -> Response:
        start = request.range.ranges[0][0] if request.range else 0
        asked.append(start)
        if len(asked) > 1:
            rest = CONTENT[start:] if ranges else CONTENT
            return Response(rest, 206 if ranges and start else 200)
        broken = Response(CONTENT[:150_000])
        broken.headers["Content-Length"] = str(len(CONTENT))
        broken.automatically_set_content_length = False
        return broken

    httpserver.expect_request("/file").respond_with_handler(answer)
    file = io.BytesIO()

    receive(httpserver.url_for("/file"), file, most=len(CONTENT))

    assert file.getvalue() == CONTENT
    assert len(asked) == 2
    assert 0 < asked[1] <= 150_000

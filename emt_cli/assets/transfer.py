"""Receive a file over HTTP: tried again where it breaks off, gone on with, never longer than it should be."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from requests import RequestException

ATTEMPTS = 3
PAUSE = 1.0
"""Seconds before the second attempt; twice that before the third."""
_TIMEOUT = (10, 60)
"""Seconds to wait for a connection, and for each further piece of a file."""


class TransferError(Exception):
    """Why a file did not come, in a few words."""


def receive(
    url: str, file: BinaryIO, *, most: float, least: int = 0, report: Callable[[int], None] | None = None
) -> None:
    """Fetch the rest of what is in an open file, from where it stands; proxies come from the environment.

    most, least: bytes that the whole may and must have; of one that is longer nothing is kept. report is
    called with the bytes that are there. Raises TransferError.
    """
    from requests import RequestException  # slow to import

    problem = ""
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE * attempt)
        try:
            _try(url, file, most, report)
        except RequestException as error:
            problem = _describe(error)
            if isinstance(error, ValueError) or _is_refusal(error):
                break
        else:
            if file.tell() >= least:
                return
            problem = f"only {file.tell()} of {least} bytes came"
    raise TransferError(problem)


def _try(url: str, file: BinaryIO, most: float, report: Callable[[int], None] | None) -> None:
    import requests

    headers = {"Range": f"bytes={file.tell()}-"} if file.tell() else {}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == 416:  # all of it is there
            return
        answer.raise_for_status()
        if answer.status_code != 206:
            _clear(file)
        for piece in answer.iter_content(1 << 16):
            file.write(piece)
            if file.tell() > most:
                _clear(file)
                raise TransferError("far longer than it should be; is it a login page?")
            if report:
                report(file.tell())


def _clear(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _is_refusal(error: RequestException) -> bool:
    """Tell whether asking again is of no use: the server has answered, and it is not the one at fault."""
    return error.response is not None and error.response.status_code < 500


def _describe(error: RequestException) -> str:
    from requests import exceptions

    if error.response is not None and not error.response.ok:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    kinds = {
        exceptions.SSLError: "the server's certificate is not trusted",
        exceptions.ProxyError: "the proxy does not let it through",
        exceptions.Timeout: "no answer in time",
        exceptions.ConnectionError: "no connection",
        ValueError: "not an address to fetch from",
    }
    return next((text for kind, text in kinds.items() if isinstance(error, kind)), "the transfer broke off")

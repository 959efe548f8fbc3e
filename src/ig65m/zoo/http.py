"""HTTP GET with bounds on time, size and redirects."""

import io
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import (
    BadStatusLine,
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
    InvalidURL,
    RemoteDisconnected,
    UnknownProtocol,
)
from socket import socket
from string import punctuation
from typing import Any
from urllib.error import URLError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

_BLOCK = 1 << 18
_SLOWEST = 1024  # bytes a second over a whole timeout, below which a server counts as hanging
_HEADERS = 1 << 20  # most bytes before the body
_BODY = 4 << 30  # most bytes of one body with its framing
_REDIRECTS = 10
_LONGEST_WAIT = 60  # longest Retry-After in seconds that is honoured
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class TransferError(Exception):
    """A request failed; the message says why.

    retry: another try may succeed, after at least `wait` seconds. stalled: a whole timeout has passed.
    """

    def __init__(self, reason: str, *, retry: bool = True, wait: float = 0, stalled: bool = False) -> None:
        super().__init__(reason)
        self.retry = retry
        self.wait = wait
        self.stalled = stalled


@contextmanager
def answer(url: str, headers: dict[str, str], timeout: float) -> Iterator[HTTPResponse]:
    """Yield the response to a GET with any status, after all redirects; its body is not read yet.

    `timeout` is in seconds without a byte, or with fewer than 1 KiB a second. Proxies come from the environment (http_proxy,
    https_proxy, no_proxy). Raises TransferError.
    """
    for _ in range(_REDIRECTS):
        try:
            response = _open(url, headers, timeout)
        except (URLError, OSError, HTTPException, ValueError) as error:
            raise _transfer_error(error) from None
        with response:
            if response.status not in (301, 302, 303, 307, 308):
                yield response
                return
            url = redirect_target(url, response.headers.get("Location"))
    raise TransferError(f"more than {_REDIRECTS} redirects, perhaps in a loop", retry=False)


def blocks(response: HTTPResponse) -> Iterator[bytes]:
    """Yield the body. Raises TransferError if it is truncated, as far as that can be recognised."""
    try:
        while block := response.read1(_BLOCK):
            yield block
    except (OSError, HTTPException, ValueError) as error:
        raise _transfer_error(error) from None


def redirect_target(url: str, location: str | None) -> str:
    """Return the target of a redirect. Raises TransferError unless it is http or https, and https if `url` was."""
    if not location:
        raise TransferError("a redirect without a target", retry=False)
    try:
        target = urljoin(url, quote(location.strip(), safe=punctuation, encoding="iso-8859-1"))
        came, goes = urlsplit(url).scheme, urlsplit(target).scheme
    except ValueError:
        raise TransferError("a redirect to an invalid URL", retry=False) from None
    if goes not in ("http", "https") or (came == "https" and goes == "http"):
        raise TransferError(f"a redirect from {came} to {goes!a} is not followed", retry=False)
    return target


def status_error(response: HTTPResponse) -> TransferError:
    """Return the TransferError for a response that is not the file."""
    status = response.status
    phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else "of unknown meaning"
    reason = f"status {status} {phrase}"
    if status in (401, 403, 407):
        return TransferError(f"{reason}: a login is required, or this machine is blocked", retry=False)
    wait = _retry_after(response.headers.get("Retry-After"))
    if wait > _LONGEST_WAIT:
        return TransferError(f"{reason}; try again in {wait:.0f} s, as the server asks", retry=False)
    return TransferError(reason, retry=status in _BUSY, wait=wait)


def _retry_after(header: str | None) -> float:
    """Return the seconds of a Retry-After header, given as seconds or as a date; 0 if it is missing or invalid."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
        return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _open(url: str, headers: dict[str, str], timeout: float) -> HTTPResponse:
    opener = (
        OpenerDirector()
    )  # not that of urlopen, which also opens file:, ftp: and data:, and reads the whole body of a redirect
    for handler in (ProxyHandler(), _Http(), _Https()):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "ig65m")]
    response = opener.open(Request(url, headers=headers), timeout=timeout)
    if not isinstance(response, HTTPResponse):
        raise TransferError("no connection; check http_proxy and https_proxy", retry=False)
    return response


def _transfer_error(error: Exception) -> TransferError:
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    if isinstance(cause, BadStatusLine | UnknownProtocol) and not isinstance(cause, RemoteDisconnected):
        return TransferError("the response is not HTTP")
    if isinstance(cause, IncompleteRead):
        return TransferError("the connection was closed early")
    reason = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
    shown = "".join(letter if letter.isprintable() else "?" for letter in reason)
    retry = not isinstance(cause, InvalidURL | ValueError)  # an invalid certificate is a ValueError too
    return TransferError(shown, retry=retry, stalled=isinstance(cause, TimeoutError))


class _Watched(io.RawIOBase):
    """The bytes of a connection, with bounds on rate and total size."""

    def __init__(self, raw: io.RawIOBase, timeout: float) -> None:
        self.left = _HEADERS
        self._raw = raw
        self._timeout = timeout
        self._waited = 0.0  # for the server only, not for the disk
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._waited > self._timeout:
            if self._received < self._timeout * _SLOWEST:
                raise TimeoutError(f"only {self._received} bytes in {self._waited:.1f} s")
            self._waited, self._received = 0.0, 0
        began = time.monotonic()
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError:
            raise TimeoutError(f"no data for {self._timeout:g} s") from None
        self._waited += time.monotonic() - began
        self._received += count or 0
        self.left -= count or 0
        if self.left < 0:
            raise HTTPException("the response does not end")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket, debuglevel: int = 0, method: str | None = None, url: str | None = None) -> None:
        super().__init__(sock, debuglevel, method, url)
        self._watched = _Watched(self.fp.detach(), sock.gettimeout() or math.inf)
        self.fp = io.BufferedReader(self._watched)

    def begin(self) -> None:
        super().begin()
        self._watched.left = _BODY


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Http(HTTPHandler):
    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(HTTPSHandler):
    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_SecureConnection, req)

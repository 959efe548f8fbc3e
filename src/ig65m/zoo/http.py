"""One answer of a web server, over connections that can neither hang nor lead where they must not."""

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
_SLOWEST = 1024  # bytes a second; a server that gives less over a whole timeout is taken for one that hangs
_HEADERS = 1 << 20  # bytes until the body begins
_BODY = 4 << 30  # bytes of one answer, with whatever frames them: what comes for ever ends
_REDIRECTS = 10
_LONGEST_WAIT = 60  # seconds that a server may ask us to wait
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class Trouble(Exception):
    """Why a request failed, in words.

    `retry`: another try may help, not before `wait` seconds. `stalled`: it took a whole timeout to find out.
    """

    def __init__(self, reason: str, *, retry: bool = True, wait: float = 0, stalled: bool = False) -> None:
        super().__init__(reason)
        self.retry = retry
        self.wait = wait
        self.stalled = stalled


@contextmanager
def answer(url: str, headers: dict[str, str], timeout: float) -> Iterator[HTTPResponse]:
    """The answer to a GET, whatever its status, at the end of all redirects; its body is not read yet.

    `timeout` is in seconds without a byte, or with fewer than 1 KiB a second. Proxies are taken from the environment
    (http_proxy, https_proxy, no_proxy). Raises Trouble.
    """
    for _ in range(_REDIRECTS):
        try:
            response = _open(url, headers, timeout)
        except (URLError, OSError, HTTPException, ValueError) as error:
            raise _trouble(error) from None
        with response:
            if response.status not in (301, 302, 303, 307, 308):
                yield response
                return
            url = onward(url, response.headers.get("Location"))
    raise Trouble(f"it redirects more than {_REDIRECTS} times, perhaps in a circle", retry=False)


def blocks(response: HTTPResponse) -> Iterator[bytes]:
    """The body as it comes. Raises Trouble if it breaks off in a way that can be told from its end."""
    try:
        while block := response.read1(_BLOCK):
            yield block
    except (OSError, HTTPException, ValueError) as error:
        raise _trouble(error) from None


def onward(url: str, location: str | None) -> str:
    """Where a redirect leads. Raises Trouble unless that is http or https, and https if `url` was."""
    if not location:
        raise Trouble("it redirects without saying where to", retry=False)
    try:
        target = urljoin(url, quote(location.strip(), safe=punctuation, encoding="iso-8859-1"))
        came, goes = urlsplit(url).scheme, urlsplit(target).scheme
    except ValueError:
        raise Trouble("it redirects to what is no address", retry=False) from None
    if goes not in ("http", "https") or (came == "https" and goes == "http"):
        raise Trouble(f"it redirects from {came} to {goes!a}, which is not followed", retry=False)
    return target


def refusal(response: HTTPResponse) -> Trouble:
    """What an answer says that is not the file."""
    status = response.status
    phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else "of unknown meaning"
    reason = f"it answered {status} {phrase}"
    if status in (401, 403, 407):
        return Trouble(f"{reason}: it wants a login, or does not serve this machine", retry=False)
    wait = _asked_wait(response.headers.get("Retry-After"))
    if wait > _LONGEST_WAIT:
        return Trouble(f"{reason} and asks for {wait:.0f} s of patience; try again then", retry=False)
    return Trouble(reason, retry=status in _BUSY, wait=wait)


def _asked_wait(header: str | None) -> float:
    """Seconds that a Retry-After header asks for, given in seconds or as a date; 0 if there is none that makes sense."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
        return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _open(url: str, headers: dict[str, str], timeout: float) -> HTTPResponse:
    opener = OpenerDirector()  # not urlopen's, which also knows file:, ftp: and data:, and reads a redirect's whole body
    for handler in (ProxyHandler(), _Http(), _Https()):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "ig65m")]
    response = opener.open(Request(url, headers=headers), timeout=timeout)
    if not isinstance(response, HTTPResponse):
        raise Trouble("no way leads there; look at http_proxy and https_proxy", retry=False)
    return response


def _trouble(error: Exception) -> Trouble:
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    if isinstance(cause, BadStatusLine | UnknownProtocol) and not isinstance(cause, RemoteDisconnected):
        return Trouble("what it says is not HTTP")
    if isinstance(cause, IncompleteRead):
        return Trouble("it broke off")
    reason = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
    shown = "".join(letter if letter.isprintable() else "?" for letter in reason)
    retry = not isinstance(cause, InvalidURL | ValueError)  # a certificate that does not hold is a ValueError too
    return Trouble(shown, retry=retry, stalled=isinstance(cause, TimeoutError))


class _Watched(io.RawIOBase):
    """The bytes of a connection, as long as they come, are fast enough, and do not come for ever."""

    def __init__(self, raw: io.RawIOBase, timeout: float) -> None:
        self.left = _HEADERS
        self._raw = raw
        self._timeout = timeout
        self._waited = 0.0  # for the server only, not for our disk
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._waited > self._timeout:
            if self._received < self._timeout * _SLOWEST:
                raise TimeoutError(f"only {self._received} bytes came in {self._waited:.1f} s")
            self._waited, self._received = 0.0, 0
        began = time.monotonic()
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError:
            raise TimeoutError(f"nothing came for {self._timeout:g} s") from None
        self._waited += time.monotonic() - began
        self._received += count or 0
        self.left -= count or 0
        if self.left < 0:
            raise HTTPException("it sends without end")
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

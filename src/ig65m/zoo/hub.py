"""Published weights: which file, where it comes from, where it is kept, and the digest that it is held to."""

import hashlib
import math
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout

from ig65m.atomic import finished_file
from ig65m.errors import DownloadError, ModelError, UsageError
from ig65m.zoo.cards import EMBEDDED, Card
from ig65m.zoo.download import fetch, part_of

_TIMEOUT = 30.0  # seconds that a server may be silent
_PATIENCE = 300.0  # seconds that the download of another process may stand still while we wait for it
_SHA256 = 64  # digits


def cache_folder() -> Path:
    """Where downloads are kept: $IG65M_CACHE, else ig65m below $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("IG65M_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ig65m"


def weights_file(card: Card, *, progress: bool | None = None) -> Path:
    """The local file of a card's weights: from the package, from the cache, or fetched into it; verified each time.

    It is held to the digits of the sha256 that were published, and to all 64 that it had when this cache first had it.
    `progress` shows a bar on stderr; None: if that is a terminal. $IG65M_MIRROR, a URL or a folder, replaces the folder
    part of the card's URL; $IG65M_OFFLINE forbids the network; $IG65M_TIMEOUT is how many seconds a server may be silent.

    Raises DownloadError if the file cannot be had, or is not the published one; UsageError for a timeout that is none.
    """
    if card.embedded:
        return Path(str(resources.files("ig65m.zoo").joinpath("weights", f"{card.name}.safetensors")))
    name = unquote(urlsplit(card.url or "").path.rpartition("/")[2])
    if not card.url or not name:
        raise ModelError(f"{card.name} has no published file; convert it from VMZ's and give the file's path")
    path = cache_folder() / name.replace("/", "_")
    try:
        expected, by = _expected(card, path)
        if path.is_file():
            digest = file_sha256(path)
        elif path.exists():
            raise DownloadError(f"{path} is no file; remove it and try again")
        else:
            digest = _fetched(card.url, path, expected, by, sys.stderr.isatty() if progress is None else progress)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(f"{path} cannot be used ({error.strerror}); set IG65M_CACHE to another folder") from None
    if not digest.startswith(expected):
        raise DownloadError(f"{path} has the sha256 {digest}, expected {expected}{by}; remove it and try again")
    if len(expected) < _SHA256:
        _pin(path, digest, published=expected)
    return path


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetched(url: str, path: Path, expected: str, by: str, progress: bool) -> str:
    """Bring the file to `path`, or wait until another process has; its sha256."""
    source = _source(url, path)
    timeout = _timeout()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if path.is_file():  # another process fetched it meanwhile
            return file_sha256(path)
        try:
            return fetch(source, path, expected or None, timeout=timeout, progress=progress)
        except DownloadError as error:
            raise DownloadError(f"{error}{by}. {_instead(path)}") from None


def _source(url: str, path: Path) -> str | Path:
    """Where to fetch from: the card's URL, or the file of that name at the mirror."""
    mirror = os.environ.get("IG65M_MIRROR", "").strip()
    name = urlsplit(url).path.rpartition("/")[2]
    if mirror and (folder := Path(mirror).expanduser()).is_dir():
        return folder / unquote(name)
    if mirror:
        url = f"{mirror.rstrip('/')}/{name}"
    if "@" in url.partition("//")[2].partition("/")[0]:  # not shown: it may hold a password
        raise DownloadError(f"the URL for {name} names a user, which is not supported; take it out of IG65M_MIRROR")
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url} is neither http:// nor https:// nor in a folder that exists; look at IG65M_MIRROR")
    if os.environ.get("IG65M_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off"):
        raise DownloadError(f"{url} is not in the cache and IG65M_OFFLINE is set. {_instead(path)}")
    return url


def _timeout() -> float:
    text = os.environ.get("IG65M_TIMEOUT") or str(_TIMEOUT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86400:
        raise UsageError(f"IG65M_TIMEOUT must be seconds, more than 0 and at most 86400, got {text!r}")
    return seconds


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time fetch `path`. Raises DownloadError if another holds the lock and does nothing."""
    lock = path.with_name(f"{path.name}.lock")
    held = FileLock(lock)
    waited_at: int | None = None  # size of the other's part when we began to wait
    while True:
        try:
            held.acquire(timeout=0 if waited_at is None else _PATIENCE)
            break
        except Timeout:
            holder = _holder(lock)
            size = 0
            with suppress(FileNotFoundError):
                size = part_of(path).stat().st_size
            if waited_at == size:
                raise DownloadError(
                    f"{holder} holds {lock} and has fetched nothing for {_PATIENCE:g} s; end it and try again"
                ) from None
            if waited_at is None:
                print(f"ig65m: waiting for {holder}, which is fetching {path.name}", file=sys.stderr)
            waited_at = size
    try:
        with suppress(OSError):  # a full disk is met, and told of, where the weights are written
            lock.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", "utf-8")
        yield
    finally:
        held.release()


def _holder(lock: Path) -> str:
    with suppress(OSError):
        if found := re.match(r"process \d+ on [\w.-]+", lock.read_text("utf-8", errors="replace")):
            return found[0]
    return "another process"


def _pin_file(path: Path) -> Path:
    """Beside the weights, as `sha256sum --check` reads it: the digest that they had when this cache first had them."""
    return path.with_name(f"{path.name}.sha256")


def _expected(card: Card, path: Path) -> tuple[str, str]:
    """All that is known of the digest: published in full, else pinned, else the digits published, perhaps none.

    The second string is what to say of a file that differs from its pin, empty where there is none.
    """
    published = (card.sha256 or "").lower()
    pin = _pin_file(path)
    if len(published) == _SHA256 or not pin.exists():
        return published, ""
    pinned = pin.read_text("utf-8", errors="replace").partition(" ")[0].strip()
    if not re.fullmatch(r"[0-9a-f]{64}", pinned):
        raise DownloadError(f"{pin} holds no sha256 of 64 digits; remove it to have {path.name} pinned anew")
    if not pinned.startswith(published):
        raise DownloadError(f"{pin} says {pinned}, but what was published begins {published}; remove it and {path}")
    return pinned, f" (pinned in {pin} at first use; remove that too to accept another file)"


def _pin(path: Path, digest: str, *, published: str) -> None:
    pin = _pin_file(path)
    try:
        with finished_file(pin) as temporary:
            temporary.write_text(f"{digest}  {path.name}\n", "utf-8")
    except OSError:
        return  # a cache that is only read is looked after by whoever fills it
    known = f"of which {len(published)} digits are" if published else "which is not"
    print(f"ig65m: {path.name} has the sha256 {digest}, {known} published; from now on {pin} holds it to that", file=sys.stderr)


def _instead(path: Path) -> str:
    return f"Bring the file to {path} from elsewhere, or use the embedded model {EMBEDDED}, which needs no download"

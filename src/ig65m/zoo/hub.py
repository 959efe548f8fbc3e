"""Published weights: finds, downloads, verifies and caches them."""

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

from ig65m.atomic import finished_file
from ig65m.cache import cache_folder
from ig65m.errors import DownloadError, ModelError, UsageError
from ig65m.models.card import Card
from ig65m.zoo.cards import EMBEDDED

_TIMEOUT = 30.0  # seconds that a server may be silent
_PATIENCE = 300.0  # seconds without progress of another process's download
_SHA256 = 64  # digits


def weights_file(card: Card, *, progress: bool | None = None) -> Path:
    """Return the local file of a card's weights: from the package, from the cache, or downloaded; verified each time.

    The file must match the published digits of its sha256, and the full sha256 that it had when it first entered this cache.
    `progress` shows a bar on stderr; None: if stderr is a terminal. $IG65M_MIRROR, a URL or a folder, replaces the folder part
    of the card's URL. $IG65M_OFFLINE forbids downloads. $IG65M_TIMEOUT is the number of seconds that a server may be silent.

    Raises DownloadError if the file cannot be downloaded or is not the published one; UsageError for an invalid timeout.
    """
    if card.embedded:
        return Path(str(resources.files("ig65m.zoo").joinpath("weights", f"{card.name}.safetensors")))
    name = unquote(urlsplit(card.url or "").path.rpartition("/")[2])
    if not card.url or not name:
        raise ModelError(f"{card.name} has no published file; convert VMZ's checkpoint and give that file")
    path = cache_folder() / name.replace("/", "_")
    try:
        expected, by = _expected(card, path)
        if path.is_file():
            digest = file_sha256(path)
        elif path.exists():
            raise DownloadError(f"{path} is not a file; remove it and try again")
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
    """Download the file, or wait until another process has; returns its sha256."""
    from ig65m.zoo.download import fetch

    source = _source(url, path)
    timeout = _timeout()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if path.is_file():  # another process has downloaded it meanwhile
            return file_sha256(path)
        try:
            return fetch(source, path, expected or None, timeout=timeout, progress=progress)
        except DownloadError as error:
            raise DownloadError(f"{error}{by}. {_instead(path)}") from None


def _source(url: str, path: Path) -> str | Path:
    """Return the source: the card's URL, or the file of that name at the mirror."""
    mirror = os.environ.get("IG65M_MIRROR", "").strip()
    name = urlsplit(url).path.rpartition("/")[2]
    if mirror and (folder := Path(mirror).expanduser()).is_dir():
        return folder / unquote(name)
    if mirror:
        url = f"{mirror.rstrip('/')}/{name}"
    if "@" in url.partition("//")[2].partition("/")[0]:  # not shown: it may contain a password
        raise DownloadError(f"the URL for {name} contains a user name, which is not supported; remove it from IG65M_MIRROR")
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url} is neither a http(s) URL nor in an existing folder; check IG65M_MIRROR")
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
        raise UsageError(f"IG65M_TIMEOUT must be a number of seconds, above 0 and at most 86400, got {text!r}")
    return seconds


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time download `path`. Raises DownloadError if another holds the lock without progress."""
    from filelock import FileLock, Timeout

    from ig65m.zoo.download import part_of

    lock = path.with_name(f"{path.name}.lock")
    held = FileLock(lock)
    waited_at: int | None = None  # size of the other process's part
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
                    f"{holder} holds {lock}, but has downloaded nothing for {_PATIENCE:g} s; end it and try again"
                ) from None
            if waited_at is None:
                print(f"ig65m: waiting for {holder}, which is downloading {path.name}", file=sys.stderr)
            waited_at = size
    try:
        with suppress(OSError):  # a full disk is reported where the weights are written
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
    """Path of the digest that the weights had when this cache first had them, as `sha256sum --check` reads it."""
    return path.with_name(f"{path.name}.sha256")


def _expected(card: Card, path: Path) -> tuple[str, str]:
    """Return the known digits of the digest: all 64 if published or pinned, else the published ones, perhaps none.

    The second value describes a pin for the message about a file that differs from it; it is empty without a pin.
    """
    published = (card.sha256 or "").lower()
    pin = _pin_file(path)
    if len(published) == _SHA256 or not pin.exists():
        return published, ""
    pinned = pin.read_text("utf-8", errors="replace").partition(" ")[0].strip()
    if not re.fullmatch(r"[0-9a-f]{64}", pinned):
        raise DownloadError(f"{pin} has no sha256 of 64 digits; remove it to pin {path.name} again")
    if not pinned.startswith(published):
        raise DownloadError(f"{pin} has {pinned}, but the published digest starts with {published}; remove it and {path}")
    return pinned, f" (pinned in {pin} at first use; remove that too to accept another file)"


def _pin(path: Path, digest: str, *, published: str) -> None:
    pin = _pin_file(path)
    try:
        with finished_file(pin) as temporary:
            temporary.write_text(f"{digest}  {path.name}\n", "utf-8")
    except OSError:
        return  # a read-only cache is maintained by somebody else
    known = f"of which {len(published)} digits are" if published else "which is not"
    print(f"ig65m: {path.name} has the sha256 {digest}, {known} published; it is now pinned in {pin}", file=sys.stderr)


def _instead(path: Path) -> str:
    return f"Copy the file to {path}, or use the embedded model {EMBEDDED}, which needs no download"

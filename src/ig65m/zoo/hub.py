"""Published weights: find, download, verify, cache."""

import hashlib
import os
import sys
import urllib.request
from http.client import HTTPException
from importlib import resources
from pathlib import Path
from urllib.error import URLError

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from ig65m.atomic import finished_file
from ig65m.errors import DownloadError, ModelError
from ig65m.zoo.cards import EMBEDDED, Card

_BLOCK = 1 << 20
_TIMEOUT = 30  # seconds without a byte


def cache_folder() -> Path:
    """Where downloads are kept: $IG65M_CACHE, else ig65m below $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("IG65M_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ig65m"


def weights_file(card: Card, *, progress: bool | None = None) -> Path:
    """The local file of a card's weights: from the package, from the cache, or downloaded into it and verified.

    `progress` shows a bar on stderr; None: if that is a terminal. $IG65M_MIRROR replaces the folder part of the URL;
    $IG65M_OFFLINE forbids the network.

    Raises DownloadError if the file cannot be had, or is not the published one.
    """
    if card.embedded:
        return Path(str(resources.files("ig65m.zoo").joinpath("weights", f"{card.name}.safetensors")))
    if card.url is None or card.sha256 is None:
        raise ModelError(f"{card.name} has no published file; convert it from VMZ's and give the file's path")
    name = card.url.rpartition("/")[2]
    path = cache_folder() / name
    if path.exists():
        return _verified(path, card.sha256)
    mirror = os.environ.get("IG65M_MIRROR")
    url = f"{mirror.rstrip('/')}/{name}" if mirror else card.url
    if os.environ.get("IG65M_OFFLINE"):
        raise DownloadError(f"{path} is not in the cache and IG65M_OFFLINE is set. {_instead(url, path)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():  # another process may have fetched it meanwhile
            _download(url, path, card.sha256, sys.stderr.isatty() if progress is None else progress)
    return path


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verified(path: Path, sha256: str) -> Path:
    digest = file_sha256(path)
    if not digest.startswith(sha256):
        raise DownloadError(
            f"{path} has a sha256 that begins {digest[: len(sha256)]}, expected {sha256}; remove it and try again"
        )
    return path


def _download(url: str, path: Path, sha256: str, progress: bool) -> None:
    """Fetch `url` to `path`, which comes to be only once the whole file's sha256 begins with the expected digits."""
    digest = hashlib.sha256()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    try:
        with (
            finished_file(path) as temporary,
            urllib.request.urlopen(url, timeout=_TIMEOUT) as response,
            temporary.open("wb") as out,
            Progress(*columns, console=Console(stderr=True), disable=not progress, transient=True) as bars,
        ):
            length = int(response.headers.get("Content-Length") or 0)
            bar = bars.add_task(path.name, total=length or None)
            received = 0
            while block := response.read(_BLOCK):
                digest.update(block)
                out.write(block)
                received += len(block)
                bars.update(bar, completed=received)
            if length and received != length:
                raise DownloadError(f"{url} ended after {received} of {length} bytes; try again")
            if not digest.hexdigest().startswith(sha256):
                raise DownloadError(
                    f"{url} gave a file whose sha256 begins {digest.hexdigest()[: len(sha256)]}, expected {sha256}: it is "
                    "damaged, or not the published one, and was not kept"
                )
    except (URLError, TimeoutError, ConnectionError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise DownloadError(f"{url} cannot be fetched ({reason}). {_instead(url, path)}") from None


def _instead(url: str, path: Path) -> str:
    return f"Bring {url} to {path} from elsewhere, or use the embedded model {EMBEDDED}, which needs no download"

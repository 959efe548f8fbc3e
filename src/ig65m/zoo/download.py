"""Downloads one file: resumed, bounded, verified on the disk, and only then renamed."""

import errno
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from ig65m.errors import DownloadError
from ig65m.zoo.http import TransferError, answer, blocks, status_error

MOST = 2 << 30  # largest download in bytes; four times VMZ's largest file
TRIES = 4  # failures in a row without progress
HEADWAY = 1 << 20  # bytes
PAUSE = 0.5  # seconds before the second try, doubled for each further one

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PAGE = re.compile(rb"\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


@dataclass
class _Job:
    """State of one download."""

    source: str | Path
    part: Path  # bytes received so far
    sha256: str | None
    timeout: float
    most: int
    show: Callable[[int, int | None], None]
    total: int | None = None  # size of the whole file, by the last response
    etag: str | None = None  # version of the part, if the server sent one in this process
    page: bool = False  # the server declared a web page
    resumed: bool = False  # the part comes from several responses
    whole: bool = False  # do not request ranges


def part_of(path: Path) -> Path:
    """Path of an incomplete download; the next attempt resumes it."""
    return path.with_name(f"{path.name}.part")


def fetch(
    source: str | Path, path: Path, sha256: str | None, *, timeout: float, progress: bool = False, most: int = MOST
) -> str:
    """Download a URL, or copy a file, to `path`, and return its sha256. `path` appears only once it is complete and verified.

    `sha256` is the expected digest, its first digits, or None. `timeout` is in seconds without a byte, or with fewer than 1
    KiB a second. `most` is the largest accepted size in bytes. `progress` shows a bar on stderr. The caller holds a lock on
    `path`.

    Raises DownloadError; `path` is unchanged then. The bytes received stay in `part_of(path)` if they can be resumed.
    """
    with _bar(path.name, progress) as show:
        job = _Job(source, part_of(path), sha256, timeout, most, show)
        try:
            return _verified_download(job, path)
        except TransferError as error:
            kept = "; the bytes received are kept, and the next attempt resumes them" if _left(job.part) else ""
            raise DownloadError(f"{source} cannot be downloaded: {error}{kept}") from None
        except OSError as error:
            raise _disk_error(error, job) from None


def _verified_download(job: _Job, path: Path) -> str:
    if job.sha256 is None:  # a part of another version, or with holes after a power cut, could not be recognised
        job.part.unlink(missing_ok=True)
    digest = _complete(job)
    if job.resumed and _fault(job, digest):  # the file changed between two responses, or the part belongs to another file
        job.part.unlink()
        job.whole = True
        digest = _complete(job)
    if fault := _fault(job, digest):
        job.part.unlink()
        raise TransferError(fault)
    job.part.replace(path)
    _sync_folder(path.parent)
    return digest


def _complete(job: _Job) -> str:
    """Complete the part, in as many responses as it takes; returns its sha256."""
    if isinstance(job.source, Path):
        _copy(job, job.source)
    else:
        _download(job, job.source)
    with job.part.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(job: _Job, source: Path) -> None:
    try:
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):
            raise TransferError("it is not a file")
        file = source.open("rb")
    except OSError as error:
        raise TransferError(error.strerror or str(error)) from None
    with file:
        _size(job.part)
        _append(job, 0, status.st_size, iter(lambda: file.read(HEADWAY), b""))


def _download(job: _Job, url: str) -> None:
    furthest = _size(job.part)
    tries = 0
    while True:
        try:
            return _request(job, url)
        except TransferError as error:
            size = _size(job.part)
            if not error.retry:
                raise
            if size >= furthest + HEADWAY:  # more than ever before: a server that always fails at the same byte ends this
                furthest, tries = size, 0
            elif error.stalled or tries + 1 == TRIES:
                raise
            time.sleep(max(error.wait, PAUSE * 2**tries))
            tries += 1
            if tries + 1 == TRIES:
                job.whole = True  # perhaps the server does not support ranges


def _request(job: _Job, url: str) -> None:
    """Make one request, for what is missing or for everything. Raises TransferError; the bytes received stay."""
    start = 0 if job.whole or (job.sha256 is None and job.etag is None) else _size(job.part)
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if job.etag:
            headers["If-Range"] = job.etag
    with answer(url, headers, job.timeout) as response:
        if start and response.status == 416 and job.sha256 is not None:
            job.resumed = True  # the part is as long as the file, or longer: its digest decides
            return
        if response.status not in ((200, 206) if start else (200,)):
            error = status_error(response)
            raise error if error.retry or not start else _no_ranges(job, str(error))
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", ""):
            raise TransferError(f"unexpected content encoding {encoding!a}", retry=False)
        total = response.length
        if response.status == 206:
            total = _total(job, response, start)
        else:
            start = 0
            etag = response.headers.get("ETag", "")
            job.etag = etag if etag.startswith('"') else None  # weak ETags (W/"...") do not promise equal bytes
            job.page = response.headers.get_content_type() in ("text/html", "application/xhtml+xml", "application/json")
            if total is None and job.sha256 is None and not response.chunked:
                raise TransferError(
                    "neither length nor sha256 is known, so a truncated file could not be recognised", retry=False
                )
        job.resumed = start > 0
        size = _append(job, start, total, blocks(response))
    if total is not None and size < total:
        raise TransferError(f"the response ended after {size} of {total} bytes")


def _total(job: _Job, response: HTTPResponse, start: int) -> int:
    """Return the size of the whole file, from a response that resumes at `start`. Raises TransferError if it does not fit."""
    said = response.headers.get("Content-Range", "")
    match = _RANGE.fullmatch(said.strip())
    first, last = (int(match[1]), int(match[2])) if match else (-1, -1)
    length_fits = response.length is None or response.length == last - first + 1
    etag = response.headers.get("ETag")
    same_version = job.etag is None or etag is None or etag == job.etag
    total = int(match[3]) if match and match[3] != "*" else last + 1
    if first != start or not start <= last < total or not length_fits or not same_version:
        raise _no_ranges(job, f"requested bytes from {start} on, got {said!a}")
    return total


def _no_ranges(job: _Job, reason: str) -> TransferError:
    job.whole = True
    return TransferError(reason)


def _append(job: _Job, start: int, total: int | None, chunks: Iterable[bytes]) -> int:
    """Write the part from byte `start` on; returns its new size. Raises TransferError if it is too long, OSError."""
    job.total = total
    most = job.most if total is None else total
    if most > job.most:
        job.part.unlink(missing_ok=True)
        raise TransferError(f"it has {total} bytes, more than the limit of {job.most}", retry=False)
    size = start
    with _opened(job.part, start) as out:
        if most - start > shutil.disk_usage(job.part.parent).free and total is not None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for chunk in chunks:
            size += len(chunk)
            if size > most:
                job.part.unlink()
                raise TransferError(f"it exceeds {most} bytes", retry=False)
            out.write(chunk)
            job.show(size, total)
    return size


def _opened(part: Path, start: int) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if start else os.O_TRUNC)
    file = os.fdopen(os.open(part, flags, 0o666), "wb")
    file.seek(start)
    return file


def _size(part: Path) -> int:
    """Return the size of the part, 0 if there is none; remove anything that is not a regular file, such as a link."""
    try:
        status = part.lstat()
    except FileNotFoundError:
        return 0
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and os.access(part, os.R_OK | os.W_OK):
        return status.st_size
    part.unlink()
    return 0


def _left(part: Path) -> bool:
    return part.is_file() and part.stat().st_size > 0


def _fault(job: _Job, digest: str) -> str | None:
    """Return what is wrong with the received file; None if nothing is known to be wrong."""
    if job.sha256 is not None and digest.startswith(job.sha256):
        return None
    with job.part.open("rb") as file:
        head = file.read(512)
    if not head:
        came = "an empty file"
    elif job.page or _PAGE.match(head):
        came = "a web page, perhaps of a login or a proxy,"
    elif job.sha256 is not None:
        came = f"a file of {job.part.stat().st_size} bytes, damaged or not the published one,"
    else:
        return None
    expected = "" if job.sha256 is None else f", expected {job.sha256}"
    return f"got {came} with sha256 {digest[: len(job.sha256 or digest)]}{expected}; it was deleted"


def _disk_error(error: OSError, job: _Job) -> DownloadError:
    folder = job.part.parent
    if error.errno not in _FULL:
        reason = error.strerror or str(error)
        return DownloadError(f"cannot write {job.part} ({reason}); set IG65M_CACHE to a writable folder")
    with suppress(OSError):
        job.part.unlink(missing_ok=True)  # on a full disk, the part would harm other programs more than another download costs
    needed = f"{job.total / 1e6:.1f} MB are" if job.total is not None else "more is"
    free = shutil.disk_usage(folder).free / 1e6
    return DownloadError(
        f"no space in {folder} ({error.strerror}): {needed} needed for {job.source}, {free:.1f} MB are free; free some, or set "
        "IG65M_CACHE to a folder on another disk"
    )


def _sync_folder(folder: Path) -> None:
    """Make the new name durable, if the file system supports that."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with suppress(OSError):
        os.fsync(handle)
    os.close(handle)


@contextmanager
def _bar(name: str, visible: bool) -> Iterator[Callable[[int, int | None], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not visible, transient=True) as bars:
        bar = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)

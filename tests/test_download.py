"""One file, fetched from a real server that misbehaves: the right file or a clear error, and never a bad file."""

import gzip
import hashlib
import json
import os
import random
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ig65m.errors import DownloadError
from ig65m.zoo import download
from ig65m.zoo.download import fetch, part_of
from ig65m.zoo.http import TransferError, redirect_target
from tests.webserver import serving

CONTENT = random.Random(1).randbytes(2_100_000)
OTHER = random.Random(2).randbytes(2_100_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2
PAGE = b"<!DOCTYPE html><title>Sign in</title>"


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setenv("no_proxy", "*")


def cut(h, content=CONTENT, at=HALF, **headers):
    h.head(200, Content_Length=len(content), **headers)
    h.say(content[:at])


def first(fault):
    """The fault at the first request, what is right at all others."""
    return lambda h: fault(h) if h.number == 1 else h.rest(CONTENT)


def once_cut(then):
    """The first answer ends in its middle; `then` answers what follows, `h.start` saying from where."""
    return lambda h: cut(h) if h.number == 1 else then(h)


def ranges(fault):
    """The first answer ends in its middle, and the fault is what the server has for those who ask for ranges."""
    return once_cut(lambda h: h.whole(CONTENT) if h.start is None else fault(h))


def part(content_range, body=CONTENT[HALF:], **headers):
    return lambda h: (h.head(206, Content_Length=len(body), Content_Range=content_range, **headers), h.say(body))


def piecemeal(h):
    start = h.start or 0
    piece = CONTENT[start : start + 600_000]
    if h.start is None:
        return cut(h, at=len(piece))
    h.head(206, Content_Length=len(piece), Content_Range=f"bytes {start}-{start + len(piece) - 1}/{len(CONTENT)}")
    return h.say(piece)


def chunked(h, content=CONTENT, size=70_000, end=b"0\r\n\r\n"):
    h.head(200, Transfer_Encoding="chunked")
    for at in range(0, len(content), size):
        piece = content[at : at + size]
        h.say(b"%x\r\n%b\r\n" % (len(piece), piece))
    h.say(end)


def slow(h):
    h.head(200, Content_Length=len(CONTENT))
    for at in range(0, len(CONTENT), 100_000):
        h.server.over.wait(0.06)  # more than the timeout in all
        h.say(CONTENT[at : at + 100_000])


def unframed(h):
    h.head(200)
    h.say(CONTENT)


def elsewhere(status, location):
    return lambda h: h.rest(CONTENT) if h.path == "/there" else h.head(status, Location=location, Content_Length=0)


def later(when):
    return lambda h: h.head(503, Retry_After=when, Content_Length=0)


RIGHT = {
    "nothing wrong": lambda h: h.rest(CONTENT),
    "cut once": once_cut(lambda h: h.rest(CONTENT)),
    "cut and reset": first(lambda h: (cut(h), h.reset())),
    "silent in the middle": first(lambda h: (cut(h, at=HALF + 100_000), h.server.over.wait())),
    "gives 600 kB at a time": piecemeal,
    "slow, but steady": slow,
    "ignores ranges": ranges(lambda h: h.whole(CONTENT)),
    "sends the first half twice": ranges(part(f"bytes 0-{HALF - 1}/{len(CONTENT)}", CONTENT[:HALF])),
    "says that it goes on, but begins anew": ranges(part(f"bytes {HALF}-{len(CONTENT) - 1}/{len(CONTENT)}", CONTENT[:HALF])),
    "goes on one byte late": ranges(part(f"bytes {HALF + 1}-{len(CONTENT) - 1}/{len(CONTENT)}", CONTENT[HALF + 1 :])),
    "a range that contradicts its length": ranges(part(f"bytes {HALF}-{HALF + 5}/{len(CONTENT)}")),
    "a range of nonsense": ranges(part("bytes first-last/all")),
    "a range without saying which": ranges(lambda h: (h.head(206, Content_Length=3), h.say(b"xyz"))),
    "416 to every range": ranges(lambda h: h.head(416, Content_Length=0)),
    "400 to every range": ranges(lambda h: h.head(400, Content_Length=0)),
    "resets every range": ranges(lambda h: h.reset()),
    "500 to every range": ranges(lambda h: h.head(500, Content_Length=0)),
    "another version, told by If-Range": lambda h: cut(h, OTHER, ETag='"old"') if h.number == 1 else h.rest(CONTENT),
    "another version, told by its ETag": lambda h: (
        cut(h, OTHER, ETag='"old"')
        if h.number == 1
        else part(f"bytes {HALF}-{len(CONTENT) - 1}/{len(CONTENT)}", ETag='"new"')(h)
        if h.start
        else h.whole(CONTENT)
    ),
    "another version, not told": lambda h: (
        cut(h, OTHER)
        if h.number == 1
        else part(f"bytes {HALF}-{len(CONTENT) - 1}/{len(CONTENT)}")(h)
        if h.start
        else h.whole(CONTENT)
    ),
    "500 once": first(lambda h: h.head(500, Content_Length=0)),
    "429 with a Retry-After": first(lambda h: h.head(429, Retry_After="0", Content_Length=0)),
    "503 with a date gone by": first(later("Wed, 21 Oct 2015 07:28:00 GMT")),
    "503 with nonsense": first(later("soon")),
    "reset once": first(lambda h: h.reset()),
    "hangs up without a word once": first(lambda h: None),
    "garbage once": first(lambda h: h.say(b"\0\1\2\3\n")),
    "chunked": chunked,
    "chunked, cut once": first(lambda h: chunked(h, CONTENT[:HALF], end=b"")),
    "no length": unframed,
    "a length that is no number": lambda h: h.whole(CONTENT, Content_Length="many"),
    "called a web page": lambda h: h.whole(CONTENT, Content_Type="text/html"),
    "redirected": elsewhere(302, "/there"),
    "redirected for good": elsewhere(308, "there"),
}

WRONG = {
    "another file": (lambda h: h.whole(OTHER), "2100000 bytes, damaged or not the published one, with sha256 "),
    "one bit": (lambda h: h.whole(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])), "damaged or not the published one"),
    "more": (lambda h: h.whole(CONTENT + b"more"), "damaged or not"),
    "always cut": (cut, "ended after 1050000 of 2100000 bytes"),
    "says less than it sends": (lambda h: h.whole(CONTENT, Content_Length=HALF), "damaged or not"),
    "says more than it sends": (lambda h: h.whole(CONTENT, Content_Length=3_000_000), "2100000 of 3000000 bytes"),
    "nothing": (lambda h: h.whole(b""), "empty file"),
    "a login page": (lambda h: h.whole(PAGE, Content_Type="text/html; charset=utf-8"), "web page"),
    "a page that is not called one": (lambda h: h.whole(b"\n" + PAGE), "web page"),
    "404": (lambda h: h.head(404, Content_Length=0), "404 Not Found"),
    "410": (lambda h: h.head(410, Content_Length=0), "410 Gone"),
    "403": (lambda h: h.head(403, Content_Length=0), "403 Forbidden: a login is required"),
    "401": (lambda h: h.head(401, WWW_Authenticate="Basic", Content_Length=0), "401"),
    "always 500": (lambda h: h.head(500, Content_Length=0), "500 Internal Server Error"),
    "always 503": (later("0"), "503 Service Unavailable"),
    "503 for an hour": (later("3600"), "try again in 3600 s"),
    "503 until tomorrow": (
        lambda h: later(format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True))(h),
        "try again in",
    ),
    "a status of its own": (lambda h: h.head(999, Content_Length=0), "999 of unknown meaning"),
    "204": (lambda h: h.head(204), "204 No Content"),
    "a part that nobody asked for": (part(f"bytes 0-{HALF - 1}/{len(CONTENT)}", CONTENT[:HALF]), "206 Partial Content"),
    "a loop": (lambda h: h.head(302, Location="/weights.pth", Content_Length=0), "in a loop"),
    "a longer and longer way": (lambda h: h.head(301, Location=h.path + "x", Content_Length=0), "more than 10 redirects"),
    "redirected to a file": (elsewhere(302, "file:///etc/passwd"), "to 'file' is not followed"),
    "redirected to ftp": (elsewhere(307, "ftp://127.0.0.1/weights.pth"), "to 'ftp'"),
    "redirected to data": (elsewhere(303, "data:,weights"), "to 'data'"),
    "redirected nowhere": (lambda h: h.head(302, Content_Length=0), "without a target"),
    "redirected to nonsense": (elsewhere(302, "http://[::1/weights"), "invalid URL"),
    "always garbage": (lambda h: h.say(random.Random(3).randbytes(5000)), "not HTTP"),
    "another protocol": (lambda h: h.say(b"SSH-2.0-OpenSSH_9.2\r\n"), "not HTTP"),
    "always reset": (lambda h: h.reset(), "reset"),
    "always silent": (lambda h: h.server.over.wait(), "no data for 0.4 s"),
    "a byte now and then": (lambda h: (h.head(200, Content_Length=len(CONTENT)), h.drip()), "bytes in"),
    "a header now and then": (lambda h: (h.say(b"HTTP/1.1 200 OK\r\nX: "), h.drip()), "bytes in"),
    "no end of its header": (lambda h: (h.say(b"HTTP/1.1 200 OK\r\n"), h.pour(b"X: y\r\n" * 10_000)), "more than 100 headers"),
    "100 and again 100": (lambda h: h.pour(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "the response does not end"),
    "no end": (lambda h: (h.head(200), h.pour(CONTENT)), "exceeds 4000000 bytes"),
    "no end of chunks": (
        lambda h: (h.head(200, Transfer_Encoding="chunked"), h.pour(b"400\r\n%b\r\n" % (b"weights " * 128) * 100)),
        "exceeds 4000000 bytes",
    ),
    "no end of redirecting": (lambda h: (h.head(302, Location="/weights.pth"), h.pour(CONTENT)), "in a loop"),
    "far too long": (lambda h: h.whole(b"", Content_Length=10**15), "has 1000000000000000 bytes"),
    "chunks that end early": (lambda h: chunked(h, CONTENT[:HALF], end=b""), "closed early"),
    "chunks of nonsense": (lambda h: (h.head(200, Transfer_Encoding="chunked"), h.say(b"zz\r\n")), "closed early"),
    "compressed": (lambda h: h.whole(gzip.compress(CONTENT, 1), Content_Encoding="gzip"), "encoding 'gzip'"),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


@pytest.mark.parametrize("fault", RIGHT)
def test_the_right_file_comes_in_spite_of(fault, path):
    with serving(RIGHT[fault]) as server:
        timeout = 1.0 if fault in ("silent in the middle", "slow, but steady") else 20.0
        assert fetch(f"{server.url}/weights.pth", path, DIGEST[:8], timeout=timeout) == DIGEST
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("fault", WRONG)
def test_a_clear_error_and_no_file_comes_of(fault, path):
    behave, message = WRONG[fault]
    timeout = 0.4 if fault in ("always silent", "a byte now and then", "a header now and then") else 20.0
    with serving(behave) as server, pytest.raises(DownloadError) as error:
        fetch(f"{server.url}/weights.pth", path, DIGEST[:8], timeout=timeout, most=4_000_000)
    assert message in str(error.value)
    assert f"{server.url}/weights.pth" in str(error.value)
    assert len(server.requests) <= 2 * download.TRIES + 10
    assert not path.exists()


@pytest.mark.parametrize("fault", ["a login page", "nothing", "always cut", "compressed", "chunks that end early", "404"])
def test_a_file_of_which_nothing_is_known_is_checked_as_far_as_possible(fault, path):
    behave, message = WRONG[fault]
    with serving(behave) as server, pytest.raises(DownloadError, match=message):
        fetch(server.url, path, None, timeout=20)
    assert not path.exists()


def test_without_length_and_digest_a_cut_file_could_not_be_noticed(path):
    with serving(unframed) as server, pytest.raises(DownloadError, match="neither length nor sha256"):
        fetch(server.url, path, None, timeout=20)
    assert not path.exists()


def test_a_file_of_which_nothing_is_known_goes_on_only_from_the_same_version(path):
    part_of(path).write_bytes(OTHER[:1000])  # of an earlier process
    with serving(once_cut(lambda h: h.rest(CONTENT))) as server:  # cut without an ETag
        fetch(server.url, path, None, timeout=20)
    assert not any("Range" in headers for headers in server.requests)
    assert path.read_bytes() == CONTENT
    path.unlink()
    with serving(lambda h: cut(h, ETag='"first"') if h.number == 1 else h.rest(CONTENT)) as server:
        fetch(server.url, path, None, timeout=20)
    assert server.requests[1]["If-Range"] == '"first"'
    assert server.sent == len(CONTENT)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("left", "sent"),
    [
        (b"", len(CONTENT)),
        (CONTENT[:70_000], len(CONTENT) - 70_000),
        (CONTENT, 0),
        (OTHER[:70_000], len(CONTENT) - 70_000 + len(CONTENT)),
        (OTHER, len(CONTENT)),
        (CONTENT + b"more", len(CONTENT)),
    ],
    ids=["nothing", "the beginning", "all", "another beginning", "another file", "more"],
)
def test_whatever_an_earlier_process_left(left, sent, path):
    part_of(path).write_bytes(left)
    with serving(lambda h: h.rest(CONTENT)) as server:
        fetch(server.url, path, DIGEST, timeout=20)
    assert server.sent == sent
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["symlink", "hard link", "dangling", "fifo"])
def test_a_part_that_is_no_file_of_ours_is_not_written_to(kind, path, tmp_path):
    treasure = tmp_path / "treasure"
    treasure.write_bytes(b"treasure")
    part = part_of(path)
    make = {
        "symlink": lambda: part.symlink_to(treasure),
        "hard link": lambda: part.hardlink_to(treasure),
        "dangling": lambda: part.symlink_to(tmp_path / "nowhere"),
        "fifo": lambda: os.mkfifo(part),
    }
    make[kind]()
    with serving(lambda h: h.rest(CONTENT)) as server:
        fetch(server.url, path, DIGEST, timeout=20)
    assert path.read_bytes() == CONTENT
    assert not path.is_symlink()
    assert treasure.read_bytes() == b"treasure"
    assert not (tmp_path / "nowhere").exists()


def test_a_part_that_is_a_folder_is_named(path):
    part_of(path).mkdir()
    with serving(lambda h: h.rest(CONTENT)) as server, pytest.raises(DownloadError, match=r"weights\.pth\.part"):
        fetch(server.url, path, DIGEST, timeout=20)


def test_what_came_is_kept_for_the_next_attempt(path):
    with (
        serving(lambda h: cut(h) if h.number == 1 else h.reset()) as server,
        pytest.raises(DownloadError, match=r"reset.*kept"),
    ):
        fetch(server.url, path, DIGEST, timeout=20)
    assert part_of(path).read_bytes() == CONTENT[:HALF]
    with serving(lambda h: h.rest(CONTENT)) as server:
        fetch(server.url, path, DIGEST, timeout=20)
    assert server.sent == len(CONTENT) - HALF
    assert path.read_bytes() == CONTENT


def test_nobody_there(path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DownloadError, match="refused"):
        fetch(f"http://127.0.0.1:{port}/weights.pth", path, DIGEST, timeout=20)


def test_a_server_without_a_certificate_to_trust(path):
    with serving(lambda h: h.rest(CONTENT)) as server, pytest.raises(DownloadError, match=r"SSL|TLS"):
        fetch(server.url.replace("http:", "https:"), path, DIGEST, timeout=20)


def test_redirects_never_lose_the_encryption():
    assert redirect_target("http://a/b/c", "d?e=f") == "http://a/b/d?e=f"
    assert redirect_target("http://a/b", "https://c/d e\xe9") == "https://c/d%20e%E9"
    with pytest.raises(TransferError, match="from https to 'http'"):
        redirect_target("https://a/b", "http://a/b")


def test_a_proxy_is_asked(path, monkeypatch):
    with serving(lambda h: h.whole(CONTENT if h.path == "http://weights.invalid/w" else OTHER)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        fetch("http://weights.invalid/w", path, DIGEST, timeout=20)
    assert path.read_bytes() == CONTENT


def test_a_copy_is_verified_too(path, tmp_path):
    source = tmp_path / "source.pth"
    for content, message in ((OTHER, "not the published one"), (b"", "empty file"), (PAGE, "web page")):
        source.write_bytes(content)
        with pytest.raises(DownloadError, match=message):
            fetch(source, path, DIGEST, timeout=20)
        assert not path.exists()
    source.write_bytes(CONTENT)
    assert fetch(source, path, DIGEST, timeout=20) == DIGEST
    assert path.read_bytes() == CONTENT
    with pytest.raises(DownloadError, match="No such file"):
        fetch(tmp_path / "none.pth", path, DIGEST, timeout=20)
    with pytest.raises(DownloadError, match="not a file"):
        fetch(tmp_path, path, DIGEST, timeout=20)


def test_json_is_no_weights(path):
    body = json.dumps({"error": "expired"}).encode()
    with (
        serving(lambda h: h.whole(body, Content_Type="application/json")) as server,
        pytest.raises(DownloadError, match="web page"),
    ):
        fetch(server.url, path, None, timeout=20)

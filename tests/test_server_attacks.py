"""What strangers may try on a running service: each gets the right status and a clear error, and the service goes on."""

import os
import shutil
import socket

import pytest

from tests.serving import check_unharmed, checked, post, raw_error, read_answer, request

pytestmark = pytest.mark.slow

MIB = 1 << 20


@pytest.fixture(autouse=True)
def served(attacked):
    yield attacked
    check_unharmed(attacked)


# Names


@pytest.mark.parametrize(
    "path",
    [
        "/api/videos/../../../etc/passwd/file", "/api/videos/..%2f..%2f..%2fetc%2fpasswd/file", "/api/videos/%2e%2e/file",
        "/api/videos/%00/file", "/api/videos/a%00b/file", "/api/videos//file", "/api/videos/%2Fetc%2Fpasswd/file",
        "/api/videos/%252e%252e%252f/file", "/api/videos/....//file", "/api/videos/bikes.mp4/file", "/api/videos/%ff%fe/file",
        "/api/videos/file:%2F%2F%2Fetc%2Fpasswd/thumbnail.jpg", "/static/../app.py", "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/docs/..%2f..%2fcli%2f__init__.py", "/static//etc/passwd", "/static/%00", "/docs/%00.js", "//api/health",
        "/api/videos/http:%2F%2F127.0.0.1:1%2F/file", "/api/videos/" + "x" * 300, "/api/health/", "/API/health", "/.git/config",
    ],
)  # fmt: skip
def test_paths_that_lead_nowhere(served, path):
    answer = served.say(request(served, f"GET {path} HTTP/1.1", "Connection: close"))
    status, _ = raw_error(answer) if answer.split()[1] != b"307" else (404, None)
    assert status in (404, 422)
    assert b"root:" not in answer


def test_an_address_of_another_service_is_not_fetched(served):
    answer = served.say(request(served, "GET http://example.com/ HTTP/1.1", "Connection: close"))
    assert raw_error(answer)[0] == 404


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "TRACE", "OPTIONS", "CONNECT", "FOO"])
def test_other_methods(served, ids, method):
    for path in ("/api/videos", f"/api/videos/{ids['bikes.mp4']}/file", "/api/classify", "/docs", "/docs/reference.js"):
        answer = served.say(request(served, f"{method} {path} HTTP/1.1", "Connection: close"))
        assert raw_error(answer) == (405, "wrong_method")
    with served.client() as client:
        checked(client.get("/api/classify"), 405, "wrong_method")
        checked(client.post("/api/videos"), 405, "wrong_method")
        assert client.put("/api/search").headers["allow"] == "GET, POST"
        assert client.put("/docs/reference.js").headers["allow"] == "GET, HEAD"


def test_videos_that_have_gone_or_were_exchanged(served, shelf, ids, tmp_path):
    """The file of an indexed video: gone, a folder, a link to a secret, a pipe, a text."""
    videos = {path.name: path for path in (shelf / "videos").iterdir()}
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0")
    aside = tmp_path / "aside"
    shutil.move(videos["bikes.mp4"], aside)
    place = videos["bikes.mp4"]
    makers = {
        "gone": lambda: None,
        "folder": place.mkdir,
        "link to a secret": lambda: place.symlink_to(secret),
        "link to itself": lambda: place.symlink_to(place),
        "link to a device": lambda: place.symlink_to("/dev/zero"),
        "pipe": lambda: os.mkfifo(place),
        "text": lambda: place.write_text("<script>alert(1)</script>"),
        "empty": place.touch,
    }
    try:
        with served.client() as client:
            video = ids["bikes.mp4"]
            for how, make in makers.items():
                make()
                checked(client.get(f"/api/videos/{video}/file"), 410, "gone")
                assert client.head(f"/api/videos/{video}/file").status_code == 410
                answer = client.get(f"/api/videos/{video}/thumbnail.jpg?time=1")
                checked(answer, 410 if how in ("gone", "link to itself", "link to a device", "pipe") else 422)
                assert b"root:x" not in answer.content
                assert client.get(f"/api/videos/{video}/timeline").status_code == 200
                if place.is_dir() and not place.is_symlink():
                    place.rmdir()
                else:
                    place.unlink(missing_ok=True)
            shutil.copy(aside, place)
            assert client.get(f"/api/videos/{video}/file").status_code == 200
            place.write_bytes(aside.read_bytes() + b"more")  # the same name, other bytes: what is there now is shown
            assert len(client.get(f"/api/videos/{video}/file").content) == aside.stat().st_size + 4
    finally:
        place.unlink(missing_ok=True)
        shutil.move(aside, place)


def test_a_video_that_becomes_shorter_while_it_is_sent(served, shelf, ids):
    place = shelf / "videos" / "bikes.mp4"
    whole = place.read_bytes()
    try:
        place.write_bytes(whole + bytes(40 * MIB))
        with socket.create_connection((served.host, served.port), timeout=20) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
            connection.sendall(request(served, f"GET /api/videos/{ids['bikes.mp4']}/file HTTP/1.1"))
            connection.recv(1000)
            os.truncate(place, len(whole))
            assert len(read_answer(connection)) < len(whole) + 40 * MIB
    finally:
        place.write_bytes(whole)


# Not HTTP


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/9.9\r\n\r\n", b"nonsense\r\n\r\n", b"\0" * 1000,
        b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/classify HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", b"GET / HTTP/1.1\r\nX: a\r\n b: c\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_http(served, data):
    answer = served.say(data, until_closed=False)
    status, _ = raw_error(answer)
    assert status in (400, 421)


def test_headers_beyond_measure(served):
    for data in (
        request(served, "GET /api/health HTTP/1.1", "X: " + "x" * (4 * MIB)),
        request(served, "GET /" + "x" * (4 * MIB) + " HTTP/1.1"),
        request(served, "GET /api/health HTTP/1.1", *(f"X-{n}: x" for n in range(300_000))),
    ):
        answer = served.say(data, until_closed=False)
        assert answer == b"" or raw_error(answer)[0] == 400


def test_a_chunked_body_that_is_none(served):
    headers = ("Transfer-Encoding: chunked", "Connection: close")
    for body in (b"zz\r\nxx", b"-1\r\n", b"ffffffffffffffffffff\r\n"):
        answer = served.say(post(served, body, *headers), until_closed=False)
        assert answer == b"" or int(answer.split()[1]) in (400, 408, 413)


def test_two_requests_in_one_go(served, short):
    """Pipelined, the first with a body that the second could hide in."""
    first = post(served, short, f"Content-Length: {len(short)}")
    second = request(served, "GET /api/health HTTP/1.1", "Connection: close")
    answer = served.say(first + second)
    assert answer.count(b"HTTP/1.1 200 OK") == 2


# Whoever asks


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:PORT", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:PORT",
     "127.0.0.1:PORT.evil.example", "[::2]:PORT", "", "127.0.0.1:PORT@evil.example", "2130706433:PORT", "127.1:PORT"],
)  # fmt: skip
def test_another_name_for_the_host(served, host):
    line = f"Host: {host.replace('PORT', str(served.port))}"
    answer = served.say(f"GET /api/videos HTTP/1.1\r\n{line}\r\nConnection: close\r\n\r\n".encode())
    assert raw_error(answer) in ((421, "wrong_host"), (400, "bad_request"))
    assert b"bikes" not in answer


@pytest.mark.parametrize("host", ["127.0.0.1:PORT", "localhost:PORT", "[::1]:PORT", "LOCALHOST:PORT"])
def test_its_own_names(served, host):
    with served.client() as client:
        assert client.get("/api/health", headers={"host": host.replace("PORT", str(served.port))}).status_code == 200


def test_no_host_at_all(served):
    assert raw_error(served.say(b"GET /api/videos HTTP/1.0\r\n\r\n")) == (421, "wrong_host")


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:1"}, {"origin": "file://"},
     {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://[broken"},
     {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
     {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}],
)  # fmt: skip
def test_another_site(served, ids, short, headers):
    with served.client(headers=headers) as client:
        checked(client.get("/api/videos"), 403, "wrong_origin")
        checked(client.get(f"/api/videos/{ids['bikes.mp4']}/file"), 403, "wrong_origin")
        checked(client.post("/api/classify", content=short), 403, "wrong_origin")
        answer = client.get("/docs")
    assert answer.status_code == (200 if headers.get("sec-fetch-mode") == "navigate" else 403)  # a link to the page is one


def test_its_own_page(served, short):
    for headers in ({"origin": served.url, "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
        with served.client(headers=headers) as client:
            assert client.post("/api/classify", content=short).status_code == 200
            assert client.options("/api/classify").status_code == 405
    with served.client() as client:
        assert not [name for name in client.get("/api/health").headers if name.startswith("access-control")]


def test_ranges_without_measure(served, ids):
    url = f"/api/videos/{ids['bikes.mp4']}/file"
    with served.client() as client:
        many = "bytes=" + ",".join(["0-"] * 2000)
        answer = client.get(url, headers={"range": many})
        assert answer.status_code == 200
        huge = "bytes=0-" + "9" * 5000
        assert client.get(url, headers={"range": huge}).status_code in (200, 206)


def test_names_with_markup_are_only_text(served, ids):
    video = ids["<img src=x onerror=alert(1)>.mp4"]
    with served.client() as client:
        for path in ("", "/timeline"):
            answer = client.get(f"/api/videos/{video}{path}")
            assert answer.headers["content-type"] == "application/json"
            assert answer.json()["title"] == "<img src=x onerror=alert(1)>.mp4"
        answer = client.get(f"/api/videos/{video}/file")
        assert answer.headers["content-type"] == "video/mp4"
        assert "onerror" not in str(answer.headers)
        checked(client.get("/api/videos/<script>alert(1)</script>"), 404)
        assert b"<script>" not in client.get("/api/search?label=<script>").content
        checked(client.get("/api/search?label=<script>"), 404, "no_label")


def test_nobody_can_log_in_where_there_is_no_token(served):
    with served.client() as client:
        checked(client.post("/api/login", json={"token": "x" * 20}), 404, "no_token")

"""What strangers may try on a running service: each gets the right status and a clear error, and the service goes on."""

import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import psutil
import pytest

from tests.serving import read_answer, serving
from tests.videos import constant, encode, encode_numbers, repeated

MIB = 1 << 20
TIMEOUT = 3
LEAKS = (b"/tmp", b"ig65m-serve", b"site-packages", b"Traceback", b".py", b"/home", b"/root")


@pytest.fixture(scope="module")
def served(shelf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacked")
    limits = ("--max-upload", 1, "--queue", 4, "--workers", 2, "--upload-timeout", TIMEOUT, "--timeout", 5, "--max-seconds", 3)
    with serving(shelf / "index", folder / "tmp", *limits) as served:
        yield served


@pytest.fixture(autouse=True)
def unharmed(served):
    yield
    assert served.process.poll() is None
    served.wait_until_empty()
    health = settled(served)
    assert health["requests"] == {"running": 0, "waiting": 0, "room": 4}
    assert len(served.workers()) <= 4
    assert "fault of" not in served.said()
    assert "Traceback" not in served.said()


def settled(served):
    """Its health, once it has got over what was done to it."""
    until = time.monotonic() + 20
    while True:
        with served.client() as client:
            health = client.get("/api/health").json()
        if health["requests"]["room"] == 4 or time.monotonic() > until:
            return health
        time.sleep(0.1)


@pytest.fixture
def ids(served):
    with served.client() as client:
        return {video["title"]: video["id"] for video in client.get("/api/videos").json()["videos"]}


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return encode_numbers(tmp_path_factory.mktemp("short") / "short.mp4", constant(20)).read_bytes()


def checked(answer, status, code=None):
    """The error in an answer, which is JSON with the right status and says nothing about the machine."""
    assert answer.status_code == status, answer.text
    assert not [leak for leak in LEAKS if leak in answer.content], answer.text
    assert answer.headers["content-security-policy"]
    error = answer.json()["error"]
    assert error["code"] == code or code is None, error
    assert error["message"]
    return error


def raw_error(answer):
    """Status and code of an answer as bytes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-security-policy" in head.lower(), answer
    assert not [leak for leak in LEAKS if leak in answer], answer
    return int(head.split()[1]), json.loads(body)["error"]["code"]


def request(served, line, *headers, body=b""):
    return "\r\n".join([line, f"Host: {served.host}:{served.port}", *headers, "", ""]).encode() + body


def post(served, body, *headers, path="/api/classify"):
    return request(served, f"POST {path} HTTP/1.1", "Content-Type: video/mp4", *headers, body=body)


# Too much


def test_an_upload_over_the_limit_is_refused_by_its_length(served):
    with served.client() as client:
        error = checked(client.post("/api/classify", content=bytes(MIB + 1)), 413, "too_large")
    assert "1 MiB" in error["message"]


def test_an_upload_over_the_limit_is_refused_before_it_is_sent(served):
    begun = time.monotonic()
    answer = served.say(post(served, b"", f"Content-Length: {1 << 40}"), until_closed=False)
    assert raw_error(answer) == (413, "too_large")
    assert b"connection: close" in answer.lower()
    assert time.monotonic() - begun < 2


def test_an_upload_over_the_limit_is_refused_where_its_length_is_not_told(served):
    with served.client() as client:
        checked(client.post("/api/classify", content=(bytes(1000) for _ in range(2000))), 413, "too_large")


def test_curl_sees_that_an_upload_is_too_large(served, tmp_path):
    (tmp_path / "large").write_bytes(bytes(30 * MIB))
    command = ["curl", "-sS", "--data-binary", f"@{tmp_path / 'large'}", f"{served.url}/api/classify"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["error"]["code"] == "too_large"


def test_a_form_over_the_limit_is_refused(served):
    with served.client() as client:
        checked(client.post("/api/classify", files={"file": ("v.mp4", bytes(2 * MIB))}), 413, "too_large")
        checked(client.post("/api/classify", files={"file": ("v.mp4", bytes(MIB + 100))}), 413, "too_large")


def test_a_form_of_headers_without_end_is_refused(served):
    form = b"--b\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(900))
    headers = ("Content-Type: multipart/form-data; boundary=b", f"Content-Length: {len(form)}")
    answer = served.say(request(served, "POST /api/classify HTTP/1.1", *headers, body=form), until_closed=False)
    assert raw_error(answer) == (400, "bad_form")


def test_more_uploads_than_there_is_room_for_are_sent_away(served, short):
    begun = post(served, short[:100], f"Content-Length: {len(short)}")
    connections = [socket.create_connection((served.host, served.port)) for _ in range(4)]
    try:
        for connection in connections:
            connection.sendall(begun)
        until = time.monotonic() + 5
        with served.client() as client:
            while client.get("/api/health").json()["requests"]["room"] and time.monotonic() < until:
                time.sleep(0.02)
            answer = client.post("/api/classify", content=short)
            checked(answer, 503, "busy")
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        for connection in connections:
            connection.sendall(short[100:])
        for connection in connections:
            assert read_answer(connection, until_closed=False).startswith(b"HTTP/1.1 200")
    finally:
        for connection in connections:
            connection.close()


def test_a_hundred_connections_at_a_time(served, short):
    def ask(number):
        with served.client() as client:
            if number % 2:
                return client.get("/api/videos").status_code
            return client.post("/api/classify", content=short).status_code

    with ThreadPoolExecutor(100) as pool:
        statuses = list(pool.map(ask, range(100)))
    assert set(statuses[1::2]) == {200}
    assert set(statuses[::2]) <= {200, 503}
    assert 200 in statuses[::2]


def test_connections_that_say_nothing_harm_nobody(served):
    idle = [socket.create_connection((served.host, served.port)) for _ in range(200)]
    try:
        with served.client() as client:
            assert client.get("/api/health").status_code == 200
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize(
    "parameters",
    [
        "count=0", "count=-1", "count=201", "count=1e9", "count=99999999999999999999999", "count=1.5", "count=NaN", "count=",
        "time=nan", "time=inf", "time=-1", "time=1e999", "time=1e8", "time=x", "time=", "merge=perhaps", "label=",
        "label=" + "x" * 1001, "video=" + "x" * 401,
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(served, ids, parameters):
    video = "" if "video" in parameters else f"&video={ids['bikes.mp4']}"
    with served.client() as client:
        checked(client.get(f"/api/search?{parameters}{video}"), 422, "bad_parameter")


@pytest.mark.parametrize("parameters", ["offset=-1", "offset=1e400", "limit=0", "limit=501", "limit=0x10", "text=" + "x" * 201])
def test_absurd_pages_are_refused(served, parameters):
    with served.client() as client:
        checked(client.get(f"/api/videos?{parameters}"), 422, "bad_parameter")
        checked(client.get("/api/search"), 422, "bad_parameter")
        checked(client.post("/api/classify?top_k=1000000", content=b"x"), 422, "bad_parameter")


# Too slow, too short, gone


def test_a_slow_upload_is_given_up(served, short):
    with socket.create_connection((served.host, served.port), timeout=20) as connection:
        connection.sendall(post(served, b"", f"Content-Length: {len(short)}"))
        begun = time.monotonic()
        connection.settimeout(0.2)
        answer = b""
        while not answer and time.monotonic() - begun < 15:
            connection.sendall(b"x")  # a byte now and then: it is never idle
            with suppress(TimeoutError):
                answer = read_answer(connection, until_closed=False)
    assert raw_error(answer) == (408, "too_slow")
    assert TIMEOUT - 0.5 < time.monotonic() - begun < TIMEOUT + 3


def test_an_idle_upload_is_given_up(served, short):
    answer = served.say(post(served, short[:50], f"Content-Length: {len(short)}"), until_closed=False)
    assert raw_error(answer) == (408, "too_slow")


def test_a_client_that_goes_in_the_middle_of_its_upload_leaves_nothing(served, short):
    for _ in range(5):
        with socket.create_connection((served.host, served.port)) as connection:
            connection.sendall(post(served, short[:100], f"Content-Length: {len(short)}"))
            time.sleep(0.05)
            if _ % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset


def test_a_client_that_goes_while_its_video_is_worked_at_ends_the_work(served, long_video):
    with socket.create_connection((served.host, served.port)) as connection:
        connection.sendall(post(served, long_video, f"Content-Length: {len(long_video)}"))
        until = time.monotonic() + 5
        with served.client() as client:
            while not client.get("/api/health").json()["requests"]["running"] and time.monotonic() < until:
                time.sleep(0.02)
    begun = time.monotonic()
    settled(served)
    assert time.monotonic() - begun < 4


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """That takes longer than anybody should wait, in less than a megabyte."""
    folder = tmp_path_factory.mktemp("long")
    few = encode(folder / "few.mp4", np.zeros((400, 240, 320, 3), np.uint8), constant(400), options={"preset": "ultrafast"})
    path = repeated(few, folder / "long.mp4", 60)
    assert path.stat().st_size < MIB
    return path.read_bytes()


# No video


def is_refused(served, body, status=422, code="unreadable", **how):
    with served.client() as client:
        for path in ("/api/classify", "/api/features", "/api/search"):
            error = checked(client.post(path, content=body, **how), status, code)
    return error


def test_an_empty_upload(served):
    is_refused(served, b"", 400, "empty")
    with served.client() as client:
        checked(client.post("/api/classify", files={"file": ("v.mp4", b"")}), 400, "empty")


def test_a_text_file(served):
    error = is_refused(served, b"Dear service, this is no video.\n" * 50)
    assert error["message"].startswith("the upload: ")
    assert error["stage"] == "decode"
    assert error["last_good_time"] is None


def test_a_truncated_upload_whose_index_is_missing(served, short):
    is_refused(served, short[: len(short) // 2])


@pytest.mark.parametrize("target", ["http", "/etc/passwd", "file"])
@pytest.mark.parametrize("kind", ["hls", "hls_variant", "concat", "dash", "sdp", "ffmeta", "concatf"])
def test_a_playlist_called_a_video_opens_nothing(served, shelf, kind, target):
    came = []
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: came.append(accepted(listener)), daemon=True).start()
    place = {
        "http": f"http://127.0.0.1:{listener.getsockname()[1]}/secret.ts",
        "/etc/passwd": "/etc/passwd",
        "file": f"file://{shelf}/videos/bikes.mp4",
    }[target]
    is_refused(served, PLAYLISTS[kind].replace("PLACE", place).encode())
    listener.close()
    assert came in ([], [None])


def accepted(listener):
    try:
        return listener.accept()
    except OSError:
        return None


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nPLACE\n#EXT-X-ENDLIST\n",
    "hls_variant": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nPLACE\n",
    "concat": "ffconcat version 1.0\nfile PLACE\n",
    "concatf": "PLACE\nPLACE\n",
    "dash": "<MPD><Period><AdaptationSet><Representation><BaseURL>PLACE</BaseURL></Representation></AdaptationSet></Period>"
    "</MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\na=control:PLACE\nm=video 5000 RTP/AVP 96\n",
    "ffmeta": ";FFMETADATA1\ntitle=PLACE\n",
}


def huge_png(folder):
    """A video of PNG pictures, whose container says 64x64."""
    pictures = np.zeros((3, 64, 64, 3), np.uint8)
    path = encode(folder / "png.mov", pictures, [0, 40, 80], codec="png", pix_fmt="rgb24")
    data = bytearray(path.read_bytes())
    place = data.find(b"IHDR")
    while place >= 0:
        data[place + 4 : place + 12] = struct.pack(">II", 16384, 16384)
        data[place + 17 : place + 21] = struct.pack(">I", zlib.crc32(data[place : place + 17]))
        place = data.find(b"IHDR", place + 1)
    return bytes(data)


def test_pictures_of_16384_pixels_square(served, tmp_path):
    for body in (b"YUV4MPEG2 W16384 H16384 F25:1 Ip A1:1 C420\nFRAME\n" + bytes(1000), huge_png(tmp_path)):
        before = psutil.Process(served.process.pid).memory_info().rss
        error = is_refused(served, body)
        assert "--" not in error["message"]
        assert psutil.Process(served.process.pid).memory_info().rss - before < 50 * MIB


def test_a_video_that_crashes_its_decoder(served, tmp_path):
    path = tmp_path / "bayer.nut"
    raw = ["-f", "rawvideo", "-pix_fmt", "bayer_bggr8", "-s", "64x1", "-i", "-"]
    subprocess.run(["ffmpeg", "-v", "error", *raw, "-c:v", "rawvideo", str(path)], input=bytes(640), check=True)
    error = is_refused(served, path.read_bytes())
    assert "crashed" in error["message"]


def test_a_decoder_that_is_killed(served, long_video):
    results = []

    def ask():
        with served.client() as client:
            results.append(client.post("/api/classify", content=long_video))

    asking = threading.Thread(target=ask)
    asking.start()
    until = time.monotonic() + 10
    while not results and time.monotonic() < until:
        for worker in served.workers():
            with suppress(psutil.Error):
                if any("ig65m-serve" in file.path for file in worker.open_files()):
                    worker.kill()
        time.sleep(0.02)
    asking.join()
    (answer,) = results
    if answer.status_code == 200:
        assert answer.json()["status"] == "partial"
        assert "crashed" in answer.json()["error"]["message"]
    else:
        assert "crashed" in checked(answer, 422, "unreadable")["message"]


def test_a_video_that_takes_too_long_is_given_up(served, long_video):
    begun = time.monotonic()
    with served.client() as client:
        error = checked(client.post("/api/classify", content=long_video), 422, "too_long")
    assert "3 s" in error["message"]
    assert 3 < time.monotonic() - begun < 8


# Bodies that are none


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 415),
        ("text/html", 415),
        ("multipart/mixed; boundary=x", 415),
        ("", 415),
        ("multipart/form-data", 400),
    ],
)
def test_kinds_of_bodies_that_are_not_taken(served, kind, status):
    with served.client() as client:
        checked(client.post("/api/classify", content=b"x" * 100, headers={"content-type": kind}), status)
        checked(client.post("/api/classify", content=b"x" * 100, headers={"content-encoding": "gzip"}), 415, "wrong_kind")


def form(*parts, end=True):
    body = b"".join(b"--b\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % part for part in parts)
    return body + (b"--b--\r\n" if end else b"")


@pytest.mark.parametrize(
    "body",
    [
        form((b'name="other"', b"x")),
        form((b'name="file"; filename="a"', b"x"), (b'name="file"; filename="b"', b"x")),
        form((b'name="file"; filename="a"', b"x"), end=False),
        form(),
        b"no form at all",
        b"--b\r\n\r\nno header\r\n--b--\r\n",
        b"--b\r\nContent-Disposition: form-data; name=file\r\n",
        form((b'name="file\x00"; filename="a"', b"x")),
    ],
    ids=["other field", "two files", "cut", "no field", "no form", "no header", "no end", "NUL"],
)
def test_forms_that_are_none(served, body):
    with served.client() as client:
        headers = {"content-type": "multipart/form-data; boundary=b"}
        checked(client.post("/api/classify", content=body, headers=headers), 400)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/cron.d/x", "a\0b.mp4", "x" * 5000, "<script>.mp4", "%2e%2e%2fx"])
def test_what_a_client_calls_its_file_is_not_looked_at(served, short, name):
    body = form((b'name="file"; filename="%s"' % name.encode(), short))
    headers = {"content-type": "multipart/form-data; boundary=b"}
    with served.client() as client:
        answer = client.post("/api/classify", content=body, headers=headers)
    assert answer.status_code in (200, 400)
    assert name.encode() not in answer.content


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
                begun = time.monotonic()
                checked(client.get(f"/api/videos/{video}/file"), 410, "gone")
                assert client.head(f"/api/videos/{video}/file").status_code == 410
                answer = client.get(f"/api/videos/{video}/thumbnail.jpg?time=1")
                checked(answer, 410 if how in ("gone", "link to itself", "link to a device", "pipe") else 422)
                assert b"root:x" not in answer.content
                assert time.monotonic() - begun < 10, how
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


def test_the_service_has_not_grown(served, short):
    """After all that, and a hundred uploads more."""
    with served.client() as client:
        for _ in range(20):
            assert client.post("/api/classify", content=short).status_code == 200
        before = psutil.Process(served.process.pid).memory_info().rss
        files = psutil.Process(served.process.pid).num_fds()
        for _ in range(100):
            assert client.post("/api/classify", content=short).status_code == 200
        process = psutil.Process(served.process.pid)
        assert process.memory_info().rss - before < 30 * MIB
        assert process.num_fds() <= files + 4
        assert process.num_threads() < 80

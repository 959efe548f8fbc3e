"""Uploads that do harm to a running service: each gets the right status and a clear error, and the service goes on."""

import json
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

from tests.serving import check_unharmed, checked, post, raw_error, read_answer, request, settled
from tests.videos import encode

pytestmark = pytest.mark.slow

MIB = 1 << 20


@pytest.fixture(autouse=True)
def served(attacked):
    yield attacked
    check_unharmed(attacked)


@pytest.fixture(scope="module")
def long_video(long_videos):
    return long_videos[0]


# Too much


def test_an_upload_over_the_limit_is_refused_by_its_length(served):
    with served.client() as client:
        error = checked(client.post("/api/classify", content=bytes(MIB + 1)), 413, "too_large")
    assert "1 MiB" in error["message"]


def test_an_upload_over_the_limit_is_refused_before_it_is_sent(served):
    answer = served.say(post(served, b"", f"Content-Length: {1 << 40}"), until_closed=False)
    assert raw_error(answer) == (413, "too_large")
    assert b"connection: close" in answer.lower()


def test_an_upload_over_the_limit_is_refused_where_its_length_is_not_given(served):
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
    settled(served)


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
    with served.client() as client:
        error = checked(client.post("/api/classify", content=long_video), 422, "too_long")
    assert "3 s" in error["message"]


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
    ids=["other field", "two files", "cut", "no field", "not a form", "no header", "no end", "NUL"],
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

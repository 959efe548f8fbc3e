"""Who may start and use the service: tokens, addresses, names; and how it ends."""

import hmac
import json
import re
import signal
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import httpx
import pytest

from ig65m.cli.serve import _token
from ig65m.errors import UsageError
from ig65m.server import security
from ig65m.server.run import access_policy, bind
from ig65m.server.security import COOKIE, AccessPolicy, Throttle
from ig65m.server.uploads import private_folder
from tests.serving import checked, post, read_answer, serving

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def guarded(shelf, tmp_path_factory):
    """A service on all addresses, with a token, also called videos.example."""
    folder = tmp_path_factory.mktemp("guarded")
    options = ("--host", "0.0.0.0", "--allow-host", "videos.example")
    with serving(shelf / "index", folder / "tmp", *options, env={"IG65M_TOKEN": TOKEN}) as served:
        served.host = "127.0.0.1"
        yield served
        assert TOKEN not in served.said()


def test_without_the_token_there_is_only_the_page(guarded):
    with guarded.client() as client:
        for path in ("/api/health", "/api/videos", "/openapi.json", "/api/nothing", "/nothing", "/api/login/x", "/docsx"):
            answer = client.get(path)
            checked(answer, 401, "no_token")
            assert answer.headers["www-authenticate"] == "Bearer"
        checked(client.post("/api/classify", content=bytes(100)), 401)
        for path in ("/", "/docs", "/docs/reference.js"):
            assert client.get(path, follow_redirects=True).status_code == 200


@pytest.mark.parametrize(
    "shown",
    ["", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN.upper()}",
     f"Bearer {'x' * 10000}", "Bearer \xfc\xff", "Bearer None", "Bearer null"],
)  # fmt: skip
def test_what_is_not_the_token(guarded, shown):
    with guarded.client() as client:
        checked(client.get("/api/health", headers={"authorization": shown.encode("latin-1")}), 401, "no_token")


@pytest.mark.parametrize("cookie", [f"{COOKIE}={TOKEN}", f"{COOKIE}=", COOKIE, f"x{COOKIE}=1", f"{COOKIE}={'0' * 64}"])
def test_cookies_that_are_none(guarded, cookie):
    with guarded.client() as client:
        checked(client.get("/api/health", headers={"cookie": cookie}), 401, "no_token")


def test_the_token_opens(guarded):
    with guarded.client(headers={"authorization": f"Bearer {TOKEN}"}) as client:
        assert client.get("/api/health").status_code == 200
        host = {"host": f"videos.example:{guarded.port}"}
        assert client.get("/api/health", headers=host).status_code == 200
        assert client.get("/api/health", headers={"host": "videos.example"}).status_code == 200
        assert client.get("/api/health", headers={**host, "origin": f"http://videos.example:{guarded.port}"}).status_code == 200
        assert (
            client.get("/api/health", headers={"host": "videos.example", "origin": "https://videos.example"}).status_code == 200
        )
        checked(client.get("/api/health", headers={"host": "videos.example.evil"}), 421)
        checked(client.get("/api/health", headers={"host": "evil.videos.example"}), 421)
    with guarded.client(headers={"authorization": f"bearer  {TOKEN}"}) as client:
        assert client.get("/api/health").status_code == 200


def test_logging_in_gives_a_cookie_that_is_not_the_token(guarded):
    with guarded.client() as client:
        answer = client.post("/api/login", json={"token": TOKEN})
        assert answer.json() == {"status": "ok"}
        cookie = answer.headers["set-cookie"]
        assert TOKEN not in cookie
        assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
        assert client.get("/api/health").status_code == 200  # it has the cookie now
        assert client.get("/api/health", headers={"origin": "http://evil.example"}).status_code == 403


def test_wrong_tokens_are_slow_and_right_ones_are_not(guarded):
    """Many that guess at the same time, by login and by header, keep nobody waiting who knows the token."""

    def login(token):
        with guarded.client() as client:
            return client.post("/api/login", json={"token": token})

    def show(token):
        with guarded.client(headers={"authorization": f"Bearer {token}"}) as client:
            return client.get("/api/labels")

    for attempt, code in ((login, "wrong_token"), (show, "no_token")):
        checked(attempt("wrong-token-of-some-length"), 401, code)
    with ThreadPoolExecutor(40) as pool:
        wrong = [pool.submit(attempt, "x" * 20) for attempt in (login, show) for _ in range(20)]
        for attempt in (login, show):
            assert attempt(TOKEN).status_code == 200
        assert not any(each.done() for each in wrong)
        assert {each.result().status_code for each in wrong} == {401}


def test_the_delay_grows_with_the_guesses_of_an_address_and_is_forgotten():
    throttle = Throttle()
    delays = [throttle.delay("10.0.0.1", 100.0) for _ in range(200)]
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (pytest.approx(1.1), 10.0)
    assert throttle.delay("10.0.0.2", 100.0) == pytest.approx(1.1)
    assert throttle.delay("10.0.0.1", 2000.0) == pytest.approx(1.1, abs=0.01)
    for number in range(5000):
        throttle.delay(f"10.1.{number // 256}.{number % 256}", 2000.0)
    assert throttle.delay("10.0.0.2", 2000.0) == pytest.approx(1.1, abs=0.01)


def test_the_cookie_is_for_https_where_tls_is_in_front(guarded):
    with guarded.client() as client:
        how = {"host": "videos.example", "origin": "https://videos.example"}
        assert "; secure" in client.post("/api/login", json={"token": TOKEN}, headers=how).headers["set-cookie"].lower()
        assert "; secure" not in client.post("/api/login", json={"token": TOKEN}).headers["set-cookie"].lower()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b"[]", 422), (b'{"token": 5}', 422), (b'{"token": null}', 422),
        (b'{"token": "x", "y": 1}', 422),
        (b'{"token": "' + b"x" * 2000 + b'"}', 422), (b'"' + b"x" * 100_000 + b'"', 413), (b"\xff\xfe", 400),
        (b'{"token": "\\ud800"}', 400), (b"[" * 5000, 400),
    ],
)  # fmt: skip
def test_logins_that_are_none(guarded, body, status):
    with guarded.client() as client:
        checked(client.post("/api/login", content=body, headers={"content-type": "application/json"}), status)
        checked(client.post("/api/login", content=body, headers={"content-type": "text/plain"}), 415, "wrong_kind")


def test_tokens_are_compared_in_constant_time(monkeypatch):
    """Each way to show one goes through hmac.compare_digest, on bytes."""
    seen = []

    def compare(one, other):
        seen.append((type(one), type(other)))
        return hmac.compare_digest(one, other)

    access = AccessPolicy(frozenset({"h"}), token=TOKEN)
    monkeypatch.setattr(security, "hmac", SimpleNamespace(compare_digest=compare, digest=hmac.digest))
    scope = {"method": "GET", "path": "/api/health"}
    for name, value in ((b"authorization", b"Bearer wrong"), (b"cookie", b"ig65m=wrong"), (b"authorization", b"Bearer \xff")):
        assert access.check({**scope, "headers": [(b"host", b"h"), (name, value)]}).status == 401
    assert not access.knows("wrong")
    assert seen == [(bytes, bytes)] * 4


def listening(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family)
    listener.bind((address, 0))
    return listener


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_an_address_that_others_reach_needs_a_token(address):
    with listening(address) as listener:
        with pytest.raises(UsageError, match="token"):
            access_policy(listener, None)
        assert access_policy(listener, TOKEN).knows(TOKEN)


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "with a space in it", "x" * 15 + "\n", "ü" * 20, "x" * 20 + "\0"])
def test_tokens_that_are_none(token):
    with listening("127.0.0.1") as listener, pytest.raises(UsageError, match="16"):
        access_policy(listener, token)


@pytest.mark.parametrize("name", ["", "http://x", "a b", "x:y", "x/", "*", "x:123456", "[::1"])
def test_names_that_are_none(name):
    with listening("127.0.0.1") as listener, pytest.raises(UsageError, match="not a host name"):
        access_policy(listener, None, [name])


def test_a_name_with_a_port_holds_for_that_port_only():
    with listening("127.0.0.1") as listener:
        access = access_policy(listener, None, ["a.example", "b.example:9", "[2001:db8::1]"])
        port = listener.getsockname()[1]
    scope = {"method": "GET", "path": "/"}
    for host in ("a.example", "A.example:1", "b.example:9", f"127.0.0.1:{port}", "[2001:db8::1]", "[2001:db8::1]:5"):
        assert access.check({**scope, "headers": [(b"host", host.encode())]}) is None
    for host in ("b.example", "b.example:8", "a.example.", "127.0.0.1", "[2001:db8::2]", "a.example:x"):
        assert access.check({**scope, "headers": [(b"host", host.encode())]}).status == 421


def test_on_port_80_browsers_leave_it_out():
    class Listener:
        def getsockname(self):
            return "127.0.0.1", 80

    access = access_policy(Listener(), None)
    assert {"127.0.0.1", "localhost", "127.0.0.1:80"} <= access.hosts


@pytest.mark.parametrize(("host", "port"), [("256.1.1.1", 0), ("no such host", 0), ("127.0.0.1", 70000), ("192.0.2.1", 0)])
def test_addresses_that_cannot_be_had(host, port):
    with pytest.raises(UsageError):
        bind(host, port)


def test_answers_are_sent_at_once():
    """Not when the client has acknowledged the part before, which takes 40 ms."""
    with bind("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_wrong_use(run, shelf, tmp_path, monkeypatch):
    monkeypatch.delenv("IG65M_TOKEN", raising=False)

    def wrong(*args):
        code, out, err = run("serve", *args)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        return err

    index = shelf / "index"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "choose another --port" in wrong(index, "--port", taken.getsockname()[1])
    assert "set a token" in wrong(index, "--port", 0, "--host", "0.0.0.0")
    assert "none" in wrong(index, "--token-file", tmp_path / "none")
    assert str(tmp_path) in wrong(tmp_path, "--port", 0)
    for option, value in (("--queue", 0), ("--workers", 65), ("--max-upload", 0), ("--max-upload", "nan")):
        assert option in wrong(index, option, value)
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setenv("IG65M_TOKEN", "short")
    assert "give only one" in wrong(index, "--token-file", tmp_path / "token")
    monkeypatch.setenv("IG65M_TOKEN", "short")
    assert "at least 16 printable" in wrong(index, "--port", 0)


def test_the_processes_that_decode_do_not_know_the_token(guarded):
    workers = guarded.workers()
    assert workers
    assert not [worker for worker in workers if TOKEN in str(worker.environ())]


def test_a_token_may_be_in_a_file(tmp_path, monkeypatch):
    monkeypatch.delenv("IG65M_TOKEN", raising=False)
    (tmp_path / "token").write_text(f" {TOKEN}\n")
    assert _token(tmp_path / "token") == TOKEN
    assert _token(None) is None


# How it ends


def test_it_ends_in_order(shelf, tmp_path, long_videos):
    """In the middle of an upload, of a computation, of others that wait; with connections that are idle."""
    with serving(shelf / "index", tmp_path / "tmp", "--workers", 1) as served:
        _, video = long_videos
        with served.client() as idle:
            idle.get("/api/health")
            uploading, working, waiting = (socket.create_connection((served.host, served.port), timeout=40) for _ in range(3))
            working.sendall(post(served, video, f"Content-Length: {len(video)}"))
            until = time.monotonic() + 10
            while idle.get("/api/health").json()["requests"]["running"] < 1 and time.monotonic() < until:
                time.sleep(0.02)
            waiting.sendall(post(served, video, f"Content-Length: {len(video)}"))
            uploading.sendall(post(served, video[:1000], f"Content-Length: {len(video)}"))
            while idle.get("/api/health").json()["requests"]["waiting"] < 2 and time.monotonic() < until:
                time.sleep(0.02)
            assert len(served.left()) == 3
            workers = served.workers()
            served.process.send_signal(signal.SIGTERM)
            answers = [read_answer(connection) for connection in (uploading, waiting, working)]
            for answer in answers[:2]:
                assert answer.startswith(b"HTTP/1.1 503")
                assert b'"shutting_down"' in answer
                assert b"retry-after" in answer.lower()
            assert answers[2].startswith(b"HTTP/1.1 200")  # it had the time to finish
            assert json.loads(answers[2].partition(b"\r\n\r\n")[2])["status"] == "ok"
            for connection in (uploading, working, waiting):
                connection.close()
        assert served.process.wait(30) == 143
        assert list(served.temporary.iterdir()) == []
        assert not [worker for worker in workers if worker.is_running() and worker.status() != "zombie"]
        with pytest.raises(httpx.ConnectError), served.client() as client:
            client.get("/api/health")
        assert re.fullmatch(r"(ig65m: .*\n)+", served.said())
        assert "stopped by" in served.said()


def test_what_takes_too_long_is_broken_off_at_the_end(shelf, tmp_path, long_videos):
    video, _ = long_videos
    shorter = "import ig65m.server.run; ig65m.server.run.GRACE = 0.5"
    with serving(shelf / "index", tmp_path / "tmp", first=shorter) as served:
        connections = [socket.create_connection((served.host, served.port), timeout=60) for _ in range(6)]
        for connection in connections:
            connection.sendall(post(served, video, f"Content-Length: {len(video)}", path="/api/features"))
        until = time.monotonic() + 10
        while len(served.left()) < 6 and time.monotonic() < until:
            time.sleep(0.05)
        assert served.stop(signal.SIGINT) == 130
        for connection in connections:
            assert b'"shutting_down"' in read_answer(connection)
            connection.close()
        assert list(served.temporary.iterdir()) == []


def test_the_next_start_tidies_up_after_a_kill(shelf, tmp_path, long_videos):
    video, _ = long_videos
    with serving(shelf / "index", tmp_path / "tmp") as killed:
        with socket.create_connection((killed.host, killed.port)) as connection:
            connection.sendall(post(killed, video[:100], f"Content-Length: {len(video)}"))
            until = time.monotonic() + 10
            while not killed.left() and time.monotonic() < until:
                time.sleep(0.05)
            killed.process.kill()
            killed.process.wait()
        assert len(killed.left()) == 1
        (tmp_path / "tmp" / "ig65m-serve-other").write_text("not a folder")
        (tmp_path / "tmp" / "ig65m-serve-link").symlink_to(shelf)
        (tmp_path / "tmp" / "ig65m-serve-old").mkdir()
        with private(tmp_path) as folder:
            assert sorted(path.name for path in folder.parent.iterdir()) == sorted(
                [folder.name, "ig65m-serve-link", "ig65m-serve-other"]
            )
            with private(tmp_path) as beside:
                assert folder.exists()
                assert beside.exists()
        assert (shelf / "videos").exists()
        assert sorted(path.name for path in (tmp_path / "tmp").iterdir()) == ["ig65m-serve-link", "ig65m-serve-other"]


@contextmanager
def private(tmp_path):
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
        yield stack.enter_context(private_folder()).path()

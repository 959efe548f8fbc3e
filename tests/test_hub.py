"""Published weights, fetched from a real HTTP server on this machine."""

import hashlib
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ig65m.errors import DownloadError, ModelError
from ig65m.zoo.cards import CARDS, Card
from ig65m.zoo.hub import weights_file

CONTENT = b"weights" * 300_000


class Quiet(SimpleHTTPRequestHandler):
    requests = 0

    def do_GET(self):
        type(self).requests += 1
        super().do_GET()

    def log_message(self, *_):
        pass


class CutsShort(Quiet):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000])


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Starts a server on a folder with the weights, as the mirror; the cache is empty."""
    monkeypatch.setenv("IG65M_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IG65M_OFFLINE", raising=False)
    folder = tmp_path / "served"
    folder.mkdir()
    servers = []

    def start(handler=Quiet, content=CONTENT):
        (folder / "weights.pth").write_bytes(content)
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        monkeypatch.setenv("IG65M_MIRROR", f"http://127.0.0.1:{server.server_port}/")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def card():
    digest = hashlib.sha256(CONTENT).hexdigest()
    return replace(CARDS["r2plus1d_34_8_ig65m"], url="https://example.org/release/weights.pth", sha256=digest[:8])


def test_what_was_published_is_fetched_once(serve, card, tmp_path):
    serve()
    before = Quiet.requests
    path = weights_file(card)
    assert path == tmp_path / "cache" / "weights.pth"
    assert path.read_bytes() == CONTENT
    assert weights_file(card) == path
    assert Quiet.requests == before + 1


def test_what_lies_in_the_cache_is_verified_too(serve, card, tmp_path):
    serve()
    weights_file(card).write_bytes(b"anything")
    with pytest.raises(DownloadError, match="remove it"):
        weights_file(card)


@pytest.mark.parametrize("mirror", ["/mnt/mirror", "http://127.0.0.1:9/a b", "file:///etc"])
def test_a_mirror_that_is_none_is_named(serve, card, monkeypatch, mirror):
    monkeypatch.setenv("IG65M_MIRROR", mirror)
    with pytest.raises(DownloadError, match=r"weights\.pth"):
        weights_file(card)


@pytest.mark.parametrize("content", [b"<html>not found</html>", CONTENT + b"more", b""])
def test_another_file_is_never_kept(serve, card, tmp_path, content):
    serve(content=content)
    with pytest.raises(DownloadError, match="sha256"):
        weights_file(card)
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


def test_a_cut_download_is_never_kept(serve, card, tmp_path):
    serve(CutsShort)
    with pytest.raises(DownloadError, match=r"1000 of 2100000 bytes|cannot be fetched"):
        weights_file(card)
    assert not list((tmp_path / "cache").glob("*.pth"))


def test_without_a_network_the_embedded_model_is_named(serve, card, monkeypatch):
    monkeypatch.setenv("IG65M_MIRROR", "http://127.0.0.1:9")  # the discard port: nothing listens
    with pytest.raises(DownloadError, match="r2plus1d_10_camera_motion"):
        weights_file(card)
    monkeypatch.setenv("IG65M_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"IG65M_OFFLINE.*r2plus1d_10_camera_motion"):
        weights_file(card)


def test_embedded_weights_need_nothing(monkeypatch):
    monkeypatch.setenv("IG65M_OFFLINE", "1")
    assert weights_file(CARDS["r2plus1d_10_camera_motion"]).stat().st_size < 3_000_000


def test_a_card_without_a_file_says_so():
    with pytest.raises(ModelError, match="convert"):
        weights_file(Card(name="x", spec=CARDS["r2plus1d_34_8_ig65m"].spec))

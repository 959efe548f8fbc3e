"""Published weights: cache, mirror, pins, lock; real processes, real servers, a really full disk."""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from filelock import FileLock

from ig65m.errors import DownloadError, ModelError, UsageError
from ig65m.models.card import Card
from ig65m.zoo import download, hub
from ig65m.zoo.cards import CARDS
from ig65m.zoo.hub import weights_file
from tests.webserver import serving

CONTENT = random.Random(1).randbytes(2_100_000)
OTHER = random.Random(2).randbytes(2_100_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2
CARD = replace(CARDS["r2plus1d_34_8_ig65m"], url="https://example.org/release/weights.pth?dl=1", sha256=DIGEST[:8])

FETCH = """
import sys
from dataclasses import replace
from ig65m.errors import DownloadError
from ig65m.zoo.cards import CARDS
from ig65m.zoo.hub import weights_file
card = replace(CARDS["r2plus1d_34_8_ig65m"], url="https://example.org/weights.pth", sha256=sys.argv[1])
try:
    print(weights_file(card))
except DownloadError as error:
    sys.exit(f"ig65m: {error}")
"""

# Root writes where modes forbid it, but for this capability (CAP_DAC_OVERRIDE), which is dropped before what follows runs.
AS_MODES_SAY = "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
SMALL_DISK = 'mount -t tmpfs -o size=1m tmpfs "$IG65M_CACHE" && exec "$@"'
SMALL_FILES = 'ulimit -f 1000 && exec "$@"'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, no mirror, and little patience."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("IG65M_CACHE", str(folder))
    for name in ("IG65M_OFFLINE", "IG65M_MIRROR", "IG65M_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setenv("no_proxy", "*")
    return folder


@pytest.fixture
def mirror(monkeypatch):
    """Starts a server that behaves as told, as the mirror."""

    @contextmanager
    def start(behave=lambda h: h.rest(CONTENT)):
        with serving(behave) as server:
            monkeypatch.setenv("IG65M_MIRROR", f"{server.url}/some/folder/")
            yield server

    return start


def process(*before, sha256=DIGEST[:8]):
    """Another Python that fetches the weights; `before` is what starts it, if something must."""
    command = [*before, sys.executable, "-c", FETCH, sha256]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def eventually(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_was_published_is_fetched_once(mirror, cache):
    paths = []
    with mirror(lambda h: (paths.append(h.path), h.rest(CONTENT))):
        path = weights_file(CARD)
        assert path == cache / "weights.pth"
        assert path.read_bytes() == CONTENT
        assert weights_file(CARD) == path
    assert paths == ["/some/folder/weights.pth"]


def test_what_lies_in_the_cache_is_verified_too(mirror, cache):
    cache.mkdir()
    (cache / "weights.pth").write_bytes(b"anything")
    with mirror() as server, pytest.raises(DownloadError, match="remove it"):
        weights_file(CARD)
    assert not server.requests


@pytest.mark.parametrize("odd", ["folder", "fifo", "dangling link", "circle"])
def test_odd_things_under_the_final_name(mirror, cache, odd):
    path = cache / "weights.pth"
    cache.mkdir()
    make = {
        "folder": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "dangling link": lambda: path.symlink_to("nowhere"),
        "circle": lambda: path.symlink_to(path),
    }
    make[odd]()
    with mirror():
        if odd in ("folder", "fifo"):
            with pytest.raises(DownloadError, match="not a file"):
                weights_file(CARD)
        else:
            assert weights_file(CARD).read_bytes() == CONTENT
            assert not path.is_symlink()


def test_a_link_to_weights_elsewhere_is_followed(cache, tmp_path):
    (tmp_path / "shared.pth").write_bytes(CONTENT)
    cache.mkdir()
    (cache / "weights.pth").symlink_to(tmp_path / "shared.pth")
    assert weights_file(CARD).read_bytes() == CONTENT


@pytest.mark.parametrize("known", [None, DIGEST[:8], DIGEST[:8].upper()])
def test_digits_that_were_not_published_are_pinned_at_first_use(mirror, cache, capsys, known):
    card = replace(CARD, sha256=known)
    with mirror():
        weights_file(card)
        err = capsys.readouterr().err
        assert DIGEST in err
        assert str(cache / "weights.pth.sha256") in err
        weights_file(card)
        assert capsys.readouterr().err == ""
    subprocess.run(["sha256sum", "--check", "--quiet", "weights.pth.sha256"], cwd=cache, check=True)
    (cache / "weights.pth").write_bytes(OTHER)
    with pytest.raises(DownloadError, match=r"weights\.pth\.sha256.*remove"):
        weights_file(card)


def test_a_pin_holds_what_is_fetched_later(mirror, cache):
    card = replace(CARD, sha256=None)
    with mirror():
        weights_file(card).unlink()
    with mirror(lambda h: h.rest(OTHER)), pytest.raises(DownloadError, match=r"expected [0-9a-f]{64}.*pinned.*remove that too"):
        weights_file(card)
    assert not (cache / "weights.pth").exists()
    (cache / "weights.pth.sha256").unlink()
    with mirror(lambda h: h.rest(OTHER)):
        assert weights_file(card).read_bytes() == OTHER


@pytest.mark.parametrize("text", ["", "junk", "0" * 64])
def test_a_pin_that_cannot_be_meant_is_named(mirror, cache, text):
    with mirror():
        weights_file(CARD)
    (cache / "weights.pth.sha256").write_text(text)
    with pytest.raises(DownloadError, match=r"weights\.pth\.sha256.*remove it"):
        weights_file(CARD)


def test_a_digest_published_in_full_needs_no_pin(mirror, cache, capsys):
    with mirror():
        weights_file(replace(CARD, sha256=DIGEST))
    assert capsys.readouterr().err == ""
    assert not (cache / "weights.pth.sha256").exists()


def test_a_folder_is_a_mirror(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("IG65M_MIRROR", str(tmp_path / "shared"))
    monkeypatch.setenv("IG65M_OFFLINE", "1")  # a folder is no network
    (tmp_path / "shared").mkdir()
    with pytest.raises(DownloadError, match=r"weights\.pth.*No such file"):
        weights_file(CARD)
    (tmp_path / "shared" / "weights.pth").write_bytes(OTHER)
    with pytest.raises(DownloadError, match="not the published"):
        weights_file(CARD)
    (tmp_path / "shared" / "weights.pth").write_bytes(CONTENT)
    assert weights_file(CARD).read_bytes() == CONTENT
    assert not (cache / "weights.pth").is_symlink()


@pytest.mark.parametrize(
    "url", ["/mnt/mirror", "http://127.0.0.1:9/a b", "file:///etc", "ftp://127.0.0.1", "http://[", "http://"]
)
def test_a_mirror_that_is_none_is_named(monkeypatch, url):
    monkeypatch.setenv("IG65M_MIRROR", url)
    with pytest.raises(DownloadError, match=r"weights\.pth"):
        weights_file(CARD)


def test_a_password_is_not_shown(monkeypatch):
    monkeypatch.setenv("IG65M_MIRROR", "https://me:secret@example.org/")
    with pytest.raises(DownloadError, match="IG65M_MIRROR") as error:
        weights_file(CARD)
    assert "secret" not in str(error.value)


def test_without_a_network_the_embedded_model_is_named(monkeypatch):
    monkeypatch.setenv("IG65M_MIRROR", "http://127.0.0.1:9")  # the discard port: nothing listens
    with pytest.raises(DownloadError, match="r2plus1d_10_camera_motion"):
        weights_file(CARD)
    monkeypatch.setenv("IG65M_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"IG65M_OFFLINE.*r2plus1d_10_camera_motion"):
        weights_file(CARD)


@pytest.mark.parametrize("no", ["0", "false", "No", ""])
def test_offline_can_be_denied(mirror, monkeypatch, no):
    monkeypatch.setenv("IG65M_OFFLINE", no)
    with mirror():
        assert weights_file(CARD).exists()


@pytest.mark.parametrize("seconds", ["soon", "0", "-1", "nan", "inf"])
def test_a_timeout_that_is_none_is_named(mirror, monkeypatch, seconds):
    monkeypatch.setenv("IG65M_TIMEOUT", seconds)
    with mirror(), pytest.raises(UsageError, match="IG65M_TIMEOUT"):
        weights_file(CARD)


def test_the_timeout_is_heeded(mirror, monkeypatch):
    monkeypatch.setenv("IG65M_TIMEOUT", "0.3")
    with mirror(lambda h: h.server.over.wait()), pytest.raises(DownloadError, match=r"no data for 0\.3 s"):
        weights_file(CARD)


def test_embedded_weights_need_nothing(monkeypatch):
    monkeypatch.setenv("IG65M_OFFLINE", "1")
    assert weights_file(CARDS["r2plus1d_10_camera_motion"]).stat().st_size < 3_000_000


def test_a_card_without_a_file_says_so():
    with pytest.raises(ModelError, match="convert"):
        weights_file(Card(name="x", spec=CARD.spec))


def test_a_bar_is_shown_where_asked(mirror, capsys):
    with mirror():
        weights_file(CARD, progress=True)
    assert "weights.pth" in capsys.readouterr().err


def test_a_process_killed_in_the_middle_is_gone_on_from(mirror, cache):
    def half(h):
        h.head(200, Content_Length=len(CONTENT))
        h.say(CONTENT[:HALF])
        h.server.over.wait()

    part = cache / "weights.pth.part"
    with mirror(half), process() as child:
        eventually(lambda: part.exists() and part.stat().st_size > HALF - 100_000)
        assert not (cache / "weights.pth").exists()
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert [name.suffix for name in sorted(cache.iterdir())] == [".lock", ".part"]
    left = part.stat().st_size
    with mirror() as server:
        assert weights_file(CARD).read_bytes() == CONTENT
    assert server.sent == len(CONTENT) - left
    assert not part.exists()


def test_two_processes_fetch_once(mirror, cache):
    def held(h):
        h.head(200, Content_Length=len(CONTENT))
        h.say(CONTENT[:HALF])
        goes_on.wait(30)
        h.say(CONTENT[HALF:])

    with mirror(held) as server, process() as one:
        goes_on = server.over
        eventually(lambda: server.requests)
        with process() as other:
            waiting = other.stderr.readline()
            server.over.set()
            outputs = one.communicate(timeout=30)[0], other.communicate(timeout=30)[0]
    assert f"waiting for process {one.pid} on " in waiting
    assert outputs == (f"{cache / 'weights.pth'}\n",) * 2
    assert len(server.requests) == 1
    assert (cache / "weights.pth").read_bytes() == CONTENT


def test_a_lock_that_nobody_works_behind_is_named(mirror, cache, monkeypatch):
    monkeypatch.setattr(hub, "_PATIENCE", 0.2)
    cache.mkdir()
    with mirror(), FileLock(cache / "weights.pth.lock"), pytest.raises(DownloadError, match=r"holds .*weights\.pth\.lock"):
        weights_file(CARD)


def small_disk():
    """What starts a program whose cache is a disk of 1 MiB; where none may be mounted, one of small files."""
    if unshare := shutil.which("unshare"):
        attempt = [unshare, "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if subprocess.run(attempt, check=False, capture_output=True).returncode == 0:
            return [unshare, "-rm", "sh", "-c", SMALL_DISK, "sh"]
    return ["sh", "-c", SMALL_FILES, "sh"]


def unframed(h):
    h.head(200)
    h.say(CONTENT)


@pytest.mark.parametrize("behave", [unframed, lambda h: h.rest(CONTENT)], ids=["found late", "foreseen"])
@pytest.mark.parametrize("start", [small_disk, lambda: ["sh", "-c", SMALL_FILES, "sh"]], ids=["disk", "limit"])
def test_a_full_disk(mirror, cache, behave, start):
    cache.mkdir()
    with mirror(behave), process(*start()) as child:
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (1, "")
    assert f"no space in {cache}" in err
    assert "MB are free; free some, or set IG65M_CACHE" in err
    assert "Traceback" not in err
    assert [name.name for name in cache.iterdir() if name.suffix != ".lock"] == []


def test_a_cache_that_is_only_read(mirror, cache):
    cache.mkdir()
    cache.chmod(0o555)
    start = (sys.executable, "-c", AS_MODES_SAY)
    with mirror() as server:
        with process(*start) as child:
            out, err = child.communicate(timeout=60)
        assert (child.returncode, out) == (1, "")
        assert re.search(r"Permission denied.*set IG65M_CACHE", err)
        assert "Traceback" not in err
        assert not server.requests
        cache.chmod(0o755)
        (cache / "weights.pth").write_bytes(CONTENT)
        cache.chmod(0o555)
        with process(*start) as child:
            out, err = child.communicate(timeout=60)
    assert (out, err) == (f"{cache / 'weights.pth'}\n", "")
    assert [name.name for name in cache.iterdir()] == ["weights.pth"]


@pytest.mark.parametrize("place", ["file/cache", "/proc/ig65m"])
def test_a_cache_that_cannot_be(mirror, tmp_path, monkeypatch, place):
    (tmp_path / "file").touch()
    monkeypatch.setenv("IG65M_CACHE", str(tmp_path / place))
    with mirror(), pytest.raises(DownloadError, match="set IG65M_CACHE"):
        weights_file(CARD)

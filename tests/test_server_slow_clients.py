"""Clients that send or take too slowly, services that start together, an index that is moved or hostile: others are served."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest

from ig65m.server.run import MOST_CONNECTIONS
from ig65m.server.uploads import PREFIX
from tests.serving import checked, post, raw_error, read_answer, request, serving
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

PATIENCE = 1  # seconds over which the rate is measured


@pytest.fixture(scope="module")
def served(shelf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow")
    large = shelf / "videos" / "large.mp4"
    with serving(shelf / "index", folder / "tmp", "--patience", PATIENCE, "--queue", 32) as service:
        yield service
        large.unlink(missing_ok=True)


def connect(served):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect((served.host, served.port))
    return connection


def health(served):
    with served.client() as client:
        return client.get("/api/health").json()


def connections(served):
    import psutil

    return len([each for each in psutil.Process(served.process.pid).net_connections("tcp") if each.status == "ESTABLISHED"])


def test_clients_that_never_read_hold_no_connection(served, shelf, ids):
    """Each asks for a file of many megabytes and takes nothing of it."""
    (video,) = [path for path in (shelf / "videos").iterdir() if path.name == "bikes.mp4"]
    whole = video.read_bytes()
    try:
        with video.open("ab") as file:
            file.truncate(64 << 20)
        line = f"GET /api/videos/{ids['bikes.mp4']}/file HTTP/1.1"
        with ExitStack() as held:
            for _ in range(MOST_CONNECTIONS):
                connection = held.enter_context(connect(served))
                connection.sendall(request(served, line))
            with served.client() as client:  # 503 while they still take what the kernel holds for them, then a place is free
                wait_for(lambda: client.get("/api/labels").status_code == 200)
            wait_for(lambda: connections(served) < 10)
            assert health(served)["status"] == "ok"
    finally:
        video.write_bytes(whole)


def test_idle_connections_give_way_to_new_ones(served):
    with ExitStack() as held:
        for _ in range(MOST_CONNECTIONS + 20):
            held.enter_context(connect(served))
        time.sleep(1.1)  # they must have stood still for a second
        for _ in range(20):
            with served.client() as client:
                assert client.get("/api/labels").status_code == 200


def test_uploads_of_a_byte_a_second_hold_no_slot(served):
    with ExitStack() as held:
        slow = [held.enter_context(connect(served)) for _ in range(32)]
        for connection in slow:
            connection.sendall(post(served, b"x", "Content-Length: 1000000"))
        wait_for(lambda: health(served)["requests"]["room"] == 0)
        with served.client() as client:
            assert client.get("/api/labels").status_code == 200
            answer = client.post("/api/classify", content=b"x")
            checked(answer, 503, "busy")
        answers = []
        for connection in slow:
            for _ in range(2):
                try:
                    connection.sendall(b"x")
                except OSError:
                    break
            answers.append(raw_error(read_answer(connection, until_closed=False)))
        assert set(answers) == {(408, "too_slow")}
        wait_for(lambda: health(served)["requests"]["room"] == 32)


def test_a_video_that_comes_fast_enough_is_classified(served, bigbuckbunny):
    with served.client() as client:
        assert client.post("/api/classify", content=bigbuckbunny.read_bytes()[:200_000]).status_code in (200, 422)


@pytest.mark.parametrize(
    "lengths", [("Content-Length: 5", "Transfer-Encoding: chunked"), ("Transfer-Encoding: chunked", "Content-Length: 44")]
)
def test_a_body_of_two_lengths_ends_the_connection(served, lengths):
    """What follows might be a request that a proxy has not seen; RFC 9112, 6.3."""
    smuggled = request(served, "GET /api/labels HTTP/1.1")
    answer = served.say(post(served, b"5\r\nhello\r\n0\r\n\r\n" + smuggled, *lengths))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()


def test_a_damaged_form_says_nothing_on_stderr(served):
    body = b"--x\r\nContent-Disposition: form-data; name=file\x00\r\n\r\nno end"
    with served.client() as client:
        for content in (body, b"--y--", b"\xff" * 1000):
            answer = client.post("/api/classify", content=content, headers={"content-type": "multipart/form-data; boundary=x"})
            checked(answer, 400, "bad_form")
    assert "multipart" not in served.said().lower()
    assert len(served.said().splitlines()) <= 4


def test_services_that_start_at_once_keep_their_folders(tmp_path):
    """Each makes its folder for uploads and removes those of services that are no more."""
    program = (
        "import sys, tempfile; from ig65m.server.uploads import private_folder\n"
        "sys.stdin.readline()\n"
        "with private_folder() as folder:\n"
        "    (folder.path() / 'mine').touch(); print('ready', flush=True); sys.stdin.readline()\n"
        "    print((folder.path() / 'mine').exists(), flush=True)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    several = [subprocess.Popen(command, env=environment, **pipes) for _ in range(12)]
    for _ in range(2):
        for process in several:
            process.stdin.write("\n")
            process.stdin.flush()
    assert [process.communicate()[0].split() for process in several] == [["ready", "True"]] * 12
    assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_a_folder_for_uploads_that_was_removed_is_made_again(served, bigbuckbunny):
    (folder,) = served.temporary.glob(f"{PREFIX}*")
    shutil.rmtree(folder)
    with served.client() as client:
        assert client.post("/api/classify", content=bigbuckbunny.read_bytes()).status_code == 200
    assert health(served)["status"] == "ok"


@contextmanager
def copied(shelf, folder):
    """A service of a copy of the index."""
    index = folder / "index"
    shutil.copytree(shelf / "index", index)
    with serving(index, folder / "tmp") as service:
        yield service, index


def test_an_index_that_is_moved_away_and_comes_back(shelf, tmp_path, ids):
    with copied(shelf, tmp_path) as (service, index), service.client() as client:
        assert client.get("/api/labels").status_code == 200
        index.rename(tmp_path / "elsewhere")
        wait_for(lambda: client.get("/api/videos").status_code == 503)  # a list of the videos holds for half a second
        for path in ("/api/videos", "/api/labels", f"/api/search?video={ids['bikes.mp4']}", f"/api/videos/{ids['bikes.mp4']}"):
            checked(client.get(path), 503, "index_unavailable")
        said = client.get("/api/health").json()
        assert (said["status"], said["problems"]) == ("degraded", ["the index cannot be read at the moment"])
        (tmp_path / "elsewhere").rename(index)
        wait_for(lambda: client.get("/api/videos").status_code == 200)
        assert client.get("/api/videos").json()["total"] == said["videos"] > 0
        assert client.get("/api/health").json()["status"] == "ok"


def test_a_video_that_was_removed_and_a_label_that_is_unknown(shelf, tmp_path, ids, run):
    with copied(shelf, tmp_path) as (service, index), service.client() as client:
        checked(client.get("/api/videos?label=no-such-label"), 404, "no_label")
        checked(client.get("/api/search?label=no-such-label"), 404, "no_label")
        client.get("/api/videos")
        assert run("index", "remove", index, ids["bikes.mp4"])[0] == 0
        for path in ("timeline", "semcode.png", "file", "thumbnail.jpg"):
            answer = client.get(f"/api/videos/{ids['bikes.mp4']}/{path}")
            assert answer.status_code in (200, 404)  # for half a second the list may be that of before
        wait_for(lambda: client.get(f"/api/videos/{ids['bikes.mp4']}").status_code == 404)
        for path in ("timeline", "semcode.png", "file", "thumbnail.jpg"):
            checked(client.get(f"/api/videos/{ids['bikes.mp4']}/{path}"), 404, "no_video")


def test_a_hostile_index_costs_its_rows(shelf, tmp_path):
    index = tmp_path / "index"
    shutil.copytree(shelf / "index", index)
    connection = lancedb.connect(index)
    table = connection.open_table("clips").to_arrow()
    rows = table.to_pylist()
    for row, change in zip(
        rows,
        [
            {"path": None},
            {"video": "../x"},
            {"clip": 1 << 62},
            {"start": float("nan")},
            {"path": "\0ff"},
            {"labels": [{"label": None, "score": 1.0}]},
        ],
        strict=False,
    ):
        row.update(change)
    connection.create_table("clips", pa.Table.from_pylist(rows, schema=table.schema), mode="overwrite")
    with serving(index, tmp_path / "tmp") as service, service.client() as client:
        said = client.get("/api/health").json()
        assert (said["status"], said["problems"]) == ("degraded", ["6 clips of the index are damaged and left out"])
        assert said["clips"] == len(rows) - 6
        assert client.get("/api/videos").json()["total"] > 0
        assert client.get("/api/labels").status_code == 200
        for video in client.get("/api/videos").json()["videos"]:
            assert client.get(f"/api/videos/{video['id']}/timeline").status_code == 200
            assert client.get("/api/search", params={"video": video["id"]}).status_code == 200
        assert "6 clips of the index are damaged and left out" in service.said()


def test_files_outside_the_root_are_not_served(shelf, tmp_path, ids):
    """An index of a stranger may name any file of this machine."""
    with serving(shelf / "index", tmp_path / "tmp", "--root", tmp_path) as service, service.client() as client:
        for path in ("file", "thumbnail.jpg"):
            checked(client.get(f"/api/videos/{ids['bikes.mp4']}/{path}"), 410, "gone")
        assert client.get(f"/api/videos/{ids['bikes.mp4']}/timeline").status_code == 200
    inside = tmp_path / "link"
    inside.symlink_to(shelf / "videos")
    with (
        serving(shelf / "index", tmp_path / "tmp2", "--root", inside, "--root", tmp_path) as service,
        service.client() as client,
    ):
        for path in ("file", "thumbnail.jpg"):
            assert client.get(f"/api/videos/{ids['bikes.mp4']}/{path}").status_code == 200


def test_a_link_that_leads_out_of_the_root_is_not_followed(shelf, tmp_path, run, bigbuckbunny):
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "out.mp4").symlink_to(bigbuckbunny)
    model = json.loads((shelf / "index" / "index.json").read_text("utf-8"))["settings"]["name"]
    features, index = tmp_path / "features", tmp_path / "index"
    assert run("extract", folder, "--output", features, "--model", model)[0] == 0
    assert run("index", "build", features, index)[0] == 0
    with serving(index, tmp_path / "tmp", "--root", folder) as service, service.client() as client:
        (video,) = client.get("/api/videos").json()["videos"]
        checked(client.get(f"/api/videos/{video['id']}/file"), 410, "gone")


def test_a_root_that_is_not_there_is_refused(shelf, run, tmp_path):
    code, _, err = run("serve", shelf / "index", "--root", tmp_path / "none")
    assert (code, "no such folder" in err) == (2, True)
    assert Path(shelf).exists()

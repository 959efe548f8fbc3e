"""A live source over RTSP, from a server on this machine whose packets come from a real ffmpeg process."""

import json
import re
import signal
import socket
import subprocess
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from ig65m.errors import VideoError
from ig65m.models.card import VMZ
from ig65m.types import Limits
from ig65m.video.clips import read_clips
from ig65m.video.isolation import Decoder
from ig65m.video.sampling import Sampling
from ig65m.video.stream import Stream
from tests.piping import PROGRAM, finish, program
from tests.rtsp import rtsp_server
from tests.videos import constant, encode_numbers
from tests.waiting import wait_for

SAMPLING = Sampling(frames=8)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """150 frames of 25 a second, in MPEG-TS."""
    options = {"g": "10", "bf": "0"}
    return encode_numbers(tmp_path_factory.mktemp("live") / "video.ts", constant(150), options=options)


def live(url, **limits):
    """Clips of a live source, with how the connection went."""
    news = []
    with Decoder(Limits(**limits)) as decoder:
        samples = decoder.read_samples(Stream(name="camera", url=url, prompt=True), SAMPLING, VMZ, on_news=news.append)
        with closing(samples):
            for sample in samples:
                yield sample, news


def test_a_live_source_gives_the_frames_of_its_video(video):
    with Decoder(Limits()) as decoder:
        expected = list(read_clips(video, SAMPLING, VMZ, decoder=decoder))
    with rtsp_server(video) as server, Decoder(Limits()) as decoder:
        stream = Stream(name="camera", url=server.url, prompt=True)
        found = []
        for clip in read_clips(stream, SAMPLING, VMZ, decoder=decoder):
            found.append(clip)
            if len(found) == 10:
                break
        assert [line.split()[0] for line in server.requests][:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]
    for number, (a, b) in enumerate(zip(found, expected, strict=False)):
        np.testing.assert_array_equal(a.pixels, b.pixels)
        assert a.span.start == pytest.approx(0.32 * number, abs=0.05)  # the first timestamp of RTP is unknown
        assert a.span.end - a.span.start == pytest.approx(0.32, abs=0.05)


@pytest.mark.slow
def test_a_lost_connection_is_made_again_and_times_go_on_by_the_clock(video):
    with rtsp_server(video) as server:
        samples = live(server.url, seconds=20.0)
        read = [next(samples)[0] for _ in range(40)]
        lost_at = time.monotonic()
        server.accepting = False
        server.drop()
        threading.Timer(2.0, setattr, (server, "accepting", True)).start()
        for sample, news in samples:  # noqa: B007 - the same list each time
            read.append(sample)
            if sample.begins:
                begun_at = time.monotonic()
            if sum(each.begins for each in read) and len(read) - [each.begins for each in read].index(True) == 30:
                break
        samples.close()
    first = [sample.begins for sample in read].index(True)
    assert len(news) == 1
    assert news[0].startswith("connection lost at ")
    assert sum(sample.begins for sample in read) == 1
    times = [sample.time for sample in read]
    assert times == sorted(times)
    gap = read[first].time - read[first - 1].end
    assert 2.0 - 1.0 < gap < begun_at - lost_at + 1.0  # what came before the loss may have been read later


@pytest.mark.slow
def test_a_server_that_falls_silent_counts_as_lost(video):
    with rtsp_server(video) as server, closing(live(server.url, seconds=8.0)) as samples:
        before = [next(samples)[0] for _ in range(40)]
        begun = time.monotonic()
        server.silence()
        first = next(sample for sample, _ in samples if sample.begins)
        assert first.time - before[-1].end < time.monotonic() - begun + 1.0
        assert time.monotonic() - begun > 1.5  # a quarter of the time after which it would be given up
    assert server.requests.count(f"PLAY {server.url}/ RTSP/1.0") == 2


@pytest.mark.slow
def test_without_connection_it_is_given_up(video):
    with rtsp_server(video) as server:
        url = server.url.replace("//", "//user:secret@") + "?token=secret"
        server.asks_password = True
        process = program("classify", "--live", url, "--follow", "--json", "--timeout", 4)
        process.stdout.readline()
        server.accepting = False
        server.drop()
        code, lines, err = finish(process)
    last = lines[-1]
    assert code == 3
    assert (last["status"], last["path"]) == ("partial", server.url)
    assert re.search(r"no frame for 4 s \(no connection .*\); raise --timeout to try for longer", last["error"]["message"])
    assert last["error"]["last_good_time"] > 0.3
    assert "connection lost at" in err
    assert server.credentials[0].startswith("Basic ")
    assert "secret" not in err + json.dumps(lines)


@pytest.mark.slow
def test_a_live_source_is_followed_until_ctrl_c_and_counts_its_breaks(video):
    with rtsp_server(video) as server:
        process = program("extract", "--live", server.url, "--follow", "--json", "--timeout", 30)
        process.stdout.readline()
        server.drop()
        wait_for(lambda: server.requests.count(f"PLAY {server.url}/ RTSP/1.0") == 2)
        for _ in range(4):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        code, lines, err = finish(process)
    assert code == 130
    assert lines[-1]["breaks"] == 1
    assert lines[-1]["clips"] >= 5
    assert "another recording starts" in err


def test_a_redirect_is_not_followed(video):
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, rtsp_server(video) as server:
        elsewhere.settimeout(0.2)
        server.redirect = f"rtsp://127.0.0.1:{elsewhere.getsockname()[1]}/camera"
        with pytest.raises(VideoError, match="camera: no connection"):
            next(live(server.url))
        assert any(line.startswith("DESCRIBE") for line in server.requests)
        with pytest.raises(TimeoutError):
            elsewhere.accept()


def test_a_first_connection_that_fails_is_an_error_at_once():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    code, lines, err = finish(program("classify", "--live", f"rtsp://me:secret@127.0.0.1:{port}/a", "--follow", "--json"))
    assert (code, lines[-1]["status"]) == (3, "failed")
    assert f"rtsp://127.0.0.1:{port}/a: no connection (Connection refused)" in err
    assert "secret" not in err + json.dumps(lines)


def test_a_server_that_says_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(VideoError, match="camera: "):
            next(live(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/a", seconds=2.0))
        assert time.monotonic() - begun < 60


REFUSED = {
    "http://127.0.0.1/a": "--live opens rtsp:// alone, not http://",
    "rtsps://127.0.0.1/a": "--live opens rtsp:// alone, not rtsps://",
    "concat:rtsp://127.0.0.1/a": "--live opens rtsp:// alone",
    "video.mp4": "--live opens rtsp:// alone",
    "/dev/video0": "ffmpeg -f v4l2 -i /dev/video0 -f matroska - | ig65m classify - --follow",
    "/dev/v4l/by-id/cam": "ffmpeg -f v4l2 -i /dev/v4l/by-id/cam",
    "rtsp://": "--live: the address is not rtsp://",
    "rtsp://me:se/cret@host/a": "--live: the address is not rtsp://",
    "rtsp://me:secret@host:port/a": "--live: the address is not rtsp://",
    "rtsp://host/a b": "--live: the address is not rtsp://",
}


@pytest.mark.parametrize("source", REFUSED)
def test_other_sources_are_refused(run, source):
    code, out, err = run("classify", "--live", source, "--follow")
    assert (code, out) == (2, "")
    assert REFUSED[source] in err
    assert "cret" not in err


def test_live_stands_alone_and_is_followed(run):
    assert "takes the place of inputs" in run("classify", "a.mp4", "--live", "rtsp://camera/a", "--follow")[2]
    assert "--live has no end; add --follow" in run("classify", "--live", "rtsp://camera/a")[2]
    done = subprocess.run([PROGRAM, "extract", "--live", "rtsp://camera/a"], capture_output=True, text=True, check=False)
    assert done.returncode == 2

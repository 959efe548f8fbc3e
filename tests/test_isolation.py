"""Decoding in a worker: the same as in this process, and what brings the worker down harms one video only."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ig65m
from ig65m.errors import UsageError, VideoError
from ig65m.models.card import VMZ
from ig65m.types import Limits
from ig65m.video.isolation import Decoder
from ig65m.video.sample_reader import read_samples
from ig65m.video.sampling import Sampling
from tests.videos import constant, encode, encode_numbers

FLOAT = replace(VMZ, resampling="float_bilinear")
SAMPLING = Sampling(frames=8, stride=4, fps=20)


def ticks(source, sampling=SAMPLING, preprocessing=VMZ, **limits):
    with Decoder(Limits(**limits)) as decoder:
        yield from decoder.read_samples(source, sampling, preprocessing, image_fps=25)


@pytest.fixture
def video(tmp_path):
    return encode_numbers(tmp_path / "video.mp4", constant(60))


@pytest.fixture
def crashes(tmp_path):
    """One row of a Bayer mosaic, which libswscale aborts on."""
    path = tmp_path / "bayer.nut"
    raw = ["-f", "rawvideo", "-pix_fmt", "bayer_bggr8", "-s", "64x1", "-i", "-"]
    subprocess.run(["ffmpeg", "-v", "error", *raw, "-c:v", "rawvideo", str(path)], input=bytes(640), check=True)
    return path


@pytest.mark.parametrize("preprocessing", [VMZ, FLOAT])
@pytest.mark.parametrize("sampling", [SAMPLING, Sampling(frames=2, stride=7, start=0.5, end=1.7)])
def test_a_worker_gives_what_this_process_gives(video, preprocessing, sampling):
    here = list(read_samples(video, sampling, preprocessing))
    there = list(ticks(video, sampling, preprocessing))
    assert [(tick.time, tick.end) for tick in there] == [(tick.time, tick.end) for tick in here]
    for a, b in zip(here, there, strict=True):
        assert (a.pixels is None) == (b.pixels is None)
        if a.pixels is not None:
            assert a.pixels.dtype == b.pixels.dtype
            np.testing.assert_array_equal(a.pixels, b.pixels)


def test_a_relative_path_is_of_the_folder_that_the_caller_is_in(video, monkeypatch):
    assert len(list(ticks(video))) == 48
    monkeypatch.chdir(video.parent)
    assert len(list(ticks(video.name))) == 48


def test_errors_are_those_of_this_process(video, tmp_path):
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(encode_numbers(tmp_path / "whole.mkv", constant(60)).read_bytes()[:-1500])
    (tmp_path / "odd\udcff\n.mp4").write_bytes(b"no video")
    for path, sampling in [
        (cut, SAMPLING),
        (tmp_path / "none.mp4", SAMPLING),
        (tmp_path / "odd\udcff\n.mp4", SAMPLING),
        (video, replace(SAMPLING, start=99.0)),
    ]:
        with pytest.raises((VideoError, UsageError)) as here:
            list(read_samples(path, sampling, VMZ))
        with pytest.raises(type(here.value)) as there:
            list(ticks(path, sampling))
        assert str(there.value) == str(here.value)
        assert getattr(there.value, "last_good_time", None) == getattr(here.value, "last_good_time", None)


def test_memory_of_the_program_that_starts_it_is_not_the_decoders(tmp_path):
    """A worker that a large process starts must not say that a damaged video needs more memory."""
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(encode_numbers(tmp_path / "whole.mkv", constant(60)).read_bytes()[:-1500])
    code = (
        "from tests.test_isolation import ticks\n"
        "large = bytearray(400 << 20)\n"
        f"try: list(ticks({str(cut)!r}, memory=512 << 20))\n"
        "except Exception as error: print(error)\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
    ).stdout
    assert "cut.mkv: breaks off" in printed
    assert "needs more memory" not in printed
    assert "max-memory" not in printed


def test_a_crash_of_the_decoder_is_one_failed_video(crashes, video, tiny_model):
    results = list(ig65m.extract_many([video, crashes, video], model=tiny_model, preprocessing="ig65m-pytorch"))
    assert [result.status for result in results] == ["ok", "failed", "ok"]
    assert "bayer.nut: its decoder crashed (SIGABRT" in results[1].error.message
    np.testing.assert_array_equal(results[0].array, results[2].array)


def test_what_came_before_a_crash_is_kept(video, tiny_model):
    def killed_meanwhile(source, span):
        if source == long and span.start == 0:
            children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
            pids = [int(pid) for file in children for pid in file.read_text().split()]
            for pid in pids:
                if b"ig65m.video.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGSEGV)

    # far more pictures than fit the pipe and the queue, so that the worker is still at it when the first clip is through
    long = encode_numbers(video.with_name("long.mkv"), constant(1500, step=10), options={"g": "50", "preset": "ultrafast"})
    results = list(
        ig65m.extract_many([long, video], model=tiny_model, batch_size=1, stride=16, frames=2, on_clip=killed_meanwhile)
    )
    assert [result.status for result in results] == ["partial", "ok"]
    assert "crashed (SIGSEGV)" in results[0].error.message
    assert 0 < len(results[0].spans) < 90
    assert results[0].error.last_good_time >= results[0].spans[-1].end


def test_a_decoder_that_hangs_is_stopped(video):
    with Decoder(Limits(seconds=1.0)) as decoder:
        reading = decoder.read_samples(video, SAMPLING, VMZ, image_fps=25)
        first = next(reading)
        os.kill(decoder._worker.process.pid, signal.SIGSTOP)  # 48 pictures are more than the pipe holds
        with pytest.raises(VideoError, match=r"video\.mp4: no frame for 1 s.*--timeout") as caught:
            list(reading)
        assert first.end <= caught.value.last_good_time < 2.4
        assert len(list(decoder.read_samples(video, SAMPLING, VMZ, image_fps=25))) == 48


@pytest.mark.slow
def test_a_video_that_eats_memory_is_stopped(tmp_path, video):
    bomb = encode(
        tmp_path / "bomb.mp4", [np.zeros((4096, 4096, 3), np.uint8)] * 20, constant(20), options={"preset": "ultrafast"}
    )
    assert bomb.stat().st_size < 100_000
    with pytest.raises(VideoError, match=r"bomb\.mp4.*--max-memory"):
        list(ticks(bomb, memory=256 << 20))
    assert len(list(ticks(video, memory=256 << 20))) == 48


def test_a_worker_that_is_still_at_work_is_not_used_again(video):
    for _ in range(2):
        with Decoder(Limits()) as decoder:
            reading = decoder.read_samples(video, SAMPLING, VMZ, image_fps=25)
            assert next(reading).time == 0.0  # the rest is left unread when the block ends


def test_a_worker_serves_again_and_ends_with_its_parent(video):
    code = (
        "import os, sys, ig65m.video.isolation as isolation\n"
        "from tests.test_isolation import ticks\n"
        f"first = len(list(ticks({str(video)!r})))\n"
        "pid = isolation._idle[0].process.pid\n"
        f"assert len(list(ticks({str(video)!r}))) == first == 48\n"
        "assert isolation._idle[0].process.pid == pid\n"
        "print(pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == -9, done.stderr
    pid = int(done.stdout)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


def test_a_program_that_cannot_start_workers_says_so(video, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="did not start"):
        list(ticks(video, memory=300 << 20))

"""Streams that are followed: each clip as soon as it is there, with bounded delay and memory."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ig65m.pipeline import ClipResult
from ig65m.tasks.follow import MOST_WAITING, Followed, Waiting, follow
from ig65m.tasks.options import Options, resolve
from ig65m.types import Clip, ClipSpan
from ig65m.video.stream import Stream
from ig65m.zoo.cards import EMBEDDED
from tests.piping import FFMPEG, finish, piped, program, sender, stream_bytes
from tests.videos import constant, encode_numbers


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """150 frames of 25 a second, in MPEG-TS."""
    options = {"g": "25", "bf": "0"}
    return encode_numbers(tmp_path_factory.mktemp("follow") / "video.ts", constant(150), options=options)


@pytest.fixture(scope="module")
def copied(video):
    """The file that ffmpeg writes for it into a pipe."""
    file = video.with_name("copied.ts")
    file.write_bytes(stream_bytes(video, "mpegts"))
    return file


def assert_among(found, expected):
    """Each clip that was found has the times and scores of the expected one; a busy machine may have dropped some."""
    of_start = {clip["start"]: clip for clip in expected}
    expected = [of_start[clip["start"]] for clip in found]
    assert [clip["end"] for clip in found] == [clip["end"] for clip in expected]
    for a, b in zip(found, expected, strict=True):
        assert [label["label"] for label in a["labels"]] == [label["label"] for label in b["labels"]]
        scores = [[label["score"] for label in clip["labels"]] for clip in (a, b)]
        np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["mpegts", "matroska"])
def test_what_is_followed_in_real_time_is_what_the_file_gives(format_name, video, tmp_path):
    (tmp_path / "file").write_bytes(stream_bytes(video, format_name))
    expected = json.loads(piped(b"", "classify", tmp_path / "file", "--json")[1])["videos"][0]
    with sender(video, format_name) as ffmpeg:
        process = program("classify", "-", "--follow", "--json", "--batch-size", 8, stdin=ffmpeg.stdout)
        first = json.loads(process.stdout.readline())
        was_sending = ffmpeg.poll() is None
        code, lines, err = finish(process)
    assert code == 0, err
    assert was_sending  # the first clip did not wait for the end, nor for a batch
    *clips, last = [first, *lines]
    assert_among(clips, expected["clips"])
    dropped = last["dropped"]
    assert len(clips) + dropped == len(expected["clips"]) == 10
    assert dropped < 6
    assert list(last) == ["model", "path", "status", "error", "clips", "dropped", "breaks"]
    assert last == {
        "model": EMBEDDED,
        "path": "-",
        "status": "ok",
        "error": None,
        "clips": 10 - dropped,
        "dropped": dropped,
        "breaks": 0,
    }


@pytest.mark.slow
def test_features_are_followed_as_lines_of_json(video, copied, tmp_path):
    piped(b"", "extract", copied, "--output", tmp_path / "f.npz", "--logits")
    file = np.load(tmp_path / "f.npz")
    with sender(video, "mpegts") as ffmpeg:
        code, lines, err = finish(program("extract", "-", "--follow", "--json", "--logits", "--top-k", 2, stdin=ffmpeg.stdout))
    assert code == 0, err
    *clips, last = lines
    assert last["clips"] + last["dropped"] == len(file["features"])
    assert last["clips"] == len(clips) > 4
    for clip in clips:
        row = file["spans"][:, 0].tolist().index(clip["start"])
        np.testing.assert_allclose(clip["features"], file["features"][row], atol=1e-5)
        np.testing.assert_allclose(clip["logits"], file["logits"][row], atol=1e-5)
        assert clip["end"] == file["spans"][row, 1]
        assert len(clip["labels"]) == 2


@pytest.mark.slow
def test_text_has_a_line_for_each_clip(video, copied):
    (of_file,) = json.loads(piped(b"", "classify", copied, "--json")[1])["videos"]
    with sender(video, "mpegts") as ffmpeg:
        process = program("classify", "-", "--follow", "--crops", 3, stdin=ffmpeg.stdout)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    times = [tuple(line[:21].split()) for line in out.splitlines()]
    assert set(times) <= {(f"{clip['start']:.2f}", f"{clip['end']:.2f}") for clip in of_file["clips"]}
    assert times == sorted(times)
    assert len({line.index(".", 22) for line in out.splitlines()}) == 1
    assert f"{len(times)} clips, {10 - len(times)} dropped, until" in err


def test_a_closed_stdout_ends_it_quietly(video):
    with (
        sender(video, "mpegts", before=("-re", "-stream_loop", "-1")) as ffmpeg,
        program("classify", "-", "--follow", stdin=ffmpeg.stdout) as process,
    ):
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert "rror" not in process.stderr.read()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_the_summary(number, code, video):
    with sender(video, "mpegts", before=("-re", "-stream_loop", "-1")) as ffmpeg:
        process = program("classify", "-", "--follow", "--json", stdin=ffmpeg.stdout)
        process.stdout.readline()
        process.send_signal(number)
        exit_code, lines, err = finish(process)
    assert exit_code == code
    assert lines[-1]["status"] == "ok"
    assert lines[-1]["clips"] == len(lines)  # the first one was read before
    assert f"{len(lines):,} clips, {lines[-1]['dropped']:,} dropped" in err


def test_a_sender_that_restarts_is_said_and_counted(video):
    data = stream_bytes(video, "matroska")
    code, out, err = piped(data + data, "classify", "-", "--follow", "--json")
    assert code == 0, err
    *_, last = map(json.loads, out.splitlines())
    assert last["breaks"] == 1
    assert last["clips"] + last["dropped"] == 20
    assert "-: another recording starts" in err


def test_damage_makes_it_partial_and_lists_the_gap(video):
    data = bytearray(stream_bytes(video, "mpegts"))
    start = len(data) // 2 // 188 * 188
    del data[start : start + 3 * 188]
    code, out, _ = piped(bytes(data), "classify", "-", "--follow", "--json")
    last = json.loads(out.splitlines()[-1])
    assert (code, last["status"]) == (3, "partial")
    assert len(last["error"]["gaps"]) == 1


def test_damage_is_said_also_if_it_is_stopped_before_its_end(video):
    data = bytearray(stream_bytes(video, "mpegts"))
    start = len(data) // 4 // 188 * 188
    del data[start : start + 3 * 188]
    reading, writing = os.pipe()
    with program("classify", "-", "--follow", "--json", stdin=reading) as process:
        os.close(reading)
        os.write(writing, data[: 60 << 10])
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        code, lines, _ = finish(process)
    os.close(writing)
    assert code == 130
    assert lines[-1]["status"] == "partial"
    assert "lost to damage before it was stopped" in lines[-1]["error"]["message"]


def clip(number, start):
    return (Clip(np.full((8, 4, 4, 3), number, np.uint8), ClipSpan(start, start + 1.0)),)


def test_a_burst_waits_but_not_more_than_a_few_clips():
    waiting = Waiting()
    for number in range(MOST_WAITING + 3):
        waiting.put(clip(number, 100.0 * number))  # a hundred seconds of video come at once
    waiting.end()
    taken = [each[0].pixels[0, 0, 0, 0] for each in iter(lambda: waiting.take(lambda: False), None)]
    assert taken == list(range(3, MOST_WAITING + 3))
    assert waiting.dropped == 3


def test_a_clip_that_waited_while_the_next_one_was_made_is_dropped():
    waiting = Waiting()
    waiting.put(clip(0, 0.0))
    time.sleep(0.05)
    waiting.put(clip(1, 0.05))
    waiting.put(clip(2, 100.0))
    assert waiting.take(lambda: False)[0].pixels[0, 0, 0, 0] == 1
    assert waiting.dropped == 1


def test_what_waits_for_a_clip_can_be_stopped():
    stopped = threading.Event()
    threading.Timer(0.1, stopped.set).start()
    assert Waiting().take(stopped.is_set) is None


def resolved_for(**options):
    return resolve(Options(model=EMBEDDED, batch_size=1, **options), logits=True, maps=False)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.9])
def test_a_network_that_is_too_slow_drops_clips_and_stays_close_behind(seconds, video):
    """Clips of 0.2 s that take 0.9 s: the result of each clip comes at most one and a half clips' work after its frames."""
    resolved = resolved_for(frames=4, frame_step=1, stride=5)

    def compute(clips):
        time.sleep(seconds)
        return np.zeros((1, 128), np.float32), np.zeros((1, 9), np.float32)

    followed = Followed()
    delays = []
    with sender(video, "mpegts", before=("-re", "-stream_loop", "1")) as ffmpeg:
        stream = Stream(name="-", pipe=ffmpeg.stdout.fileno(), prompt=True)
        for (result,) in follow(resolved, compute, stream, followed):
            assert isinstance(result, ClipResult)
            delays.append(followed.reached - result.span.end)
    assert followed.error is None
    assert followed.clips == len(delays)
    assert followed.clips + followed.dropped == 60
    if seconds:
        assert followed.dropped > 20
        assert max(delays[3:]) < 3 * seconds
    else:
        assert followed.dropped <= 5  # of the burst at the start, on a busy machine


@pytest.mark.slow
def test_dropped_clips_are_said(video):
    with sender(video, "mpegts", before=("-readrate", "8", "-stream_loop", "20")) as ffmpeg:
        process = program("classify", "-", "--follow", "--json", "--stride", 1, "--crops", 3, "--full", stdin=ffmpeg.stdout)
        code, lines, err = finish(process)
    assert code == 0
    assert lines[-1]["dropped"] > 0
    assert 0 < err.count("clips dropped up to now") <= 6
    assert f"{lines[-1]['clips']:,} clips, {lines[-1]['dropped']:,} dropped" in err


def resident(pid):
    """Resident memory in bytes of a process and of its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    threads = [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]
    lines = [
        line
        for each in {pid, *map(int, children), *threads}
        for line in Path(f"/proc/{each}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    ]
    return 1024 * sum(int(line.split()[1]) for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["mpegts", "matroska"])
def test_memory_does_not_grow_in_an_hour_of_video(format_name, tmp_path):
    """An hour at 5 frames a second, as fast as it is read."""
    loop = encode_numbers(tmp_path / "loop.ts", constant(300, step=200), size=(64, 48), options={"g": "50", "bf": "0"})
    before = ("-stream_loop", "59")
    command = [*FFMPEG, *before, "-i", str(loop), "-c", "copy", "-f", format_name, "-"]
    sizes = []
    args = ("classify", "-", "--follow", "--json", "--top-k", 1, "--stride", 50)
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as ffmpeg,
        program(*args, stdin=ffmpeg.stdout) as process,
    ):
        end = 0.0
        for line in process.stdout:
            record = json.loads(line)
            if "clips" not in record:
                end = record["end"]
                if end > 300:
                    sizes.append(resident(process.pid))
        assert process.wait(timeout=60) == 0, process.stderr.read()
    assert end > 3500
    assert record["status"] == "ok"
    quarter = len(sizes) // 4
    assert quarter >= 5
    assert np.median(sizes[-quarter:]) < np.median(sizes[:quarter]) + (8 << 20)

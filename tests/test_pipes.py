"""Videos through pipes: the same as from a file with the same bytes, and clear errors for everything else."""

import json
import os
import signal
import socket
import subprocess
import time

import numpy as np
import pytest

from ig65m.errors import VideoError
from ig65m.models.card import VMZ
from ig65m.types import Limits
from ig65m.video.clips import read_clips
from ig65m.video.isolation import Decoder
from ig65m.video.pipe_buffer import PipeBuffer
from ig65m.video.sampling import Sampling
from ig65m.video.stream import Stream
from tests.piping import PROGRAM, finish, pipe_of, piped, program, sender, stream_bytes
from tests.videos import constant, encode_numbers

SAMPLING = Sampling(frames=8, stride=5)
H264 = ("-c:v", "libx264", "-g", "25")
FORMATS = {
    "matroska": H264,
    "webm": ("-c:v", "libvpx"),
    "mpegts": H264,
    "flv": H264,
    "mp4": (*H264, "-movflags", "frag_keyframe+empty_moov"),
    "ogg": ("-c:v", "libtheora"),
    "nut": H264,
    "h264": H264,
    "yuv4mpegpipe": ("-pix_fmt", "yuv420p"),
    "avi": H264,
}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """80 frames of 25 a second, each with its number, with B-frames."""
    return encode_numbers(tmp_path_factory.mktemp("pipes") / "video.mkv", constant(80), options={"g": "20"})


def clips_of(source, sampling=SAMPLING, **limits):
    """The clips that can be read, and the error that ends them."""
    clips = []
    with Decoder(Limits(**limits)) as decoder:
        try:
            clips.extend(read_clips(source, sampling, VMZ, decoder=decoder))
        except VideoError as error:
            return clips, error
    return clips, None


def through_pipe(data, tmp_path, sampling=SAMPLING, *, prompt=False, **limits):
    with pipe_of(data, tmp_path / "piped") as pipe:
        return clips_of(Stream(name="-", pipe=pipe, prompt=prompt), sampling, **limits)


def assert_same(found, expected):
    assert [clip.span for clip in found] == [clip.span for clip in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_pipe_gives_what_the_file_gives(format_name, video, tmp_path):
    data = stream_bytes(video, format_name, *FORMATS[format_name])
    file = tmp_path / "file"
    file.write_bytes(data)
    expected, failure = clips_of(file)
    assert failure is None
    assert len(expected) >= 15
    for prompt in (False, True):
        found, failure = through_pipe(data, tmp_path, prompt=prompt)
        assert failure is None
        assert_same(found, expected)


@pytest.mark.parametrize(
    "sampling", [Sampling(frames=4, stride=60), Sampling(frames=8, fps=10, start=0.5, end=2.0, tail="drop")]
)
def test_start_end_stride_and_rate_are_those_of_a_file(sampling, video, tmp_path):
    data = stream_bytes(video, "matroska")
    (tmp_path / "file").write_bytes(data)
    found, failure = through_pipe(data, tmp_path, sampling)
    expected, _ = clips_of(tmp_path / "file", sampling)
    assert failure is None
    assert [(clip.span.start, clip.span.end) for clip in found] == [(clip.span.start, clip.span.end) for clip in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)


@pytest.mark.parametrize("format_name", ["matroska", "mpegts", "flv"])
@pytest.mark.parametrize("place", [0.4, 0.7])
def test_damage_in_a_pipe_costs_what_it_costs_in_a_file(format_name, place, video, tmp_path):
    data = bytearray(stream_bytes(video, format_name, *H264))
    start = int(len(data) * place) // 188 * 188
    del data[start : start + 2 * 188]  # lost packets of MPEG-TS; elsewhere the container is broken
    (tmp_path / "file").write_bytes(data)
    expected, failure = clips_of(tmp_path / "file")
    found, error = through_pipe(bytes(data), tmp_path)
    assert failure is not None
    assert error is not None
    assert_same(found, expected)
    assert (error.gaps, error.last_good_time) == (failure.gaps, failure.last_good_time)
    assert str(error).removeprefix("-") == str(failure).removeprefix(str(tmp_path / "file"))


@pytest.mark.parametrize("format_name", ["matroska", "mpegts", "flv", "mp4", "ogg"])
def test_a_writer_that_dies_within_a_picture_leaves_the_clips_before(format_name, video, tmp_path):
    data = stream_bytes(video, format_name, *FORMATS[format_name])
    cut = data[: len(data) * 6 // 10 - 33]
    (tmp_path / "file").write_bytes(cut)
    found, failure = through_pipe(cut, tmp_path)
    expected, of_file = clips_of(tmp_path / "file")
    assert failure is not None
    assert_same(found, expected)
    assert 0 < len(found) < 13
    assert failure.last_good_time == of_file.last_good_time


RESTARTS = {"mpegts": H264, "matroska": H264, "matroska of another size and codec": ("-vf", "scale=192:128", "-c:v", "libvpx")}


@pytest.mark.parametrize("name", RESTARTS)
def test_where_a_sender_restarts_times_go_on_and_clips_begin_anew(name, video, tmp_path):
    """The second sender starts with frame 30."""
    format_name = name.split()[0]
    parts = [
        stream_bytes(video, format_name, *H264),
        stream_bytes(video, format_name, *RESTARTS[name], before=("-ss", "1.2")),
    ]
    found, failure = through_pipe(b"".join(parts), tmp_path, Sampling(frames=8, tail="drop"))
    first, _ = through_pipe(parts[0], tmp_path, Sampling(frames=8, tail="drop"))
    second, _ = through_pipe(parts[1], tmp_path, Sampling(frames=8, tail="drop"))
    assert failure is None
    assert (len(first), len(second)) == (10, 6)
    assert [clip.span.start for clip in found[:10]] == pytest.approx([clip.span.start for clip in first])
    begun = first[0].span.start + 80 * 0.04
    assert [clip.span.start for clip in found[10:]] == pytest.approx([begun + 0.32 * number for number in range(6)])
    assert [clip.span.first_frame for clip in found[10:]] == list(range(80, 128, 8))
    for a, b in zip(found, [*first, *second], strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)


def test_where_the_clock_jumps_forward_times_have_the_gap_and_clips_begin_anew(video, tmp_path):
    later = stream_bytes(video, "mpegts", *H264, "-output_ts_offset", "100")
    found, failure = through_pipe(stream_bytes(video, "mpegts", *H264) + later, tmp_path, Sampling(frames=16, tail="drop"))
    assert failure is None
    starts = [clip.span.start - found[0].span.start for clip in found]
    assert starts == pytest.approx([0.64 * number + jump for jump in (0, 100) for number in range(5)], abs=0.1)


def test_a_sender_that_is_killed_may_be_followed_by_another_one(video, tmp_path):
    data = stream_bytes(video, "matroska")
    found, failure = through_pipe(data[: len(data) // 2] + data, tmp_path, Sampling(frames=8, tail="drop"))
    assert failure is not None
    whole, _ = through_pipe(data, tmp_path, Sampling(frames=8, tail="drop"))
    for a, b in zip(found[:3], whole[:3], strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)
    for a, b in zip(found[-10:], whole, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)
    starts = [clip.span.start for clip in found]
    assert starts == sorted(starts)


def test_bytes_are_given_as_they_come_and_a_header_ends_a_recording():
    reading, writing = os.pipe()
    header = bytes.fromhex("1a45dfa3a342868101") + b"\x42\x82\x88matroska" + bytes(80)
    received = PipeBuffer(reading, "-", seconds=5)
    os.write(writing, header + b"one")
    got = received.read(1000)
    assert got == header + b"one"
    os.write(writing, b"two\x1a")
    assert received.read(1000) == b"two"  # the last byte may be the first one of a header
    os.write(writing, b"no" + header[:20])
    assert received.read(1000) == b"\x1ano"
    os.write(writing, header[20:] + b"three")
    os.close(writing)
    assert received.read(1000) == b""
    rest = received.rest()
    assert rest is not None
    assert b"".join(iter(lambda: rest.read(1000), b"")) == header + b"three"
    assert rest.rest() is None
    assert not rest.stalled
    os.close(reading)


WRONG = {
    "nothing": (b"", "standard input is empty"),
    "text": (b"no video at all\n" * 1000, "bytes came that are not a video"),
    "a png": (b"\x89PNG\r\n\x1a\n" + bytes(1000), "expected a video, found a single image"),
    "a playlist": (b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n", "not a video"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_a_video_is_said(name):
    data, message = WRONG[name]
    code, out, err = piped(data, "classify", "-", "--json")
    assert code == 3
    assert message in err
    assert json.loads(out)["videos"][0]["status"] == "failed"


def test_mp4_with_its_index_at_the_end_is_refused_with_what_to_do(video, tmp_path):
    file = tmp_path / "video.mp4"
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(video), "-c", "copy", str(file)], check=True)
    code, _, err = piped(file.read_bytes(), "classify", "-")
    assert code == 3
    assert "an MP4 file with its index at the end, which cannot be read from a pipe" in err
    assert "-f matroska -" in err


def test_a_stream_that_crashes_the_decoder_is_failed():
    """One row of a Bayer mosaic, which libswscale aborts on."""
    raw = ["-f", "rawvideo", "-pix_fmt", "bayer_bggr8", "-s", "64x1", "-i", "-"]
    command = ["ffmpeg", "-v", "error", *raw, "-c:v", "rawvideo", "-f", "nut", "-"]
    data = subprocess.run(command, input=bytes(640), capture_output=True, check=True).stdout
    code, out, _ = piped(data, "classify", "-", "--follow", "--json", "--preprocessing", "ig65m-pytorch")
    last = json.loads(out.splitlines()[-1])
    assert (code, last["status"], last["clips"]) == (3, "failed", 0)
    assert "its decoder crashed (SIGABRT" in last["error"]["message"]


def test_classify_and_extract_read_standard_input(video, tmp_path):
    data = stream_bytes(video, "matroska")
    (tmp_path / "file.mkv").write_bytes(data)
    code, out, err = piped(data, "classify", "-", "--json")
    assert code == 0, err
    (found,) = json.loads(out)["videos"]
    (expected,) = json.loads(piped(b"", "classify", tmp_path / "file.mkv", "--json")[1])["videos"]
    assert found == expected | {"path": "-"}
    code, out, err = piped(data, "extract", "-", "--output", tmp_path / "f.npz")
    assert code == 0, err
    assert piped(b"", "extract", tmp_path / "file.mkv", "--output", tmp_path / "g.npz")[0] == 0
    found, expected = np.load(tmp_path / "f.npz"), np.load(tmp_path / "g.npz")
    np.testing.assert_array_equal(found["features"], expected["features"])
    np.testing.assert_array_equal(found["spans"], expected["spans"])
    assert json.loads(str(found["info"]))["path"] == "-"


def test_a_file_as_standard_input_is_read_as_a_stream(video):
    with video.open("rb") as file:
        code, lines, err = finish(program("classify", "-", "--follow", "--json", "--end", "0.44", stdin=file))
    assert code == 0, err
    assert [(line["start"], line["end"]) for line in lines[:-1]] == [(0.0, 0.44)]
    assert (lines[-1]["status"], lines[-1]["clips"]) == ("ok", 1)


REFUSED = {
    "twice": (["classify", "-", "-"], "give it alone"),
    "beside a file": (["classify", "-", "a.mp4"], "give it alone"),
    "clips": (["classify", "-", "--clips", "3"], "--clips spreads clips over the whole video"),
    "within shots": (["classify", "-", "--within-shots"], "--within-shots needs frames that come later"),
    "in process": (["classify", "-", "--in-process"], "--in-process is for files"),
    "folder": (["extract", "-", "-o", "features"], "features is a folder of features"),
    "shard": (["extract", "-", "-o", "features", "--shard", "1/2"], "--shard is for a folder"),
    "ray": (["extract", "-", "-o", "features", "--ray"], "--ray is for a folder"),
    "other commands": (["shots", "-"], "standard input is read by classify and extract only"),
    "follow a file": (["classify", "a.mp4", "--follow"], "--follow is for a stream"),
    "features as text": (["extract", "-", "--follow"], "add --json"),
    "features to a file": (["extract", "-", "--follow", "--json", "-o", "f.npz"], "leave --output out"),
    "no output": (["extract", "-"], "Missing option '--output'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_stream_cannot_do_is_wrong_use(name, tmp_path):
    args, message = REFUSED[name]
    done = subprocess.run([PROGRAM, *args], input="", capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_terminal_as_standard_input_is_wrong_use():
    leader, terminal = os.openpty()
    done = subprocess.run([PROGRAM, "classify", "-"], stdin=terminal, capture_output=True, text=True, check=False)
    os.close(leader)
    os.close(terminal)
    assert done.returncode == 2
    assert "standard input is a terminal, so nothing is piped" in done.stderr


@pytest.mark.slow
def test_a_sender_that_pauses_changes_nothing(video):
    (expected,) = json.loads(piped(stream_bytes(video, "mpegts"), "classify", "-", "--json")[1])["videos"]
    with sender(video, "mpegts") as ffmpeg:
        process = program("classify", "-", "--json", stdin=ffmpeg.stdout)
        time.sleep(1.5)
        ffmpeg.send_signal(signal.SIGSTOP)
        time.sleep(3)
        ffmpeg.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["videos"] == [expected]


@pytest.mark.slow
@pytest.mark.parametrize("follow", [False, True])
def test_a_sender_that_stays_silent_is_given_up(video, follow):
    with sender(video, "mpegts") as ffmpeg:
        how = ["--follow"] if follow else []
        process = program("classify", "-", "--json", "--timeout", 3, *how, stdin=ffmpeg.stdout)
        time.sleep(2)
        ffmpeg.send_signal(signal.SIGSTOP)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "nothing came for 3 s; raise --timeout to wait longer" in err
    last = json.loads(out.splitlines()[-1]) if follow else json.loads(out)["videos"][0]
    assert last["status"] == "partial"
    assert 1.4 < last["error"]["last_good_time"] < 1.4 + 2.5


@pytest.mark.slow
def test_no_address_is_opened_without_live():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        port = listening.getsockname()[1]
        address = f"127.0.0.1:{port}"
        forms = [f"{scheme}://{address}/a" for scheme in ("rtsp", "RTSP", "rtsps", "http", "tcp", "rtp", "udp")]
        for name in [*forms, f"tcp:{address}", f"concat:http://{address}/a", f"async:http://{address}/a"]:
            assert subprocess.run([PROGRAM, "classify", name], capture_output=True, check=False).returncode == 2
        for name in [*forms[2:], f"concat:{forms[0]}", f"pipe:{forms[0]}"]:
            command = [PROGRAM, "classify", "--live", name, "--follow"]
            assert subprocess.run(command, capture_output=True, check=False).returncode == 2, name
        playlists = [
            f"#EXTM3U\n#EXTINF:1,\nhttp://{address}/a.ts\n",
            f"ffconcat version 1.0\nfile http://{address}/a.mp4\n",
            f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
            f"<asx version='3.0'><entry><ref href='http://{address}/a'/></entry></asx>",
        ]
        for playlist in playlists:
            assert piped(playlist.encode(), "classify", "-")[0] == 3
        with pytest.raises(TimeoutError):
            listening.accept()


def test_a_url_without_live_names_live(run):
    code, _, err = run("classify", "rtsp://user:secret@camera/stream?token=secret")
    assert code == 2
    assert "rtsp://camera/stream is not opened without --live" in err
    assert "secret" not in err

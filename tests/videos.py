"""Small videos whose every frame carries its own number in its pixels, so that a test can say which frame came when."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

MILLISECONDS = Fraction(1, 1000)
ROWS, COLUMNS = 2, 4


def numbered(number: int, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """(height, width, 3): the eight bits of `number` as white and black blocks, four above four."""
    bits = np.unpackbits(np.uint8(number)).reshape(ROWS, COLUMNS) * 255
    y, x = np.arange(height) * ROWS // height, np.arange(width) * COLUMNS // width
    return np.repeat(bits[y[:, None], x][..., None], 3, axis=2)


def number_in(picture: NDArray[Any]) -> int:
    """What `numbered` put in, from a picture (H, W, 3) of any size on 0..255; wrong if a block is neither black nor white."""
    height, width = picture.shape[:2]
    y, x = (np.arange(ROWS) * 2 + 1) * height // (2 * ROWS), (np.arange(COLUMNS) * 2 + 1) * width // (2 * COLUMNS)
    blocks = picture[y[:, None], x].mean(axis=-1)
    assert ((blocks < 90) | (blocks > 165)).all(), blocks
    return int(np.packbits(blocks > 127)[0])


def encode(
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    times: Sequence[int],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container: Mapping[str, str] | None = None,
    display: Mapping[str, Any] | None = None,
    time_base: Fraction = MILLISECONDS,
) -> Path:
    """Writes `pictures` shown at `times` (in `time_base`); `display` are the arguments of set_display_rotation."""
    pictures = list(pictures)
    with av.open(str(path), "w", options=dict(container or {})) as output:
        stream = output.add_stream(codec, rate=25, options=dict(options or {}))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.time_base, stream.codec_context.time_base = pix_fmt, time_base, time_base
        if display:
            stream.set_display_rotation(**display)
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    # SVT-AV1 makes the thread that calls it real-time where it may (root), and what that starts, a browser too, stays so.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


def encode_numbers(path: Path, times: Sequence[int], *, size: tuple[int, int] = (96, 64), **how: Any) -> Path:
    """Frames 0, 1, ... (modulo 256) of `size` (width, height) at `times`; the rest as `encode` has it."""
    return encode(path, (numbered(i % 256, *size) for i in range(len(times))), times, **how)


def constant(count: int, *, first: int = 0, step: int = 40) -> list[int]:
    return [first + i * step for i in range(count)]


def add_sound(source: Path, target: Path, seconds: float, *, container: Mapping[str, str] | None = None) -> Path:
    """The video stream of `source` (or none, where that is a missing file) with `seconds` of silence beside it."""
    with av.open(str(target), "w", options=dict(container or {})) as output:
        packets: list[av.Packet] = []
        if source.exists():
            with av.open(str(source)) as video:
                copy = output.add_stream_from_template(video.streams.video[0])
                packets = [packet for packet in video.demux(video=0) if packet.size]
                for packet in packets:
                    packet.stream = copy
        sound = output.add_stream("aac", rate=16000, layout="mono")
        for i in range(int(seconds * 16000 / 1024)):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts, silence.time_base = 16000, i * 1024, Fraction(1, 16000)
            packets += sound.encode(silence)
        packets += sound.encode(None)
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            output.mux(packet)
    return target


def repeated(source: Path, target: Path, times: int) -> Path:
    """The packets of `source` again and again, without coding anything anew."""
    with av.open(str(target), "w") as output:
        copy, shift = None, 0
        for _ in range(times):
            with av.open(str(source)) as video:
                stream = video.streams.video[0]
                copy = copy or output.add_stream_from_template(stream)
                for packet in video.demux(stream):
                    if packet.size:
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = copy
                        output.mux(packet)
                shift += stream.duration
    return target


HAVE_FFPROBE = shutil.which("ffprobe") is not None


def probe_packet_times(path: Path) -> list[float]:
    """Sorted presentation times in seconds of the packets that are to be shown, by FFmpeg's own program."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts_time,dts_time,flags"]
    report = subprocess.run([*command, "-of", "json", str(path)], check=True, capture_output=True).stdout
    packets = [packet for packet in json.loads(report)["packets"] if "D" not in packet["flags"]]
    return sorted(float(packet["pts_time"]) for packet in packets)

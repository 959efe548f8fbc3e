"""Reads a video file, a folder of images or frames in memory: frames with their true times, in order.

Only local files are opened, whatever a file refers to. Frame counts in headers are not trusted.
"""

import itertools
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import av
from av.container import Flags, InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from ig65m.errors import VideoError
from ig65m.types import Frames, Limits
from ig65m.video.decoding import Damage, Spare, decode, options, too_large
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.frame_times import Timing
from ig65m.video.image_files import SUFFIXES, is_image, is_photograph, list_images
from ig65m.video.images import read_images
from ig65m.video.packets import COVERS, Seen

FORMATS = "mov,matroska,mpegts,mpeg,mpegvideo,avi,flv,asf,ogg,ivf,obu,h264,hevc,m4v,mxf,nut,rm,dv,wtv,gif,apng,yuv4mpegpipe"
"""libavformat's demuxers that may read a file; none of them opens another file or the network."""

IMAGE = f"expected a video, found a single image; give a folder of images ({', '.join(SUFFIXES)}) instead"


def read_frames(
    source: Path | str | Frames,
    *,
    image_fps: float = 25.0,
    start: float | None = None,
    threads: int = 0,
    limits: Limits | None = None,
) -> Generator[Frame | LostFrame, None, None]:
    """Yield the frames of a source in presentation order; memory does not grow with the length of the video.

    A frame's `time` is its presentation timestamp, so a stream need not start at 0 s. Its `end` is the time of the next frame.
    The last frame has the duration that the container gives it, or that of the frame before, or of one frame at the average
    rate. See clock.py for timestamps that are missing or go back.

    Images of a folder come at `image_fps` frames a second. Frames before `start` (seconds) may be left out, if the container
    can seek exactly. `threads` are for decoding; with 0 FFmpeg chooses. `limits` bound the size of a picture and the number of
    decoded frames, including those before `start`.

    A frame lost to damage is a LostFrame; decoding continues at the next key frame. Raises VideoError if nothing can be read,
    or after the last good frame if the video breaks off.
    """
    limits = limits or Limits()
    if isinstance(source, Frames):
        return _read_memory(source)
    path = Path(source)
    if path.is_dir():
        return read_images(path, fps=image_fps, limits=limits)
    check_file(path)
    return _read_file(path, start, threads, limits)


def check_file(path: Path) -> None:
    """Raise VideoError for anything that cannot be opened, or whose opening could block."""
    if not path.exists():
        raise VideoError(f"{path}: no such file; expected a local video file or a folder of images")
    if not path.is_file():
        raise VideoError(f"{path}: expected a regular file or a folder; copy the video to a file first")
    if is_photograph(_head(path)):
        raise VideoError(f"{path}: {IMAGE}")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise VideoError(f"{path}: cannot be opened ({error.strerror})") from error


def read_duration(path: Path, *, image_fps: float, limits: Limits) -> float:
    """Return the duration in seconds that a video file's header states, or that of a folder of images; 0 if there is none.

    Nothing is decoded, and the header may be wrong. Raises VideoError if the file cannot be opened.
    """
    if path.is_dir():
        return len(list_images(path)) / image_fps
    check_file(path)
    with _open(path, limits) as container:
        stream = _video_stream(container, path)
        if stream.duration is not None and stream.time_base is not None:
            return max(0.0, float(stream.duration * stream.time_base))
        return max(0.0, (container.duration or 0) / 1e6)


def _read_memory(frames: Frames) -> Generator[Frame, None, None]:
    for i, array in enumerate(frames.array):
        yield Frame(i / frames.fps, (i + 1) / frames.fps, av.VideoFrame.from_ndarray(array, format="rgb24"))


def open_container(file: Any, limits: Limits, *, protocols: str) -> InputContainer:
    """Open a URL of one of the protocols, or a file-like object, in one of FORMATS. Raises av.FFmpegError."""
    # If a programme of MPEG-TS continues under another number, as its new map says, it stays one stream.
    how = {"format_whitelist": FORMATS, "protocol_whitelist": protocols, "merge_pmt_versions": "1", **options(limits)}
    container: InputContainer = av.open(file, mode="r", options=how, metadata_errors="replace")
    keep_timestamps(container)
    return container


def keep_timestamps(container: InputContainer) -> None:
    """Stop FFmpeg from generating timestamps from decoding times, which are out of order in AVI with B-frames."""
    container.flags &= ~cast(int, Flags.gen_pts.value)


def _open(path: Path, limits: Limits) -> InputContainer:
    try:
        return open_container(f"file:{path.absolute()}", limits, protocols="file")
    except av.FFmpegError as error:
        if isinstance(error, PermissionError | FileNotFoundError):
            raise VideoError(f"{path}: cannot be opened ({error.strerror})") from error
        if is_image(_head(path)):
            raise VideoError(f"{path}: {IMAGE}") from error
        size = path.stat().st_size
        found = (
            f"{size} bytes that are not a video in a supported format, or are damaged at the start" if size else "an empty file"
        )
        raise VideoError(f"{path}: {found} ({error.strerror})") from error


@contextmanager
def open_video(path: Path, limits: Limits, threads: int = 0) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its video stream for decoding, until the block ends. Raises VideoError if there is none within the
    limits.
    """
    with _open(path, limits) as container:
        stream = video_stream(container, path, limits)
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO"
        yield container, stream


def spare_decoder(path: Path, limits: Limits) -> Spare:
    """Return what opens a decoder with one thread for the video stream of a file."""

    @contextmanager
    def opened() -> Iterator[VideoCodecContext]:
        with open_video(path, limits, 1) as (_, stream):
            yield stream.codec_context

    return opened


def video_stream(container: InputContainer, name: object, limits: Limits) -> VideoStream:
    """Return the video stream, ready to decode. Raises VideoError if there is none within the limits."""
    stream = _video_stream(container, name)
    large = too_large(stream.codec_context.width, stream.codec_context.height, limits)
    if large is not None:
        raise VideoError(f"{name}: {large}")
    stream.codec_context.options = options(limits)
    return stream


def _video_stream(container: InputContainer, name: object) -> VideoStream:
    """Return FFmpeg's choice, unless it is a cover picture."""
    best = container.streams.best("video")
    candidates = [stream for stream in (best, *container.streams.video) if stream and not stream.disposition & COVERS]
    if not candidates:
        streams = {"cover picture" if stream.disposition & COVERS else stream.type for stream in container.streams}
        kinds = ", ".join(sorted(streams)) or "nothing"
        raise VideoError(f"{name}: no video stream found in this file; it has: {kinds}")
    stream = cast(VideoStream, candidates[0])
    if cast(object, stream.codec_context) is None:
        raise VideoError(f"{name}: FFmpeg cannot decode its video stream; convert it to H.264 or another common codec")
    return stream


def _read_file(path: Path, start: float | None, threads: int, limits: Limits) -> Generator[Frame | LostFrame, None, None]:
    if start is not None:
        with open_video(path, limits, threads) as (container, stream):
            if _seek(container, stream, start):
                seen = Seen(always_key=has_format(container, "mov", "matroska"))
                pictures = decode(path, container, stream, seen, limits, spare_decoder(path, limits))
                try:
                    first = next(pictures, None)
                except Damage:
                    first = None
                if isinstance(first, av.VideoFrame) and _is_entry(first, start):
                    yield from Timing(path, container, stream, seen, limits).frames(itertools.chain([first], pictures))
                    return
    with open_video(path, limits, threads) as (container, stream):  # reopened, since a failed seek has moved the position
        seen = Seen(always_key=has_format(container, "mov", "matroska"))
        pictures = decode(path, container, stream, seen, limits, spare_decoder(path, limits))
        yield from Timing(path, container, stream, seen, limits).frames(pictures)


def has_format(container: InputContainer, *names: str) -> bool:
    """Whether the format is one of these; libavformat's name for the mp4 family is "mov,mp4,m4a,3gp,3g2,mj2"."""
    return not set(names).isdisjoint(container.format.name.split(","))


def _seek(container: InputContainer, stream: VideoStream, start: float) -> bool:
    """Seek to the key frame before `start`. Returns False if the container has no index, or there is nothing to skip."""
    if (
        not has_format(container, "mov", "matroska")
        or stream.time_base is None
        or start <= (stream.start_time or 0) * stream.time_base
    ):
        return False
    try:
        container.seek(int(start / stream.time_base), stream=stream)
    except av.FFmpegError:
        return False
    return True


def _is_entry(picture: av.VideoFrame, start: float) -> bool:
    """Return whether decoding that starts with this picture yields every frame from `start` on.

    After the key frame of an open group come pictures that are displayed before it and cannot be decoded alone. Then the first
    picture is not the key frame, or it is late.
    """
    return picture.key_frame and picture.pts is not None and picture.time <= start

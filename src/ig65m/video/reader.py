"""A video file, a folder of images or frames in memory -> frames with their true times, in order, one at a time.

Only local files are opened, whatever their contents ask for, and nothing that a header claims about the number of frames
is believed.
"""

import itertools
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import av
from av.container import Flags, InputContainer
from av.video.stream import VideoStream

from ig65m.errors import VideoError
from ig65m.types import Frames, Limits
from ig65m.video.decoding import Damage, decode, options, too_large
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.images import SUFFIXES, is_image, is_photograph, list_images, read_images
from ig65m.video.packets import COVERS, Seen
from ig65m.video.timing import Timing

FORMATS = "mov,matroska,mpegts,mpeg,mpegvideo,avi,flv,asf,ogg,ivf,obu,h264,hevc,m4v,mxf,nut,rm,dv,wtv,gif,apng,yuv4mpegpipe"
"""libavformat's demuxers that may read a file; none of them opens another file or the network."""

_IMAGE = f"a single image, not a video; a folder of images ({', '.join(SUFFIXES)}) is read as one"


def read_frames(
    source: Path | str | Frames,
    *,
    image_fps: float = 25.0,
    start: float | None = None,
    threads: int = 0,
    limits: Limits | None = None,
) -> Generator[Frame | LostFrame, None, None]:
    """The frames of a source in order of presentation; memory does not grow with its length.

    A frame's `time` is its presentation timestamp in the stream's time base, so a stream need not start at 0; its `end` is
    the next frame's time. The last frame has the duration that the container gives it, or the one before it, or one tick
    of the average rate. What happens where timestamps are missing or go back is told in clock.py.

    A folder's images come `image_fps` a second. Frames before `start` (seconds) may be left out, where the container
    allows to seek exactly. `threads` is for decoding, 0 lets FFmpeg choose. `limits` (None: the usual ones) bound the size
    of a picture and the number of frames decoded, those before `start` included.

    A frame that damage has cost is a LostFrame; decoding goes on at the next key frame that decodes. Raises VideoError where
    nothing can be read, and after the last good frame where nothing good comes any more.
    """
    limits = limits or Limits()
    if isinstance(source, Frames):
        return _read_memory(source)
    path = Path(source)
    if path.is_dir():
        return read_images(path, fps=image_fps, limits=limits)
    _check(path)
    return _read_file(path, start, threads, limits)


def _check(path: Path) -> None:
    """Raise VideoError for what cannot be opened, or would keep whoever opens it waiting."""
    if not path.exists():
        raise VideoError(f"{path}: no such file; expected a local video file or a folder of images")
    if not path.is_file():
        raise VideoError(f"{path}: neither a regular file nor a folder; copy the video to a file first")
    if is_photograph(_head(path)):
        raise VideoError(f"{path}: {_IMAGE}")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise VideoError(f"{path}: cannot be opened ({error.strerror})") from error


def read_duration(path: Path, *, image_fps: float, limits: Limits) -> float:
    """Seconds that a video file says it lasts, or that the images of a folder do; 0 if it does not say.

    Nothing is decoded, and the file may be wrong. Raises VideoError if it cannot be opened.
    """
    if path.is_dir():
        return len(list_images(path)) / image_fps
    _check(path)
    with _open(path, limits) as container:
        stream = _video_stream(container, path)
        if stream.duration is not None and stream.time_base is not None:
            return max(0.0, float(stream.duration * stream.time_base))
        return max(0.0, (container.duration or 0) / 1e6)


def _read_memory(frames: Frames) -> Generator[Frame, None, None]:
    for i, array in enumerate(frames.array):
        yield Frame(i / frames.fps, (i + 1) / frames.fps, av.VideoFrame.from_ndarray(array, format="rgb24"))


def _open(path: Path, limits: Limits) -> InputContainer:
    # Where a programme of MPEG-TS goes on under another number, its new map says so: it stays one stream.
    how = {"format_whitelist": FORMATS, "protocol_whitelist": "file", "merge_pmt_versions": "1", **options(limits)}
    try:
        container = av.open(f"file:{path.absolute()}", mode="r", options=how, metadata_errors="replace")
    except av.FFmpegError as error:
        if isinstance(error, PermissionError | FileNotFoundError):
            raise VideoError(f"{path}: cannot be opened ({error.strerror})") from error
        if is_image(_head(path)):
            raise VideoError(f"{path}: {_IMAGE}") from error
        size = path.stat().st_size
        found = f"{size} bytes that are no video in a supported format, or damaged at once" if size else "an empty file"
        raise VideoError(f"{path}: {found} ({error.strerror})") from error
    # Invented from decoding timestamps, they would be out of order in AVI with B-frames.
    container.flags &= ~cast(int, Flags.gen_pts.value)
    return container


@contextmanager
def open_video(path: Path, limits: Limits, threads: int = 0) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A file, open until the block ends, and its video stream, ready to decode. Raises VideoError if there is none within the
    limits."""
    with _open(path, limits) as container:
        stream = _video_stream(container, path)
        large = too_large(stream.codec_context.width, stream.codec_context.height, limits)
        if large is not None:
            raise VideoError(f"{path}: {large}")
        stream.codec_context.options = options(limits)
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO"
        yield container, stream


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    """FFmpeg's choice, unless it is a cover picture."""
    best = container.streams.best("video")
    candidates = [stream for stream in (best, *container.streams.video) if stream and not stream.disposition & COVERS]
    if not candidates:
        streams = {"cover picture" if stream.disposition & COVERS else stream.type for stream in container.streams}
        kinds = ", ".join(sorted(streams)) or "nothing"
        raise VideoError(f"{path}: no video stream in this file, it holds: {kinds}")
    stream = cast(VideoStream, candidates[0])
    if cast(object, stream.codec_context) is None:
        raise VideoError(f"{path}: FFmpeg has no decoder for its video; convert it to H.264 or another common codec")
    return stream


def _read_file(path: Path, start: float | None, threads: int, limits: Limits) -> Generator[Frame | LostFrame, None, None]:
    if start is not None:
        with open_video(path, limits, threads) as (container, stream):
            if _seek(container, stream, start):
                seen = Seen(always_key=_has(container, "mov", "matroska"))
                pictures = decode(path, container, stream, seen, limits, partial(open_video, path, limits, 1))
                try:
                    first = next(pictures, None)
                except Damage:
                    first = None
                if isinstance(first, av.VideoFrame) and _is_entry(first, start):
                    pictures = itertools.chain([first], pictures)
                    yield from Timing(path, container, stream, seen, limits).frames(pictures)
                    return
    with open_video(path, limits, threads) as (container, stream):  # anew, for a seek that failed has moved all the same
        seen = Seen(always_key=_has(container, "mov", "matroska"))
        pictures = decode(path, container, stream, seen, limits, partial(open_video, path, limits, 1))
        yield from Timing(path, container, stream, seen, limits).frames(pictures)


def _has(container: InputContainer, *names: str) -> bool:
    """Whether it is one of these; libavformat calls the family of mp4 "mov,mp4,m4a,3gp,3g2,mj2"."""
    return not set(names).isdisjoint(container.format.name.split(","))


def _seek(container: InputContainer, stream: VideoStream, start: float) -> bool:
    """To the key frame before `start`, in containers that have an index; False if there is none, or no use in it."""
    if (
        not _has(container, "mov", "matroska")
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
    """Whether decoding that began with this picture gives every frame from `start` on.

    After an open group's key frame come pictures that are shown before it and cannot be decoded alone: then the first
    picture is none of them, or it is late.
    """
    return picture.key_frame and picture.pts is not None and picture.time <= start

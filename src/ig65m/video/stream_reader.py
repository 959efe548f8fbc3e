"""Reads a stream: frames with times that never go back, whatever its senders do.

Where a sender starts again, or a lost connection is made again, the first frame has `begins`.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Final

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from ig65m.errors import VideoError
from ig65m.types import Limits
from ig65m.video.decoding import decode, options
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.frame_times import Timing
from ig65m.video.image_files import is_image, is_photograph
from ig65m.video.medium import Medium
from ig65m.video.packets import Seen
from ig65m.video.pipe_buffer import PipeBuffer
from ig65m.video.reader import IMAGE, has_format, open_container, video_stream
from ig65m.video.stream import Stream

INDEX_LAST: Final = (
    "an MP4 file with its index at the end, which cannot be read from a pipe; give the file itself, "
    "or write a stream: ffmpeg -i FILE -c copy -f matroska -"
)
EXAMPLE: Final = "ffmpeg -i SOURCE -f matroska - | ig65m classify -"
BOXES: Final = 1024
"""Bytes at the start of MP4 in which the boxes before the pictures are expected."""


def read_pipe(
    stream: Stream, limits: Limits, on_wait: Callable[[], None] | None = None
) -> Generator[Frame | LostFrame, None, None]:
    """Yield the frames of a pipe, as `reader.read_frames` those of a file with the same bytes.

    A sender that starts again continues the times. In Matroska it may send another size or codec then, and the sender before
    may have been killed. `on_wait` is called every half second while nothing comes.

    Raises VideoError if nothing can be read; or after the last frame, if it breaks off or nothing comes for `limits.seconds`.
    """
    assert stream.pipe is not None
    buffer: PipeBuffer | None = PipeBuffer(stream.pipe, stream.name, seconds=limits.seconds, on_wait=on_wait)
    end: float | None = None
    good: float | None = None  # the same of the last frame that was not lost
    failure: VideoError | None = None
    while buffer is not None:
        try:
            with closing(_recording(buffer, stream, limits)) as frames:
                for frame in continued(frames, end):
                    end, good = frame.end, frame.end if isinstance(frame, Frame) else good
                    yield frame
        except VideoError as error:
            failure = error
        buffer = buffer.rest()
    if failure is not None:
        raise VideoError(str(failure), last_good_time=good) from failure


def continued(frames: Iterator[Frame | LostFrame], at: float | None) -> Iterator[Frame | LostFrame]:
    """Yield the frames of a recording that follows another one, from the time `at` on; as they are if that is None.

    Its error says that its times are other ones.
    """
    if at is None:
        yield from frames
        return
    shift: float | None = None
    try:
        for frame in frames:
            begins = shift is None
            shift = at - frame.time if shift is None else shift
            yield replace(frame, time=frame.time + shift, end=frame.end + shift, begins=frame.begins or begins)
    except VideoError as error:
        raise VideoError(f"{error} (by times of the recording that starts at {at:.3f} s)") from error


def _recording(buffer: PipeBuffer, stream: Stream, limits: Limits) -> Generator[Frame | LostFrame, None, None]:
    """Yield the frames of one recording in a pipe."""
    end: float | None = None
    try:
        with _open(buffer, limits) as container, closing(read_container(buffer, container, stream, limits)) as frames:
            for frame in frames:
                end = frame.end if isinstance(frame, Frame) else end
                yield frame
    except VideoError:
        if not buffer.stalled:
            raise
    if buffer.stalled:
        raise VideoError(f"{stream}: nothing came for {limits.seconds:g} s; raise --timeout to wait longer", last_good_time=end)


def read_container(
    medium: Medium, container: InputContainer, stream: Stream, limits: Limits
) -> Generator[Frame | LostFrame, None, None]:
    """Yield the frames of an open container. Raises VideoError as `reader.read_frames`."""
    video = video_stream(container, medium, limits)
    # Decoders with a thread for each picture return it as many pictures later as there are threads.
    video.thread_type = "SLICE" if stream.prompt else "AUTO"
    video.codec_context.thread_count = 0
    seen = Seen(always_key=has_format(container, "mov", "matroska"))
    pictures = decode(medium, container, video, seen, limits, lambda: _like(video, limits))
    for frame in Timing(medium, container, video, seen, limits).frames(pictures):
        if isinstance(medium, PipeBuffer):
            medium.frame_came(seen.reached)
        yield frame


@contextmanager
def _like(video: VideoStream, limits: Limits) -> Iterator[VideoCodecContext]:
    """A decoder with one thread and the parameters of a stream, which cannot be opened twice."""
    of = video.codec_context
    decoder = av.CodecContext.create(of.name, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.extradata = of.extradata
    if of.pix_fmt is not None:
        decoder.width, decoder.height, decoder.pix_fmt = of.width, of.height, of.pix_fmt
    decoder.thread_count = 1
    decoder.options = options(limits)
    yield decoder


def _open(buffer: PipeBuffer, limits: Limits) -> InputContainer:
    """Open a pipe; FFmpeg gets its bytes, and can open nothing else. Raises VideoError."""
    if _is_index_last(buffer.head(BOXES)):
        raise VideoError(f"{buffer}: {INDEX_LAST}")
    if is_photograph(buffer.head(16)):
        raise VideoError(f"{buffer}: {IMAGE}")
    if buffer.size == 0:
        raise VideoError(f"{buffer}: standard input is empty; pipe a video into it, as in: {EXAMPLE}")
    try:
        return open_container(buffer, limits, protocols="none")
    except av.FFmpegError as error:
        if is_image(buffer.head(16)):
            raise VideoError(f"{buffer}: {IMAGE}") from error
        raise VideoError(
            f"{buffer}: {buffer.size} bytes came that are not a video in a format that can be piped, or are damaged at the "
            f"start ({error.strerror}); pipe Matroska or MPEG-TS, as in: {EXAMPLE}"
        ) from error


def _is_index_last(head: bytes) -> bool:
    """Whether the pictures of an MP4 file precede its index (`moov`). Source: ISO/IEC 14496-12, 4.2."""
    place = 0
    while head[4:8] == b"ftyp" and place + 8 <= len(head):
        size, kind = int.from_bytes(head[place : place + 4], "big"), head[place + 4 : place + 8]
        if kind == b"mdat":
            return True
        if kind == b"moov" or size < 8:
            return False
        place += size
    return False

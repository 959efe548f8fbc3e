"""Reads a live source over RTSP, and connects again when the connection is lost."""

import io
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import BinaryIO, Final, Literal

import av
from av.container import InputContainer

from ig65m.errors import VideoError
from ig65m.types import Limits
from ig65m.video.decoding import options
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.reader import keep_timestamps
from ig65m.video.stream import Stream
from ig65m.video.stream_reader import continued, read_container

SILENCE: Final = 10.0
"""Seconds without data after which a connection counts as lost; at most a quarter of the time after which it is given up."""

BACK_OFF: Final = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait before connecting again; the last one from then on."""


class NoBuffer:
    """The name of a live source, of which no bytes are kept."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name

    def open(self, _: Literal["rb"] = "rb", /) -> BinaryIO:
        """Open an empty file."""
        return io.BytesIO()


def read_live(
    stream: Stream,
    limits: Limits,
    on_wait: Callable[[], None] | None = None,
    on_news: Callable[[str], None] | None = None,
) -> Generator[Frame | LostFrame, None, None]:
    """Yield the frames of an RTSP source. After a lost connection, times go on by the clock on the wall.

    `on_wait` is called before each attempt to connect again, and often while waiting for it; `on_news` with a line about each
    lost connection.

    Raises VideoError if the first connection fails, or after the last frame, if none comes for `limits.seconds`.
    """
    end: float | None = None
    came = 0.0  # when the last frame came, by the monotonic clock
    attempts = 0
    while True:
        begun, cause = None, VideoError(f"{stream}: no frame came")
        try:
            with closing(_session(stream, limits)) as frames:
                first = next(frames)
                begun = time.monotonic()
                at = None if end is None else end + begun - came
                for frame in continued(_with(first, frames), at):
                    came, end = time.monotonic(), frame.end
                    yield frame
                cause = VideoError(f"{stream}: the server ended the stream")
        except StopIteration:
            pass
        except VideoError as error:
            cause = error
        if end is None:
            raise cause
        if begun is not None:
            attempts = 0 if time.monotonic() - begun > SILENCE else attempts
            if on_news is not None:
                on_news(f"connection lost at {end:.2f} s ({_reason(cause, stream)}); connecting again")
        until = min(time.monotonic() + BACK_OFF[min(attempts, len(BACK_OFF) - 1)], came + limits.seconds)
        attempts += 1
        while time.monotonic() < until:
            _call(on_wait)
            time.sleep(max(0.0, min(0.5, until - time.monotonic())))
        if time.monotonic() >= came + limits.seconds:
            message = (
                f"{stream}: no frame for {limits.seconds:g} s ({_reason(cause, stream)}); raise --timeout to try for longer"
            )
            raise VideoError(message, last_good_time=end) from cause
        _call(on_wait)


def _reason(error: VideoError, stream: Stream) -> str:
    """Return the message of an error without the name of the stream."""
    return str(error).removeprefix(f"{stream}: ")


def _call(on_wait: Callable[[], None] | None) -> None:
    if on_wait is not None:
        on_wait()


def _with(
    first: Frame | LostFrame, frames: Generator[Frame | LostFrame, None, None]
) -> Generator[Frame | LostFrame, None, None]:
    yield first
    yield from frames


def _session(stream: Stream, limits: Limits) -> Generator[Frame | LostFrame, None, None]:
    """Yield the frames of one connection. Raises VideoError if it fails."""
    with _open(stream, limits) as container:
        yield from read_container(NoBuffer(stream.name), container, stream, limits)


def _open(stream: Stream, limits: Limits) -> InputContainer:
    """Connect. FFmpeg may use TCP alone, which carries the pictures too, and read no other format.

    The protocol "rtsp" is not allowed: the demuxer does not need it, and a redirect to another server would.
    """
    assert stream.url is not None
    how = {"rtsp_transport": "tcp", "allowed_media_types": "video", "protocol_whitelist": "tcp", "format_whitelist": "rtsp"}
    seconds = min(SILENCE, limits.seconds / 4)
    try:
        container: InputContainer = av.open(
            stream.url,
            format="rtsp",
            options={**how, **options(limits)},
            timeout=(SILENCE if limits.seconds > SILENCE else limits.seconds, seconds),
            metadata_errors="replace",
        )
    except av.FFmpegError as error:
        raise VideoError(f"{stream}: no connection ({error.strerror}); check the address, user name and password") from error
    keep_timestamps(container)
    return container

"""A video file, a folder of images or frames in memory -> frames with their true times, in order, one at a time.

Only local files are opened, whatever their contents ask for, and nothing that a header claims about the number of frames
is believed.
"""

import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.container import Flags, InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from ig65m.errors import VideoError
from ig65m.types import Frames
from ig65m.video.frame import Frame, orientation_of
from ig65m.video.images import read_images

FORMATS = "mov,matroska,mpegts,mpeg,mpegvideo,avi,flv,asf,ogg,ivf,obu,h264,hevc,m4v,mxf,nut,rm,dv,wtv,gif,apng,yuv4mpegpipe"
"""libavformat's demuxers that may read a file; none of them opens another file or the network."""

NEW_TIMELINE = 1.0
"""Seconds that times must jump back for what follows to count as another recording, appended to the first."""


def read_frames(
    source: Path | str | Frames, *, image_fps: float = 25.0, start: float | None = None, threads: int = 0
) -> Generator[Frame, None, None]:
    """The frames of a source in order of presentation; memory does not grow with its length.

    A frame's `time` is its presentation timestamp in the stream's time base, so a stream need not start at 0; its `end` is
    the next frame's time. The last frame has the duration that the container gives it, or the one before it, or one tick
    of the average rate. A frame without a presentation timestamp (AVI) has its decoding timestamp, as FFmpeg has it, or
    follows on from the frame before. Times never go back: a frame too early by less than NEW_TIMELINE gets the time of the
    one before it; by more, it and all after it follow on from there.

    A folder's images come `image_fps` a second. Frames before `start` (seconds) may be left out, where the container
    allows to seek exactly. `threads` is for decoding, 0 lets FFmpeg choose.

    Raises VideoError where nothing can be read, and after the last good frame where a file breaks off.
    """
    if isinstance(source, Frames):
        return _read_memory(source)
    path = Path(source)
    if path.is_dir():
        return read_images(path, fps=image_fps)
    if not path.exists():
        raise VideoError(f"{source}: no such file; expected a local video file or a folder of images")
    if not path.is_file():
        raise VideoError(f"{source}: neither a regular file nor a folder; copy the video to a file first")
    return _read_file(path, start, threads)


def _read_memory(frames: Frames) -> Generator[Frame, None, None]:
    for i, array in enumerate(frames.array):
        yield Frame(i / frames.fps, (i + 1) / frames.fps, av.VideoFrame.from_ndarray(array, format="rgb24"))


def _open(path: Path) -> InputContainer:
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path.absolute()}", mode="r", options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise VideoError(f"{path}: cannot be opened ({error.strerror})") from error
        size = path.stat().st_size
        found = f"{size} bytes that are no video in a supported format" if size else "an empty file"
        raise VideoError(f"{path}: {found} ({error.strerror})") from error
    # Invented from decoding timestamps, they would be out of order in AVI with B-frames.
    container.flags &= ~cast(int, Flags.gen_pts.value)
    return container


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    """FFmpeg's choice, unless it is a cover picture."""
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    best = container.streams.best("video")
    candidates = [stream for stream in (best, *container.streams.video) if stream and not stream.disposition & covers]
    if not candidates:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise VideoError(f"{path}: no video stream in this file, it holds: {kinds}")
    stream = cast(VideoStream, candidates[0])
    if cast(object, stream.codec_context) is None:
        raise VideoError(f"{path}: FFmpeg has no decoder for its video; convert it to H.264 or another common codec")
    return stream


def _read_file(path: Path, start: float | None, threads: int) -> Generator[Frame, None, None]:
    with _open(path) as container:
        stream = _video_stream(container, path)
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO"
        seen = _Packets()
        pictures = _decode(container, stream, seen)
        if start is not None and _seek(container, stream, start):
            try:
                first = next(pictures, None)
            except av.FFmpegError:
                first = None
            if first is None or not _is_entry(first, start):
                yield from _read_file(path, None, threads)
                return
            pictures = itertools.chain([first], pictures)
        yield from _timed(path, container, stream, pictures, seen)


def _seek(container: InputContainer, stream: VideoStream, start: float) -> bool:
    """To the key frame before `start`, in containers that have an index; False if nothing was done."""
    indexed = {"mov", "matroska"} & set(container.format.name.split(","))
    if not indexed or stream.time_base is None or start <= (stream.start_time or 0) * stream.time_base:
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


@dataclass
class _Packets:
    """The latest end in seconds that the packets so far gave, of the video stream and of any stream."""

    video_end: float | None = None
    any_end: float | None = None

    def note(self, packet: "av.Packet[Stream]", *, is_video: bool) -> None:
        if packet.pts is None or packet.is_discard:
            return
        end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
        self.any_end = end if self.any_end is None else max(self.any_end, end)
        if is_video:
            self.video_end = end if self.video_end is None else max(self.video_end, end)


def _decode(container: InputContainer, stream: VideoStream, seen: _Packets) -> Iterator[av.VideoFrame]:
    """The stream's pictures; raises av.FFmpegError after the last good one.

    Packets that cannot be decoded before the first that can are passed over: a recording may begin between key frames.
    """
    packets = container.demux()
    begun, failure = False, None
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except av.FFmpegError:
            yield from stream.codec_context.decode(None)
            raise
        if packet.stream_index != stream.index:
            if packet.size:
                seen.note(packet, is_video=False)
            continue
        seen.note(packet, is_video=True)
        try:
            pictures = cast(list[av.VideoFrame], packet.decode())
        except av.FFmpegError as error:
            if begun:
                raise
            failure = error
            continue
        begun = begun or bool(pictures)
        yield from pictures
    if failure is not None and not begun:
        raise failure


@dataclass
class _Clock:
    """Seconds of presentation for each picture in turn, never going back; `period` is how long the last one lasts."""

    time_base: Fraction
    period: float
    last: float | None = None
    shift: float = 0.0

    def time(self, picture: av.VideoFrame) -> float:
        stamp = picture.dts if picture.pts is None else picture.pts
        follows = 0.0 if self.last is None else self.last + self.period
        time = follows if stamp is None else float(stamp * self.time_base) + self.shift
        if self.last is not None:
            if self.last - time >= NEW_TIMELINE:
                self.shift += follows - time
                time = follows
            time = max(time, self.last)
        if picture.duration > 0:
            self.period = float(picture.duration * self.time_base)
        elif self.last is not None and time > self.last:
            self.period = time - self.last
        self.last = time
        return time


def _timed(
    path: Path, container: InputContainer, stream: VideoStream, pictures: Iterator[av.VideoFrame], seen: _Packets
) -> Iterator[Frame]:
    rate = stream.average_rate or stream.guessed_rate
    clock = _Clock(stream.time_base or Fraction(1, av.time_base), float(1 / rate) if rate else 0.0)
    held: tuple[float, av.VideoFrame] | None = None
    failure: av.FFmpegError | None = None
    longest = 0.0
    while True:
        try:
            picture = next(pictures, None)
        except av.FFmpegError as error:
            picture, failure = None, error
        if picture is None:
            break
        time = clock.time(picture)
        if held is not None:
            longest = max(longest, time - held[0])
            yield Frame(held[0], time, held[1], orientation_of(held[1]))
        held = time, picture
    end = None
    if held is not None:
        end = held[0] + clock.period
        yield Frame(held[0], end, held[1], orientation_of(held[1]))
    if failure is not None:
        where = "no frame of it" if end is None else f"nothing after {end:.3f} s"
        raise VideoError(f"{path}: {where} can be decoded ({failure.strerror})", last_good_time=end) from failure
    if end is None:
        raise VideoError(f"{path}: its video stream holds no frame")
    promised = _promised_end(container, stream, seen, end)
    if promised - end > max(0.25, min(1.0, promised * 0.05), longest):
        raise VideoError(
            f"{path}: breaks off at {end:.3f} s, expected {promised:.3f} s; it was cut or is still being written",
            last_good_time=end,
        )


def _promised_end(container: InputContainer, stream: VideoStream, seen: _Packets, end: float) -> float:
    """When the video should end, in seconds: after its last packet, and where its header says so, for cut files of some
    containers end like whole ones.

    A track of mp4 that has an index says how long it is. Matroska and FLV say how long the longest track is; that counts
    for the video as far as no other track reached it.
    """
    promised = end if seen.video_end is None else max(end, seen.video_end)
    names = container.format.name.split(",")
    if "mov" in names and stream.frames and stream.duration is not None and stream.time_base is not None:
        return max(promised, float((stream.duration + (stream.start_time or 0)) * stream.time_base))
    if {"matroska", "flv"} & set(names) and container.duration is not None and seen.any_end is not None:
        whole = container.duration / av.time_base
        return max(promised, end + whole - max(end, seen.any_end))
    return promised

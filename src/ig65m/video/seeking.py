"""Reads clips with gaps between them without decoding the gaps.

The index of frames gives the times of all frames. Decoding starts at the key frame before each clip. Every decoded frame is
compared with the index, so that the clips are those of decoding everything, or SeekError is raised. This is the policy of
torchcodec's exact seek mode.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from ig65m.errors import VideoError
from ig65m.types import Clip, ClipSpan, Limits, Preprocessing
from ig65m.video.decoding import Damage, decode
from ig65m.video.frame import Frame, LostFrame
from ig65m.video.frame_index import FrameIndex, read_index
from ig65m.video.frame_times import Timing
from ig65m.video.packets import Seen
from ig65m.video.reader import open_video, spare_decoder
from ig65m.video.sample import Pixels, SeekError, crops_of
from ig65m.video.sampling import LEAST_GAP, Sampling, clip_samples, samples, uniform_starts
from ig65m.video.transforms import Scaler, to_pixels

OnFrame = Callable[[Frame | LostFrame], None]


def seek_clips(
    source: Path | str,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    clips: int | None = None,
    limits: Limits,
    on_frame: OnFrame | None = None,
    on_packet: Callable[[], None] | None = None,
) -> Generator[Clip, None, None]:
    """Yield the clips of a video file, or `clips` clips spread evenly over it; only the frames that they need are decoded.

    `on_packet` is called after each packet of the first pass, `on_frame` with each decoded frame.

    Raises SeekError, perhaps after some clips, if the whole video must be decoded instead.
    """
    path = Path(source)
    index = read_index(path, limits, on_packet)
    shown = _samples(index, sampling, limits)
    if clips is not None:
        sampling = replace(sampling, starts=uniform_starts(len(shown), clips, sampling.span))
    chosen = clip_samples(len(shown), sampling)
    numbers = [[shown[sample] for sample in each] for each in chosen]  # of the frames of each clip
    proof: list[int] = []
    if clips is not None or sampling.starts is None or len(chosen) < len(sampling.starts):
        # The number of frames decides which clips there are. The last frame proves it, so the last clip is decoded first.
        proof = [*chain(*numbers[-1:]), shown[-1]]
    scaler = Scaler()
    pixels: dict[int, Pixels] = {}
    shapes: dict[int, tuple[int, int]] = {}
    order = list(dict.fromkeys(chain(proof, *numbers)))
    with closing(frames_at(path, index, order, limits, on_frame)) as frames:

        def read(wanted: Sequence[int]) -> list[Pixels]:
            for number in wanted:
                if number not in pixels:
                    frame = next(frames)
                    try:
                        pixels[number], shapes[number] = to_pixels(frame, preprocessing, scaler), frame.shape
                    except VideoError as error:
                        raise SeekError(str(error)) from error
                    if pixels[number].shape != pixels[wanted[0]].shape:
                        raise SeekError("its pictures change their size")
            return [pixels[number] for number in wanted]

        read(proof)
        for each, own in zip(chosen, numbers, strict=True):
            for number in [number for number in pixels if number < own[0] and number not in proof]:
                del pixels[number], shapes[number]
            clip = read(own)
            span = ClipSpan(float(index.times[own[0]]), float(index.times[own[-1] + 1]), each[0], each[-1])
            clip += clip[-1:] * (sampling.frames - len(clip))
            yield from (Clip(crop, span, sought=True, shape=shapes[own[0]]) for crop in crops_of(clip))


def _samples(index: FrameIndex, sampling: Sampling, limits: Limits) -> Sequence[int]:
    """Return the number of the frame of each sample. Raises SeekError if there is none, or a clock is broken."""
    if sampling.start is sampling.end is sampling.fps is None:
        return range(len(index))
    try:
        shown = [frame.number for frame in samples(index, sampling, most=limits.frames)]
    except VideoError as error:
        raise SeekError(str(error)) from error
    if not shown:
        raise SeekError("no frame lies between start and end")
    return shown


def frames_at(
    path: Path,
    index: FrameIndex,
    numbers: Sequence[int],
    limits: Limits,
    on_frame: OnFrame | None = None,
) -> Generator[Frame, None, None]:
    """Yield the frames of these numbers, in their order; decoding is fast where they ascend.

    Raises SeekError if a decoded frame, wanted or not, is lost or has another time than the index says.
    """
    reading: Generator[tuple[int, Frame], None, None] | None = None
    at = -1
    with open_video(path, limits) as (container, stream):
        try:
            for wanted in numbers:
                key = int(index.keys[np.searchsorted(index.keys, wanted, side="right") - 1])
                if reading is None or wanted <= at or (key > at and wanted - at > LEAST_GAP):
                    if reading is not None:
                        reading.close()
                    reading = _read_from(path, container, stream, index, key, limits, on_frame)
                for at, frame in reading:
                    if at == wanted:
                        yield frame
                        break
                else:
                    raise SeekError(f"frame {wanted} does not come")
        except (VideoError, av.FFmpegError) as error:
            raise SeekError(str(error)) from error
        finally:
            if reading is not None:
                reading.close()


def _read_from(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    index: FrameIndex,
    key: int,
    limits: Limits,
    on_frame: OnFrame | None,
) -> Generator[tuple[int, Frame], None, None]:
    """Yield frames with their numbers, from the key frame number `key` on or from an earlier one."""
    stream.codec_context.flush_buffers()
    container.seek(int(index.pts[key]), stream=stream)
    seen = Seen(always_key=True)
    with closing(decode(path, container, stream, seen, limits, spare_decoder(path, limits))) as pictures:
        try:
            first = next(pictures, None)
        except Damage as damage:
            raise SeekError(str(damage)) from damage
        if not isinstance(first, av.VideoFrame) or first.pts is None:
            raise SeekError("no picture comes")
        number = int(np.searchsorted(index.pts, first.pts))
        if number > key or index.pts[number] != first.pts or number not in index.keys:
            raise SeekError("the first picture is not that of a key frame")
        for frame in Timing(path, container, stream, seen, limits).frames(chain([first], pictures)):
            if on_frame is not None:
                on_frame(frame)
            if (
                isinstance(frame, LostFrame)
                or number >= len(index)
                or (frame.time, frame.end) != (index.times[number], index.times[number + 1])
            ):
                raise SeekError(f"frame {number} is not as its packet says")
            yield number, frame
            number += 1

"""Writes frames as a video file that browsers play."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from ig65m.atomic import finished_file
from ig65m.errors import UsageError

_BT709 = 1  # number of its matrix, primaries and transfer function in ITU-T H.273
_LIMITED = 1  # luma from 16 to 235, in FFmpeg's AVColorRange


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: Fraction | float) -> None:
    """Write RGB frames (H, W, 3), all of one even size, as H.264 in MP4, with the index in front.

    The file appears once it is complete; an existing one is replaced. Raises UsageError if there are no frames, if their size
    is odd or changes; OSError if the disk is full or faulty.
    """
    shape = None
    with (
        finished_file(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as file,
    ):
        stream = file.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "18"})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = stream.codec_context.color_primaries = stream.codec_context.color_trc = _BT709
        stream.codec_context.color_range = _LIMITED
        for frame in frames:
            if shape is None:
                shape = frame.shape
                stream.height, stream.width = shape[:2]
            if frame.shape != shape or shape[0] % 2 or shape[1] % 2:
                raise UsageError(
                    f"{path}: a frame has shape {frame.shape}; expected an even height and width, equal in all frames"
                )
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            file.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)))
        if shape is None:
            raise UsageError(f"{path}: there are no frames to write")
        file.mux(stream.encode(None))

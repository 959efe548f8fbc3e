"""Encodes pictures as JPEG."""

from fractions import Fraction
from typing import Final

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

QUALITY: Final = 4  # FFmpeg's scale for MJPEG: 1 is the best, 31 the worst


def encode_jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture, RGB (height, width, 3), as the bytes of a JPEG file; equal pictures give equal bytes."""
    context = av.CodecContext.create("mjpeg", "w")
    assert isinstance(context, VideoCodecContext)
    context.height, context.width = picture.shape[:2]
    context.pix_fmt, context.color_range = "yuv420p", ColorRange.JPEG
    context.time_base = Fraction(1, 25)
    context.thread_count = 1
    context.options = {"qmin": str(QUALITY), "qmax": str(QUALITY)}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_color_range=ColorRange.JPEG, dst_colorspace="ITU601")
    frame.pts = 0
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))

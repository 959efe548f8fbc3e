"""Resizes and crops frames to the input size of a network."""

from collections.abc import Callable
from fractions import Fraction
from typing import Final, cast

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from ig65m.errors import VideoError
from ig65m.types import Preprocessing, Resampling
from ig65m.video.frame import Frame
from ig65m.video.geometry import crop_corners, resized_size, scale_of
from ig65m.video.sample import Pixels


class Scaler:
    """State of libswscale that is kept from frame to frame; one for each thread."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._scaling: tuple[tuple[int, int, str, int, int], Graph] | None = None
        self._forgetting: tuple[tuple[int, int, str], Graph] | None = None

    def to_rgb(self, picture: av.VideoFrame, height: int, width: int, interpolation: Interpolation) -> NDArray[np.uint8]:
        """Convert and resize a picture to RGB (height, width, 3) with the defaults of libswscale, as VMZ and OpenCV do.

        These are the BT.601 matrix, limited range except for grey and yuvj formats, and chroma centred on luma, whatever the
        stream's tags say. One thread is used: the result is small, and decoding has its own threads.
        """
        rgb = self._reformatter.reformat(
            self._without_siting(picture),
            width,
            height,
            "rgb24",
            src_colorspace=Colorspace.ITU601,
            src_color_range=ColorRange.MPEG,
            interpolation=interpolation,
            threads=1,
        )
        return cast(NDArray[np.uint8], rgb.to_ndarray())

    def scaled(self, picture: av.VideoFrame, height: int, width: int) -> NDArray[np.uint8]:
        """Convert and resize a picture to RGB (height, width, 3) as `ffmpeg -s WIDTHxHEIGHT -pix_fmt rgb24` does: bicubic, with
        the matrix, range and chroma location of the stream's tags.
        """
        kind = picture.width, picture.height, picture.format.name, height, width
        if self._scaling is None or self._scaling[0] != kind:
            graph = Graph()
            source = graph.add_buffer(
                width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 1000)
            )
            filters = graph.add("scale", f"w={width}:h={height}"), graph.add("format", "pix_fmts=rgb24")
            graph.link_nodes(source, *filters, graph.add("buffersink")).configure()
            self._scaling = kind, graph
        _, graph = self._scaling
        graph.push(picture)
        return cast(NDArray[np.uint8], cast(av.VideoFrame, graph.pull()).to_ndarray())

    def _without_siting(self, picture: av.VideoFrame) -> av.VideoFrame:
        """Return the same pixels without the tag for chroma location, which libswscale respects; PyAV has no other way."""
        kind = picture.width, picture.height, picture.format.name
        if self._forgetting is None or self._forgetting[0] != kind:
            graph = Graph()
            source = graph.add_buffer(width=kind[0], height=kind[1], format=picture.format, time_base=Fraction(1, 1000))
            graph.link_nodes(source, graph.add("setparams", "chroma_location=unspecified"), graph.add("buffersink")).configure()
            self._forgetting = kind, graph
        _, graph = self._forgetting
        graph.push(picture)
        return cast(av.VideoFrame, graph.pull())


def to_pixels(frame: Frame, preprocessing: Preprocessing, scaler: Scaler | None = None) -> Pixels:
    """Return the frame upright, resized and cropped: RGB (H, W, 3) on 0..255, uint8, or float32 if resized in float.

    Several crops are (crops, H, W, 3). A `scaler` kept from frame to frame saves its setup.

    Raises VideoError if the frame's pixel format cannot be converted.
    """
    shown = frame.picture.height, frame.picture.width
    try:
        size = resized_size(preprocessing, *(shown[::-1] if frame.orientation.transpose else shown))
        if preprocessing.resampling == "float_bilinear_by_scale":
            resized = _float_bilinear(frame, size, scaler or Scaler(), scale_of(preprocessing, *shown))
        else:
            resized = _RESAMPLERS[preprocessing.resampling](frame, size, scaler or Scaler())
    except (av.FFmpegError, ValueError) as error:
        picture = frame.picture
        raise VideoError(
            f"cannot convert a {picture.width}x{picture.height} picture of pixel format {picture.format.name} ({error})",
            last_good_time=frame.time,
        ) from error
    height, width = preprocessing.crop or size
    crops = [resized[top : top + height, left : left + width] for top, left in crop_corners(preprocessing, *size)]
    return cast(Pixels, np.ascontiguousarray(crops[0]) if len(crops) == 1 else np.stack(crops))


def _swscale(frame: Frame, size: tuple[int, int], scaler: Scaler, how: Interpolation) -> NDArray[np.uint8]:
    """Convert from the decoded pixel format to the small RGB picture in one step, then turn it upright."""
    height, width = size[::-1] if frame.orientation.transpose else size
    return frame.orientation.turn(scaler.to_rgb(frame.picture, height, width, how))


def _fast_bilinear(frame: Frame, size: tuple[int, int], scaler: Scaler) -> Pixels:
    return _swscale(frame, size, scaler, Interpolation.FAST_BILINEAR)


def _area(frame: Frame, size: tuple[int, int], scaler: Scaler) -> Pixels:
    return _swscale(frame, size, scaler, Interpolation.AREA)


def _bicubic(frame: Frame, size: tuple[int, int], scaler: Scaler) -> Pixels:
    height, width = size[::-1] if frame.orientation.transpose else size
    return frame.orientation.turn(scaler.scaled(frame.picture, height, width))


def _float_bilinear(frame: Frame, size: tuple[int, int], scaler: Scaler, scale: float | None = None) -> Pixels:
    """Resize RGB bytes of full size, as OpenCV's VideoCapture returns them, like torch's F.interpolate(mode="bilinear").

    Pixels are as far apart as a `scale` says. Default: as the sizes say.
    """
    picture = frame.picture
    rgb = frame.orientation.turn(scaler.to_rgb(picture, picture.height, picture.width, Interpolation.BICUBIC))
    above, below, down = _taps(rgb.shape[0], size[0], scale)
    before, after, right = _taps(rgb.shape[1], size[1], scale)
    right = right[:, None]
    upper, lower = (rgb[rows[:, None], before] * (1 - right) + rgb[rows[:, None], after] * right for rows in (above, below))
    down = down[:, None, None]
    return cast(Pixels, upper * (1 - down) + lower * down)


def _taps(length: int, wanted: int, scale: float | None) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each of `wanted` samples, return the two of `length` samples around it, and the weight of the second.

    Pixel centres are aligned, edges repeated, and samples in between ignored if the picture shrinks: align_corners=False of
    torch.nn.functional.interpolate, in float32.
    """
    apart = np.float32(length) / np.float32(wanted) if scale is None else np.float32(1 / scale)
    places = np.maximum(apart * (np.arange(wanted, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), np.float32(0))
    first = places.astype(np.intp)
    return first, np.minimum(first + 1, length - 1), places - first.astype(np.float32)


_RESAMPLERS: Final[dict[Resampling, Callable[[Frame, tuple[int, int], Scaler], Pixels]]] = {
    "fast_bilinear": _fast_bilinear,
    "area": _area,
    "bicubic": _bicubic,
    "float_bilinear": _float_bilinear,
}

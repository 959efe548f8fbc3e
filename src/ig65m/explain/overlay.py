"""Draws class activation maps over the pictures of a video."""

from bisect import bisect_right
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final, cast

import matplotlib
import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ig65m.errors import VideoError, plain
from ig65m.explain.class_maps import ClipMap, VideoMaps
from ig65m.tasks.sources import samples_of
from ig65m.types import Limits, Preprocessing
from ig65m.video.clips import Source
from ig65m.video.geometry import crop_corners, resized_size
from ig65m.video.isolation import Decoder
from ig65m.video.sampling import Sampling

Picture = NDArray[np.uint8]

COLOURS: Final = "inferno"  # matplotlib's name: perceptually uniform, from black to yellow
OPACITY: Final = 0.75  # of the highest value
UNSEEN: Final = 0.45  # brightness of what the network did not see, outside its crop
EDGE: Final = 360  # shorter edge of the pictures


def overlaid(
    source: Source, found: VideoMaps, *, fps: float, edge: int = EDGE, image_fps: float = 25.0, limits: Limits
) -> Generator[Picture, None, None]:
    """Yield RGB pictures (H, W, 3), `fps` a second, from the first clip to the end of the last; H and W are even.

    Values are scaled so that the highest one of each label is 1; where nothing speaks for it, the picture stays as it is.
    Raises VideoError if the video breaks off where it did not before.
    """
    shape = Preprocessing(resize=edge, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3, resampling="bicubic")
    sampling = Sampling(frames=1, fps=fps, start=found.maps[0].span.start, end=found.maps[-1].span.end)
    drawing: _Drawing | None = None
    with Decoder(limits) as decoder:
        samples = samples_of(source, decoder, sampling=sampling, preprocessing=shape, image_fps=image_fps, limits=limits)
        try:
            for sample in samples:
                if sample.pixels is None or sample.shape is None:
                    continue
                height, width = (length // 2 * 2 for length in sample.pixels.shape[:2])
                drawing = drawing or _Drawing(found, sample.shape, (height, width))
                yield drawing.over(cast(Picture, sample.pixels[:height, :width]), sample.time)
        except VideoError:
            if found.error is None:  # otherwise it is known
                raise
        finally:
            samples.close()


class _Drawing:
    """Draws over pictures of one size."""

    def __init__(self, found: VideoMaps, shape: tuple[int, int], size: tuple[int, int]) -> None:
        """shape: height and width of the video's frames. size: those of the pictures."""
        self.maps, self.size = found.maps, size
        self.starts = [each.span.start for each in found.maps]
        self.highest: dict[str, float] = {}
        for each in found.maps:
            self.highest[each.label] = max(self.highest.get(each.label, 1e-12), float(each.values.max()))
        self.frames, self.time_centres = found.frames, (found.centres.stride[0], found.centres.offset[0])
        self.colours = (matplotlib.colormaps[COLOURS](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.float32)
        resized = resized_size(found.preprocessing, *shape)
        [corner] = crop_corners(found.preprocessing, *resized)
        crop = found.preprocessing.crop or resized
        maps = found.maps[0].values.shape[1:]
        axes = [
            _axis(size[n], resized[n], corner[n], crop[n], maps[n], found.centres.stride[n + 1], found.centres.offset[n + 1])
            for n in range(2)
        ]
        (self.down, down_seen), (self.right, right_seen) = axes
        self.seen = (down_seen[:, None] & right_seen)[..., None]
        font = Path(font_manager.findfont("DejaVu Sans"))
        self.font = ImageFont.truetype(str(font), max(10, size[0] // 20))

    def over(self, picture: Picture, time: float) -> Picture:
        """Draw the map at a time in seconds over a picture."""
        clip = self.maps[max(0, bisect_right(self.starts, time) - 1)]
        values = np.clip(self._at(clip, time) / self.highest[clip.label], 0, 1)[..., None]
        colours = self.colours[(values[..., 0] * 255).astype(np.uint8)]
        opacity = OPACITY * values
        blended = (1 - opacity) * picture + opacity * colours
        blended = np.where(self.seen, blended, UNSEEN * picture)
        return self._written(blended.astype(np.uint8), f"{plain(clip.label, 40)}  {clip.score:.2f}")

    def _at(self, clip: ClipMap, time: float) -> NDArray[np.float64]:
        """Return the values (H, W) of a clip at a time, linear between their centres."""
        stride, offset = self.time_centres
        duration = max(clip.span.end - clip.span.start, 1e-9)
        frame = (time - clip.span.start) / duration * self.frames
        [weights] = _weights(np.array([(frame - offset) / stride]), len(clip.values))
        now: NDArray[np.float64] = np.tensordot(weights, clip.values, axes=1)
        values: NDArray[np.float64] = self.down @ now @ self.right.T
        return values

    def _written(self, picture: Picture, text: str) -> Picture:
        image = Image.fromarray(picture)
        draw = ImageDraw.Draw(image)
        margin = self.size[0] // 40
        left, top, right, bottom = draw.textbbox((2 * margin, 2 * margin), text, font=self.font)
        draw.rectangle((left - margin, top - margin, right + margin, bottom + margin), fill=(0, 0, 0))
        draw.text((2 * margin, 2 * margin), text, font=self.font, fill=(255, 255, 255))
        return np.asarray(image)


def _axis(
    size: int, resized: int, corner: int, crop: int, values: int, stride: int, offset: float
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """For each of `size` pixels, return the weights (size, values) of the map's values, and whether the crop contains it.

    The pixels are those of the whole picture, which the network got resized to `resized` pixels and cropped to `crop` from
    `corner` on; value i is centred at pixel `offset + stride * i` of the crop.
    """
    place = (np.arange(size) + 0.5) / size * resized - corner
    return _weights((place - 0.5 - offset) / stride, values), (place >= 0) & (place < crop)


def _weights(places: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Return the weights (places, count) of `count` values for linear interpolation at places; beyond the ends, the end's."""
    distance = np.abs(np.clip(places, 0, count - 1)[:, None] - np.arange(count))
    weights: NDArray[np.float64] = np.maximum(0, 1 - distance)
    return weights

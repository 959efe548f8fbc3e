"""Draws class activation maps over the pictures of a video."""

from collections.abc import Generator, Sequence
from typing import Any, Final, cast

import matplotlib
import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ig65m.display.feature_map import cell_edges
from ig65m.errors import VideoError, plain
from ig65m.explain.class_maps import ClipMap, VideoMaps
from ig65m.tasks.sources import samples_of
from ig65m.types import Limits, Preprocessing
from ig65m.video.clips import Source
from ig65m.video.isolation import Decoder
from ig65m.video.sampling import TOLERANCE, Sampling

Picture = NDArray[np.uint8]

COLOURS: Final = "inferno"  # matplotlib's name: perceptually uniform, from black to yellow
OPACITY: Final = 0.75  # of the highest value
UNSEEN: Final = 0.45  # brightness of what the network did not see, outside its crop
IMAGE_FPS: Final = 25.0  # of a folder of images, as by default where its maps are computed


def overlaid(source: Source, found: VideoMaps, *, fps: float, edge: int, limits: Limits) -> Generator[Picture, None, None]:
    """Yield RGB pictures (H, W, 3), `fps` a second, from the first clip to the end of the last; H and W are even.

    edge: Shorter edge of the pictures in pixels, before it is made even.

    Values are scaled so that the highest one of each label is 1; where nothing speaks for it, the picture stays as it is.
    Raises VideoError if the video breaks off where it did not before.
    """
    shape = Preprocessing(resize=edge, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3, resampling="bicubic")
    sampling = Sampling(frames=1, fps=fps, start=found.maps[0].span.start, end=found.maps[-1].span.end)
    drawing: _Drawing | None = None
    with Decoder(limits) as decoder:
        samples = samples_of(source, decoder, sampling=sampling, preprocessing=shape, image_fps=IMAGE_FPS, limits=limits)
        try:
            for sample in samples:
                if sample.pixels is None:
                    continue
                height, width = sample.pixels.shape[:2]
                drawing = drawing or _Drawing(found, height, width)
                drawn = drawing.over(cast(Picture, sample.pixels), sample.time)
                yield drawn[: height // 2 * 2, : width // 2 * 2]
        except VideoError:
            if found.error is None:  # otherwise it is known
                raise
        finally:
            samples.close()


class _Drawing:
    """Draws over pictures of one size; each shows the clip whose centre is nearest."""

    def __init__(self, found: VideoMaps, height: int, width: int) -> None:
        self.found = found
        spans = [each.span for each in found.maps]
        self.edges = cell_edges(*(np.array([getattr(span, name) for span in spans]) for name in ("start", "end")))
        self.highest: dict[str, float] = {}
        for each in found.maps:
            self.highest[each.label] = max(self.highest.get(each.label, 1e-12), float(each.values.max()))
        self.colours = (matplotlib.colormaps[COLOURS](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.float32)
        places = found.places(found.maps[0])
        down, right = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
        self.down, self.right = _weights(down, places.rows), _weights(right, places.columns)
        seen_down = (down >= places.top) & (down < places.top + places.height)
        seen_right = (right >= places.left) & (right < places.left + places.width)
        self.seen = (seen_down[:, None] & seen_right)[..., None]
        self.font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), max(10, height // 20))

    def over(self, picture: Picture, time: float) -> Picture:
        """Draw the map at a time in seconds over a picture; a picture of no clip stays as it is."""
        number = int(np.clip(np.searchsorted(self.edges, time, side="right") - 1, 0, len(self.found.maps) - 1))
        clip = self.found.maps[number]
        if not clip.span.start - TOLERANCE <= time < clip.span.end:
            return picture
        values = np.clip(self._at(clip, time) / self.highest[clip.label], 0, 1)[..., None]
        colours = self.colours[(values[..., 0] * 255).astype(np.uint8)]
        opacity = OPACITY * values
        blended = np.where(self.seen, (1 - opacity) * picture + opacity * colours, UNSEEN * picture)
        return self._written(blended.astype(np.uint8), f"{plain(clip.label, 40)}  {clip.score:.2f}")

    def _at(self, clip: ClipMap, time: float) -> NDArray[np.float64]:
        """Return the values (H, W) of a clip at a time, linear between their centres."""
        [weights] = _weights(np.array([time]), self.found.times(clip))
        now: NDArray[np.float64] = np.tensordot(weights, clip.values, axes=1)
        values: NDArray[np.float64] = self.down @ now @ self.right.T
        return values

    def _written(self, picture: Picture, text: str) -> Picture:
        image = Image.fromarray(picture)
        draw = ImageDraw.Draw(image)
        margin = len(picture) // 40
        left, top, right, bottom = draw.textbbox((2 * margin, 2 * margin), text, font=self.font)
        draw.rectangle((left - margin, top - margin, right + margin, bottom + margin), fill=(0, 0, 0))
        draw.text((2 * margin, 2 * margin), text, font=self.font, fill=(255, 255, 255))
        return np.asarray(image)


def _weights(places: NDArray[Any], centres: Sequence[float]) -> NDArray[np.float64]:
    """Return the weights (places, values) of values with those centres for linear interpolation; beyond the ends, the end's."""
    each = np.eye(len(centres))
    return np.stack([np.interp(places, centres, values) for values in each], axis=1)

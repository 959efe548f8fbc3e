"""Turns frames in memory into network input, with the same pixels as `classify` and `extract`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from numpy.typing import NDArray

from ig65m.errors import UsageError
from ig65m.types import Frames, Preprocessing
from ig65m.video.frame import Frame
from ig65m.video.sample import Pixels
from ig65m.video.transforms import Scaler, to_pixels

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Preprocess:
    """Turns frames into input for a network: resizes, crops and normalises them as its card says.

    The pixels equal those of `classify` and `extract` for `Frames(array, fps)` to the bit.

    Example:
        >>> model = ig65m.load_model("r2plus1d_10_camera_motion")
        >>> frames = numpy.zeros((8, 240, 320, 3), numpy.uint8)
        >>> model.preprocess(frames).shape
        torch.Size([1, 3, 8, 64, 64])
        >>> model(model.preprocess(frames)).shape
        torch.Size([1, 9])
    """

    preprocessing: Preprocessing

    def __call__(self, frames: "NDArray[np.uint8] | Tensor") -> "Tensor":
        """Preprocess one clip.

        Args:
            frames: RGB frames (T, H, W, 3) uint8, as numpy array or torch tensor.

        Returns:
            Normalised clips (crops, 3, T, height, width) float32 on the CPU; crops is 1 unless the preprocessing has several.

        Raises:
            UsageError: `frames` has another shape or dtype.
            VideoError: The frames are too long and thin to be resized with their aspect ratio.
        """
        return normalised(self.pixels(cast(Any, frames)), self.preprocessing)

    def pixels(self, frames: Any) -> Pixels:
        """Resized and cropped RGB pixels (crops, T, height, width, 3) on 0..255, uint8 or float32, as engines take them."""
        array = frames if isinstance(frames, np.ndarray) else _from_tensor(frames)
        scaler = Scaler()
        pictures = (av.VideoFrame.from_ndarray(each, format="rgb24") for each in Frames(array, fps=1.0).array)
        rows = np.stack([to_pixels(Frame(0.0, 0.0, picture), self.preprocessing, scaler) for picture in pictures])
        return cast(Pixels, np.ascontiguousarray(np.moveaxis(rows, 1, 0)) if rows.ndim == 5 else rows[None])


def normalised(pixels: Pixels, preprocessing: Preprocessing) -> "Tensor":
    """Pixels (N, T, H, W, 3) on 0..255 -> network input (N, 3, T, H, W) float32."""
    import torch

    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    values = torch.from_numpy(np.array(pixels, np.float32))  # a copy: what a worker process sent is read-only
    return ((values.permute(0, 4, 1, 2, 3) - mean) / std).contiguous()


def _from_tensor(frames: Any) -> NDArray[np.uint8]:
    if not hasattr(frames, "detach"):
        raise UsageError(f"expected frames (T, H, W, 3) as numpy array or torch tensor, got {type(frames).__name__}")
    return cast("NDArray[np.uint8]", frames.detach().cpu().numpy())

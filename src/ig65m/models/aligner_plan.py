"""Sizes of the aligner and the shapes of its weights, without PyTorch."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

EDGE: Final = 96
"""Height and width of a frame in pixels; the whole frame is resized to it, whatever its aspect ratio."""

CELLS: Final = 24
"""Height and width of the grid of cells, of four pixels each, that are weighted."""

WINDOW: Final = 9
"""Frames that the network sees at once when it runs over a video."""

PAIRS: Final = (*((index, index + 1) for index in range(WINDOW - 1)), (0, 4), (4, 8))
"""Pairs of these frames that are aligned: neighbours, and for slow moves frames that are farther apart."""

SIZES: Final = (6, 36, 6, 2)
"""Numbers of the parts of an alignment, in the order of `aligner.Alignment`: start, normal, target, judged."""

LEVELS: Final = ((8, 2), (4, 2), (2, 2), (1, 1))
"""Of the first alignment, coarse to fine: pixels of the frame in one pixel of the level, and steps at it."""

SCALES: Final = (1, 2, 4)
"""Pixels of the frame in one pixel of the pictures whose gradients correct the alignment."""

REFINEMENTS: Final = (2, 1)
"""Pixels of the frame in one pixel of the pictures of the last steps, one after the other."""

DARK: Final = 10.0  # brightness (0..255) up to which a row or column at the edge of a frame is a black bar
MARGIN: Final = 4  # pixels of a frame next to its black bars that are not compared, at least
CONTRAST: Final = 8.0  # added to a frame's standard deviation (0..255) before the division by it
ROBUST: Final = 1.5  # mean differences of two frames at which the weight of a pixel halves, in the first alignment
LEAST_DIFFERENCE: Final = 0.01  # added to that
DAMPING: Final = 1e-3  # share of the mean information, and amount, that is added to that of each parameter
LONGEST_STEP: Final = 0.3  # of a parameter in the first alignment
NOISE: Final = 0.01  # variance of the difference of two standardised frames without motion
GRADIENT_NOISE: Final = 1e-3  # squared gradient below which a cell says nothing about motion
FARTHEST: Final = 4.0  # largest displacement of a cell that the network sees, in pixels of a scale
CONTEXT: Final = 16  # channels of each frame that the decoder sees
WIDTH: Final = 40  # of the decoder
STATISTICS: Final = 5  # numbers of each cell and scale that the decoder sees


class Conv(NamedTuple):
    """A 2-D convolution with bias, padded to keep the size (divided by the stride)."""

    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    dilation: int = 1

    @property
    def padding(self) -> int:
        """Zeros at each edge."""
        return self.dilation * (self.kernel // 2)


ENCODER: Final = {
    "encoder.0": Conv(3, 16, 5, stride=2),
    "encoder.1": Conv(16, 24, 3, stride=2),
    "encoder.2": Conv(24, 32, 3),
    "encoder.3": Conv(32, CONTEXT, 3),
}
"""Of each frame, each followed by a ReLU."""

MERGE: Final = {"merge": Conv(2 * CONTEXT + 2 * STATISTICS * len(SCALES) + 3, WIDTH, 3)}

DECODER: Final = {f"decoder.{index}": Conv(WIDTH, WIDTH, 3, dilation=dilation) for index, dilation in enumerate((1, 2, 4, 1))}
"""Of each pair, each added to its input, followed by a ReLU."""

ENDS: Final = {
    "whole": Conv(WIDTH, WIDTH, 1),
    "cell": Conv(WIDTH, 2 * len(SCALES) + 2, 1),
    "judge": Conv(WIDTH, 2, 1),
}
"""`whole` and `judge` see the mean over all cells."""

CONVS: Final = {**ENCODER, **MERGE, **DECODER, **ENDS}

CALIBRATION: Final = {
    "clip.scale": (4,),
    "clip.share": (4,),
    "clip.floor": (4,),
    "static.weight": (21,),
    "shake.weight": (21,),
    "parallax.weight": (2,),
}
"""Shapes of what is fitted to clips after the training of the network; `camera_motion.calibration` says what it is."""


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of the state dict."""
    result: dict[str, tuple[int, ...]] = {}
    for path, conv in CONVS.items():
        result[f"{path}.weight"] = (conv.outputs, conv.inputs, conv.kernel, conv.kernel)
        result[f"{path}.bias"] = (conv.outputs,)
    result["pair.log_scale"] = result["pair.log_floor"] = (4,)
    return result


def coordinates(size: int) -> NDArray[np.float32]:
    """Return 1, x and y of the pixels of a square picture, from -1 to 1: (3, size * size), row by row."""
    places = (np.arange(size) * 2 + 1) / size - 1
    x, y = np.meshgrid(places, places)
    return np.stack([np.ones(x.size), x.ravel(), y.ravel()]).astype(np.float32)


def margin_at(size: int) -> float:
    """Return how much next to black bars is not compared in a picture of size x size, of which -1 to 1 is the whole.

    Less a quarter of a pixel of the frame, so that no pixel lies exactly at the limit, where rounding would decide.
    """
    return (max(MARGIN, 2 * EDGE // size) - 0.25) * 2 / EDGE


def slopes() -> NDArray[np.float32]:
    """Return the kernels that smooth a picture, and differentiate it to the right and down: (3, 1, 3, 3)."""
    smooth, slope = np.array([0.25, 0.5, 0.25]), np.array([-0.5, 0.0, 0.5])
    kernels = [np.outer(smooth, smooth), np.outer(smooth, slope), np.outer(slope, smooth)]
    return np.stack(kernels)[:, None].astype(np.float32)

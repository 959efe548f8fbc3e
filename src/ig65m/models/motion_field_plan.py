"""Sizes of the motion-field network and the shapes of its weights, without PyTorch."""

from typing import Final, NamedTuple

EDGE: Final = 96
"""Height and width of a frame in pixels; the whole frame is resized to it, whatever its aspect ratio."""

CELLS: Final = 24
"""Height and width of the field in cells, of four pixels each."""

REACH: Final = 3
"""Largest displacement in cells, in each direction, at which two frames are compared."""

OUTPUTS: Final = ("right", "down", "log_sigma", "camera", "cut", "parallax")
"""Channels of the field; `models.motion_field.MotionField` says what they are."""

MATCHED: Final = 32  # channels in which cells are compared
CONTEXT: Final = 24  # channels of each frame that the decoder sees beside the comparison
WIDTH: Final = 48  # of the decoder
SCALES: Final = (1, 2)  # pixels of the input in one pixel of the pictures whose gradients are compared
GRADIENT_NOISE: Final = 1e-3  # squared gradient of a standardised frame below which it says nothing about motion
FARTHEST: Final = 1.0  # largest displacement in cells that gradients give
CONTRAST: Final = 8.0  # added to a frame's standard deviation (0..255) before the division by it


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
    "encoder.1": Conv(16, 32, 3),
    "encoder.2": Conv(32, 48, 3, stride=2),
    "encoder.3": Conv(48, 64, 3),
}
"""Of each frame, each followed by a ReLU."""

HEADS: Final = {"match.project": Conv(64, MATCHED, 1), "context": Conv(64, CONTEXT, 1)}

MERGE: Final = {"merge": Conv((2 * REACH + 1) ** 2 + 2 + 3 * len(SCALES) + 2 * CONTEXT, WIDTH, 3)}

DECODER: Final = {f"decoder.{index}": Conv(WIDTH, WIDTH, 3, dilation=dilation) for index, dilation in enumerate((1, 2, 4, 1))}
"""Of each pair, each added to its input, followed by a ReLU."""

ENDS: Final = {"whole": Conv(WIDTH, WIDTH, 1), "cell": Conv(WIDTH, 5 + len(SCALES), 1), "judge": Conv(WIDTH, 2, 1)}
"""`whole` and `judge` see the mean over all cells."""

CONVS: Final = {**ENCODER, **HEADS, **MERGE, **DECODER, **ENDS}


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of the state dict."""
    result: dict[str, tuple[int, ...]] = {}
    for path, conv in CONVS.items():
        result[f"{path}.weight"] = (conv.outputs, conv.inputs, conv.kernel, conv.kernel)
        result[f"{path}.bias"] = (conv.outputs,)
    result["match.log_factor"] = ()
    result["pair.log_scale"] = result["pair.log_floor"] = (4,)
    return result

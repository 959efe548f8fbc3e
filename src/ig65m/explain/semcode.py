"""Semantic codes: features of a video as colours, which change where the content changes.

The colours are those of an early version of ig65m-pytorch: each clip's features, divided by their Euclidean norm, become hues.
Its last version draws one hue whose saturation is the value.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ig65m.errors import UsageError

Colours = NDArray[np.uint8]

_FIRST_HUE, _SATURATION, _VALUE = 20, 128, 255


def semantic_code(features: NDArray[np.floating]) -> Colours:
    """Non-negative features (clips, C) -> RGB (C, clips, 3) uint8: a column for each clip, a row for each feature.

    Hue = (255 x / |x| + 20) mod 255 on 0..255, saturation 128, value 255. Raises UsageError for other features.
    """
    if features.ndim != 2 or 0 in features.shape:
        raise UsageError(f"a semantic code needs features (clips, C) of at least one clip, got {features.shape}")
    rows = features.astype(np.float32)
    if not np.isfinite(rows).all() or rows.min() < 0:
        raise UsageError(f"a semantic code needs non-negative features, as after a ReLU; the smallest is {rows.min():g}")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    hues = ((rows / np.maximum(norms, np.finfo(np.float32).tiny) * 255 + _FIRST_HUE) % 255).astype(np.uint8).T
    planes = (hues, np.full_like(hues, _SATURATION), np.full_like(hues, _VALUE))
    picture = Image.merge("HSV", [Image.fromarray(np.ascontiguousarray(plane)) for plane in planes])
    return np.asarray(picture.convert("RGB"))

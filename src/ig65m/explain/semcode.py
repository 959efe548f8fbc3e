"""Semantic codes in the colours of ig65m-pytorch: one hue, the more saturated the higher a feature."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ig65m.display.feature_map import check_features
from ig65m.errors import UsageError

HUE: Final = 20.0  # degrees


def original_code(features: NDArray[np.floating], hue: float = HUE) -> NDArray[np.uint8]:
    """Non-negative features (clips, C) -> RGB (C, clips, 3): a column for each clip, a row for each feature.

    Saturation is the feature, divided by the largest of the file, times 255; value is 255. `hue` is in degrees, from 0 to 360.
    Fractions are cut off, and Pillow makes RGB of HSV. Raises UsageError for other features or another hue.
    """
    check_features(features)
    if not 0 <= hue <= 360:
        raise UsageError(f"the hue must be from 0 to 360 degrees, got {hue:g}")
    if features.min() < 0:
        raise UsageError(
            f"the original semantic code needs non-negative features, as after a ReLU; the smallest is {features.min():g}"
        )
    rows = features.T.astype(np.float32)
    saturation = (rows / (rows.max() or 1) * 255).astype(np.uint8)
    planes = (np.full_like(saturation, int(hue / 360 * 255)), saturation, np.full_like(saturation, 255))
    picture = Image.merge("HSV", [Image.fromarray(np.ascontiguousarray(plane)) for plane in planes])
    return np.asarray(picture.convert("RGB"))

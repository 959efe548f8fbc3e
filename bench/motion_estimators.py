"""Independent estimates of camera motion: OpenCV's features with RANSAC, and the motion vectors of the codec."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from av.sidedata.motionvectors import MotionVectors
from av.video.frame import PictureType
from numpy.typing import NDArray

CORNERS = 400  # most features of a frame
THRESHOLD = 1.5  # pixels at 640 wide within which a feature agrees with a move
FEWEST = 12  # features or blocks, fewer of which say nothing

Steps = NDArray[np.float64]  # (frames - 1, 4): pan, tilt, zoom, roll of the camera from each frame to the next; NaN if unknown


@dataclass(frozen=True)
class Estimated:
    """Moves of the camera from frame to frame, the times of the frames in seconds, and the share of corners that agree."""

    times: NDArray[np.float64]
    steps: Steps
    agreed: NDArray[np.float64] | None = None  # (frames - 1,), of OpenCV

    def speeds(self, start: float, end: float) -> NDArray[np.float64]:
        """Return the mean speeds (4,) a second between two times; NaN if a frame between them is unknown."""
        inside = self._inside(start, end)
        length = float(np.diff(self.times)[inside].sum())
        return np.asarray(self.steps[inside].sum(0) / length) if length > 0 else np.full(4, np.nan)

    def agreement(self, start: float, end: float) -> float:
        """Return the least share of corners that agree, of all steps between two times; 0 if it is unknown."""
        steps = np.zeros(0) if self.agreed is None else self.agreed[self._inside(start, end)]
        return float(steps.min()) if len(steps) else 0.0

    def _inside(self, start: float, end: float) -> NDArray[np.bool_]:
        return np.asarray((self.times[:-1] >= start - 1e-3) & (self.times[1:] <= end + 1e-3))


def move_of(matrix: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """Return the camera's move (4,) for a similarity (2, 3) of the content, in pixels."""
    centre = np.array([width / 2, height / 2, 1])
    right, down = matrix @ centre - centre[:2]
    return np.array(
        [
            -right / width,
            down / height,
            math.log(math.hypot(matrix[0, 0], matrix[1, 0])),
            -math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])),
        ]
    )


def by_features(path: Path) -> Estimated:
    """Track corners from frame to frame (Lucas and Kanade), and fit a similarity by RANSAC."""
    times, steps, agreed = [], [], []
    before: NDArray[np.uint8] | None = None
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            grey = frame.to_ndarray(format="gray").astype(np.uint8, copy=False)
            scale = 640 / grey.shape[1]
            if scale < 1:
                grey = np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8)
            times.append(float(frame.time or 0.0))
            if before is not None:
                step, share = _tracked(before, grey)
                steps.append(step)
                agreed.append(share)
            before = grey
    return Estimated(np.array(times), np.array(steps).reshape(-1, 4), np.array(agreed))


def _tracked(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> tuple[NDArray[np.float64], float]:
    points = cv2.goodFeaturesToTrack(before, CORNERS, 0.01, 7)
    if points is None or len(points) < FEWEST:
        return np.full(4, np.nan), 0.0
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, winSize=(21, 21), maxLevel=4)  # type: ignore[call-overload]
    kept = found.ravel() == 1
    if kept.sum() < FEWEST:
        return np.full(4, np.nan), 0.0
    matrix, agree = cv2.estimateAffinePartial2D(points[kept], moved[kept], ransacReprojThreshold=THRESHOLD)
    move = np.full(4, np.nan) if matrix is None else move_of(np.asarray(matrix), before.shape[1], before.shape[0])
    return move, 0.0 if matrix is None else float(np.mean(agree))


def by_codec(path: Path) -> Estimated:
    """Fit a similarity by RANSAC to the motion vectors that the encoder chose for P frames, from the I or P frame before.

    The move is shared out evenly over the frames between the two; it is unknown where there are no vectors.
    """
    times: list[float] = []
    anchors = {0: np.full(4, np.nan)}  # frame -> move from the anchor before
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"flags2": "+export_mvs"}
        for number, frame in enumerate(container.decode(stream)):
            times.append(float(frame.time or 0.0))
            if frame.pict_type != PictureType.B:
                anchors[number] = _from_vectors(frame) if frame.pict_type == PictureType.P else np.full(4, np.nan)
    steps = np.full((max(len(times) - 1, 0), 4), np.nan)
    for before, anchor in pairwise(anchors):
        steps[before:anchor] = anchors[anchor] / (anchor - before)
    return Estimated(np.array(times), steps)


def _from_vectors(frame: av.VideoFrame) -> NDArray[np.float64]:
    vectors = frame.side_data.get("MOTION_VECTORS")
    if not isinstance(vectors, MotionVectors):
        return np.full(4, np.nan)
    table = vectors.to_ndarray()
    table = table[table["source"] < 0]
    if len(table) < FEWEST:
        return np.full(4, np.nan)
    there = np.stack([table["dst_x"], table["dst_y"]], -1).astype(np.float32)
    came = there + np.stack([table["motion_x"], table["motion_y"]], -1) / table["motion_scale"][:, None]
    matrix, _ = cv2.estimateAffinePartial2D(came.astype(np.float32), there, ransacReprojThreshold=THRESHOLD)
    return np.full(4, np.nan) if matrix is None else move_of(np.asarray(matrix), frame.width, frame.height)


ESTIMATORS: dict[str, Callable[[Path], Estimated]] = {"OpenCV": by_features, "codec": by_codec}

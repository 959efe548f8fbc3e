"""Detection of parallax: cameras that translate in scenes with depth, or only pan, tilt and zoom.

python bench/parallax.py --each 20 --seed 1

Scenes are planes of photographs at several distances, and a photograph with its measured depth (Middlebury's motorcycle). The
pinhole camera is not the trainer's. Prints a table, then a line of JSON.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import skimage
from motion_estimators import by_features
from synthetic_motion import PHOTOGRAPHS, Picture, encode, photograph

import ig65m
from ig65m.motion.describe import CERTAIN

FRAMES, FPS, SIZE = 33, Fraction(25), (640, 360)
TRANSLATIONS = {"truck": ("pan_left", "pan_right"), "pedestal": ("tilt_down", "tilt_up"), "dolly": ("zoom_out", "zoom_in")}
ROTATIONS = {"pan": ("pan_left", "pan_right"), "tilt": ("tilt_down", "tilt_up"), "zoom": ("zoom_out", "zoom_in")}
"""Moves, and the label of each that is nearest: backwards, forwards."""

FASTEST = (0.004, 0.02)  # speed of the nearest thing, as a share of the picture a frame
NEAREST, FARTHEST = (1.2, 2.0), (4.0, 9.0)  # distances of planes

Render = Callable[[float, float, float, float], Picture]
"""Of a camera at x, y, z (in distances of the nearest plane at which the picture is one wide) and a focal length."""


def planes(rng: np.random.Generator) -> tuple[Render, float]:
    """Return a scene of a far plane that fills the picture and nearer things cut out of photographs, and the least distance."""
    width, height = SIZE
    names = rng.permutation(PHOTOGRAPHS)[:5]
    distances = sorted([rng.uniform(*FARTHEST), *rng.uniform(NEAREST[0], FARTHEST[0], 3), rng.uniform(*NEAREST)], reverse=True)
    layers = []
    for number, (name, distance) in enumerate(zip(names, distances, strict=True)):
        picture = photograph(str(name))
        rows, columns = picture.shape[:2]
        mask = np.zeros((rows, columns), np.uint8)
        if number == 0:
            mask[:] = 255
            size, place = 1.8, np.zeros(2)
        else:
            axes = (int(columns * rng.uniform(0.25, 0.48)), int(rows * rng.uniform(0.25, 0.48)))
            cv2.ellipse(mask, (columns // 2, rows // 2), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
            size, place = rng.uniform(0.35, 0.7), rng.uniform(-0.4, 0.4, 2)
        layers.append((picture, mask, distance, size * distance / picture.shape[1], place * distance))

    def render(x: float, y: float, z: float, focal: float) -> Picture:
        result = np.zeros((height, width, 3), np.uint8)
        for number, (picture, mask, distance, scale, place) in enumerate(layers):
            near = focal * width / (distance - z)  # pixels of the screen for one unit at that distance
            matrix = np.array([[scale * near, 0, 0], [0, scale * near, 0]])
            middle = np.array([picture.shape[1] / 2, picture.shape[0] / 2])
            matrix[:, 2] = np.array([width / 2, height / 2]) + (place - [x, y]) * near - scale * near * middle
            border = cv2.BORDER_REFLECT_101 if number == 0 else cv2.BORDER_CONSTANT
            seen = cv2.warpAffine(picture, matrix, SIZE, flags=cv2.INTER_AREA, borderMode=border)
            alpha = cv2.warpAffine(mask, matrix, SIZE, flags=cv2.INTER_LINEAR, borderMode=border)[..., None] / 255
            result = np.asarray(result + (seen.astype(float) - result) * alpha, dtype=np.uint8)
        return result

    return render, distances[-1]


def motorcycle(rng: np.random.Generator) -> tuple[Render, float]:
    """Return the scene of the photograph with depth. What was hidden from its camera is filled with its surroundings."""
    width, height = SIZE
    disparity = np.load(Path(skimage.__file__).parent / "data" / "motorcycle_disp.npz")["arr_0"]
    unknown = (~np.isfinite(disparity)).astype(np.uint8)
    disparity = cv2.inpaint(np.where(unknown, 0, disparity).astype(np.float32), unknown, 3, cv2.INPAINT_NS)
    picture = photograph("motorcycle_left.png")
    if rng.random() < 0.5:
        picture, disparity = picture[:, ::-1], disparity[:, ::-1]
    scale = 1.25 * max(width / picture.shape[1], height / picture.shape[0])
    picture = np.asarray(cv2.resize(np.ascontiguousarray(picture), None, fx=scale, fy=scale), dtype=np.uint8)
    nearness = cv2.resize(np.ascontiguousarray(disparity), None, fx=scale, fy=scale)
    nearness = cv2.GaussianBlur(nearness, (0, 0), 2) / nearness.max() / NEAREST[0]  # 1 / distance
    rows, columns = np.indices(nearness.shape, dtype=np.float32)
    off = np.array([(picture.shape[1] - width) / 2, (picture.shape[0] - height) / 2])
    middle = np.array([picture.shape[1] / 2, picture.shape[0] / 2])

    def render(x: float, y: float, z: float, focal: float) -> Picture:
        # Where each pixel of the screen was in the photograph; its nearness is that of the place found so far.
        there = np.stack([columns, rows], -1)
        for _ in range(8):
            near = cv2.remap(nearness, there[..., 0], there[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[
                ..., None
            ]
            seen = (np.stack([columns, rows], -1) - middle) / focal * (1 - z * near)
            there = (seen + middle + np.array([x, y]) * width * near).astype(np.float32)
        result = cv2.remap(picture, there[..., 0], there[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        left, top = off.astype(int)
        return np.asarray(result[top : top + height, left : left + width], dtype=np.uint8)

    return render, NEAREST[0]


def frames(scene: tuple[Render, float], move: str, speed: float) -> Iterator[Picture]:
    """Film a scene. speed: of the nearest thing, as a share of the picture a frame; its sign is the direction."""
    render, nearest = scene
    still = render(0, 0, 0, 1)
    for index in range(FRAMES):
        gone = speed * (index - (FRAMES - 1) / 2)
        if move == "truck":
            yield render(gone * nearest, 0, 0, 1)
        elif move == "pedestal":
            yield render(0, -gone * nearest * SIZE[1] / SIZE[0], 0, 1)
        elif move == "dolly":
            yield render(0, 0, nearest * (1 - math.exp(-2 * gone)), 1)
        elif move == "zoom":
            yield render(0, 0, 0, math.exp(2 * gone))
        else:
            shift = np.eye(2, 3)
            shift[:, 2] = (-gone * SIZE[0], 0) if move == "pan" else (0, gone * SIZE[1])
            yield np.asarray(cv2.warpAffine(still, shift, SIZE, borderMode=cv2.BORDER_REFLECT_101), dtype=np.uint8)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=20, help="films of each move")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    scores: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        for place, (move, labels) in enumerate({**TRANSLATIONS, **ROTATIONS}.items()):
            seen, right, ratio = [], [], []
            for index in range(options.each):
                rng = np.random.default_rng([options.seed, place, index])
                scene = (motorcycle if index % 4 == 3 else planes)(rng)
                direction = int(rng.integers(2))
                speed = (2 * direction - 1) * FASTEST[0] * (FASTEST[1] / FASTEST[0]) ** rng.random()
                encode(frames(scene, move, speed), path, FPS, int(rng.integers(18, 31)))
                features = by_features(path)
                for clip in ig65m.estimate_motion(path).clips[::2]:
                    if clip.end - clip.start < 14.5 / FPS:
                        continue
                    seen.append(clip.parallax)
                    right.append(clip.label == labels[direction])
                    column = list(ROTATIONS).index(labels[0].split("_")[0])
                    theirs = features.speeds(clip.start, clip.end - 1 / float(FPS))[column]
                    ratio.append((clip.speeds.pan, clip.speeds.tilt, clip.speeds.zoom)[column] / theirs)
            scores[move in TRANSLATIONS] += seen
            rows[move] = {
                "clips": len(seen),
                "parallax above 0.5": float(np.mean(np.array(seen) > 0.5)),
                "parallax named": float(np.mean(np.array(seen) > CERTAIN)),
                "nearest label": float(np.mean(right)),
                "speed, in that of OpenCV": float(np.nanmedian(ratio)),
            }
    print("| | " + " | ".join(rows) + " |\n|---|" + "---|" * len(rows))
    for figure in rows["pan"]:
        print(f"| {figure} | " + " | ".join(f"{row[figure]:.3g}" for row in rows.values()) + " |")
    moved, turned = np.array(scores[True]), np.array(scores[False])
    area = float(np.mean((moved[:, None] > turned) + 0.5 * (moved[:, None] == turned)))
    print(f"\narea under the ROC curve: {area:.3f}")
    print(json.dumps({"bench": "parallax", "seed": options.seed, "each": options.each, "moves": rows, "area": area}))


if __name__ == "__main__":
    main()

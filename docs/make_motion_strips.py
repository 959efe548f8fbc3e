"""Makes docs/images/motion_strips.jpg: frames of clips with known moves, and what `ig65m motion` says of them.

python docs/make_motion_strips.py
"""

import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np

import ig65m
from ig65m.motion.describe import describe_moves

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "bench"))

from known_motion import Film, frames_of  # noqa: E402
from parallax import frames as walked  # noqa: E402
from parallax import motorcycle  # noqa: E402
from synthetic_motion import Picture, encode, footage_file, with_intruder  # noqa: E402

FRAMES, SHOWN = 33, (0, 8, 16, 24, 32)
SIZE = (640, 360)
TILE = (224, 126)
TEXT = 400  # pixels to the right of the frames
FPS = Fraction(25)


def moved(source: str, seed: int, **speeds: float) -> Iterator[Picture]:
    """Frames of a picture with moves, in shares of the picture (rolls: degrees) a frame."""
    return frames_of(Film(speeds, source, SIZE, FPS, 23, intruder=False, seed=seed, frames=FRAMES))


def shot(name: str, first: int) -> Iterator[Picture]:
    """Frames of footage, in its own size."""
    with av.open(str(footage_file(name))) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if first <= index < first + FRAMES:
                yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def cut() -> Iterator[Picture]:
    """A pan that is cut to a tilt."""
    one, other = moved("coffee.png", 1, pan=0.006), moved("chelsea.png", 2, tilt=0.008)
    for index, (before, after) in enumerate(zip(one, other, strict=True)):
        yield before if index < FRAMES // 2 else after


def hand() -> Iterator[Picture]:
    """A hand that means to hold still."""
    return frames_of(Film({}, "coffee.png", SIZE, FPS, 23, intruder=False, seed=8, hand=0.006, frames=FRAMES))


STRIPS = {
    "pan right at 15 %/s": partial(moved, "rocket.jpg", 3, pan=0.006),
    "tilt down at 25 %/s": partial(moved, "astronaut.png", 4, tilt=-0.01),
    "zoom in at 20 %/s": partial(moved, "china.jpg", 5, zoom=0.0073),
    "roll clockwise at 20 °/s": partial(moved, "chelsea.png", 6, roll=0.8),
    "pan left at 15 %/s, zoom out at 18 %/s": partial(moved, "flower.jpg", 7, pan=-0.006, zoom=-0.008),
    "pan right at 20 %/s, tilt up at 15 %/s": partial(moved, "motorcycle_left.png", 9, pan=0.008, tilt=0.006),
    "pan right at 10 %/s while an object crosses": lambda: with_intruder(moved("astronaut.png", 10, pan=0.004), 4),
    "a hand": hand,
    "pan right at 15 %/s, cut, tilt up at 20 %/s": cut,
    "truck to the right": lambda: walked(motorcycle(np.random.default_rng(1)), "truck", 0.01),
    "tripod (Big Buck Bunny)": partial(shot, "bigbuckbunny", 88),
}
"""What was done, and the frames. Big Buck Bunny: (c) 2008 Blender Foundation, CC BY 3.0."""


def strip(title: str, frames: list[Picture], found: list[str]) -> Picture:
    """Return the frames of a clip side by side, with what was done and what was found."""
    tiles = [cv2.resize(frames[index], TILE, interpolation=cv2.INTER_AREA) for index in SHOWN]
    text = np.full((TILE[1], TEXT, 3), 255, np.uint8)
    lines = [(title, (100, 100, 100)), *((line, (0, 0, 0)) for line in found)]
    for number, (line, colour) in enumerate(lines):
        plain = line.replace("°", "deg")
        cv2.putText(text, plain, (12, 26 + 24 * number), cv2.FONT_HERSHEY_SIMPLEX, 0.52, colour, 1, cv2.LINE_AA)
    return np.concatenate([*tiles, text], 1)


def main() -> None:
    """Film, estimate, draw."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        for title, make in STRIPS.items():
            frames = list(make())
            encode(iter(frames), path, FPS, 23)
            motion = ig65m.estimate_motion(path)
            found = [f"{part.start:.1f} to {part.end:.1f} s: {describe_moves(part)}" for part in motion.segments]
            print(title, "->", found)
            rows += [strip(title, frames, found), np.full((4, TILE[0] * len(SHOWN) + TEXT, 3), 255, np.uint8)]
    picture = cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(DOCS / "images" / "motion_strips.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 75])


if __name__ == "__main__":
    main()

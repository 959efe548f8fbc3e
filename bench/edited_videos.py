"""Edited videos with known transitions, and unedited footage, made with FFmpeg from sample videos and photographs.

A shot is a view that moves slowly over a photograph of scikit-image or scikit-learn, or over one shot of a video of scikit-
video. Neighbouring shots have different sources. Footage is taken frame by frame, whatever the rate of the new video.

Transitions are cuts, dissolves and fades through black. Some shots contain in their middle what is no transition: a flash
(white frames), a glare (the brightness rises and falls) or a whip pan (the view moves fast, and blurred, to another part of the
source).
"""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import skimage
import sklearn
from numpy.random import Generator
from synthetic_motion import footage_file

Kind = Literal["cut", "dissolve", "fade", "flash", "glare", "whip pan"]

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
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
    "china.jpg",
    "flower.jpg",
)
FOOTAGE = {  # video, first frame and end of one shot
    "bunny": ("bigbuckbunny", 0, 132),
    "phone": ("carphone_pristine", 0, 120),
    "roof": ("bikes", 0, 30),
    "taxi": ("bikes", 30, 76),
    "bus": ("bikes", 76, 137),
    "street": ("bikes", 137, 187),
    "bollard": ("bikes", 187, 242),
}
SOURCES = (*PHOTOGRAPHS, *FOOTAGE)

FORMATS = (
    (640, 360, Fraction(25)),
    (720, 576, Fraction(25)),
    (480, 270, Fraction(24)),
    (352, 288, Fraction(30)),
    (640, 480, Fraction(30)),
    (854, 480, Fraction(24)),
    (640, 360, Fraction(50)),
    (320, 240, Fraction(25)),
    (360, 640, Fraction(30)),
    (1280, 720, Fraction(25)),
)
"""Width, height and frames a second."""
DISSOLVES = (8, 12, 16, 20, 24, 30)  # frames
SUBFRAMES = 4  # of a whip pan's motion blur

FFMPEG = ("ffmpeg", "-nostdin", "-v", "error", "-y")
LOSSLESS = ("-an", "-c:v", "libx264", "-qp", "0", "-preset", "ultrafast")


@dataclass(frozen=True)
class Event:
    """A transition, or what resembles one."""

    kind: Kind
    first: int  # frame: the first of the new shot after a cut, otherwise the first that is affected
    length: int  # frames that are affected; 0 for a cut


@dataclass(frozen=True)
class Join:
    """How a shot continues with the next one."""

    kind: Literal["cut", "dissolve", "fade"]
    length: int = 0
    black: int = 0  # of a fade's length


@dataclass(frozen=True)
class Take:
    """One shot to be made. The view swings around the centre of its source."""

    source: str
    frames: int
    flipped: bool
    start: int  # first frame of footage
    zoom: float  # of the view; 1 shows all of the source
    zoom_swing: float
    swing: tuple[float, float]  # in x and y, as shares of the room beside the view
    period: float  # in seconds
    phase: float
    shake: float  # as a share of the room
    event: Event | None  # its first frame counts from the take's


@dataclass(frozen=True)
class Edit:
    """A video: takes, and the joins between them."""

    name: str
    width: int
    height: int
    fps: Fraction
    takes: tuple[Take, ...]
    joins: tuple[Join, ...]

    @property
    def events(self) -> tuple[Event, ...]:
        """What happens in it, in order."""
        events, first = [], 0
        for take, join in zip(self.takes, (*self.joins, None), strict=True):
            if take.event:
                events.append(Event(take.event.kind, first + take.event.first, take.event.length))
            end = first + take.frames
            if join is None:
                return tuple(events)
            if join.kind == "cut":
                first = end
                events.append(Event("cut", first, 0))
            elif join.kind == "dissolve":
                first = end - join.length
                events.append(Event("dissolve", first, join.length))
            else:
                first = end + join.black
                events.append(Event("fade", end - _outgoing(join), join.length))
        raise AssertionError("an edit ends with a take")

    @property
    def frames(self) -> int:
        """Number of frames."""
        return sum(take.frames for take in self.takes) + sum(
            join.black if join.kind == "fade" else -join.length for join in self.joins
        )


def draw_edits(seed: int) -> Iterator[Edit]:
    """Yield an edited video for each format: 12 cuts, a dissolve of each length and 2 fades, in random order."""
    rng = np.random.default_rng(seed)
    for number, (width, height, fps) in enumerate(FORMATS):
        joins = [
            *[Join("cut")] * 12,
            *[Join("dissolve", length) for length in DISSOLVES],
            *[_draw_fade(rng) for _ in range(2)],
        ]
        joins = [joins[index] for index in rng.permutation(len(joins))]
        kinds: list[Kind | None] = ["flash", "glare", "whip pan"] * 2
        kinds += [None] * (len(joins) + 1 - len(kinds))
        kinds = [kinds[index] for index in rng.permutation(len(kinds))]
        takes: list[Take] = []
        for kind, before, after in zip(kinds, (None, *joins), (*joins, None), strict=True):
            others = [source for source in SOURCES if not takes or source != takes[-1].source]
            takes.append(_draw_take(rng, others, fps, kind, before, after))
        yield Edit(f"edited-{seed}-{number}.mp4", width, height, fps, tuple(takes), tuple(joins))


def draw_unedited(seed: int, *, seconds: float = 20) -> Iterator[Edit]:
    """Yield a video of one take for each source. Footage is played forwards and backwards in turn."""
    rng = np.random.default_rng((seed, 1))
    for number, source in enumerate(SOURCES):
        width, height, fps = FORMATS[number % (len(FORMATS) - 1)]
        take = _draw_take(rng, [source], fps, None, None, None, seconds=seconds)
        yield Edit(f"unedited-{seed}-{number}.mp4", width, height, fps, (take,), ())


def _draw_fade(rng: Generator) -> Join:
    black = int(rng.integers(1, 7))
    return Join("fade", 2 * int(rng.integers(5, 13)) + black, black)


def _draw_take(
    rng: Generator,
    sources: Sequence[str],
    fps: Fraction,
    kind: Kind | None,
    before: Join | None,
    after: Join | None,
    *,
    seconds: float | None = None,
) -> Take:
    source = sources[int(rng.integers(len(sources)))]
    if seconds is None:
        seconds = float(rng.uniform(1.0, 2.6)) + (kind is not None)
    alone = round(seconds * fps)
    head, tail = _incoming(before), _outgoing(after)
    event = None
    if kind is not None:
        length = {
            "flash": int(rng.integers(1, 4)),
            "glare": 2 * int(rng.integers(2, 7)) + 1,
            "whip pan": round(float(rng.uniform(0.2, 0.4)) * fps),
        }[kind]
        event = Event(kind, head + (alone - length) // 2, length)
    length = FOOTAGE[source][2] - FOOTAGE[source][1] if source in FOOTAGE else 1
    swing = rng.uniform(0.2, 0.9, 2)
    return Take(
        source=source,
        frames=head + alone + tail,
        flipped=bool(rng.random() < 0.5),
        start=int(rng.integers(length)),
        zoom=2.5 if kind == "whip pan" else float(rng.uniform(1.25, 1.9)),
        zoom_swing=0.0 if kind == "whip pan" else float(rng.uniform(0, 0.2)),
        swing=(float(swing[0]), float(swing[1])),
        period=float(rng.uniform(6, 20)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        shake=float(rng.uniform(0, 0.01)),
        event=event,
    )


def _incoming(join: Join | None) -> int:
    """Return how many of the next shot's frames a transition affects."""
    if join is None:
        return 0
    return (join.length - join.black) // 2 if join.kind == "fade" else join.length


_outgoing = _incoming  # as many of the shot before: fades are symmetric


def make(edit: Edit, folder: Path) -> Path:
    """Return the path of the video; it is encoded unless it is there."""
    path = folder / edit.name
    if not path.exists():
        encoder = ("-c:v", "libx264", "-preset", "fast", "-crf", "20")
        with TemporaryDirectory(dir=folder) as shots:
            paths = [render(take, edit, Path(shots) / f"{number}.mp4") for number, take in enumerate(edit.takes)]
            join(edit, paths, Path(shots) / edit.name, encoder).rename(path)
    return path


def join(edit: Edit, shots: Sequence[Path], path: Path, encoder: Sequence[str]) -> Path:
    """Write the video, given its shots."""
    inputs = [part for each in shots for part in ("-i", str(each))]
    graph = ("-filter_complex", edit_graph(edit), "-map", "[video]", "-r", str(edit.fps))
    subprocess.run([*FFMPEG, *inputs, *graph, *encoder, str(path)], check=True)
    return path


def edit_graph(edit: Edit) -> str:
    """Return the filter graph that joins the takes, its inputs, frame by frame."""
    black = f"color=black:size={edit.width}x{edit.height}:rate={edit.fps},format=yuv420p,setsar=1"
    chains, parts = [], []
    for number, (take, before, after) in enumerate(zip(edit.takes, (None, *edit.joins), (*edit.joins, None), strict=True)):
        head, tail = _incoming(before), _outgoing(after)
        cuts = {"head": (0, head), "body": (head, take.frames - tail), "tail": (take.frames - tail, take.frames)}
        cuts = {name: frames for name, frames in cuts.items() if frames[0] < frames[1]}
        outputs = "".join(f"[{name}{number}s]" for name in cuts)
        chains.append(f"[{number}:v]settb=1/{edit.fps},setpts=N,split={len(cuts)}{outputs}")
        for name, (first, end) in cuts.items():
            chains.append(f"[{name}{number}s]trim=start_frame={first}:end_frame={end},setpts=PTS-STARTPTS[{name}{number}]")
        if before and before.kind == "dissolve":
            chains.append(f"[tail{number - 1}][head{number}]{_mix(before.length, edit.fps)}[join{number}]")
            parts.append(f"[join{number}]")
        elif before and before.kind == "fade":
            chains += [
                f"{black},trim=end_frame={head}[black{number}a]",
                f"[tail{number - 1}][black{number}a]{_mix(head, edit.fps)}[out{number}]",
                f"{black},trim=end_frame={before.black}[hold{number}]",
                f"{black},trim=end_frame={head}[black{number}b]",
                f"[black{number}b][head{number}]{_mix(head, edit.fps)}[in{number}]",
            ]
            parts += [f"[out{number}]", f"[hold{number}]", f"[in{number}]"]
        parts.append(f"[body{number}]")
    chains.append(f"{''.join(parts)}concat=n={len(parts)},settb=1/{edit.fps},setpts=N[video]")
    return ";".join(chains)


def _mix(length: int, fps: Fraction) -> str:
    """Return a filter that mixes two inputs of this length; no frame shows only one of them."""
    return f"blend=all_expr='A+(B-A)*(T*{fps}+1)/{length + 1}':shortest=1"  # N differs between versions of FFmpeg


def render(take: Take, edit: Edit, path: Path) -> Path:
    """Write a shot, lossless."""
    width, height, fps = edit.width, edit.height, edit.fps
    whip = take.event if take.event and take.event.kind == "whip pan" else None
    subframes = SUBFRAMES if whip else 1
    moment = f"(on/{subframes}/{fps})"
    angle = f"2*PI*{moment}/{take.period:.3f}+{take.phase:.3f}"
    zoom = f"{take.zoom:.3f}+{take.zoom_swing:.3f}*sin({angle})"
    across = f"0.5+{take.swing[0] / 2:.3f}*sin({angle})"
    if whip:
        share = f"clip((on/{subframes}-{whip.first})/{whip.length},0,1)"
        across = f"0.08+0.84*pow({share},2)*(3-2*{share})"
    down = f"0.5+{take.swing[1] / 2:.3f}*cos({angle})"
    x = f"(iw-iw/zoom)*clip({across}+{take.shake:.4f}*sin(17*{moment}),0,1)"
    y = f"(ih-ih/zoom)*clip({down}+{take.shake:.4f}*sin(23*{moment}),0,1)"
    scale = 2 if take.source in PHOTOGRAPHS else 1.4  # the view is moved by whole pixels of this size
    wide, tall = (2 * round(side * scale / 2) for side in (width, height))
    count = take.frames * subframes if take.source in PHOTOGRAPHS else subframes
    filters = [
        f"scale={wide}:{tall}:force_original_aspect_ratio=increase:flags=bicubic,crop={wide}:{tall},setsar=1",
        *(["hflip"] if take.flipped else []),
        f"format=yuv444p,zoompan=d={count}:s={width}x{height}:fps={fps}:z='{zoom}':x='{x}':y='{y}'",
        *([f"tmix=frames={subframes},select='eq(mod(n,{subframes}),{subframes - 1})'"] if whip else []),
        f"settb=1/{fps},setpts=N",
        *_effect(take.event),
        "format=yuv420p",
    ]
    inputs = ["-i", str(picture_file(take.source))]
    if take.source in FOOTAGE:
        filters.insert(0, f"trim=start_frame={take.start}")
        inputs = ["-stream_loop", "-1", "-i", str(there_and_back(take.source, path.with_name(f"source-{path.name}")))]
    output = ("-vf", ",".join(filters), "-frames:v", str(take.frames), *LOSSLESS, str(path))
    subprocess.run([*FFMPEG, *inputs, *output], check=True)
    return path


def _effect(event: Event | None) -> list[str]:
    """Return the filter of a flash or glare."""
    if event and event.kind == "flash":
        return [f"drawbox=color=white:t=fill:enable='between(n,{event.first},{event.first + event.length - 1})'"]
    if event and event.kind == "glare":
        half = (event.length + 1) / 2
        return [f"eq=eval=frame:brightness='0.8*max(0,1-abs(n-{event.first + half - 1})/{half})'"]
    return []


def there_and_back(name: str, path: Path) -> Path:
    """Write a shot of footage, forwards and then backwards, lossless."""
    video, first, end = FOOTAGE[name]
    graph = f"[0:v]trim=start_frame={first}:end_frame={end},settb=1/25,setpts=N,split[a][b];[b]reverse[c];[a][c]concat"
    source = ("-i", str(footage_file(video)), "-filter_complex", graph)
    subprocess.run([*FFMPEG, *source, *LOSSLESS, "-r", "25", str(path)], check=True)
    return path


def picture_file(name: str) -> Path:
    """Return the path of a photograph, or of footage."""
    if name in FOOTAGE:
        return footage_file(FOOTAGE[name][0])
    if name in ("china.jpg", "flower.jpg"):
        return Path(sklearn.__file__).parent / "datasets" / "images" / name
    return Path(skimage.__file__).parent / "data" / name

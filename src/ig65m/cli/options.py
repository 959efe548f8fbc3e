"""Each option of the command line, defined once, and the groups of options that several commands take."""

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from ig65m.errors import UsageError
from ig65m.types import Limits
from ig65m.video.stream import Stream

GIB = 1 << 30
NO_LABEL = "no label reaches the threshold"
WORTH_PRINTING = 0.1  # score from which a clip's second and further labels are printed
INPUT, ENGINE, OUTPUT, LIMITS = "Input and clips", "Model and engine", "Output", "Limits"
_LIMITS = Limits()


def option(panel: str, text: str, *names: str, **how: Any) -> Any:
    """An option with its help text, in a panel of the help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, **how)


VIDEOS = typer.Argument(
    metavar="INPUT", help="Videos, folders of videos or of images, lists of videos (.txt, .csv).", show_default=False
)
Videos = Annotated[list[str], VIDEOS]
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Name (see `ig65m models`) or file of a model.", show_default=False)
]
Index = Annotated[
    Path, typer.Argument(metavar="INDEX", help="Folder of the index that `ig65m index build` made.", show_default=False)
]
FeaturesFolder = Annotated[
    Path, typer.Argument(metavar="FEATURES", help="Folder of features that `ig65m extract` made.", show_default=False)
]

VideosIn = Annotated[
    str | None,
    option(INPUT, "Folder of the videos that a list names. Default: beside the list, or the working folder.", "--videos"),
]
ListFormat = Annotated[
    Literal["paths", "pairs", "table", "kinetics", "ucf101", "hmdb51", "activitynet"] | None,
    option(INPUT, "Format of a list. Default: recognised from its contents."),
]

Model = Annotated[str | None, option(ENGINE, "Name (see `ig65m models`) or file (.safetensors, .pth, .pkl) of a model.")]
Labels = Annotated[
    str | None, option(ENGINE, "File of a JSON array with a name for each class, or kinetics400. Default: the model's.")
]
Engine = Annotated[
    Literal["openvino", "onnxruntime", "pytorch"] | None,
    option(ENGINE, "Library that runs the network. Default: openvino on a CPU, pytorch on a GPU."),
]
Precision = Annotated[
    Literal["fp32", "bf16", "fp16", "int8"] | None,
    option(
        ENGINE,
        "Precision of the arithmetic. Default: int8 for a model of `ig65m quantize`; else fp32 on a CPU, and on a GPU the "
        "fastest whose features agree with fp32.",
    ),
]
Device = Annotated[str, option(ENGINE, "Device: cpu, cuda, cuda:1, ...")]
Threads = Annotated[int | None, option(ENGINE, "Threads of the engine. Default: one for each core.")]
BatchSize = Annotated[
    int | None, option(ENGINE, "Clips that go through the network together. Default: 1 on a CPU, 8 on a GPU.")
]
Frames = Annotated[int | None, option(INPUT, "Frames in a clip. Default: the model's.", "--frames")]
FrameStep = Annotated[
    int | None, option(INPUT, "Frames from one frame of a clip to the next; 2 takes every second. Default: the model's.")
]
Stride = Annotated[int | None, option(INPUT, "Frames from one clip's start to the next. Default: the length of a clip.")]
Start = Annotated[float | None, option(INPUT, "Where to start, in seconds.")]
End = Annotated[float | None, option(INPUT, "Where to end, in seconds.")]
ImageFps = Annotated[float, option(INPUT, "Frame rate of a folder of images, in frames a second.")]
Clips = Annotated[
    int | None, option(INPUT, "Number of clips, spread evenly over the video; VMZ tested with 10. Default: all.", "--clips")
]
CROPS = option(INPUT, "Crops along the longer edge, whose scores are averaged; VMZ tested CSN with 3.")
Full = Annotated[bool, option(INPUT, "Keep the full shorter edge and run fully convolutionally, as VMZ tested.", "--full")]
Shard = Annotated[str | None, option(INPUT, "K/N: the K-th of N shares of the videos, equal in playing time. Example: 3/16.")]
RetryFailed = Annotated[bool, option(INPUT, "Try videos again that were partial or failed in this folder.", "--retry-failed")]
FullHash = Annotated[
    bool, option(INPUT, "Recognise a video by all its bytes, not by its size and samples of them.", "--full-hash")
]
Ray = Annotated[
    str | None,
    option(ENGINE, "Run on the Ray cluster at this address (HOST:PORT, auto), or on this machine.", metavar="[ADDRESS]"),
]
MaxFrames = Annotated[int, option(LIMITS, "Most frames to read from one video.")]
MaxMemory = Annotated[float, option(LIMITS, "Most memory for decoding one video, in GiB.")]
Timeout = Annotated[float, option(LIMITS, "Seconds without a new frame after which a video is given up.")]
MaxPixels = Annotated[int, option(LIMITS, "Most pixels in one frame.")]
Overwrite = Annotated[bool, option(OUTPUT, "Replace a file that already exists.", "--overwrite")]
Json = Annotated[bool, option(OUTPUT, "Print one JSON object on stdout.", "--json")]


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """How clips are chosen from a video."""

    frames: Frames = None
    frame_step: FrameStep = None
    stride: Stride = None
    fps: Annotated[
        float | None,
        option(INPUT, "Sample the video at this rate, in frames a second. Default: the model's, mostly every frame."),
    ] = None
    start: Start = None
    end: End = None
    tail: Annotated[
        Literal["pad", "drop"],
        option(INPUT, "A last clip that is short of frames: repeat its last frame, or leave it out."),
    ] = "pad"
    image_fps: ImageFps = 25.0
    preprocessing: Annotated[
        Literal["vmz", "ig65m-pytorch", "ig65m-pytorch-2020", "ig65m-pytorch-2020-torch1.3"] | None,
        option(INPUT, "Resize frames as VMZ or as a version of ig65m-pytorch does. Default: as the model's card says."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ShotOptions:
    """How clips are kept within shots."""

    within_shots: Annotated[
        bool,
        option(INPUT, "No clip crosses from one shot to the next; finds the shots on the way.", "--within-shots"),
    ] = False
    shots: Annotated[
        str | None,
        option(INPUT, "No clip crosses the shots in this folder of `ig65m shots --output`.", metavar="FOLDER"),
    ] = None

    def excluded(self) -> dict[str, object]:
        """The options that need a whole file, with the reasons."""
        return {"--within-shots needs frames that come later": self.within_shots, "--shots is for files": self.shots}

    def source(self) -> bool | str:
        """What `within_shots` of `ig65m.tasks` takes. Raises UsageError for a folder that is not there."""
        if self.shots is None:
            return self.within_shots
        if self.within_shots:
            raise UsageError("--within-shots finds the shots, --shots takes those of a folder; leave one of them out")
        folder = Path(self.shots)
        if not folder.is_dir():
            raise UsageError(f"{self.shots} is not a folder; expected one of `ig65m shots VIDEO... --output {self.shots}`")
        return str(folder.absolute())


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """What runs a network."""

    device: Device = "cpu"
    engine: Engine = None
    threads: Threads = None


@dataclass(frozen=True, kw_only=True)
class EngineOptions(NetworkOptions):
    """What runs a network, in which precision, and on how many clips at a time."""

    precision: Precision = None
    batch_size: BatchSize = None


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """What one video may cost."""

    max_pixels: MaxPixels = _LIMITS.pixels
    max_frames: MaxFrames = _LIMITS.frames
    max_memory: MaxMemory = _LIMITS.memory / GIB
    timeout: Timeout = _LIMITS.seconds

    def limits(self) -> Limits:
        """The limits. Raises UsageError if one is out of range."""
        if not 0.25 <= self.max_memory <= 1 << 20:
            raise UsageError(f"--max-memory must be at least 0.25 GiB, got {self.max_memory:g}")
        return Limits(pixels=self.max_pixels, frames=self.max_frames, memory=int(self.max_memory * GIB), seconds=self.timeout)


@dataclass(frozen=True, kw_only=True)
class DecodingOptions(LimitOptions):
    """What one video may cost, and where it is decoded."""

    in_process: Annotated[
        bool,
        option(
            LIMITS,
            "Decode in this process: no limit on memory and time, and a video that crashes the decoder ends the program.",
            "--in-process",
        ),
    ] = False


def video_options(
    clips: ClipOptions, engine: EngineOptions, decoding: DecodingOptions, stream: Stream | None = None
) -> dict[str, Any]:
    """Keyword arguments of `ig65m.tasks` for these options; the worker process that decodes is started.

    Raises UsageError if a limit is out of range.
    """
    return {**asdict(clips), **asdict(engine), **decoding_options(decoding, stream)}


def decoding_options(decoding: DecodingOptions, stream: Stream | None = None) -> dict[str, Any]:
    """Keyword arguments of `ig65m.tasks` for reading videos; errors and worker process as in `video_options`."""
    limits = decoding.limits()
    if not decoding.in_process:
        from ig65m.video.isolation import prepare

        prepare(limits, None if stream is None else stream.pipe)
    return {"limits": limits, "in_process": decoding.in_process}


def flattened(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command whose options are the fields of the option groups among its parameters."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(hints[name]):
            groups[name] = hints[name]
            kinds = get_type_hints(hints[name], include_extras=True)
            for each in fields(hints[name]):
                parameters.append(
                    inspect.Parameter(each.name, parameter.KEYWORD_ONLY, default=each.default, annotation=kinds[each.name])
                )
        else:
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[name]))

    @wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{each.name: values.pop(each.name) for each in fields(group)})
        command(**values)

    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run

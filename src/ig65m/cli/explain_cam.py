"""ig65m explain cam"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ig65m.atomic import check_place
from ig65m.cli.inputs import check_videos
from ig65m.cli.options import ENGINE, OUTPUT, Device, End, Engine, Model, Overwrite, Precision, Start, Stride, Threads, option
from ig65m.cli.progress import ProgressBar, say_engine, say_failure
from ig65m.cli.terminal import printable
from ig65m.errors import UsageError, needs
from ig65m.types import MAX_FPS, Limits, status_of

if TYPE_CHECKING:
    from ig65m.explain.class_maps import VideoMaps


def cam(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="Video, or folder of images.", show_default=False)],
    output: Annotated[
        Path,
        typer.Argument(metavar="OUTPUT", help="Video (.mp4), array (.npz) or folder of pictures to write.", show_default=False),
    ],
    label: Annotated[str | None, option(ENGINE, "Label to look for. Default: the best one of each clip.")] = None,
    layer: Annotated[
        str | None,
        option(ENGINE, "Layer to draw, by Grad-CAM: stem, layer1, ... Default: the feature maps, which are exact."),
    ] = None,
    fps: Annotated[float, option(OUTPUT, "Pictures a second.")] = 25.0,
    size: Annotated[int, option(OUTPUT, "Shorter edge of the pictures in pixels.")] = 360,
    stride: Stride = None,
    start: Start = None,
    end: End = None,
    model: Model = None,
    device: Device = "cpu",
    engine: Engine = None,
    precision: Precision = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Show where a network finds a label: its class activation maps, drawn over the video.

    Example: ig65m explain cam holiday.mp4 where.mp4 --model r2plus1d_10_camera_motion

    Example: ig65m explain cam holiday.mp4 maps.npz --label pan_left --layer layer2
    """
    _check_output(output, overwrite=overwrite)
    if output.exists() and Path(video).exists() and output.samefile(video):
        raise UsageError(f"{output} is the video itself; choose another file")
    check_videos([video])
    if not 64 <= size <= 2160:
        raise UsageError(f"--size must be from 64 to 2160 pixels, got {size}")
    if not 1 <= fps <= MAX_FPS:
        raise UsageError(f"--fps must be from 1 to {MAX_FPS:g} pictures a second, got {fps}")
    if output.suffix != ".npz":
        with needs("explain", "the overlay"):
            from ig65m.explain import overlay  # noqa: F401 - checked before the network runs
    from ig65m.tasks.classify import DEFAULT_CLASSIFIER
    from ig65m.tasks.options import Options

    options = Options(
        model=model or DEFAULT_CLASSIFIER,
        stride=stride,
        start=start,
        end=end,
        device=device,
        engine=engine,
        precision=precision,
        threads=threads,
        on_engine=say_engine,
    )
    with ProgressBar(1) as progress:
        how: dict[str, Any] = {"label": label, "on_clip": progress.on_clip}
        if layer is None:
            from ig65m.explain.class_maps import ClassMapper

            found = ClassMapper(options).maps(video, **how)
        else:
            with needs("torch", "--layer"):
                from ig65m.explain.grad_cam import grad_cam_maps
            found = grad_cam_maps(video, options, layer, **how)
        if found.maps:
            _write(video, found, output, fps=fps, size=size)
    if found.maps:
        shape = " x ".join(map(str, found.maps[0].values.shape))
        print(printable(f"{video} -> {output}: {len(found.maps)} clips x {shape}"))
    if found.error is not None:
        say_failure(status_of(found.error, some=bool(found.maps)), found.error)
        raise typer.Exit(3)


def _write(video: str, found: "VideoMaps", output: Path, *, fps: float, size: int) -> None:
    from ig65m.explain.class_maps import save_maps
    from ig65m.explain.overlay import overlaid

    if output.suffix == ".npz":
        save_maps(found, output)
        return
    pictures = overlaid(video, found, fps=fps, edge=size, limits=Limits())
    if output.suffix == ".mp4":
        from ig65m.explain.video_file import write_video

        write_video(output, pictures, fps)
    else:
        from PIL import Image

        output.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(output / f"{number:06}.png")


def _check_output(output: Path, *, overwrite: bool) -> None:
    if output.suffix not in (".mp4", ".npz", ""):
        raise UsageError(f"{output}: expected a name that ends in .mp4 or .npz, or a folder for pictures")
    check_place(output)
    if output.suffix == "":
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise UsageError(f"{output} already exists and is not an empty folder; choose another one for the pictures")
    elif output.is_dir():
        raise UsageError(f"{output} is a folder; choose another file")
    elif output.exists() and not overwrite:
        raise UsageError(f"{output} already exists; choose another file, or use --overwrite")

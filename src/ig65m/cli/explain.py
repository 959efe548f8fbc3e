"""ig65m explain"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ig65m.atomic import check_place
from ig65m.cli.explain_cam import cam
from ig65m.cli.inputs import check_videos
from ig65m.cli.options import OUTPUT, Device, End, Engine, Model, Overwrite, Precision, Start, Stride, Threads, option
from ig65m.cli.progress import ProgressBar, say_engine, say_failure
from ig65m.cli.terminal import printable
from ig65m.errors import UsageError, needs

if TYPE_CHECKING:
    from ig65m.store.features import Features

TOP_K = 3

app = typer.Typer(help="Draw what a network sees.", no_args_is_help=True, rich_markup_mode="markdown")


@app.callback()
def _explain() -> None:
    pass


@app.command()
def semcode(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="Video, or file of its features (.npz, .npy, .parquet).", show_default=False),
    ],
    output: Annotated[Path, typer.Argument(metavar="PICTURE", help="Picture to write (.png).", show_default=False)],
    stride: Stride = None,
    start: Start = None,
    end: End = None,
    model: Model = None,
    device: Device = "cpu",
    engine: Engine = None,
    precision: Precision = None,
    threads: Threads = None,
    top_k: Annotated[
        int | None, option(OUTPUT, "Best labels of each clip to draw, if the model has labels. Default: 3.")
    ] = None,
    style: Annotated[
        Literal["readable", "original"],
        option(OUTPUT, "readable: similar features side by side, with changes and labels; original: as ig65m-pytorch drew it."),
    ] = "readable",
    hue: Annotated[float | None, option(OUTPUT, "Hue of --style original, in degrees. Default: 20.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw the semantic code of a video: a column for each clip, coloured by its features, with labels as bands below.

    Where the colours change, the content of the video changes for the network. A curve above shows how much.

    Example: ig65m explain semcode holiday.mp4 holiday.png --model r2plus1d_10_camera_motion --stride 4
    """
    _check_style(style, hue, top_k)
    _check_output(source, output, overwrite=overwrite)
    check_videos([source])
    with needs("explain", "the picture"):
        from ig65m.explain.picture import draw_original, draw_semcode
        from ig65m.explain.semcode import HUE
    from ig65m.store.features import FORMATS, load

    options = {
        "model": model,
        "stride": stride,
        "start": start,
        "end": end,
        "engine": engine,
        "precision": precision,
        "threads": threads,
        "device": None if device == "cpu" else device,
        "top_k": top_k,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if Path(source).suffix not in FORMATS:
        features = _features(source, given)
    elif given:
        raise UsageError(f"--{next(iter(given)).replace('_', '-')} is for a video, but {source} already holds features")
    else:
        features = load(Path(source))
    if features.status != "failed":
        if style == "original":
            draw_original(features, output, hue=HUE if hue is None else hue)
        else:
            draw_semcode(features, output, title=f"{Path(features.path).name} · {features.model.get('name', '')}")
        print(printable(f"{source} -> {output}: {len(features.array)} clips x {features.array[0].size} features"))
    if features.error is not None:
        say_failure(features.status, features.error)
        raise typer.Exit(3)


app.command()(cam)


def _features(video: str, options: dict[str, Any]) -> "Features":
    from ig65m.tasks.classify import DEFAULT_CLASSIFIER
    from ig65m.tasks.extractor import Extractor
    from ig65m.zoo.load import load_weights

    model = options.pop("model", DEFAULT_CLASSIFIER)
    top_k = options.pop("top_k", TOP_K)
    labels = top_k if load_weights(model).card.labels else None  # without labels there is nothing to draw
    with ProgressBar(1) as progress:
        extractor = Extractor(model, top_k=labels, on_engine=say_engine, **options)
        (features,) = extractor.extract_many([video], on_clip=progress.on_clip)
    return features


def _check_style(style: str, hue: float | None, top_k: int | None) -> None:
    if style == "original" and top_k is not None:
        raise UsageError("--top-k is for labels below the picture, which --style original does not have")
    if style != "original" and hue is not None:
        raise UsageError("--hue is for --style original")


def _check_output(source: str, output: Path, *, overwrite: bool) -> None:
    if output.suffix.lower() != ".png":
        raise UsageError(f"{output}: the picture must be a .png file")
    check_place(output)
    if output.is_dir() or (output.exists() and Path(source).exists() and output.samefile(source)):
        raise UsageError(f"{output} is in the way; choose another file")
    if output.exists() and not overwrite:
        raise UsageError(f"{output} already exists; choose another file, or use --overwrite")

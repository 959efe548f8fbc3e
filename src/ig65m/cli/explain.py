"""ig65m explain"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ig65m.atomic import check_place
from ig65m.cli import options as opt
from ig65m.cli.terminal import printable
from ig65m.errors import UsageError

if TYPE_CHECKING:
    from ig65m.types import Features

TOP_K = 3

app = typer.Typer(help="Look at what a network sees.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _explain() -> None:
    pass


@app.command()
def semcode(
    source: Annotated[
        str, typer.Argument(help="A video, or a file of its features (.npz, .npy, .parquet).", show_default=False)
    ],
    output: Annotated[Path, typer.Argument(help="The picture to write, .png.", show_default=False)],
    model: opt.Model = None,
    top_k: Annotated[
        int | None, typer.Option(help="Best labels of each clip to show, where the model has labels; default: 3.")
    ] = None,
    stride: opt.Stride = None,
    start: opt.Start = None,
    end: opt.End = None,
    device: opt.Device = "cpu",
    engine: opt.EngineOption = None,
    precision: opt.PrecisionOption = None,
    threads: opt.Threads = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is already there.")] = False,
) -> None:
    """The semantic code of a video as a picture: a column a clip, coloured by its features; labels as bands below.

    Where the colours change, so does what the network sees.

    Example: ig65m explain semcode holiday.mp4 holiday.png --model r2plus1d_10_camera_motion --stride 4
    """
    _check_output(source, output, overwrite=overwrite)
    opt.check_videos([source])
    try:
        from ig65m.explain.picture import draw_semcode
    except ModuleNotFoundError as error:
        raise UsageError(f"pictures need {error.name}: pip install 'ig65m[explain]'") from None
    from ig65m.store.formats import FORMATS, load

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
        raise UsageError(f"--{next(iter(given)).replace('_', '-')} is for a video, and {source} holds features already")
    else:
        features = load(Path(source))
    if features.status != "failed":
        draw_semcode(features, output, title=f"{Path(features.path).name} · {features.model.get('name', '')}")
        print(printable(f"{source} -> {output}: {len(features.array)} clips x {features.array[0].size} features"))
    if features.error is not None:
        opt.report(features.status, features.error)
        raise typer.Exit(3)


def _features(video: str, options: dict[str, Any]) -> "Features":
    from ig65m.tasks import DEFAULT_CLASSIFIER, load_extractor
    from ig65m.zoo.load import load_model

    network = load_model(options.pop("model", DEFAULT_CLASSIFIER))
    top_k = options.pop("top_k", TOP_K)
    labels = top_k if network.card.labels else None  # others have numbers for names
    with opt.Meter(1) as meter:
        extractor = load_extractor(model=network, top_k=labels, on_engine=opt.on_engine, **options)
        (features,) = extractor.run([video], on_clip=meter.on_clip)
    return features


def _check_output(source: str, output: Path, *, overwrite: bool) -> None:
    if output.suffix.lower() != ".png":
        raise UsageError(f"{output}: the picture is a .png")
    check_place(output)
    if output.is_dir() or (output.exists() and Path(source).exists() and output.samefile(source)):
        raise UsageError(f"{output} is in the way; choose another place")
    if output.exists() and not overwrite:
        raise UsageError(f"{output} already there; choose another place or --overwrite")

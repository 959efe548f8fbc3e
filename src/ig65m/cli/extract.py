"""ig65m extract"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ig65m.cli.inputs import check_shots, check_videos
from ig65m.cli.options import (
    ENGINE,
    OUTPUT,
    ClipOptions,
    DecodingOptions,
    EngineOptions,
    FullHash,
    Json,
    ListFormat,
    Model,
    Overwrite,
    Ray,
    RetryFailed,
    Shard,
    ShotOptions,
    VideosIn,
    flattened,
    option,
    video_options,
)
from ig65m.cli.progress import ProgressBar, say_engine, say_failure
from ig65m.cli.streams import StreamOptions, VideosOrStream, check_given
from ig65m.cli.terminal import printable
from ig65m.errors import UsageError
from ig65m.store.features import Features
from ig65m.types import Segment
from ig65m.video.stream import Stream

Reduction = Literal["mean", "max", "none"]


@flattened
def extract(
    inputs: VideosOrStream = None,
    *,
    stream_options: StreamOptions,
    clip_options: ClipOptions,
    shot_options: ShotOptions,
    model: Model = None,
    engine_options: EngineOptions,
    layer: Annotated[
        str | None,
        option(
            ENGINE, "Layer to take: stem, layer1 to layer4, or any module such as layer3.0.conv1. Default: before the last."
        ),
    ] = None,
    pool_spatial: Annotated[Reduction, option(ENGINE, "How feature maps are reduced over height and width.")] = "mean",
    pool_temporal: Annotated[Reduction, option(ENGINE, "How feature maps are reduced over time.")] = "mean",
    output: Annotated[
        str | None,
        option(OUTPUT, "File (.npy, .npz, .parquet) for one video, or folder for many. Not with --follow.", "--output", "-o"),
    ] = None,
    logits: Annotated[bool, option(OUTPUT, "Write the logits too.", "--logits")] = False,
    top_k: Annotated[
        int | None, option(OUTPUT, "Write as many best labels of each clip too; not to .npy or .npz. Default: none.")
    ] = None,
    overwrite: Overwrite = False,
    dtype: Annotated[
        Literal["float32", "float16"] | None, option(OUTPUT, "Type of the features in a folder. Default: float32.")
    ] = None,
    as_json: Json = False,
    videos_in: VideosIn = None,
    list_format: ListFormat = None,
    shard: Shard = None,
    retry_failed: RetryFailed = False,
    full_hash: FullHash = False,
    ray: Ray = None,
    decoding: DecodingOptions,
) -> None:
    """Extract features of videos: a row for each clip, with its times.

    A folder of features can be interrupted and resumed: the same command does only what is missing. Several processes may
    work on one folder at once.

    Example: ig65m extract holiday.mp4 --output holiday.npz --model r2plus1d_10_camera_motion

    Example: ig65m extract videos/ --output features/

    Example: ffmpeg -i SOURCE -f matroska - | ig65m extract - --follow --json
    """
    from ig65m.store.names import is_file_name

    inputs = check_given(inputs, stream_options, "extract")
    to_file = output is not None and is_file_name(output)
    of_folder: dict[str, object] = {
        **{"--dtype": dtype, "--shard": shard, "--ray": ray, "--retry-failed": retry_failed, "--full-hash": full_hash},
        **{"--videos": videos_in, "--list-format": list_format},
    }
    excluded = {f"{name} is for a folder of features": value for name, value in of_folder.items()} | shot_options.excluded()
    if output is not None and not to_file:
        excluded[f"{output} is a folder of features, which takes files"] = True
    stream = stream_options.stream(inputs, excluded, in_process=decoding.in_process)
    follows = stream is not None and stream.prompt
    if follows and (output is not None or not as_json):
        raise UsageError("--follow prints features as lines of JSON; add --json, and leave --output out")
    if output is None and not follows:
        raise UsageError("Missing option '--output' (see `ig65m extract --help`)")
    if to_file and (given := [name for name, value in of_folder.items() if value]):
        raise UsageError(f"{given[0]} is for a folder of features, but {output} is a file")
    if to_file and top_k is not None and not str(output).endswith(".parquet"):
        raise UsageError(f"--top-k is for a folder or a .parquet file, but {output} is neither")
    if overwrite and not to_file:
        raise UsageError("--overwrite is for a file; a folder is continued, so give another folder for other features")
    if stream is None:
        check_videos(inputs)
    options = video_options(clip_options, engine_options, decoding, stream) | {"within_shots": shot_options.source()}
    from ig65m.engines.base import Pooling

    options |= {"model": model, "pooling": Pooling(pool_spatial, pool_temporal), "layer": layer}
    options |= {"logits": logits, "top_k": top_k}
    if stream is not None and follows:
        from ig65m.cli.follow import follow_options, print_features

        all_ok = print_features(stream, follow_options(options) | {"on_engine": say_engine})
    elif stream is not None:
        all_ok = _to_file([stream], Path(str(output)), options, overwrite=overwrite, as_json=as_json)
    elif to_file:
        check_shots(options["within_shots"], [Segment(name) for name in inputs])
        all_ok = _to_file(inputs, Path(str(output)), options, overwrite=overwrite, as_json=as_json)
    else:
        from ig65m.cli.folder import FolderOptions, to_folder

        folder_options = FolderOptions(
            dtype=dtype or "float32",
            content="full" if full_hash else "sampled",
            shard=shard,
            ray=ray,
            retry_failed=retry_failed,
            videos_in=videos_in,
            list_format=list_format,
        )
        all_ok = to_folder(inputs, Path(str(output)), options, folder_options, as_json=as_json)
    if not all_ok:
        raise typer.Exit(3)


def _to_file(inputs: Sequence[str | Stream], file: Path, options: dict[str, Any], *, overwrite: bool, as_json: bool) -> bool:
    from ig65m.store.features import check_file, save
    from ig65m.tasks.extractor import Extractor

    check_file(file, [name for name in inputs if isinstance(name, str)], overwrite=overwrite)
    with ProgressBar(1) as progress:
        extractor = Extractor(**options, on_engine=say_engine)
        (features,) = extractor.extract_many(inputs, on_clip=progress.on_clip)
        if features.status != "failed":
            save(features, file)
    if features.error is not None:
        say_failure(features.status, features.error)
    if as_json:
        print(json.dumps({"videos": [_record(features, file)]}, indent=1, allow_nan=False))
    elif features.status != "failed":
        clips, *row = features.array.shape
        print(printable(f"{features.path} -> {file}: {clips} clips x {' x '.join(map(str, row))}"))
    return features.status == "ok"


def _record(features: Features, file: Path) -> dict[str, Any]:
    return {
        "path": features.path,
        "status": features.status,
        "error": features.error.to_record() if features.error else None,
        "output": None if features.status == "failed" else str(file),
        "shape": list(features.array.shape),
    }

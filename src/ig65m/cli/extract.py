"""ig65m extract"""

import json
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from ig65m.cli import options as opt
from ig65m.cli.terminal import printable
from ig65m.errors import UsageError
from ig65m.types import Features


def extract(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Videos, folders of videos or of images, lists of videos (.txt, .csv).", show_default=False),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="A file (.npy, .npz, .parquet) for one video; a folder for many.", show_default=False
        ),
    ],
    model: opt.Model = None,
    pool_spatial: Annotated[str, typer.Option(help="Over height and width: mean, max or none.")] = "mean",
    pool_temporal: Annotated[str, typer.Option(help="Over time: mean, max or none.")] = "mean",
    logits: Annotated[bool, typer.Option("--logits", help="Write the logits too.")] = False,
    top_k: Annotated[int | None, typer.Option(help="Write so many best labels of each clip too; not as .npy or .npz.")] = None,
    frames: opt.FramesOption = None,
    frame_step: opt.FrameStep = None,
    stride: opt.Stride = None,
    fps: opt.Fps = None,
    start: opt.Start = None,
    end: opt.End = None,
    tail: opt.TailOption = "pad",
    preprocessing: opt.PreprocessingOption = None,
    batch_size: opt.BatchSize = None,
    device: opt.Device = "cpu",
    engine: opt.EngineOption = None,
    precision: opt.PrecisionOption = None,
    threads: opt.Threads = None,
    image_fps: opt.ImageFps = 25.0,
    max_pixels: opt.MaxPixels = opt.LIMITS.pixels,
    max_frames: opt.MaxFrames = opt.LIMITS.frames,
    max_memory: opt.MaxMemory = opt.LIMITS.memory / opt.GIB,
    timeout: opt.Timeout = opt.LIMITS.seconds,
    in_process: opt.InProcess = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is already there.")] = False,
    dtype: Annotated[str | None, typer.Option(help="Of the features in a folder: float32 (default) or float16.")] = None,
    shard: Annotated[str | None, typer.Option(help="3/16: of 16 equal shares of the videos do the third.")] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS]", help="Run on the Ray cluster there (HOST:PORT, auto), or on this machine."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Do videos again that were partial or failed in this folder.")
    ] = False,
    full_hash: Annotated[
        bool, typer.Option("--full-hash", help="Know a video again by all its bytes, not by its size and samples of them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Features of videos: a row a clip, with times.

    In a folder, what was done stays done whatever ends the program: the same command goes on with the rest. Several may run
    on one folder at once.

    Example: ig65m extract holiday.mp4 --output holiday.npz --model r2plus1d_10_camera_motion

    Example: ig65m extract videos/ --output features/
    """
    from ig65m.store.names import is_file_name

    to_file = is_file_name(output)
    of_folder = {"--dtype": dtype, "--shard": shard, "--ray": ray, "--retry-failed": retry_failed, "--full-hash": full_hash}
    if to_file and (given := [name for name, value in of_folder.items() if value]):
        raise UsageError(f"{given[0]} is for a folder of features, and {output} is a file")
    if to_file and top_k is not None and not output.endswith(".parquet"):
        raise UsageError(f"--top-k is for a folder or a .parquet file, and {output} is neither")
    if overwrite and not to_file:
        raise UsageError("--overwrite is for a file; a folder goes on with what is in it, take another for other features")
    if dtype not in (None, "float32", "float16"):
        raise UsageError(f"--dtype is float32 or float16, got {dtype!r}")
    opt.check_videos(inputs)
    limits = opt.limits(max_pixels, max_frames, max_memory, timeout, in_process=in_process)
    from ig65m.engines.base import Pooling
    from ig65m.tasks import DEFAULT_EXTRACTOR

    options: dict[str, Any] = {
        "model": DEFAULT_EXTRACTOR if model is None else model,
        "pooling": Pooling(cast(Any, pool_spatial), cast(Any, pool_temporal)),
        "logits": logits,
        "top_k": top_k,
        "frames": frames,
        "frame_step": frame_step,
        "stride": stride,
        "fps": fps,
        "start": start,
        "end": end,
        "tail": tail,
        "preprocessing": preprocessing,
        "batch_size": batch_size,
        "device": device,
        "engine": engine,
        "precision": precision,
        "threads": threads,
        "image_fps": image_fps,
        "limits": limits,
        "in_process": in_process,
    }
    if to_file:
        all_ok = _to_file(inputs, Path(output), options, overwrite=overwrite, as_json=as_json)
    else:
        from ig65m.cli.collection import How, to_folder

        how = How(cast(Any, dtype or "float32"), "full" if full_hash else "sampled", shard, ray, retry_failed)
        all_ok = to_folder(inputs, Path(output), options, how, as_json=as_json)
    if not all_ok:
        raise typer.Exit(3)


def _to_file(inputs: list[str], file: Path, options: dict[str, Any], *, overwrite: bool, as_json: bool) -> bool:
    from ig65m.store.formats import check_file, save
    from ig65m.tasks import load_extractor

    check_file(file, inputs, overwrite=overwrite)
    with opt.Meter(1) as meter:
        extractor = load_extractor(**options, on_engine=opt.on_engine)
        (features,) = extractor.run(inputs, on_clip=meter.on_clip)
        if features.status != "failed":
            save(features, file)
    if features.error is not None:
        opt.report(features.status, features.error)
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

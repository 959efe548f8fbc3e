"""ig65m extract"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from ig65m.cli import options as opt
from ig65m.cli.terminal import printable
from ig65m.types import Features


def extract(
    inputs: Annotated[list[str], typer.Argument(help="Video files, or folders of images.", show_default=False)],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="A file (.npy, .npz, .parquet) for one video; a folder for many.", show_default=False
        ),
    ],
    model: opt.Model = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help="Of the files in a folder: npy, npz or parquet; default: npy.")
    ] = None,
    pool_spatial: Annotated[str, typer.Option(help="Over height and width: mean, max or none.")] = "mean",
    pool_temporal: Annotated[str, typer.Option(help="Over time: mean, max or none.")] = "mean",
    logits: Annotated[bool, typer.Option("--logits", help="Write the logits too.")] = False,
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are already there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Features of videos: a row a clip, with times.

    Example: ig65m extract holiday.mp4 --output holiday.npz --model r2plus1d_10_camera_motion
    """
    opt.check_videos(inputs)
    limits = opt.limits(max_pixels, max_frames, max_memory, timeout, in_process=in_process)
    from ig65m.engines.base import Pooling
    from ig65m.store.formats import output_files, save
    from ig65m.tasks import DEFAULT_EXTRACTOR, extract_many

    files = output_files(inputs, output, file_format, overwrite=overwrite)
    records: list[dict[str, Any]] = []
    with opt.json_at_end(as_json, records, lambda: {"videos": records}), opt.Meter(len(inputs)) as meter:
        results = extract_many(
            inputs,
            model=DEFAULT_EXTRACTOR if model is None else model,
            pooling=Pooling(cast(Any, pool_spatial), cast(Any, pool_temporal)),
            logits=logits,
            frames=frames,
            frame_step=frame_step,
            stride=stride,
            fps=fps,
            start=start,
            end=end,
            tail=cast(Any, tail),
            preprocessing=preprocessing,
            batch_size=batch_size,
            device=device,
            engine=engine,
            precision=precision,
            threads=threads,
            on_engine=opt.on_engine,
            image_fps=image_fps,
            limits=limits,
            in_process=in_process,
            on_clip=meter.on_clip,
        )
        for features, file in zip(results, files, strict=True):
            if features.status != "failed":
                save(features, file)
            meter.video_done()
            records.append(_record(features, file))
            if features.error is not None:
                opt.report(features.status, features.error)
            if not as_json and features.status != "failed":
                clips, *row = features.array.shape
                print(printable(f"{features.path} -> {file}: {clips} clips x {' x '.join(map(str, row))}"))
    if any(record["status"] != "ok" for record in records):
        raise typer.Exit(3)


def _record(features: Features, file: Path) -> dict[str, Any]:
    return {
        "path": features.path,
        "status": features.status,
        "error": asdict(features.error) if features.error else None,
        "output": None if features.status == "failed" else str(file),
        "shape": list(features.array.shape),
    }

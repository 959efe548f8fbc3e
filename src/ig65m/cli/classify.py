"""ig65m classify"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, cast

import typer

from ig65m.cli import options as opt
from ig65m.cli.terminal import printable
from ig65m.types import Prediction

WORTH_PRINTING = 0.1  # score from which a clip's second and further labels stand in the table


def classify(
    videos: Annotated[list[str], typer.Argument(help="Video files, or folders of images.", show_default=False)],
    model: opt.Model = None,
    labels: Annotated[str | None, typer.Option(help="A JSON array of the classes' names, in place of the model's.")] = None,
    top_k: Annotated[int, typer.Option(help="Labels to give, the best first.")] = 5,
    frames: opt.FramesOption = None,
    frame_step: opt.FrameStep = None,
    stride: opt.Stride = None,
    fps: opt.Fps = None,
    start: opt.Start = None,
    end: opt.End = None,
    tail: opt.TailOption = "pad",
    clips: Annotated[int | None, typer.Option(help="So many clips, spread evenly over the video; VMZ tested with 10.")] = None,
    crops: Annotated[int, typer.Option(help="Crops along the longer edge, whose scores are averaged; VMZ: 3 for CSN.")] = 1,
    full: Annotated[
        bool, typer.Option("--full", help="Pictures of the full short edge, run fully convolutionally, as VMZ tested.")
    ] = False,
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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """What videos show: labels with times, per clip and per video.

    Example: ig65m classify holiday.mp4 --model r2plus1d_10_camera_motion
    """
    opt.check_videos(videos)
    limits = opt.limits(max_pixels, max_frames, max_memory, timeout, in_process=in_process)
    from ig65m.tasks import DEFAULT_CLASSIFIER, classify_many

    failed = False
    done: list[Prediction] = []
    with opt.json_at_end(as_json, done, lambda: _as_json(done)), opt.Meter(len(videos)) as meter:
        predictions = classify_many(
            videos,
            model=DEFAULT_CLASSIFIER if model is None else model,
            labels=labels,
            top_k=top_k,
            frames=frames,
            frame_step=frame_step,
            stride=stride,
            fps=fps,
            start=start,
            end=end,
            tail=cast(Any, tail),
            clips=clips,
            crops=crops,
            full=full,
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
        for prediction in predictions:
            meter.video_done()
            failed |= prediction.error is not None
            if as_json:
                done.append(prediction)
            else:
                _print_table(prediction)
            if prediction.error is not None:
                opt.report(prediction.status, prediction.error)
    if failed:
        raise typer.Exit(3)


def _as_json(predictions: Sequence[Prediction]) -> dict[str, Any]:
    def video(prediction: Prediction) -> dict[str, Any]:
        record = asdict(prediction)
        record["error"] = None if prediction.error is None else prediction.error.to_record()
        return {key: record[key] for key in ("path", "status", "error", "labels", "clips")}

    return {"model": predictions[0].model, "videos": [video(prediction) for prediction in predictions]}


def _print_table(prediction: Prediction) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    status = "" if prediction.status == "ok" else f": {prediction.status}"
    console.print(Text(printable(prediction.path), "bold"), status, sep="", markup=False)
    if prediction.labels:
        console.print(
            "whole video: " + ", ".join(f"{label.label} {label.score:.2f}" for label in prediction.labels), markup=False
        )
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("from (s)", "to (s)", "score"):
            table.add_column(name, justify="right")
        table.add_column("label")
        table.add_column("others")
        for clip in prediction.clips:
            best, *others = clip.labels
            beside = ", ".join(f"{label.label} {label.score:.2f}" for label in others if label.score >= WORTH_PRINTING)
            table.add_row(f"{clip.start:.2f}", f"{clip.end:.2f}", f"{best.score:.2f}", Text(best.label), Text(beside, "dim"))
        console.print(table)

"""ig65m classify"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from ig65m.cli.inputs import check_shots, check_videos
from ig65m.cli.options import (
    CROPS,
    NO_LABEL,
    OUTPUT,
    WORTH_PRINTING,
    ClipOptions,
    Clips,
    DecodingOptions,
    EngineOptions,
    Full,
    Json,
    Labels,
    Model,
    ShotOptions,
    flattened,
    option,
    video_options,
)
from ig65m.cli.progress import ProgressBar, json_at_end, say_engine, say_failure
from ig65m.cli.streams import StreamOptions, VideosOrStream, check_given
from ig65m.cli.terminal import print_title
from ig65m.types import Prediction, Segment
from ig65m.video.stream import Stream


@flattened
def classify(
    inputs: VideosOrStream = None,
    *,
    stream_options: StreamOptions,
    clip_options: ClipOptions,
    shot_options: ShotOptions,
    clips: Clips = None,
    crops: Annotated[int, CROPS] = 1,
    full: Full = False,
    model: Model = None,
    labels: Labels = None,
    engine_options: EngineOptions,
    top_k: Annotated[int, option(OUTPUT, "Number of labels, best first.")] = 5,
    threshold: Annotated[
        float | None, option(OUTPUT, "Leave out labels with a lower score, from 0 to 1. Default: none is left out.")
    ] = None,
    as_json: Json = False,
    decoding: DecodingOptions,
) -> None:
    """Print the labels of videos and of their clips, with times.

    Example: ig65m classify holiday.mp4 --model r2plus1d_10_camera_motion

    Example: ig65m classify videos/ --top-k 3 --json

    Example: ffmpeg -i SOURCE -f matroska - | ig65m classify - --follow
    """
    inputs = check_given(inputs, stream_options, "classify")
    excluded = {"--clips spreads clips over the whole video": clips, **shot_options.excluded()}
    stream = stream_options.stream(inputs, excluded, in_process=decoding.in_process)
    if stream is None:
        check_videos(inputs)
    options = video_options(clip_options, engine_options, decoding, stream) | {"within_shots": shot_options.source()}
    scores: dict[str, Any] = {"top_k": top_k, "threshold": threshold, "clips": clips, "crops": crops, "full": full}
    network: dict[str, Any] = {"model": model, "labels": labels, "on_engine": say_engine}
    if stream is not None and stream.prompt:
        from ig65m.cli.follow import follow_options, print_labels

        if not print_labels(stream, {**follow_options(options, crops), **scores, **network}, as_json=as_json):
            raise typer.Exit(3)
        return
    from ig65m.collection.listing import find_videos
    from ig65m.tasks.classify import classify_many

    videos: list[Segment | Stream]
    if stream is not None:
        videos = [stream]
    else:
        named = [video for name in inputs for video in find_videos([name], absolute=False)]  # as often as they are named
        check_shots(options["within_shots"], named)
        videos = [*named]
    failed = False
    done: list[Prediction] = []
    with json_at_end(as_json, done, lambda: _as_json(done)), ProgressBar(len(videos)) as progress:
        predictions = classify_many(videos, **network, **scores, on_clip=progress.on_clip, **options)
        for prediction in predictions:
            progress.video_done()
            failed |= prediction.error is not None
            if as_json:
                done.append(prediction)
            else:
                _print_table(prediction)
            if prediction.error is not None:
                say_failure(prediction.status, prediction.error)
    if failed:
        raise typer.Exit(3)


def _as_json(predictions: Sequence[Prediction]) -> dict[str, Any]:
    def video(prediction: Prediction) -> dict[str, Any]:
        record = asdict(prediction)
        record["error"] = None if prediction.error is None else prediction.error.to_record()
        sought = {"sought": True} if prediction.sought else {}
        record["clips"] = [{key: value for key, value in clip.items() if value is not None} for clip in record["clips"]]
        return {key: record[key] for key in ("path", "status", "error", "labels", "clips")} | sought

    return {"model": predictions[0].model, "videos": [video(prediction) for prediction in predictions]}


def _print_table(prediction: Prediction) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = print_title(prediction.path, prediction.status)
    if prediction.clips:
        whole = ", ".join(f"{label.label} {label.score:.2f}" for label in prediction.labels) or NO_LABEL
        console.print(f"whole video: {whole}", markup=False)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        has_shots = prediction.clips[0].shot is not None
        for name in (*(["shot"] if has_shots else []), "from (s)", "to (s)", "score"):
            table.add_column(name, justify="right")
        table.add_column("label")
        table.add_column("others")
        for clip in prediction.clips:
            times = (*([str(clip.shot)] if has_shots else []), f"{clip.start:.2f}", f"{clip.end:.2f}")
            if not clip.labels:
                table.add_row(*times, "", Text(NO_LABEL, "dim"))
                continue
            best, *others = clip.labels
            beside = ", ".join(f"{label.label} {label.score:.2f}" for label in others if label.score >= WORTH_PRINTING)
            table.add_row(*times, f"{best.score:.2f}", Text(best.label), Text(beside, "dim"))
        console.print(table)

"""ig65m quantize"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from ig65m.cli.inputs import check_model_file, check_videos
from ig65m.cli.options import INPUT, OUTPUT, Frames, FrameStep, Json, ModelArgument, Overwrite, Videos, option
from ig65m.cli.terminal import printable, say
from ig65m.errors import ProofError, UsageError, check_installed

FEW = 30  # held-out clips below which the agreement says little


def quantize(
    model: ModelArgument,
    inputs: Videos,
    output: Annotated[str, option(OUTPUT, "Model file to write (.safetensors).", "--output", "-o", show_default=False)],
    frames: Frames = None,
    frame_step: FrameStep = None,
    clips: Annotated[int, option(INPUT, "Approximate number of clips; a quarter is held out for the measurement.")] = 100,
    force: Annotated[bool, option(OUTPUT, "Write the file even if int8 is too far from float32.", "--force")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Quantise a model to int8, which is several times as fast on a CPU; calibrate it on your own videos.

    The result is compared with float32 on held-out clips. It is refused if the mean cosine of the features is below 0.99, or if
    fewer than 97 % of the clips keep their best class. The file is a model for classify and extract.

    Example: ig65m quantize r2plus1d_34_32_kinetics videos/*.mp4 --output r2plus1d_int8.safetensors
    """
    check_videos(inputs)
    check_installed("nncf", "quantize", "quantising")
    if clips < 4:
        raise UsageError(f"quantising needs at least 4 clips, got --clips {clips}")
    file = Path(output)
    check_model_file(file, model, overwrite=overwrite)
    from ig65m.collection.listing import find_videos
    from ig65m.engines.base import Work
    from ig65m.models.weights import stored_arrays
    from ig65m.quantize import agreement, calibration_clips, split
    from ig65m.quantize import quantize as run
    from ig65m.types import Limits
    from ig65m.zoo.files import save_safetensors
    from ig65m.zoo.load import load_weights

    weights = load_weights(model)
    card = weights.card
    if frames is None and card.frames is None:
        raise UsageError(f"the clip length of {card.name} is not known; give it with --frames")
    work = Work(preprocessing=card.preprocessing, frames=frames or card.frames or 1)
    failures: list[str] = []

    def on_failure(message: str) -> None:
        failures.append(message)
        say(f"ig65m: {printable(message)}")

    videos = find_videos(inputs, absolute=False)
    taken = calibration_clips(videos, work, frame_step or card.frame_step, clips, Limits(), on_failure, fps=card.fps)
    calibration, held_out = split(taken)
    say(f"ig65m: calibrating with {len(calibration)} clips")
    quantized = run(weights, calibration, work)
    quantized = replace(quantized, card=replace(quantized.card, name=file.stem, frame_step=frame_step or card.frame_step))
    say(f"ig65m: measuring on {len(held_out)} other clips")
    found = agreement(weights, quantized, held_out, work)
    if len(held_out) < FEW:
        say(f"ig65m: {len(held_out)} held-out clips are few; give more footage for a reliable measurement")
    if not (found.enough or force):
        raise ProofError(
            f"int8 is too far from float32, nothing was written: {found}; calibrate with more footage, or use --force"
        )
    save_safetensors(stored_arrays(quantized), quantized.card, file)
    if as_json:
        print(json.dumps({"file": str(file), "agreement": asdict(found), "failures": failures}, indent=1))
    else:
        print(f"int8 against float32: {found}")
        print(printable(f"wrote {file}, {file.stat().st_size / 1e6:.1f} MB"))
    if failures:
        raise typer.Exit(3)

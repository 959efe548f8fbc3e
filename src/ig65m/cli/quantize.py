"""ig65m quantize"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from ig65m.atomic import check_place
from ig65m.cli import options as opt
from ig65m.cli.terminal import printable, say
from ig65m.errors import ProofError, UsageError

FEW = 30  # clips to measure on; of fewer the agreement says little


def quantize(
    model: Annotated[str, typer.Argument(help="A model's name or file.", show_default=False)],
    videos: Annotated[list[str], typer.Argument(help="Videos like those that it will see.", show_default=False)],
    output: Annotated[str, typer.Option("--output", "-o", help="The model file to write, .safetensors.", show_default=False)],
    frames: opt.FramesOption = None,
    frame_step: opt.FrameStep = None,
    clips: Annotated[int, typer.Option(help="Clips to take, about; a quarter of them is kept to measure on.")] = 100,
    force: Annotated[bool, typer.Option("--force", help="Write the file even if int8 is too far from float32.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is already there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """A model in int8, several times as fast on a CPU, calibrated on your own videos.

    It is measured against float32 on clips that the calibration did not see, and refused if the features' mean cosine is
    below 0.99 or fewer than 97 % of the clips keep their best class. The file is a model for classify and extract.

    Example: ig65m quantize r2plus1d_34_32_kinetics videos/*.mp4 --output r2plus1d_int8.safetensors
    """
    opt.check_inputs(videos)
    if clips < 4:
        raise UsageError(f"quantising needs at least 4 clips, got --clips {clips}")
    file = Path(output)
    _check_file(file, model, overwrite=overwrite)
    from ig65m.engines.base import Work
    from ig65m.quantize import agreement, calibration_clips, split
    from ig65m.quantize import quantize as run
    from ig65m.types import Limits
    from ig65m.zoo.files import save_safetensors
    from ig65m.zoo.load import load_model
    from ig65m.zoo.quantized import quantized_tensors

    network = load_model(model)
    card = network.card
    if frames is None and card.frames is None:
        raise UsageError(f"the clip length of {card.name} is not known; say with --frames what it was")
    work = Work(preprocessing=card.preprocessing, frames=frames or card.frames)
    failures: list[str] = []

    def on_failure(message: str) -> None:
        failures.append(message)
        say(f"ig65m: {printable(message)}")

    taken = calibration_clips(videos, work, frame_step or card.frame_step, clips, Limits(), on_failure)
    calibration, held_out = split(taken)
    say(f"ig65m: calibrating with {len(calibration)} clips")
    quantized = run(network, calibration, work)
    quantized.card = replace(quantized.card, name=file.stem, frame_step=frame_step or card.frame_step)
    say(f"ig65m: measuring on {len(held_out)} other clips")
    found = agreement(network, quantized, held_out, work)
    if len(held_out) < FEW:
        say(f"ig65m: {len(held_out)} clips are few to measure on; give more footage to know better")
    if not (found.enough or force):
        raise ProofError(f"int8 is too far from float32, nothing was written: {found}; calibrate with more footage, or --force")
    save_safetensors(quantized_tensors(quantized), quantized.card, file)
    if as_json:
        print(json.dumps({"file": str(file), "agreement": asdict(found), "failures": failures}, indent=1))
    else:
        print(f"int8 against float32: {found}")
        print(printable(f"wrote {file}, {file.stat().st_size / 1e6:.1f} MB"))
    if failures:
        raise typer.Exit(3)


def _check_file(file: Path, model: str, *, overwrite: bool) -> None:
    if file.suffix != ".safetensors":
        raise UsageError(f"{file} should end in .safetensors, which is what is written")
    check_place(file)
    if file.is_dir() or (file.exists() and Path(model).exists() and file.samefile(model)):
        raise UsageError(f"{file} is {'a folder' if file.is_dir() else 'the model itself'}; choose another name")
    if file.exists() and not overwrite:
        raise UsageError(f"{file} is already there; choose another name or --overwrite")

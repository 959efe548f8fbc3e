"""Trains the camera-motion networks: `python -m ig65m.camera_motion IMAGES... --output OUT.safetensors`."""

import logging
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from ig65m.camera_motion import aligner_training, training
from ig65m.camera_motion.training import make_library


def main(
    images: Annotated[list[Path], typer.Argument(exists=True, help="Folders of photographs; videos of an unmoving camera.")],
    output: Annotated[Path, typer.Option(help="Weights to write (.safetensors).")],
    network: Annotated[
        Literal["classifier", "aligner"], typer.Option(help="r2plus1d_10_camera_motion, or that of ig65m motion.")
    ] = "classifier",
    checkpoint: Annotated[Path | None, typer.Option(help="State to save to and go on from.", show_default="beside it")] = None,
    seed: Annotated[int, typer.Option(help="Decides first weights, textures and moves.")] = 1,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Batches to train on.", show_default="2800 of 32 clips, or 6000 of 16 scenes")
    ] = None,
    takes: Annotated[int, typer.Option(min=50, help="Takes on which the aligner is calibrated.")] = 2500,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the network.")] = 2,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make clips; 0: none but this one.")] = 1,
) -> None:
    """Train a camera-motion network, or go on with an interrupted training.

    Example: python -m ig65m.camera_motion wallpapers/ --output camera_motion.safetensors --seed 1

    Example: python -m ig65m.camera_motion wallpapers/ --network aligner --output aligner.safetensors --seed 1
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(threads)
    state = checkpoint or output.with_suffix(".checkpoint")
    if network == "aligner":
        aligner_plan = aligner_training.AlignerPlan(seed=seed, steps=steps or 6000)
        run = aligner_training.new_aligner_run(aligner_plan)
        if state.exists():
            run.restore(state)
        library = make_library(images, seed)
        aligner_training.train_aligner(run, aligner_plan, library, checkpoint=state, workers=workers)
        aligner_training.publish(run, library, output, seed=seed, takes=takes, workers=workers)
        return
    plan = training.Plan(seed=seed, steps=steps or 2800)
    run = training.new_run(plan)
    if state.exists():
        run.restore(state)
    training.train(run, plan, make_library(images, seed), output=output, checkpoint=state, workers=workers)


typer.run(main)

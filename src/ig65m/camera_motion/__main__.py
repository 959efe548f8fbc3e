"""Trains the camera-motion network: `python -m ig65m.camera_motion IMAGES... --output OUT.safetensors`."""

import logging
from pathlib import Path
from typing import Annotated

import torch
import typer

from ig65m.camera_motion.training import Plan, make_library, new_run, train


def main(
    images: Annotated[list[Path], typer.Argument(exists=True, help="Folders of photographs; videos of an unmoving camera.")],
    output: Annotated[Path, typer.Option(help="Weights to write (.safetensors).")],
    checkpoint: Annotated[Path | None, typer.Option(help="State to save to and go on from.", show_default="beside it")] = None,
    seed: Annotated[int, typer.Option(help="Decides first weights, textures and moves.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Batches of 32 clips to train on.")] = 2800,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the network.")] = 2,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make clips; 0: none but this one.")] = 1,
) -> None:
    """Train the camera-motion network, or go on with an interrupted training.

    Example: python -m ig65m.camera_motion wallpapers/ --output camera_motion.safetensors --seed 1
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(threads)
    state = checkpoint or output.with_suffix(".checkpoint")
    plan = Plan(seed=seed, steps=steps)
    run = new_run(plan)
    if state.exists():
        run.restore(state)
    train(run, plan, make_library(images, seed), output=output, checkpoint=state, workers=workers)


typer.run(main)

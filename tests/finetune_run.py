"""Fine-tunes the narrow network and prints each step: python -m tests.finetune_run VIDEOS CHECKPOINT OUTPUT [SAVE_EVERY]"""

import json
import sys
from pathlib import Path

import torch

from ig65m.train import processes
from ig65m.train.dataset import ClipDataset
from ig65m.train.finetune import Epoch, finetune
from ig65m.train.held_out import held_out_logits
from ig65m.train.recipe import Recipe
from ig65m.zoo.files import save_safetensors
from tests.labelled import CARD, narrow

RECIPE = Recipe(epochs=2, batch_size=6, rate=0.0005, seed=3, patience=None, warmup=0.5)


def main(videos: str, checkpoint: str, output: str, save_every: str = "0") -> None:
    torch.set_num_threads(1)
    data = [ClipDataset(Path(videos) / split, CARD, augment=split == "train") for split in ("train", "val")]
    steps: list[float] = []
    epochs: list[Epoch] = []

    def on_step(step: int, steps_in_all: int, loss: float) -> None:
        steps.append(loss)
        print("step", step, steps_in_all, loss, flush=True)

    weights = finetune(
        narrow(),
        *data,
        RECIPE,
        checkpoint=Path(checkpoint),
        save_every=float(save_every),
        on_step=on_step,
        on_epoch=epochs.append,
    )
    logits = held_out_logits(weights, data[1])
    if processes.rank() == 0:
        save_safetensors(weights.arrays, weights.card, Path(output))
        Path(output).with_suffix(".json").write_text(json.dumps([steps, [vars(each) for each in epochs], logits.tolist()]))


if __name__ == "__main__":
    main(*sys.argv[1:])

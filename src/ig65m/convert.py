"""Converts a checkpoint to safetensors, PyTorch and ONNX, and proves that all three are the same function."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ig65m.atomic import check_place, nearest_folder, sync_folder, temporary_folder
from ig65m.errors import ProofError, UsageError
from ig65m.models.card import Card
from ig65m.models.network import Network
from ig65m.models.spec import Builder
from ig65m.onnx_export import export_onnx, onnx_difference
from ig65m.zoo.files import save_pth, save_safetensors
from ig65m.zoo.load import load_model

TOLERANCE = 1e-4
SUFFIXES = (".safetensors", ".pth", ".onnx")
LONGEST_PROOF, LARGEST_PROOF = (
    64,
    256,
)  # most frames, and most pixels of an edge, of the test clips; the graph is the same beyond


@dataclass(frozen=True)
class Conversion:
    """The files written, and the largest relative difference of ONNX Runtime to PyTorch on random clips."""

    card: Card
    files: tuple[Path, ...]
    difference: float


def convert(
    checkpoint: Path,
    out: Path,
    *,
    frames: int | None = None,
    classes: int | None = None,
    labels: tuple[str, ...] | None = None,
    pool1: bool | None = None,
    origin: Builder | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Convert `checkpoint` to OUT.safetensors, OUT.pth and OUT.onnx; unless all three are proven, no file is written.

    Both weight files are read back and must be equal. The ONNX file must agree with PyTorch within TOLERANCE on random clips
    of the network's shape (up to LONGEST_PROOF frames and LARGEST_PROOF pixels) and of another shape. `frames` is the clip
    length to record, `classes` a number to check; `pool1` and `origin` are as in `load_model`. With `overwrite`, all old files
    are removed before the first new one appears, so that old and new ones never mix.

    Raises CheckpointError if the checkpoint cannot be converted, ProofError if a file is not the same function, UsageError if
    the arguments contradict the checkpoint or files exist, OSError if the disk is full or faulty.
    """
    name = out.name.removesuffix(out.suffix) if out.suffix in SUFFIXES else out.name
    if name in ("", ".", ".."):
        raise UsageError(f"{out} is not a file name; give a path such as {out / 'model'}")
    files = tuple(out.with_name(name + suffix) for suffix in SUFFIXES)
    _check_places(files, checkpoint, overwrite=overwrite)
    model = load_model(checkpoint, pool1=pool1, origin=origin)
    if model.quantization is not None:
        raise UsageError(f"{checkpoint} is in int8; convert the model that it was quantised from")
    card = model.card
    if classes is not None and classes != card.spec.classes:
        raise UsageError(f"{checkpoint} has {card.spec.classes} classes, not {classes}; leave --classes out")
    if frames is not None and card.frames not in (None, frames):
        raise UsageError(f"{checkpoint} is for clips of {card.frames} frames, not {frames}; leave --frames out")
    if labels is not None and len(labels) != card.spec.classes:
        raise UsageError(
            f"{len(labels)} labels for the {card.spec.classes} classes of {checkpoint}; give one for each class, in "
            "the order of the outputs"
        )
    model.card = replace(
        card,
        name=name,
        frames=card.frames if frames is None else frames,
        labels=card.labels if labels is None else labels,
        embedded=False,
    )
    with temporary_folder(nearest_folder(out.parent), ".ig65m-convert-") as folder:
        written = tuple(folder / file.name for file in files)
        save_safetensors(model.state_dict(), model.card, written[0])
        save_pth(model.state_dict(), model.card, written[1])
        export_onnx(model, written[2])
        difference = _prove(model, written)
        out.parent.mkdir(parents=True, exist_ok=True)
        for file in files:  # all old ones first, so that old and new ones never mix
            file.unlink(missing_ok=True)
        for source, target in zip(written, files, strict=True):
            source.replace(target)
        sync_folder(out.parent)
    return Conversion(model.card, files, difference)


def _check_places(files: tuple[Path, ...], checkpoint: Path, *, overwrite: bool) -> None:
    """Raise UsageError if one of `files` cannot or must not be written."""
    check_place(files[0])  # the longest name
    if folders := [str(file) for file in files if file.is_dir()]:
        raise UsageError(f"{', '.join(folders)} is a folder; choose another name")
    if same := [str(file) for file in files if file.exists() and checkpoint.exists() and file.samefile(checkpoint)]:
        raise UsageError(f"{same[0]} is the checkpoint itself; choose another name")
    if (present := [str(file) for file in files if os.path.lexists(file)]) and not overwrite:
        raise UsageError(f"{', '.join(present)} already exists; choose another name, or use --overwrite")


def _prove(model: Network, files: tuple[Path, ...]) -> float:
    """Check the files against `model`, and return the largest relative difference of the ONNX file."""
    weights, state_dict, graph = files
    frames = min(model.card.frames or 8, LONGEST_PROOF)
    generator = torch.Generator().manual_seed(0)
    height, width = (min(size, LARGEST_PROOF) for size in model.card.preprocessing.crop)
    other = frames if frames < 8 or model.spec.clip_frames else frames + 3
    other_size = model.spec.clip_size or (max(1, height - 15), width + 10)
    clips = [
        torch.randn(2, model.spec.in_channels, frames, height, width, generator=generator),
        torch.randn(1, model.spec.in_channels, other, *other_size, generator=generator),
    ]
    for file in (weights, state_dict):
        again = load_model(file)
        if again.card != model.card or any(
            not torch.equal(tensor, again.state_dict()[key]) for key, tensor in model.state_dict().items()
        ):
            raise ProofError(f"{file.name} reads back differently than it was written; check the disk")
    difference = float(np.max([onnx_difference(model, graph, clip) for clip in clips]))  # NaN if any is NaN
    if not difference <= TOLERANCE:
        raise ProofError(
            f"ONNX Runtime differs from PyTorch by {difference:.1e} of the largest output, more than {TOLERANCE:.0e}; "
            "no file was written"
        )
    return difference

"""Converts a checkpoint to safetensors, PyTorch and ONNX, and proves that all three are the same function."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ig65m.atomic import check_place, nearest_folder, sync_folder, temporary_folder
from ig65m.engines.openvino import compiled
from ig65m.errors import CheckpointError, ProofError, UsageError, check_choice
from ig65m.models.card import Card
from ig65m.models.reference import outputs_of
from ig65m.models.spec import Builder
from ig65m.models.weights import Weights
from ig65m.onnx_export import export_onnx
from ig65m.onnx_graph import CLIPS
from ig65m.zoo.files import save_pth, save_safetensors
from ig65m.zoo.load import load_weights

Format = Literal["safetensors", "pth", "onnx"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

TOLERANCE: Final = 1e-4
LONGEST_PROOF: Final = 32
LARGEST_PROOF: Final = 128
"""Most frames, and most pixels of an edge, of the test clips; the graph is the same beyond."""

_WRITERS: Final[dict[Format, Callable[[Weights, Path], None]]] = {
    "safetensors": lambda weights, path: save_safetensors(weights.arrays, weights.card, path),
    "pth": lambda weights, path: save_pth(weights.arrays, weights.card, path),
    "onnx": lambda weights, path: export_onnx(weights, path),
}


@dataclass(frozen=True)
class Conversion:
    """The files written, and the largest relative difference of the ONNX file to the checkpoint on random clips; None if no
    ONNX file was wanted.
    """

    card: Card
    files: tuple[Path, ...]
    difference: float | None


def convert(
    checkpoint: Path,
    out: Path,
    *,
    frames: int | None = None,
    classes: int | None = None,
    labels: tuple[str, ...] | None = None,
    pool1: bool | None = None,
    origin: Builder | None = None,
    formats: Collection[Format] = FORMATS,
    overwrite: bool = False,
) -> Conversion:
    """Convert `checkpoint` to OUT.safetensors, OUT.pth and OUT.onnx, or to some of these `formats`; unless all are proven, no
    file is written.

    Both weight files are read back and must be equal. The ONNX file, run by OpenVINO, must agree with the layers' definitions
    in numpy (`models.reference`) within TOLERANCE on random clips of the network's shape (up to LONGEST_PROOF frames and
    LARGEST_PROOF pixels) and of another shape. `frames` is the clip length to record, `classes` a number to check; `pool1` and
    `origin` are as in `load_model`. With `overwrite`, all old files are removed before the first new one appears, so that old
    and new ones never mix. PyTorch is needed for .pth only.

    Raises CheckpointError if the checkpoint cannot be converted, ProofError if a file is not the same function, UsageError if
    the arguments contradict the checkpoint, files exist or PyTorch is not installed, OSError if the disk is full or faulty.
    """
    for each in formats:
        check_choice("format", each, FORMATS)
    if "pth" in formats and find_spec("torch") is None:
        raise UsageError(
            "writing a .pth file needs torch, which is not installed: pip install 'ig65m[torch]', or leave it out with "
            "--format safetensors --format onnx"
        )
    name = out.name.removesuffix(out.suffix) if out.suffix.removeprefix(".") in FORMATS else out.name
    if name in ("", ".", ".."):
        raise UsageError(f"{out} is not a file name; give a path such as {out / 'model'}")
    files = {each: out.with_name(f"{name}.{each}") for each in FORMATS if each in formats}
    _check_places(tuple(files.values()), checkpoint, overwrite=overwrite)
    weights = load_weights(checkpoint, pool1=pool1, origin=origin)
    if weights.quantization is not None:
        raise UsageError(f"{checkpoint} is in int8; convert the model that it was quantised from")
    card = weights.card
    if classes is not None and classes != card.spec.classes:
        raise UsageError(f"{checkpoint} has {card.spec.classes} classes, not {classes}; leave --classes out")
    if frames is not None and card.frames not in (None, frames):
        raise UsageError(f"{checkpoint} is for clips of {card.frames} frames, not {frames}; leave --frames out")
    if labels is not None and len(labels) != card.spec.classes:
        raise UsageError(
            f"{len(labels)} labels for the {card.spec.classes} classes of {checkpoint}; give one for each class, in "
            "the order of the outputs"
        )
    card = replace(
        card,
        name=name,
        frames=card.frames if frames is None else frames,
        labels=card.labels if labels is None else labels,
        embedded=False,
    )
    weights = replace(weights, card=card)
    with temporary_folder(nearest_folder(out.parent), ".ig65m-convert-") as folder:
        written = {each: folder / file.name for each, file in files.items()}
        for each, file in written.items():
            _WRITERS[each](weights, file)
        difference = _prove(weights, written)
        out.parent.mkdir(parents=True, exist_ok=True)
        for file in files.values():  # all old ones first, so that old and new ones never mix
            file.unlink(missing_ok=True)
        for each, file in written.items():
            file.replace(files[each])
        sync_folder(out.parent)
    return Conversion(card, tuple(files.values()), difference)


def _check_places(files: tuple[Path, ...], checkpoint: Path, *, overwrite: bool) -> None:
    """Raise UsageError if one of `files` cannot or must not be written."""
    check_place(max(files, key=lambda file: len(file.name)))
    if folders := [str(file) for file in files if file.is_dir()]:
        raise UsageError(f"{', '.join(folders)} is a folder; choose another name")
    if same := [str(file) for file in files if file.exists() and checkpoint.exists() and file.samefile(checkpoint)]:
        raise UsageError(f"{same[0]} is the checkpoint itself; choose another name")
    if (present := [str(file) for file in files if os.path.lexists(file)]) and not overwrite:
        raise UsageError(f"{', '.join(present)} already exists; choose another name, or use --overwrite")


def _prove(weights: Weights, files: Mapping[Format, Path]) -> float | None:
    """Check the files against the weights, and return the largest relative difference of the ONNX file, if there is one."""
    for each in files.keys() - {"onnx"}:
        again = load_weights(files[each])
        if again.card != weights.card or any(
            not np.array_equal(array, again.arrays[key]) for key, array in weights.arrays.items()
        ):
            raise ProofError(f"{files[each].name} reads back differently than it was written; check the disk")
    if "onnx" not in files:
        return None
    spec = weights.spec
    frames = min(weights.card.frames or 8, LONGEST_PROOF)
    random = np.random.default_rng(0)
    height, width = (min(size, LARGEST_PROOF) for size in weights.card.crop)
    other = frames if frames < 8 or spec.clip_frames else frames + 3
    other_size = spec.clip_size or (max(1, height - 15), width + 10)
    clips = [
        random.standard_normal((2, spec.in_channels, frames, height, width), np.float32),
        random.standard_normal((1, spec.in_channels, other, *other_size), np.float32),
    ]
    run = compiled(files["onnx"], "fp32", None)
    difference = float(np.max([_difference(weights, run, clip) for clip in clips]))  # NaN if any is NaN
    if not difference <= TOLERANCE:
        raise ProofError(
            f"the ONNX file differs from the checkpoint by {difference:.1e} of the largest output, more than {TOLERANCE:.0e}; "
            "no file was written"
        )
    return difference


def _difference(weights: Weights, run: Any, clips: NDArray[np.float32]) -> float:
    """Return the largest difference of a compiled ONNX file to the weights on normalised clips, relative to the largest output.

    Raises CheckpointError if the network's outputs are not finite.
    """
    features, logits = outputs_of(weights, clips)
    wanted = {"features": features} | ({} if logits is None else {"logits": logits})
    if not all(np.isfinite(output).all() for output in wanted.values()):
        raise CheckpointError("its output for a random clip is not finite: the weights were never trained")
    got = run({CLIPS: clips})
    return max(float(np.abs(got[name] - output).max() / max(np.abs(output).max(), 1e-12)) for name, output in wanted.items())

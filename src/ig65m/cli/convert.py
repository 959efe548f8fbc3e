"""ig65m convert"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from ig65m.cli.inputs import check_inputs
from ig65m.cli.options import INPUT, OUTPUT, Json, Overwrite, option
from ig65m.cli.terminal import printable
from ig65m.errors import UsageError

if TYPE_CHECKING:
    from ig65m.models.card import Card


def convert(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="VMZ's .pkl, or a .pth with the names of torchvision's VideoResNet or of mmaction2.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Argument(metavar="OUT", help="OUT.safetensors, OUT.pth and OUT.onnx are written.", show_default=False),
    ],
    frames: Annotated[
        int | None, option(INPUT, "Clip length of the training, to be recorded: the checkpoint does not contain it.")
    ] = None,
    classes: Annotated[int | None, option(INPUT, "Number of classes that the checkpoint should have.")] = None,
    labels: Annotated[
        str | None, option(INPUT, "Names of the classes, to be recorded: file of a JSON array, or kinetics400.")
    ] = None,
    pool1: Annotated[
        bool | None,
        option(
            INPUT,
            "Whether a max pooling follows the stem: VMZ's blobs do not tell. Default: only in CSN.",
            "--pool1/--no-pool1",
        ),
    ] = None,
    origin: Annotated[
        Literal["vmz", "torchvision", "mmaction2"] | None, option(INPUT, "Who trained the weights of an ambiguous .pth.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        option(OUTPUT, "Format to write; repeatable. Default: all.", "--format", metavar="<safetensors|pth|onnx>"),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Convert a checkpoint of VMZ, torchvision or mmaction2 to safetensors, PyTorch and ONNX, and check all three.

    Each file is proven to compute the same function as the checkpoint, or none is written. A .pth needs PyTorch.

    Example: ig65m convert r2plus1d_34_clip32_ft_kinetics_from_ig65m.pkl r2plus1d --frames 32 --labels kinetics400
    """
    from ig65m.convert import FORMATS, Format
    from ig65m.convert import convert as run
    from ig65m.zoo.labels import read_labels

    check_inputs([checkpoint])
    if out.endswith("/"):
        raise UsageError(f"{out} is a folder; give a name in it, such as {out}model")
    done = run(
        Path(checkpoint),
        Path(out),
        frames=frames,
        classes=classes,
        labels=None if labels is None else read_labels(labels),
        pool1=pool1,
        origin=origin,
        formats=cast("list[Format] | None", formats) or FORMATS,
        overwrite=overwrite,
    )
    if as_json:
        record = {
            "files": [str(file) for file in done.files],
            "difference": done.difference,
            "card": json.loads(done.card.to_json()),
        }
        print(json.dumps(record, indent=1))
        return
    print(_summary(done.card))
    if done.card.left_out:
        print(f"left out (the branch for sound, and the layers that join it): {printable(_grouped(done.card.left_out))}")
    for file in done.files:
        print(printable(f"wrote {file}"))
    if done.difference is not None:
        print(f"ONNX against the checkpoint on random clips: largest difference {done.difference:.1e} of the largest output")


def _summary(card: "Card") -> str:
    """Describe the converted network in a line, with what is unusual about it."""
    from ig65m.models.card import MMACTION2
    from ig65m.models.spec import BUILDERS, POOLED

    spec = card.spec
    parts = [str(spec), f"clips of {card.frames} frames" if card.frames else "clip length unknown (record it with --frames)"]
    if spec.in_channels != 3:
        parts.append(f"{spec.in_channels} channels of optical flow")
    if spec.pool1:
        parts.append("with pool1, as CSN networks have it" if spec.architecture in POOLED else "with pool1")
    elif spec.architecture in POOLED:
        parts.append("without pool1")
    if spec.builder != "vmz":
        ported = spec.builder == "mmaction2" and card.preprocessing.mean != MMACTION2.mean
        parts.append(f"weights of {BUILDERS['vmz' if ported else spec.builder]}")
    return ", ".join(parts)


def _grouped(blobs: tuple[str, ...]) -> str:
    """List blobs in a line: the branch for sound by its number of blobs, the layers after it by name."""
    sound = sum(name.startswith("a_") for name in blobs)
    joint = dict.fromkeys(name.rpartition("_")[0] for name in blobs if not name.startswith("a_"))
    shown = [*([f"a_... ({sound} blobs)"] if sound else []), *list(joint)[:6]]
    return ", ".join(shown) + (f" and {len(joint) - 6} more" if len(joint) > 6 else "")

"""ig65m convert"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ig65m.cli.options import check_inputs
from ig65m.cli.terminal import printable
from ig65m.errors import UsageError

if TYPE_CHECKING:
    from ig65m.zoo.cards import Card


def convert(
    checkpoint: Annotated[
        str, typer.Argument(help="A VMZ .pkl, or a .pth of VideoResNet's or mmaction2's layout.", show_default=False)
    ],
    out: Annotated[
        str, typer.Argument(help="Where to: OUT.safetensors, OUT.pth and OUT.onnx are written.", show_default=False)
    ],
    frames: Annotated[int | None, typer.Option(help="Clip length to record; a checkpoint does not tell it.")] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes to check; default: the checkpoint's.")] = None,
    labels: Annotated[str | None, typer.Option(help="Classes to record: a JSON array's file, or kinetics400.")] = None,
    pool1: Annotated[
        bool | None,
        typer.Option("--pool1/--no-pool1", help="A pooling behind the stem, which blobs do not tell; default: CSN has it."),
    ] = None,
    origin: Annotated[
        str | None, typer.Option(help="Whose weights a .pth has, where that is not sure: vmz, torchvision or mmaction2.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are already there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """A checkpoint of VMZ, torchvision or mmaction2 to safetensors, PyTorch and ONNX, each checked to be the same function.

    Example: ig65m convert r2plus1d_34_clip32_ft_kinetics_from_ig65m.pkl r2plus1d --frames 32 --labels kinetics400
    """
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
        origin=cast(Any, origin),
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
        print(f"left out (sound, and what joins it with the pictures): {printable(_grouped(done.card.left_out))}")
    for file in done.files:
        print(printable(f"wrote {file}"))
    print(f"ONNX Runtime against PyTorch on random clips: largest difference {done.difference:.1e} of the largest output")


def _summary(card: "Card") -> str:
    """What was converted, in a line: what a checkpoint does not tell, and what is not as in most networks, in words."""
    from ig65m.models.spec import BUILDERS, POOLED
    from ig65m.zoo.cards import MMACTION2

    spec = card.spec
    parts = [str(spec), f"clips of {card.frames} frames" if card.frames else "clip length unknown (say it with --frames)"]
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
    """Names of blobs in a line: the branch for sound by its number of blobs, the layers behind it by their names."""
    sound = sum(name.startswith("a_") for name in blobs)
    joint = dict.fromkeys(name.rpartition("_")[0] for name in blobs if not name.startswith("a_"))
    shown = [*([f"a_... ({sound} blobs)"] if sound else []), *list(joint)[:6]]
    return ", ".join(shown) + (f" and {len(joint) - 6} more" if len(joint) > 6 else "")

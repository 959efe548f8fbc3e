"""torch.hub entry points: the names and the signature of ig65m-pytorch.

torch.hub.load("ig65m/ig65m", "r2plus1d_34_32_kinetics", num_classes=400, pretrained=True)
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # torch.hub runs a checkout that is not installed

from ig65m.errors import ModelError  # noqa: E402
from ig65m.models.resnet import ResNet  # noqa: E402
from ig65m.zoo.cards import find_card  # noqa: E402
from ig65m.zoo.load import load_model  # noqa: E402

dependencies = ["torch", "numpy", "safetensors", "filelock", "rich"]


def _entry(name: str) -> Callable[..., ResNet]:
    def entry(num_classes: int, pretrained: bool = False, progress: bool = False) -> ResNet:
        card = find_card(name)
        if not pretrained:
            return ResNet(replace(card.spec, classes=num_classes))
        if num_classes != card.spec.classes:
            raise ModelError(
                f"{name} was trained on {card.spec.classes} classes, not {num_classes}; load it with "
                f"num_classes={card.spec.classes} and replace its last layer `fc`, or leave pretrained out"
            )
        return load_model(name, progress=progress)

    entry.__name__ = name
    entry.__doc__ = f"""{name} as an nn.Module.

    num_classes: classes of the last layer; with pretrained=True those of the checkpoint. pretrained: load the published
    weights (in eval mode) rather than random ones. progress: show the download on stderr.
    """
    return entry


r2plus1d_34_8_ig65m = _entry("r2plus1d_34_8_ig65m")
r2plus1d_34_32_ig65m = _entry("r2plus1d_34_32_ig65m")
r2plus1d_34_8_kinetics = _entry("r2plus1d_34_8_kinetics")
r2plus1d_34_32_kinetics = _entry("r2plus1d_34_32_kinetics")

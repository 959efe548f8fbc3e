"""torch.hub entry points with the names and signatures of ig65m-pytorch and of VMZ; they call `ig65m.load_model`.

model = torch.hub.load(".", "r2plus1d_34_32_kinetics", num_classes=400, pretrained=True, source="local")  # in a checkout
model = torch.hub.load(".", "ir_csn_152", pretraining="ig_ft_kinetics_32frms", source="local")
"""

import sys
from pathlib import Path as _Path
from typing import Any as _Any

sys.path.insert(0, str(_Path(__file__).resolve().parent / "src"))  # torch.hub uses a checkout that is not installed

dependencies = ["torch", "numpy", "safetensors", "filelock", "rich"]

# VMZ's words for pretraining -> what our names end in.
_PRETRAININGS_34 = {
    "kinetics_8frms": "8_kinetics",
    "kinetics_32frms": "32_kinetics",
    "ig65m_8frms": "8_ig65m",
    "ig65m_32frms": "32_ig65m",
}
_PRETRAININGS_152 = {
    "ig65m_32frms": "32_ig65m",
    "ig_ft_kinetics_32frms": "32_ig65m_kinetics",
    "sports1m_32frms": "32_sports1m",
    "sports1m_ft_kinetics_32frms": "32_sports1m_kinetics",
}


def r2plus1d_34_8_ig65m(num_classes: int, pretrained: bool = False, progress: bool = False) -> _Any:
    """R(2+1)D-34 for clips of 8 frames, IG-65M, 487 classes."""
    return _load("r2plus1d_34_8_ig65m", num_classes, pretrained, progress)


def r2plus1d_34_32_ig65m(num_classes: int, pretrained: bool = False, progress: bool = False) -> _Any:
    """R(2+1)D-34 for clips of 32 frames, IG-65M, 359 classes."""
    return _load("r2plus1d_34_32_ig65m", num_classes, pretrained, progress)


def r2plus1d_34_8_kinetics(num_classes: int, pretrained: bool = False, progress: bool = False) -> _Any:
    """R(2+1)D-34 for clips of 8 frames, IG-65M, fine-tuned on Kinetics-400, 400 classes."""
    return _load("r2plus1d_34_8_kinetics", num_classes, pretrained, progress)


def r2plus1d_34_32_kinetics(num_classes: int, pretrained: bool = False, progress: bool = False) -> _Any:
    """R(2+1)D-34 for clips of 32 frames, IG-65M, fine-tuned on Kinetics-400, 400 classes."""
    return _load("r2plus1d_34_32_kinetics", num_classes, pretrained, progress)


def r2plus1d_34(
    pretraining: str = "", use_pool1: bool | None = None, progress: bool = False, *, num_classes: int | None = None
) -> _Any:
    """R(2+1)D-34. Pretraining: kinetics_8frms, kinetics_32frms (both IG-65M first), ig65m_8frms, ig65m_32frms, or none."""
    return _load_vmz("r2plus1d", 34, _PRETRAININGS_34, pretraining, use_pool1, progress, num_classes)


def r2plus1d_152(
    pretraining: str = "", use_pool1: bool | None = None, progress: bool = False, *, num_classes: int | None = None
) -> _Any:
    """R(2+1)D-152. Pretraining: ig65m_32frms, ig_ft_kinetics_32frms, sports1m_32frms, sports1m_ft_kinetics_32frms, or none.

    The published weights have no pool1; random ones have it by default, as in VMZ.
    """
    return _load_vmz("r2plus1d", 152, _PRETRAININGS_152, pretraining, use_pool1, progress, num_classes)


def ir_csn_152(
    pretraining: str = "", use_pool1: bool | None = None, progress: bool = False, *, num_classes: int | None = None
) -> _Any:
    """ir-CSN-152. Pretraining: ig65m_32frms, ig_ft_kinetics_32frms, sports1m_32frms, sports1m_ft_kinetics_32frms, or none."""
    return _load_vmz("ir_csn", 152, _PRETRAININGS_152, pretraining, use_pool1, progress, num_classes)


def ip_csn_152(
    pretraining: str = "", use_pool1: bool | None = None, progress: bool = False, *, num_classes: int | None = None
) -> _Any:
    """ip-CSN-152. Pretraining: ig65m_32frms, ig_ft_kinetics_32frms, sports1m_32frms, sports1m_ft_kinetics_32frms, or none."""
    return _load_vmz("ip_csn", 152, _PRETRAININGS_152, pretraining, use_pool1, progress, num_classes)


def _load_vmz(
    architecture: str,
    depth: int,
    pretrainings: dict[str, str],
    pretraining: str,
    use_pool1: bool | None,
    progress: bool,
    num_classes: int | None,
) -> _Any:
    """Return the published weights in eval mode, or for the pretraining "" random ones for training.

    Without `use_pool1` and `num_classes`, published weights have their own, and random ones VMZ's defaults: 400 classes, and
    pool1 but for 34 layers.

    Raises ig65m.errors.UsageError for an unknown pretraining, ModelError if its weights contradict `use_pool1` or
    `num_classes`.
    """
    from ig65m.errors import ModelError, check_choice
    from ig65m.models.network import network
    from ig65m.models.spec import ResNetSpec
    from ig65m.zoo.cards import find_card

    if not pretraining:
        pool1 = depth != 34 if use_pool1 is None else use_pool1
        return network(ResNetSpec(depth, 400 if num_classes is None else num_classes, architecture=architecture, pool1=pool1))
    check_choice("pretraining", pretraining, pretrainings)
    name = f"{architecture}_{depth}_{pretrainings[pretraining]}"
    spec = find_card(name).spec
    if use_pool1 is not None and use_pool1 != spec.pool1:
        raise ModelError(
            f"{name} was trained {'without' if use_pool1 else 'with'} pool1, the max pooling after the stem: "
            f"load it with use_pool1={not use_pool1}"
        )
    return _load(name, spec.classes if num_classes is None else num_classes, True, progress)


def _load(name: str, num_classes: int, pretrained: bool, progress: bool) -> _Any:
    """Return the published weights in eval mode, or with `pretrained=False` random ones for training.

    Raises ig65m.errors.ModelError if `pretrained` weights have another number of classes.
    """
    from dataclasses import replace

    from ig65m.errors import ModelError
    from ig65m.models.network import network
    from ig65m.zoo.cards import find_card
    from ig65m.zoo.load import load_model

    spec = find_card(name).spec
    if not pretrained:
        return network(replace(spec, classes=num_classes))
    if num_classes != spec.classes:
        raise ModelError(
            f"{name} was trained on {spec.classes} classes, not {num_classes}: load it with num_classes={spec.classes} "
            "and replace its last layer `fc`, or load random weights"
        )
    return load_model(name, progress=progress)

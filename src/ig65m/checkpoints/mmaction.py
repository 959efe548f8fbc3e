"""Maps mmaction2's tensor names of CSN networks to state-dict keys, and back."""

import re
from collections.abc import Iterable

from ig65m.errors import CheckpointError, shown
from ig65m.models.spec import ResNetSpec, Spec

_BLOCK = re.compile(r"backbone\.(layer[1-4]\.[0-9]{1,3})\.(conv1|conv2\.0|conv2\.1|conv3|downsample)\.(conv|bn)\.([a-z_]+)")
_KEY = re.compile(r"(layer[1-4]\.[0-9]+)\.(conv[123]|downsample)\.([0-9.]+)\.([a-z_]+)")
_PART = {"conv": "0", "bn": "1"}
_FIXED = {"backbone.conv1.conv": "stem.0", "backbone.conv1.bn": "stem.1", "cls_head.fc_cls": "fc"}
_IP = {  # ip-CSN: module and part -> ours
    ("conv2.0", "conv"): "conv2.0.0",
    ("conv2.0", "bn"): "conv2.0.1",
    ("conv2.1", "conv"): "conv2.0.2",
    ("conv2.1", "bn"): "conv2.1",
}


def is_mmaction(names: Iterable[str]) -> bool:
    """Whether a state dict has mmaction2's names of a 3-D residual network."""
    return any(name.startswith("backbone.") for name in names)


def state_dict_keys(names: Iterable[str]) -> dict[str, str]:
    """Return {mmaction2's name: state-dict key}.

    A block's second convolution is conv2.0 in ir-CSN; in ip-CSN that is the 1x1x1 one, and conv2.1 the depthwise one.

    Raises CheckpointError naming tensors that belong to no CSN network, or are missing.
    """
    names = list(names)
    is_ip = any(".conv2.1." in name for name in names)
    blocks = [f"backbone.layer{stage}.0" for stage in (1, 2, 3, 4)]
    needed = ["backbone.conv1.conv.weight"]
    needed += [f"{block}.{part}.conv.weight" for block in blocks for part in (f"conv2.{int(is_ip)}", "conv3")]
    if any(name.startswith("cls_head.") for name in names):
        needed.append("cls_head.fc_cls.weight")
    if missing := [name for name in needed if name not in names]:
        raise CheckpointError(f"missing for a CSN network of mmaction2: {shown(missing)}")

    def key(name: str) -> str | None:
        module, _, leaf = name.rpartition(".")
        if module in _FIXED:
            return f"{_FIXED[module]}.{leaf}"
        if not (match := _BLOCK.fullmatch(name)):
            return None
        block, module, part, leaf = match.groups()
        if is_ip and (module, part) in _IP:
            return f"{block}.{_IP[module, part]}.{leaf}"
        return f"{block}.{module.removesuffix('.0')}.{_PART[part]}.{leaf}"

    keys = {name: own for name in names if (own := key(name))}
    if strange := [name for name in names if name not in keys]:
        raise CheckpointError(f"unexpected for a CSN network of mmaction2: {shown(strange)}")
    return keys


def their_name(key: str, spec: Spec) -> str:
    """Return mmaction2's name for a state-dict key."""
    module, _, leaf = key.rpartition(".")
    for theirs, ours in _FIXED.items():
        if module == ours:
            return f"{theirs}.{leaf}"
    if not (match := _KEY.fullmatch(key)) or not isinstance(spec, ResNetSpec):
        return key
    block, module, part, leaf = match.groups()
    if module == "conv2" and spec.architecture == "ip_csn":
        module, kind = next(theirs for theirs, ours in _IP.items() if ours == f"{module}.{part}")
    else:
        module, kind = ("conv2.0" if module == "conv2" else module), {"0": "conv", "1": "bn"}[part]
    return f"backbone.{block}.{module}.{kind}.{leaf}"

"""Labels and features from video with the 3-D convolutional networks of VMZ.

The names below are loaded when they are first used: `import ig65m` brings in neither torch nor an engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ig65m.tasks import classify, classify_many, extract, extract_many
    from ig65m.types import ClipPrediction, ClipSpan, Features, Frames, Label, Prediction
    from ig65m.zoo.cards import list_models
    from ig65m.zoo.load import load_model

__version__ = "0.1.0"

_HOMES = {
    "classify": "tasks",
    "classify_many": "tasks",
    "extract": "tasks",
    "extract_many": "tasks",
    "ClipPrediction": "types",
    "ClipSpan": "types",
    "Features": "types",
    "Frames": "types",
    "Label": "types",
    "Prediction": "types",
    "list_models": "zoo.cards",
    "load_model": "zoo.load",
}
__all__ = [
    "ClipPrediction",
    "ClipSpan",
    "Features",
    "Frames",
    "Label",
    "Prediction",
    "classify",
    "classify_many",
    "extract",
    "extract_many",
    "list_models",
    "load_model",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"ig65m.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'ig65m' has no attribute {name!r}")

"""Labels and features from video with the 3-D convolutional networks of VMZ.

The names in `__all__` are the public API. They are loaded when they are first used: `import ig65m` imports neither torch nor an
engine.

Example:
    >>> prediction = ig65m.classify("video.mp4", model="r2plus1d_10_camera_motion")
    >>> prediction.labels[0].label
    'static'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ig65m.collection.label_list import LabelList, read_label_list
    from ig65m.engines.base import Pooling
    from ig65m.errors import (
        CheckpointError,
        DownloadError,
        IgError,
        ModelError,
        ProofError,
        UsageError,
        VideoError,
    )
    from ig65m.models.card import Card
    from ig65m.store.features import Features
    from ig65m.store.features import load as load_features
    from ig65m.store.features import save as save_features
    from ig65m.tasks.classify import classify, classify_clips, classify_many
    from ig65m.tasks.extract import extract, extract_many
    from ig65m.tasks.extractor import Extractor
    from ig65m.tasks.motion import estimate_motion, estimate_motion_many
    from ig65m.tasks.shots import detect_shots, detect_shots_many
    from ig65m.train.dataset import ClipDataset
    from ig65m.types import (
        CameraMotion,
        Clip,
        ClipMotion,
        ClipPrediction,
        ClipSpan,
        Failure,
        Frames,
        Label,
        Limits,
        MotionSegment,
        Move,
        Prediction,
        Preprocessing,
        Segment,
        Shot,
        ShotList,
        Speeds,
    )
    from ig65m.video.clips import read_clips
    from ig65m.video.network_input import Preprocess
    from ig65m.video.sampling import Sampling
    from ig65m.zoo.cards import CARDS as cards
    from ig65m.zoo.cards import list_models
    from ig65m.zoo.load import load_model
    from ig65m.zoo.save import save_model

__version__ = "0.1.0"

_MODULES = {
    "collection.label_list": ["LabelList", "read_label_list"],
    "engines.base": ["Pooling"],
    "errors": ["CheckpointError", "DownloadError", "IgError", "ModelError", "ProofError", "UsageError", "VideoError"],
    "store.features": ["Features", "load_features", "save_features"],
    "tasks.classify": ["classify", "classify_clips", "classify_many"],
    "tasks.extract": ["extract", "extract_many"],
    "tasks.extractor": ["Extractor", "load_extractor"],
    "tasks.motion": ["estimate_motion", "estimate_motion_many"],
    "tasks.shots": ["detect_shots", "detect_shots_many"],
    "models.card": ["Card"],
    "train.dataset": ["ClipDataset"],
    "types": [
        *("CameraMotion", "Clip", "ClipMotion", "ClipPrediction", "ClipSpan", "Failure", "Frames", "Label", "Limits"),
        *("MotionSegment", "Move", "Prediction", "Preprocessing", "Segment", "Shot", "ShotList", "Speeds"),
    ],
    "video.clips": ["read_clips"],
    "video.network_input": ["Preprocess"],
    "video.sampling": ["Sampling"],
    "zoo.cards": ["cards", "list_models"],
    "zoo.load": ["load_model"],
    "zoo.save": ["save_model"],
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}
_NAMES_THERE = {"load_features": "load", "save_features": "save", "cards": "CARDS", "load_extractor": "Extractor"}

__all__ = [
    "CameraMotion",
    "Card",
    "CheckpointError",
    "Clip",
    "ClipDataset",
    "ClipMotion",
    "ClipPrediction",
    "ClipSpan",
    "DownloadError",
    "Extractor",
    "Failure",
    "Features",
    "Frames",
    "IgError",
    "Label",
    "LabelList",
    "Limits",
    "ModelError",
    "MotionSegment",
    "Move",
    "Pooling",
    "Prediction",
    "Preprocess",
    "Preprocessing",
    "ProofError",
    "Sampling",
    "Segment",
    "Shot",
    "ShotList",
    "Speeds",
    "UsageError",
    "VideoError",
    "cards",
    "classify",
    "classify_clips",
    "classify_many",
    "detect_shots",
    "detect_shots_many",
    "estimate_motion",
    "estimate_motion_many",
    "extract",
    "extract_many",
    "list_models",
    "load_features",
    "load_model",
    "read_clips",
    "read_label_list",
    "save_features",
    "save_model",
]


def home_of(name: str) -> tuple[str, str]:
    """Return the module, within the package, and the name there that a public name stands for."""
    return _HOMES[name], _NAMES_THERE.get(name, name)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        module, there = home_of(name)
        return getattr(import_module(f"ig65m.{module}"), there)
    raise AttributeError(f"module 'ig65m' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

"""Class names, one JSON array each, in the order of the networks' outputs."""

import json
from importlib import resources
from pathlib import Path

from ig65m.errors import UsageError

BUILT_IN = ("kinetics400", "camera_motion")


def built_in(name: str) -> tuple[str, ...]:
    """The labels of a data set, by its name in BUILT_IN."""
    return tuple(json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text("utf-8")))


def read_labels(source: str | Path) -> tuple[str, ...]:
    """Labels by built-in name, or from a file that holds a JSON array of strings.

    Raises UsageError if the source is neither.
    """
    if str(source) in BUILT_IN:
        return built_in(str(source))
    try:
        labels = json.loads(Path(source).read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no label file {source}; give a JSON file or one of {', '.join(BUILT_IN)}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"label file {source} cannot be read as JSON: {error}") from None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise UsageError(f"label file {source} must hold a JSON array of strings, one a class")
    return tuple(labels)

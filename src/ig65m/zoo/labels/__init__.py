"""Class names, one JSON array each, in the order of the networks' outputs."""

import json
from importlib import resources
from pathlib import Path

from ig65m.errors import UsageError

BUILT_IN = ("kinetics400", "camera_motion")
MAX_BYTES = 1 << 24  # of a label file; a hundred times what the largest lists have


def built_in(name: str) -> tuple[str, ...]:
    """The labels of a data set, by its name in BUILT_IN."""
    return tuple(json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text("utf-8")))


def read_labels(source: str | Path) -> tuple[str, ...]:
    """Labels by built-in name, or from a file that holds a JSON array of strings.

    Raises UsageError if the source is neither.
    """
    if str(source) in BUILT_IN:
        return built_in(str(source))
    either = f"give a JSON array of the classes' names, or one of {', '.join(BUILT_IN)}"
    try:
        with open(source, "rb") as file:  # noqa: PTH123 - Path("") would be the folder
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"label file {str(source)!r} cannot be read ({error.strerror}); {either}") from None
    if len(text) > MAX_BYTES:
        raise UsageError(f"label file {source} has more than {MAX_BYTES} bytes; {either}")
    try:
        labels = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"label file {source} is not JSON ({error}); {either}") from None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise UsageError(f"label file {source} holds JSON but no array of texts; {either}")
    return tuple(labels)

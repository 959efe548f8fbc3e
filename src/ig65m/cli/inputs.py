"""What the user names as inputs, checked before anything heavy is imported."""

import re
from collections.abc import Sequence
from pathlib import Path

from ig65m.atomic import check_place
from ig65m.errors import UsageError
from ig65m.types import Segment


def check_inputs(inputs: Sequence[str]) -> None:
    """Raise UsageError for a name that cannot be a local file or folder: an empty one, `-`, or a URL."""
    for name in inputs:
        if not name:
            raise UsageError("an input has no name; give a file or a folder")
        if name == "-":
            raise UsageError(
                "-: standard input is read by classify and extract only; save it to a file first (a file named - is ./-)"
            )
        if re.match(r"rtsps?://", name, re.IGNORECASE):
            raise UsageError(f"{without_password(name)} is not opened without --live, which classify and extract have")
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name):
            raise UsageError(f"{without_password(name)} is a URL; download it first, then give the file")


def without_password(url: str) -> str:
    """Return a URL without user name, password and query; only its scheme if these cannot be told from the rest."""
    parts = re.fullmatch(r"([^:]*://)(?:[^/?#@]*@)?([^@?#]*)(?:[?#][^@]*)?", url, re.DOTALL)
    return f"{url.partition('://')[0]}://..." if parts is None else parts[1] + parts[2]


def check_videos(inputs: Sequence[str]) -> None:
    """Raise UsageError as `check_inputs`, and if none of the inputs exists."""
    check_inputs(inputs)
    reasons = []
    for name in inputs:
        try:
            Path(name).stat()
            return
        except OSError as error:
            reasons.append(f"{name}: {error.strerror}")
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    raise UsageError(f"{'; '.join(reasons[:3])}{more}; expected local video files or folders of images")


def check_shots(within_shots: bool | str, videos: Sequence[Segment]) -> None:
    """Raise UsageError if the shots are those of a folder, which lacks those of a video."""
    if isinstance(within_shots, bool):
        return
    from ig65m.shots.folder import ShotFolder

    if missing := ShotFolder(within_shots).missing(videos):
        more = f"; and {len(missing) - 3:,} more" if len(missing) > 3 else ""
        raise UsageError(f"{'; '.join(missing[:3])}{more}")


def check_model_file(file: Path, model: str | None, *, overwrite: bool) -> None:
    """Raise UsageError unless a model made from `model` can be written to the file; nothing is written."""
    if file.suffix != ".safetensors":
        raise UsageError(f"{file} must end in .safetensors")
    check_place(file)
    if file.is_dir() or (model is not None and file.exists() and Path(model).exists() and file.samefile(model)):
        raise UsageError(f"{file} is {'a folder' if file.is_dir() else 'the model itself'}; choose another name")
    if file.exists() and not overwrite:
        raise UsageError(f"{file} is already there; choose another name or --overwrite")

"""Folders with a record of each video, as `ig65m shots --output` and `ig65m motion --output` write them.

COMMAND.json   the settings of the records; written first
NAME.json      record of one video: path, digest of its content, status, error, settings, results; written after its other files
"""

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final, Generic, TypeVar

from ig65m.atomic import check_place, create_file, finished_file
from ig65m.errors import UsageError, VideoError, plain
from ig65m.store.digest import content_digest
from ig65m.store.folder import differences, result_name
from ig65m.store.record_values import list_value, parsed, sha256_value, status_value, text_value
from ig65m.types import CameraMotion, Failure, Segment, ShotList, Status

FORMAT: Final = 1
LONGEST: Final = 256 << 20  # bytes of a record; two million shots

_INVALID: Final = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)

Result = TypeVar("Result", ShotList, CameraMotion)


@dataclass(frozen=True)
class Record(Generic[Result]):
    """The result of a video, and which content it belongs to."""

    result: Result
    content: str | None  # digest of the video; None if it could not be read


@dataclass(frozen=True)
class Head:
    """What records of all kinds begin with."""

    path: str
    content: str | None
    status: Status
    error: Failure | None


@dataclass(frozen=True)
class Kind(Generic[Result]):
    """What a command finds in videos, and how its folders keep it."""

    command: str  # of ig65m
    noun: str  # what it finds; messages read "its NOUN FOUND"
    found: str
    check_settings: Callable[[Any], dict[str, Any]]  # raises ValueError, LookupError or TypeError if they are invalid
    to_json: Callable[[Record[Result]], str]
    from_json: Callable[[str], Record[Result]]  # raises ValueError, LookupError or TypeError if the text is invalid
    suffixes: tuple[str, ...] = ()  # of the files without which a record is incomplete

    @property
    def settings_file(self) -> str:
        """Name of the file of the settings."""
        return f"{self.command}.json"


class RecordWriter(Generic[Result]):
    """A folder of records, open for writing. Several processes may write at the same time."""

    def __init__(self, folder: Path, kind: Kind[Result], settings: Mapping[str, Any], *, image_fps: float) -> None:
        """Create or open the folder.

        settings: what found the results. image_fps: rate of folders of images, whose times depend on it.

        Raises UsageError, naming the differences, if it holds records of other settings, and for a folder of anything else.
        """
        path = folder / kind.settings_file
        check_place(path)
        self.folder = folder
        self.kind: Kind[Result] = kind
        self.settings: dict[str, Any] = kind.check_settings(settings)
        wanted = {"format": FORMAT, **self.settings, "image_fps": image_fps}
        if not path.exists():
            if folder.exists() and any(not each.name.startswith(".") for each in folder.iterdir()):
                raise UsageError(f"{folder} is not empty, and not a folder of {kind.noun}; choose another folder")
            create_file(path, json.dumps(wanted, allow_nan=False) + "\n")
        if different := list(differences(_read_settings(folder, kind), wanted)):
            reasons = "; ".join(different)
            raise UsageError(f"{folder} holds {kind.noun} of other settings ({reasons}); use those, or another folder")

    def file(self, video: Segment, suffix: str) -> Path:
        """Return the path of one of a video's files, whether it exists or not."""
        return self.folder / f"{result_name(video)}{suffix}"

    def done(self, video: Segment, content: str | None) -> Result | None:
        """Return the result of a video with that content if it is complete; None if the work must be done."""
        try:
            record = read_record(self.file(video, ".json"), self.kind)
        except UsageError:
            return None
        if record is None or content is None or record.content != content or record.result.status != "ok":
            return None
        complete = all(self.file(video, suffix).exists() for suffix in self.kind.suffixes)
        return record.result if complete and record.result.settings == self.settings else None

    def write_record(self, video: Segment, content: str | None, result: Result) -> None:
        """Write the record of a video, complete or not at all."""
        record = Record(replace(result, settings=self.settings), content)
        write_text(self.file(video, ".json"), self.kind.to_json(record))


class RecordReader(Generic[Result]):
    """A folder of records, open for reading."""

    def __init__(self, folder: str | os.PathLike[str], kind: Kind[Result]) -> None:
        """Open the folder. Raises UsageError if it is not a folder of that kind."""
        self.folder = Path(folder)
        self.kind: Kind[Result] = kind
        self.settings = read_settings(folder, kind)
        self._files: dict[str, Path] | None = None  # of records, by the digest of the content

    def read(self, video: str | os.PathLike[str] | Segment) -> Result:
        """Return the result of a whole video, also for a part of it. It is looked up by its path, otherwise by its content.

        Raises:
            UsageError: The folder has no record of this video, it is damaged, or the video has changed since.
            VideoError: The video cannot be read, or it could not be read when the folder was written.
        """
        path = video.path if isinstance(video, Segment) else os.fspath(video)
        noun, command = self.kind.noun, self.command(path)
        content = _content(path)
        file = self.folder / f"{result_name(Segment(os.path.abspath(path)))}.json"  # noqa: PTH100 - links stay links
        named: Record[Result] | None = read_record(file, self.kind)
        record = named if named is not None and named.content == content else self._of_content(content)
        if record is None:
            changed = f"it has changed since its {noun} {self.kind.found}"
            state = f"{self.folder} has no {noun} of it" if named is None else changed
            raise UsageError(f"{path}: {state}; {command}")
        result = record.result
        if different := "; ".join(differences(result.settings, self.settings)):
            raise UsageError(
                f"{path}: its {noun} {self.kind.found} with other settings than {self.folder} ({different}); {command}"
            )
        if result.status == "failed":
            message = "" if result.error is None else f" ({plain(result.error.message)})"
            raise VideoError(f"{path}: finding its {noun} failed{message}; {command}")
        return replace(result, path=path)

    def command(self, path: str) -> str:
        """Say how to find the result of a video."""
        return f"run `ig65m {self.kind.command} {shlex.quote(path)} --output {shlex.quote(str(self.folder))}`"

    def _of_content(self, content: str) -> Record[Result] | None:
        if self._files is None:
            complete: dict[str, Path] = {}
            others: dict[str, Path] = {}
            for file, each in records(self.folder, self.kind):
                if each.content is not None:
                    (complete if each.result.status == "ok" else others)[each.content] = file
            self._files = others | complete
        record = read_record(self._files[content], self.kind) if content in self._files else None
        return record if record is not None and record.content == content else None


def read_settings(folder: str | os.PathLike[str], kind: Kind[Result]) -> dict[str, Any]:
    """Return what found the results in a folder. Raises UsageError if it is not a folder of that kind."""
    return kind.check_settings(_own(_read_settings(Path(folder), kind)))


def records(folder: Path, kind: Kind[Result]) -> Iterator[tuple[Path, Record[Result]]]:
    """Yield each record of a folder with its file, in order of names; damaged ones are left out."""
    for file in sorted(folder.glob("*.json")):
        try:
            record = None if file.name == kind.settings_file else read_record(file, kind)
        except UsageError:
            continue
        if record is not None:
            yield file, record


def read_record(file: Path, kind: Kind[Result]) -> Record[Result] | None:
    """Read a record; None if there is none. Raises UsageError if it is damaged."""
    text = _text_of(file, kind.command)
    try:
        return None if text is None else kind.from_json(text)
    except _INVALID as error:
        raise UsageError(f"{file} is damaged ({plain(error)}); remove it and run `ig65m {kind.command}` again") from None


def record_text(record: Record[Result], values: Mapping[str, Any], lists: Mapping[str, list[Any]]) -> str:
    """Return the JSON of a record: its head, values of its kind, and lists with a line for each item."""
    result = record.result
    head = {
        "path": result.path,
        "content": record.content,
        "status": result.status,
        "error": None if result.error is None else result.error.to_record(),
        "settings": dict(result.settings),
        **values,
    }
    parts = [json.dumps(head, allow_nan=False)[1:-1]]
    for name, items in lists.items():
        lines = ",\n".join(f"  {json.dumps(item, allow_nan=False)}" for item in items)
        parts.append(f"{json.dumps(name)}: [\n{lines}\n]")
    return f"{{{', '.join(parts)}}}\n"


def record_head(text: str, *lists: str) -> tuple[dict[str, Any], Head]:
    """Parse a record with these lists. Raises ValueError, LookupError, TypeError or RecursionError if it is invalid."""
    values = parsed(text)
    status, error = status_value(values["status"], values["error"])
    content = None if values["content"] is None else sha256_value(values["content"])
    for name in lists:
        list_value(values[name])
    return values, Head(text_value(values["path"]), content, status, error)


def write_text(file: Path, text: str) -> None:
    """Write a file, complete or not at all."""
    with finished_file(file) as temporary:
        temporary.write_text(text, "utf-8")


def _read_settings(folder: Path, kind: Kind[Result]) -> dict[str, Any]:
    path = folder / kind.settings_file
    text = _text_of(path, kind.command)
    if text is None:
        command = f"`ig65m {kind.command} --output`"
        raise UsageError(f"{folder} is not a folder of {kind.noun} of {command}: it has no {kind.settings_file}")
    try:
        settings: dict[str, Any] = json.loads(text)
        if settings["format"] != FORMAT:
            raise ValueError(f"unknown format {settings['format']!r:.80}")
        return {**settings, **kind.check_settings(_own(settings))}
    except _INVALID as error:
        raise UsageError(
            f"{path} is damaged, or of another version ({plain(error)}); find the {kind.noun} in another folder"
        ) from None


def _own(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the results, without those of the folder."""
    return {key: value for key, value in settings.items() if key not in ("format", "image_fps")}


def _text_of(file: Path, command: str) -> str | None:
    """Read a file; None if there is none. Raises UsageError if it is not a file of at most LONGEST bytes of text."""
    again = f"remove it and run `ig65m {command}` again"
    try:
        state = file.stat()
        if not S_ISREG(state.st_mode) or state.st_size > LONGEST:
            raise UsageError(f"{file} is not a file of at most {LONGEST:,} bytes; {again}")
        return file.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is damaged ({error}); {again}") from None


def _content(path: str) -> str:
    try:
        return content_digest(Path(path))
    except OSError as error:
        raise VideoError(f"{path}: {error.strerror}; check the path") from None

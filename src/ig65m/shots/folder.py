"""A folder of shots, as `ig65m shots --output FOLDER` writes it.

shots.json   the settings that found the shots; written first
NAME.json    record of one video: path, digest of its content, status, error, settings, shots; written after the other two
NAME.csv     its shots for PySceneDetect
NAME.edl     its shots for editing tools
"""

import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final

from ig65m.atomic import check_place, create_file, finished_file
from ig65m.errors import UsageError, VideoError, plain
from ig65m.shots.edl import edit_list
from ig65m.shots.record import LONGEST, Record, check_settings
from ig65m.shots.scene_list import scene_list
from ig65m.store.digest import content_digest
from ig65m.store.folder import differences, result_name
from ig65m.types import Segment, ShotList

FORMAT: Final = 1
SETTINGS: Final = "shots.json"

_INVALID: Final = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


class ShotWriter:
    """A folder of shots, open for writing. Several processes may write at the same time."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, image_fps: float = 25.0) -> None:
        """Create or open the folder.

        settings: network, sha256 of its weights, threshold. image_fps: rate of folders of images, whose times depend on it.

        Raises UsageError, naming the differences, if it holds shots of other settings, and for a folder of anything else.
        """
        path = folder / SETTINGS
        check_place(path)
        self.folder = folder
        self.settings: dict[str, Any] = check_settings(settings)
        wanted = {"format": FORMAT, **self.settings, "image_fps": image_fps}
        if not path.exists():
            if folder.exists() and any(not each.name.startswith(".") for each in folder.iterdir()):
                raise UsageError(f"{folder} is not empty, and not a folder of shots; choose another folder")
            create_file(path, json.dumps(wanted, allow_nan=False) + "\n")
        if different := list(differences(_read_settings(folder), wanted)):
            raise UsageError(f"{folder} holds shots of other settings ({'; '.join(different)}); use those, or another folder")

    def file(self, video: Segment, suffix: str) -> Path:
        """Return the path of one of a video's files, whether it exists or not."""
        return self.folder / f"{result_name(video)}{suffix}"

    def done(self, video: Segment, content: str | None) -> ShotList | None:
        """Return the shots of a video with that content if they are complete; None if they must be found."""
        try:
            record = _read(self.file(video, ".json"))
        except UsageError:
            return None
        if record is None or content is None or record.content != content or record.shots.status != "ok":
            return None
        complete = record.shots.settings == self.settings and all(
            self.file(video, suffix).exists() for suffix in (".csv", ".edl")
        )
        return record.shots if complete else None

    def write(self, video: Segment, content: str | None, shots: ShotList) -> None:
        """Write the files of a video, each complete or not at all. A video that failed has a record only."""
        texts = {".csv": scene_list(shots), ".edl": edit_list(shots)}
        for suffix, text in texts.items():
            if shots.status == "failed":
                self.file(video, suffix).unlink(missing_ok=True)
            else:
                _write(self.file(video, suffix), text)
        _write(self.file(video, ".json"), Record(replace(shots, settings=self.settings), content).to_json())


class ShotFolder:
    """A folder of shots, open for reading."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open the folder. Raises UsageError if it is not a folder of shots."""
        self.folder = Path(folder)
        self.settings = read_settings(self.folder)
        self._files: dict[str, Path] | None = None  # of records, by the digest of the content

    def read(self, video: str | os.PathLike[str] | Segment) -> ShotList:
        """Return the shots of a whole video, also for a part of it. It is looked up by its path, otherwise by its content.

        Raises:
            UsageError: The folder has no shots of this video, they are damaged, or the video has changed since.
            VideoError: The video cannot be read, or its shots could not be found.
        """
        path = video.path if isinstance(video, Segment) else os.fspath(video)
        content = _content(path)
        command = self.command(path)
        file = self.folder / f"{result_name(Segment(os.path.abspath(path)))}.json"  # noqa: PTH100 - links stay links
        named = record = _read(file)
        if record is None or record.content != content:
            record = self._of_content(content)
        if record is None:
            state = f"{self.folder} has no shots of it" if named is None else "it has changed since its shots were found"
            raise UsageError(f"{path}: {state}; {command}")
        shots = record.shots
        if different := "; ".join(differences(shots.settings, self.settings)):
            raise UsageError(f"{path}: its shots have other settings than {self.folder} ({different}); {command}")
        if shots.status == "failed":
            message = "" if shots.error is None else f" ({plain(shots.error.message)})"
            raise VideoError(f"{path}: finding its shots failed{message}; {command}")
        return replace(shots, path=path)

    def command(self, path: str) -> str:
        """Say how to find the shots of a video."""
        return f"run `ig65m shots {shlex.quote(path)} --output {shlex.quote(str(self.folder))}`"

    def missing(self, videos: Iterable[Segment]) -> list[str]:
        """Return why the shots of each of these videos cannot be used; a video that cannot be read is left to the reader."""
        reasons = []
        for video in videos:
            try:
                if video.start is not None or video.end is not None:
                    raise UsageError(f"{video}: the shots in {self.folder} are those of whole videos; give the whole video")
                self.read(video)
            except UsageError as error:
                reasons.append(str(error))
            except VideoError:
                continue
        return reasons

    def _of_content(self, content: str) -> Record | None:
        if self._files is None:
            found = sorted(_contents(self.folder), key=lambda each: each[2])  # a complete one comes last
            self._files = {content: file for content, file, _ in found}
        record = _read(self._files[content]) if content in self._files else None
        return record if record is not None and record.content == content else None


def read_settings(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what found the shots of a folder: network, sha256 of its weights, threshold. Raises UsageError if it is none."""
    settings = _read_settings(Path(folder))
    return {key: settings[key] for key in ("network", "sha256", "threshold")}


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    text = _text_of(path)
    if text is None:
        raise UsageError(f"{folder} is not a folder of shots of `ig65m shots --output`: it has no {SETTINGS}")
    try:
        settings: dict[str, Any] = json.loads(text)
        if settings["format"] != FORMAT:
            raise ValueError(f"unknown format {settings['format']!r:.80}")
        return {**settings, **check_settings(settings)}
    except _INVALID as error:
        raise UsageError(
            f"{path} is damaged, or of another version ({plain(error)}); find the shots in another folder"
        ) from None


def _read(file: Path) -> Record | None:
    """Read a record; None if there is none. Raises UsageError if it is damaged."""
    text = _text_of(file)
    try:
        return None if text is None else Record.from_json(text)
    except _INVALID as error:
        raise UsageError(f"{file} is damaged ({plain(error)}); remove it and run `ig65m shots` again") from None


def _text_of(file: Path) -> str | None:
    """Read a file; None if there is none. Raises UsageError if it is not a file of at most LONGEST bytes of text."""
    try:
        state = file.stat()
        if not S_ISREG(state.st_mode) or state.st_size > LONGEST:
            raise UsageError(f"{file} is not a file of at most {LONGEST:,} bytes; remove it and run `ig65m shots` again")
        return file.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is damaged ({error}); remove it and run `ig65m shots` again") from None


def _contents(folder: Path) -> Iterator[tuple[str, Path, bool]]:
    """Yield content and file of each record, and whether it is complete; damaged ones are left out."""
    for file in sorted(folder.glob("*.json")):
        try:
            record = None if file.name == SETTINGS else _read(file)
        except UsageError:
            continue
        if record is not None and record.content is not None:
            yield record.content, file, record.shots.status == "ok"


def _content(path: str) -> str:
    try:
        return content_digest(Path(path))
    except OSError as error:
        raise VideoError(f"{path}: {error.strerror}; check the path") from None


def _write(file: Path, text: str) -> None:
    with finished_file(file) as temporary:
        temporary.write_text(text, "utf-8")

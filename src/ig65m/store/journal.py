"""The journal of a folder of features: a line for each video that was done, appended whole, on the disk when it counts."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from ig65m.errors import UsageError, check_choice, check_name
from ig65m.types import Failure, Segment, Status


@dataclass(frozen=True)
class Entry:
    """What became of a video.

    name: of the result, without its suffix. content: the digest of what the video was, None if it could not be read. clips:
    rows in the result. size, sha256: of the result's file; None if there is none, for the video failed.
    """

    name: str
    video: Segment
    content: str | None
    status: Status
    clips: int
    size: int | None
    sha256: str | None
    error: Failure | None

    def to_json(self) -> str:
        """One line, without its end."""
        record = asdict(self) | {"error": None if self.error is None else self.error.to_record()}
        video = record.pop("video")
        parts = {key: value for key, value in video.items() if key != "path" and value is not None}
        return json.dumps({"name": record.pop("name"), "path": video["path"], **parts, **record})

    @staticmethod
    def from_json(line: str) -> "Entry":
        """The entry of a line. Raises ValueError, LookupError or TypeError if it is none."""
        record = json.loads(line)
        check_name("the name of a result", record["name"], ".parquet")
        check_choice("status", record["status"], get_args(Status))
        if type(record["clips"]) is not int or record["clips"] < 0:
            raise ValueError(f"clips must be a number from 0 on, got {record['clips']!r:.40}")
        if (record["sha256"] is None) != (record["size"] is None) or not _is_digest(record["sha256"]):
            raise ValueError(
                f"size and sha256 must be those of a file, got {record['size']!r:.40} and {record['sha256']!r:.80}"
            )
        starts = record.pop("starts", None)
        parts = {key: record.pop(key, None) for key in ("start", "end")}
        video = Segment(record.pop("path"), **parts, starts=None if starts is None else tuple(starts))
        error = record.pop("error")
        return Entry(video=video, error=None if error is None else Failure.from_record(error), **record)


def _is_digest(sha256: object) -> bool:
    return sha256 is None or (isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256) is not None)


class Journal:
    """The file. Whoever appends or reads holds a lock on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self.read = 0  # bytes that were read
        self.lines = 0

    def news(self) -> Iterator[Entry]:
        """The entries since the last call. Half a line at the end, from somebody who was killed, is cut off.

        Raises UsageError if a line is no entry.
        """
        size = os.fstat(self.file).st_size
        data = b""
        while self.read + len(data) < size:
            data += os.pread(self.file, size - self.read - len(data), self.read + len(data))
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.ftruncate(self.file, self.read + len(whole))
        self.read += len(whole)
        for line in whole.splitlines():
            self.lines += 1
            try:
                yield Entry.from_json(line.decode())
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                raise UsageError(f"{self.path}, line {self.lines}: not what is written there ({error}); remove it") from None

    def append(self, entry: Entry) -> None:
        """Return when the disk has it. All before it must have been read."""
        line = entry.to_json().encode() + b"\n"
        written = 0
        try:
            while written < len(line):
                written += os.write(self.file, line[written:])
            os.fsync(self.file)
        except OSError as error:
            error.filename = str(self.path)
            os.ftruncate(self.file, self.read)
            raise
        self.read += len(line)
        self.lines += 1

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.file)

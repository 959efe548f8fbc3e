"""Journal of a folder of features: a line for each video that was processed, appended durably."""

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
    """What became of a video: a line of the journal."""

    name: str  # of the result, without suffix
    video: Segment
    content: str | None  # digest of the video; None if it could not be read
    status: Status
    clips: int  # rows in the result
    size: int | None  # bytes of the result's file; None if the video failed
    sha256: str | None  # of the result's file; None if the video failed
    error: Failure | None

    def to_json(self) -> str:
        """Return the line, without its newline."""
        record = asdict(self) | {"error": None if self.error is None else self.error.to_record()}
        video = record.pop("video")
        parts = {key: value for key, value in video.items() if key != "path" and value is not None}
        return json.dumps({"name": record.pop("name"), "path": video["path"], **parts, **record})

    @staticmethod
    def from_json(line: str) -> "Entry":
        """Parse a line. Raises ValueError, LookupError or TypeError if it is invalid."""
        record = json.loads(line)
        check_name("the name of a result", record["name"], ".parquet")
        check_choice("status", record["status"], get_args(Status))
        if type(record["clips"]) is not int or record["clips"] < 0:
            raise ValueError(f"clips must be a non-negative number, got {record['clips']!r:.40}")
        if (record["sha256"] is None) != (record["size"] is None) or not _is_digest(record["sha256"]):
            raise ValueError(
                f"size and sha256 must both be given, or neither; got {record['size']!r:.40} and {record['sha256']!r:.80}"
            )
        starts = record.pop("starts", None)
        parts = {key: record.pop(key, None) for key in ("start", "end")}
        video = Segment(record.pop("path"), **parts, starts=None if starts is None else tuple(starts))
        error = record.pop("error")
        return Entry(video=video, error=None if error is None else Failure.from_record(error), **record)


def _is_digest(sha256: object) -> bool:
    return sha256 is None or (isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256) is not None)


class Journal:
    """The journal's file. The caller holds a lock on it to read or append."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self.read = 0  # bytes read so far
        self.lines = 0

    def news(self) -> Iterator[Entry]:
        """Yield the entries since the last call. An incomplete line at the end, of a killed process, is cut off.

        Raises UsageError for an invalid line.
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
                raise UsageError(f"{self.path}, line {self.lines}: invalid entry ({error}); remove the line") from None

    def append(self, entry: Entry) -> None:
        """Append an entry durably. All lines before it must have been read."""
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
        """Close the file."""
        os.close(self.file)

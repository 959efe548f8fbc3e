"""A folder of camera motion, as `ig65m motion --output FOLDER` writes it.

motion.json     the settings that found the motion; written first
NAME.json       record of one video: path, digest of its content, status, error, settings, segments, clips; written last
NAME.png        its curves, if matplotlib is installed
clips.parquet   the clips of all videos, a row for each; written at the end of a run
clips.jsonl     the same rows as JSON
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, Final

from ig65m.atomic import finished_file
from ig65m.motion.record import MOTION, PROBABILITIES, SPEEDS, clip_row
from ig65m.store.locks import Locks
from ig65m.store.record_folder import RecordReader, RecordWriter, records
from ig65m.types import CameraMotion, Segment

_ROWS: Final = 1 << 16  # of a row group
_LOCKS: Final = ".locks"


class MotionWriter(RecordWriter[CameraMotion]):
    """A folder of camera motion, open for writing. Several processes may write at the same time."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, image_fps: float = 25.0, pictures: bool = True) -> None:
        """Create or open the folder; arguments and errors are those of `RecordWriter`.

        settings: network, sha256 of its weights. pictures: whether to draw curves, with matplotlib of the extra `explain`.
        """
        super().__init__(folder, MOTION, settings, image_fps=image_fps)
        self.pictures = pictures

    def write(self, video: Segment, content: str | None, motion: CameraMotion) -> None:
        """Write the files of a video, each complete or not at all. A video that failed has a record only."""
        self.file(video, ".png").unlink(missing_ok=True)
        self.draw(video, motion)
        self.write_record(video, content, motion)

    def draw(self, video: Segment, motion: CameraMotion) -> None:
        """Draw the picture of a video unless it is there, or the video has no clips, or pictures are not wanted."""
        file = self.file(video, ".png")
        if self.pictures and motion.clips and not file.exists():
            from ig65m.motion.picture import draw_motion

            draw_motion(motion, file, title=Path(video.path).name)

    def finish(self) -> None:
        """Rewrite the tables of clips from all records of the folder, in order of their names."""
        locks = Locks(self.folder / _LOCKS)
        try:
            locks.take("tables", wait=True)
            _write_tables(self.folder, self._rows())
        finally:
            locks.close()

    def _rows(self) -> Iterator[dict[str, Any]]:
        for _, record in records(self.folder, MOTION):
            if record.result.settings == self.settings:
                yield from (clip_row(record.result.path, clip) for clip in record.result.clips)


class MotionFolder(RecordReader[CameraMotion]):
    """A folder of camera motion, open for reading."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open the folder. Raises UsageError if it is not a folder of camera motion."""
        super().__init__(folder, MOTION)


def _write_tables(folder: Path, rows: Iterator[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    with ExitStack() as stack:
        table = stack.enter_context(finished_file(folder / "clips.parquet"))
        lines = stack.enter_context(finished_file(folder / "clips.jsonl"))
        parquet = stack.enter_context(pq.ParquetWriter(str(table), schema))
        text = stack.enter_context(lines.open("w", encoding="utf-8"))
        while some := list(islice(rows, _ROWS)):
            text.writelines(f"{json.dumps(row, allow_nan=False)}\n" for row in some)
            parquet.write_table(pa.Table.from_pylist([row | {"path": _utf8(row["path"])} for row in some], schema))


def _schema() -> Any:
    import pyarrow as pa

    numbers = ("start", "end", *SPEEDS, *(f"sigma_{name}" for name in SPEEDS), *PROBABILITIES)
    fields = [("path", pa.string()), *((name, pa.float64()) for name in numbers), ("label", pa.string())]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields])


def _utf8(text: str) -> str:
    """Names of files may not be UTF-8; Parquet's texts are."""
    return text.encode(errors="backslashreplace").decode()

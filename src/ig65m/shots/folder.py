"""A folder of shots, as `ig65m shots --output FOLDER` writes it.

shots.json   the settings that found the shots; written first
NAME.json    record of one video: path, digest of its content, status, error, settings, shots; written after the other two
NAME.csv     its shots for PySceneDetect
NAME.edl     its shots for editing tools
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ig65m.errors import UsageError, VideoError
from ig65m.shots.edl import edit_list
from ig65m.shots.record import SHOTS
from ig65m.shots.scene_list import scene_list
from ig65m.store import record_folder
from ig65m.store.record_folder import RecordReader, RecordWriter, write_text
from ig65m.types import Segment, ShotList


class ShotWriter(RecordWriter[ShotList]):
    """A folder of shots, open for writing. Several processes may write at the same time."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, image_fps: float = 25.0) -> None:
        """Create or open the folder; arguments and errors are those of `RecordWriter`.

        settings: network, sha256 of its weights, threshold.
        """
        super().__init__(folder, SHOTS, settings, image_fps=image_fps)

    def write(self, video: Segment, content: str | None, shots: ShotList) -> None:
        """Write the files of a video, each complete or not at all. A video that failed has a record only."""
        texts = {".csv": scene_list(shots), ".edl": edit_list(shots)}
        for suffix, text in texts.items():
            if shots.status == "failed":
                self.file(video, suffix).unlink(missing_ok=True)
            else:
                write_text(self.file(video, suffix), text)
        self.write_record(video, content, shots)


class ShotFolder(RecordReader[ShotList]):
    """A folder of shots, open for reading."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open the folder. Raises UsageError if it is not a folder of shots."""
        super().__init__(folder, SHOTS)

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


def read_settings(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what found the shots of a folder: network, sha256 of its weights, threshold. Raises UsageError if it is none."""
    return record_folder.read_settings(folder, SHOTS)

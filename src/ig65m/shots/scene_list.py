"""The CSV of PySceneDetect's command list-scenes, which its command load-scenes reads."""

import csv
import io
from typing import Final

from ig65m.types import ShotList

HEADER: Final = (
    "Scene Number",
    "Start Frame",
    "Start Timecode",
    "Start Time (seconds)",
    "End Frame",
    "End Timecode",
    "End Time (seconds)",
    "Length (frames)",
    "Length (timecode)",
    "Length (seconds)",
)


def scene_list(shots: ShotList) -> str:
    """Return the text of the CSV: a line with the start of each scene after the first, the header, and a row for each scene.

    Scenes and frames count from 1, and time counts from the first frame of the video, as in PySceneDetect. Times are the true
    ones, also at a variable rate, at which PySceneDetect itself estimates the numbers of frames. Frames within a transition
    that belong to no shot are in no scene.
    """
    zero = time_of_first_frame(shots)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["Timecode List:", *(_timecode(shot.start - zero) for shot in shots.shots[1:])])
    rows.writerow(HEADER)
    for number, shot in enumerate(shots.shots, 1):
        start, end, length = shot.start - zero, shot.end - zero, shot.end - shot.start
        rows.writerow(
            [
                *(number, shot.first_frame + 1, _timecode(start), f"{start:.3f}"),
                *(shot.last_frame + 1, _timecode(end), f"{end:.3f}"),
                *(shot.last_frame + 1 - shot.first_frame, _timecode(length), f"{length:.3f}"),
            ]
        )
    return text.getvalue()


def time_of_first_frame(shots: ShotList) -> float:
    """Presentation time of the video's first frame, in seconds.

    If the video begins within a transition, the time before the first shot is estimated from the mean rate.
    """
    if not shots.shots:
        return 0.0
    first = shots.shots[0]
    return first.start - (first.first_frame / shots.fps if first.first_frame else 0)


def _timecode(seconds: float) -> str:
    """Format seconds as HH:MM:SS.nnn."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"

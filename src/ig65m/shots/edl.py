"""Edit decision list (EDL) in the format CMX 3600, which editing tools read."""

from pathlib import Path
from typing import Final

from ig65m.errors import plain
from ig65m.shots.scene_list import time_of_first_frame
from ig65m.types import ShotList

_RATES: Final = (24, 25, 30, 48, 50, 60)  # of timecodes, in frames a second, as editing tools offer them
_NTSC: Final = 1.001  # 30 frames of timecode last 1.001 seconds at 29.97 frames a second


def edit_list(shots: ShotList) -> str:
    """Return the text of an EDL with an event for each shot.

    - Timecodes count from the first frame of the video, as in editing tools, whatever its presentation time. They follow from
      presentation times, so that they are right at a variable rate. They are at the rate of `timecode_rate`, which an EDL does
      not state: the timeline that it is read into must have that rate.
    - Record timecodes equal source timecodes, so that the timeline stays in step with the video's sound.
    - Each event is a cut. Frames within a transition that belong to no shot are in no event: they leave a gap in the timeline.
    - A shot that is shorter than a frame of timecode gets one frame.
    """
    name = plain(Path(shots.path).name)
    lines = [f"TITLE: {plain(Path(shots.path).stem, 60)}", "FCM: NON-DROP FRAME"]
    nominal, exact = timecode_rate(shots.fps)
    zero = time_of_first_frame(shots)
    reached = 0
    for number, shot in enumerate(shots.shots, 1):
        first = max(reached, round((shot.start - zero) * exact))
        reached = max(first + 1, round((shot.end - zero) * exact))
        part = f"{_timecode(first, nominal)} {_timecode(reached, nominal)}"
        lines += [f"{number:03}  AX       V     C        {part} {part}", f"* FROM CLIP NAME:  {name}"]
    return "\n".join(lines) + "\n"


def timecode_rate(fps: float) -> tuple[int, float]:
    """Return the rate of timecodes for a video: nominal, and frames that really pass in a second.

    The nominal rate is the mean rate of the video, rounded to one that editing tools offer; preferably to a multiple or a
    fraction of it, such as 30 for 15. At 29.97 frames a second (also 23.976, 59.94) timecodes count the frames, 30 to a second
    of timecode: without dropped numbers, they lag behind the clock by 3.6 seconds an hour.
    """
    if not fps:
        return _RATES[0], _RATES[0]
    nominal = min(_RATES, key=lambda rate: (not 0.99 < rate / _nearest_multiple(fps, rate) < 1.01, abs(rate - fps)))
    is_ntsc = abs(_nearest_multiple(fps, nominal) * _NTSC / nominal - 1) < (_NTSC - 1) / 2  # nearer to it than to nominal
    return nominal, nominal / _NTSC if is_ntsc else nominal


def _nearest_multiple(fps: float, rate: int) -> float:
    """Return the multiple or fraction of a rate that is nearest to another rate."""
    return fps * round(rate / fps) if fps < rate else fps / round(fps / rate)


def _timecode(frame: int, rate: int) -> str:
    seconds, frames = divmod(frame, rate)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{frames:02}"

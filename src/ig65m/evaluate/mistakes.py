"""The surest mistakes, with a picture of each."""

from base64 import b64encode
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ig65m.errors import IgError
from ig65m.evaluate.results import Result, Results
from ig65m.types import ClipSpan, Limits
from ig65m.video.isolation import Decoder
from ig65m.video.jobs import View
from ig65m.video.jpeg import encode_jpeg

MOST: Final = 24
EDGE: Final = 240  # longer edge of a thumbnail in pixels


@dataclass(frozen=True)
class Mistake:
    """An example whose highest score is that of a wrong class."""

    result: Result
    span: ClipSpan  # of the clip with the highest score of that class
    picture: str | None  # its middle as a data: URI of a JPEG; None if it cannot be read


def surest_mistakes(
    results: Results, *, image_fps: float, limits: Limits, in_process: bool = False, most: int = MOST
) -> list[Mistake]:
    """Return the mistakes with the highest scores, the surest first."""
    wrong = [result for result in results.scored if result.predicted not in result.targets]
    wrong.sort(key=lambda result: -float(result.scores[result.predicted]))
    found: list[Mistake] = []
    with nullcontext() if in_process else Decoder(limits) as decoder:
        for result in wrong[:most]:
            span = result.spans[int(result.clips[:, result.predicted].argmax())]
            view = View((span.start + span.end) / 2, EDGE)
            try:
                path = Path(result.example.video.path)
                picture = _picture(decoder, path, view, image_fps, limits)
            except (IgError, OSError):
                found.append(Mistake(result, span, None))  # the report says so
            else:
                data = b64encode(encode_jpeg(picture)).decode()
                found.append(Mistake(result, span, f"data:image/jpeg;base64,{data}"))
    return found


def _picture(decoder: Decoder | None, path: Path, view: View, image_fps: float, limits: Limits) -> NDArray[np.uint8]:
    if decoder is not None:
        return decoder.read_picture(path, view, image_fps=image_fps)
    from ig65m.video.thumbnail import read_picture

    return read_picture(path, view, image_fps=image_fps, limits=limits)

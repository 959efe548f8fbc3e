"""Results of a stream, printed clip by clip: lines of text or of JSON."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ig65m.cli.options import NO_LABEL, WORTH_PRINTING
from ig65m.cli.progress import say_failure
from ig65m.cli.signals import finishing
from ig65m.cli.terminal import printable, say
from ig65m.types import ClipPrediction, Label, Limits

if TYPE_CHECKING:
    from ig65m.tasks.follow import Followed
    from ig65m.video.stream import Stream

SAY_EVERY = 10.0  # seconds between two messages about dropped clips


def follow_options(options: dict[str, Any], crops: int = 1) -> dict[str, Any]:
    """Return the options of a run that follows: no batch waits for clips, and by default no number of frames is the end."""
    limits = options["limits"]
    if limits.frames == Limits().frames:
        limits = replace(limits, frames=sys.maxsize)
    return {**options, "limits": limits, "batch_size": min(options["batch_size"] or crops, crops)}


class Printer:
    """Prints the clips of a stream on stdout as they come, and what happens to it on stderr."""

    def __init__(self, stream: "Stream", followed: "Followed") -> None:
        self.stream, self.followed = stream, followed
        self._breaks = self._dropped = 0
        self._said = -SAY_EVERY

    def news(self, line: str) -> None:
        """Print a line about the connection."""
        say(f"ig65m: {self.stream}: {line}")

    def lines(self, lines: Callable[[Callable[[], bool]], Iterable[str]], last: Callable[[], str | None]) -> bool:
        """Print the lines of the clips, flushed one by one, and the last line; return whether all is well.

        `lines` gets a function that returns whether to stop. KeyboardInterrupt is raised at the end if a signal came.
        """
        with finishing() as stopping:
            for line in lines(stopping):
                self._say_changes()
                print(line, flush=True)
            self._say_changes(at_end=True)
            if (end := last()) is not None:
                print(end, flush=True)
        return self.followed.status == "ok"

    def _say_changes(self, *, at_end: bool = False) -> None:
        followed = self.followed
        if followed.breaks > self._breaks:
            self._breaks = followed.breaks
            say(f"ig65m: {self.stream}: another recording starts; its clips begin anew")
        now = time.monotonic()
        if followed.dropped > self._dropped and now - self._said >= SAY_EVERY and not at_end:
            self._dropped, self._said = followed.dropped, now
            say(
                f"ig65m: {self.stream}: {followed.dropped:,} clips dropped up to now, since the network is slower than the "
                "stream; a larger --stride or a smaller model keeps up"
            )
        if at_end:
            until = "" if followed.reached is None else f", until {followed.reached:.2f} s"
            breaks = f", {followed.breaks:,} new starts" if followed.breaks else ""
            say(f"ig65m: {self.stream}: {followed.clips:,} clips, {followed.dropped:,} dropped{breaks}{until}")
            if followed.error is not None:
                say_failure(followed.status, followed.error)


def print_labels(stream: "Stream", arguments: dict[str, Any], *, as_json: bool) -> bool:
    """Follow a stream with a classifier; return whether all is well."""
    from ig65m.tasks.classify import LabelFollower
    from ig65m.tasks.follow import Followed

    follower, followed = LabelFollower(arguments), Followed()
    printer = Printer(stream, followed)

    def lines(stopping: Callable[[], bool]) -> Iterator[str]:
        with closing(follower.clips(stream, followed, stopping=stopping, on_news=printer.news)) as clips:
            for clip in clips:
                yield _json({**_span(clip), "labels": _labels(clip.labels)}) if as_json else _text(clip)

    return printer.lines(lines, lambda: _json(_last(follower.model, stream, followed)) if as_json else None)


def print_features(stream: "Stream", options: dict[str, Any]) -> bool:
    """Follow a stream with an extractor, and print JSON; return whether all is well."""
    from ig65m.tasks.extractor import Extractor, follow_features
    from ig65m.tasks.follow import Followed
    from ig65m.tasks.scoring import clip_labels

    extractor, followed = Extractor(**options), Followed()
    printer = Printer(stream, followed)

    def lines(stopping: Callable[[], bool]) -> Iterator[str]:
        with closing(follow_features(extractor, stream, followed, stopping=stopping, on_news=printer.news)) as clips:
            for clip in clips:
                more: dict[str, Any] = {"logits": clip.logits.tolist()} if extractor.logits else {}
                if extractor.top_k is not None:
                    more["labels"] = _labels(clip_labels(clip.logits, extractor.card, extractor.top_k))
                record = {"start": clip.span.start, "end": clip.span.end, "features": clip.features.tolist(), **more}
                yield _json(record)

    return printer.lines(lines, lambda: _json(_last(extractor.card.name, stream, followed)))


def _span(clip: ClipPrediction) -> dict[str, float]:
    return {"start": clip.start, "end": clip.end}


def _labels(labels: tuple[Label, ...]) -> list[dict[str, Any]]:
    return [asdict(label) for label in labels]


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, allow_nan=False)


def _text(clip: ClipPrediction) -> str:
    times = f"{clip.start:10.2f} {clip.end:10.2f}"
    if not clip.labels:
        return f"{times}        {NO_LABEL}"
    best, *others = clip.labels
    beside = "".join(f", {label.label} {label.score:.2f}" for label in others if label.score >= WORTH_PRINTING)
    return printable(f"{times}  {best.score:.2f}  {best.label}{beside}")


def _last(model: str, stream: "Stream", followed: "Followed") -> dict[str, Any]:
    """Return the last line of a stream that was followed."""
    return {
        "model": model,
        "path": stream.name,
        "status": followed.status,
        "error": None if followed.error is None else followed.error.to_record(),
        "clips": followed.clips,
        "dropped": followed.dropped,
        "breaks": followed.breaks,
    }

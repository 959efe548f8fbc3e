"""A video that is read while it is made: standard input, or a live source."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A pipe or a live source; exactly one of `pipe` and `url` is given.

    name: in messages and results; it has no password. pipe: file descriptor to read, open in the worker process too. url: the
    address of a live source. prompt: each frame is wanted as soon as it is there, for hours; otherwise all of them are wanted.
    """

    name: str
    pipe: int | None = None
    url: str | None = field(default=None, repr=False)
    prompt: bool = False

    def __str__(self) -> str:
        return self.name

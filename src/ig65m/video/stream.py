"""A video that is read while it is made: standard input, or a live source."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A pipe or a live source; exactly one of `pipe` and `url` is given."""

    name: str  # in messages and results, without a password
    pipe: int | None = None  # file descriptor, open in the worker process too
    url: str | None = field(default=None, repr=False)  # address of a live source
    prompt: bool = False  # each frame is wanted as soon as it is there, for hours; otherwise all frames are wanted

    def __str__(self) -> str:
        return self.name

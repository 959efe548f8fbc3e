"""Error responses: status, code for programs, message for people, and nothing about this machine."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from starlette.responses import JSONResponse

from ig65m.errors import plain

# What the command line advises, which is of no use to who sent an upload: "; raise --max-pixels if it is trusted".
_ADVICE: Final = re.compile(r"[;:,] [^;:,]*--[a-z][^;]*(?=;|$)")


@dataclass(eq=False)
class ApiError(Exception):
    """The answer to a request that is not done; `facts` stand beside code and message."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_delayed: bool = False  # as the answer to a wrong token

    def response(self) -> JSONResponse:
        """As JSON: {"error": {"code", "message", ...}}."""
        error = {"code": self.code, "message": self.message, **self.facts}
        return JSONResponse({"error": error}, self.status, dict(self.headers))


def busy(message: str, seconds: float) -> ApiError:
    """503: to be tried again in so many seconds."""
    return ApiError(503, "busy", message, {"Retry-After": str(min(60, max(1, round(seconds))))})


def no_index() -> ApiError:
    """503: the index cannot be read."""
    message = "the index cannot be read at the moment; whoever runs the service finds more in its messages"
    return ApiError(503, "index_unavailable", message, {"Retry-After": "10"})


def no_video() -> ApiError:
    """404: no such video is in the index."""
    return ApiError(404, "no_video", "there is no such video in the index")


def no_label() -> ApiError:
    """404: no such label is in the index."""
    return ApiError(404, "no_label", "there is no such label in the index; /api/labels lists those there are")


def closing() -> ApiError:
    """503: the service ends."""
    return ApiError(503, "shutting_down", "the service is shutting down; try again later", {"Retry-After": "5"})


def unreadable(message: str, last_good_time: float | None, stage: str = "decode") -> ApiError:
    """422: a video that cannot be read."""
    return ApiError(422, "unreadable", message, facts={"stage": stage, "last_good_time": last_good_time})


def public_message(message: str, path: Path, name: str) -> str:
    """A message about a file as a stranger may read it: the file called `name`, no place on this machine, no advice for the
    command line."""
    for place in (str(path), str(path.absolute()), str(path.parent)):
        if len(place) > 1:
            message = message.replace(place, name)
    return plain(_ADVICE.sub("", message))

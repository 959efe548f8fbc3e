"""Error responses: status, code for programs, message for people, and nothing about this machine."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from starlette.responses import JSONResponse

from ig65m.errors import plain

# Advice of the command line that does not concern a client: "; raise --max-pixels to read it".
_ADVICE: Final = re.compile(r"[;:,] [^;:,]*--[a-z][^;]*(?=;|$)")


@dataclass(eq=False)
class ApiError(Exception):
    """An error response; `facts` are added to code and message."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_delayed: bool = False  # for a wrong token

    def response(self) -> JSONResponse:
        """Return the JSON response {"error": {"code", "message", ...}}."""
        error = {"code": self.code, "message": self.message, **self.facts}
        return JSONResponse({"error": error}, self.status, dict(self.headers))


def busy(message: str, seconds: float) -> ApiError:
    """503: retry after that many seconds."""
    return ApiError(503, "busy", message, {"Retry-After": str(min(60, max(1, round(seconds))))})


def no_index() -> ApiError:
    """503: the index cannot be read."""
    message = "the index cannot be read at the moment; the log of the service has the details"
    return ApiError(503, "index_unavailable", message, {"Retry-After": "10"})


def no_video() -> ApiError:
    """404: the index has no such video."""
    return ApiError(404, "no_video", "the index has no such video")


def no_label() -> ApiError:
    """404: the index has no such label."""
    return ApiError(404, "no_label", "the index has no such label; /api/labels lists all labels")


def no_class() -> ApiError:
    """404: the model has no such label."""
    return ApiError(404, "no_label", "the model has no such label")


def no_shot() -> ApiError:
    """404: the index has no such shot."""
    return ApiError(404, "no_shot", "the index has no such shot; /api/videos/{id}/timeline lists the shots of a video")


def no_shots() -> ApiError:
    """404: the index has no shots at all."""
    return ApiError(404, "no_shot", "the index has no shots: its features were extracted without them")


def no_motion(message: str) -> ApiError:
    """404: the service has no camera motion of a video."""
    return ApiError(404, "no_motion", message)


def no_class_maps() -> ApiError:
    """404: the network has no class activation maps."""
    return ApiError(404, "no_class_maps", "this model has no class maps: it has no classes, or ends in fully connected layers")


def closing() -> ApiError:
    """503: the service is shutting down."""
    return ApiError(503, "shutting_down", "the service is shutting down; try again later", {"Retry-After": "5"})


def unreadable(message: str, last_good_time: float | None, stage: str = "decode") -> ApiError:
    """422: the video cannot be read."""
    return ApiError(422, "unreadable", message, facts={"stage": stage, "last_good_time": last_good_time})


def public_message(message: str, path: Path, name: str) -> str:
    """Make a message about a file public: the file is called `name`, without its path and without advice for the command
    line.
    """
    for place in (str(path), str(path.absolute()), str(path.parent)):
        if len(place) > 1:
            message = message.replace(place, name)
    return plain(_ADVICE.sub("", message))

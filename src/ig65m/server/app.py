"""The ASGI application: routes, static files, error handlers and middleware."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from ig65m import __version__
from ig65m.errors import (
    DamagedIndexError,
    IgError,
    ModelError,
    UnknownLabelError,
    UnknownShotError,
    UnknownVideoError,
    plain,
)
from ig65m.server import analyse, routes
from ig65m.server.errors import ApiError, no_index, no_label, no_shots, no_video, public_message
from ig65m.server.security import AccessMiddleware
from ig65m.server.service import Service
from ig65m.server.uploads import ClientDisconnected

_HERE: Final = Path(__file__).parent
_WORDS: Final = {
    404: ("no_route", "no such path; /docs lists all paths"),
    405: ("wrong_method", "method not allowed here; the header Allow lists the allowed ones"),
}
_FRESH: Final = {"Cache-Control": "no-cache"}  # revalidated each time, which costs little if nothing has changed
_READING: Final = ["GET", "HEAD"]
_UNKNOWN: Final[dict[type[IgError], Callable[[], ApiError]]] = {
    UnknownVideoError: no_video,
    UnknownLabelError: no_label,
    UnknownShotError: no_shots,
}
_FAULT: Final = ApiError(500, "fault", "internal error; the log of the service has the details")


def create_app(service: Service, *, say: Callable[[str], None]) -> ASGIApp:
    """Create the ASGI application; internal errors are passed to `say`, a line each."""
    app = FastAPI(
        title="ig65m",
        version=__version__,
        description="Videos of an index, similar clips, labels and features of uploads.",
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(routes.router)
    app.include_router(analyse.router)
    _add_pages(app)
    _add_handlers(app, service, say)
    return AccessMiddleware(app, service.access)


def _add_pages(app: FastAPI) -> None:
    page, reference = _HERE / "page", _HERE / "reference"

    async def index() -> Response:
        start = page / "index.html"
        return FileResponse(start, headers=_FRESH) if start.exists() else RedirectResponse("/docs")

    async def docs() -> Response:
        return FileResponse(reference / "index.html", headers=_FRESH)

    app.add_api_route("/", index, methods=_READING, include_in_schema=False)
    app.add_api_route("/docs", docs, methods=_READING, include_in_schema=False)
    if page.exists():
        app.mount("/static", _Static(directory=page))
    app.mount("/docs", _Static(directory=reference))


class _Static(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_FRESH)
        return response


def _add_handlers(app: FastAPI, service: Service, say: Callable[[str], None]) -> None:
    async def refused(_: Request, error: ApiError) -> Response:
        return error.response()

    async def of_http(request: Request, error: HTTPException) -> Response:
        word, message = _WORDS.get(error.status_code, ("bad_request", plain(error.detail)))
        headers = {"Allow": _allowed(app, request)} if error.status_code == 405 else error.headers
        return ApiError(error.status_code, word, message, headers or {}).response()

    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return ApiError(422, "bad_parameter", "; ".join(_described(each) for each in error.errors()[:4])).response()

    async def ours(request: Request, error: IgError) -> Response:
        if isinstance(error, ModelError):
            return await fault(request, error)
        if isinstance(error, DamagedIndexError):
            say(f"ig65m: {plain(error)}")
            return no_index().response()
        if type(error) in _UNKNOWN:  # removed since the index was read, or never there
            return _UNKNOWN[type(error)]().response()
        return ApiError(422, "bad_parameter", public_message(str(error), service.index.folder, "the index")).response()

    async def gone(_: Request, error: ClientDisconnected) -> Response:
        return Response(status_code=400)  # to nobody

    async def fault(request: Request, error: Exception) -> Response:
        say(f"ig65m: {request.method} {plain(request.url.path, 100)}: {plain(f'{type(error).__name__}: {error}')}")
        return _FAULT.response()

    handlers: dict[Any, Any] = {
        ApiError: refused,
        HTTPException: of_http,
        RequestValidationError: invalid,
        IgError: ours,
        ClientDisconnected: gone,
        Exception: fault,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _allowed(app: FastAPI, request: Request) -> str:
    """Return the methods of a path over all its routes; static files are only read."""
    every = [*routes.router.routes, *analyse.router.routes, *app.router.routes]
    known = [route for route in every if isinstance(route, Route | APIRoute)]
    there = [route for route in known if route.matches(request.scope)[0] != Match.NONE]
    return ", ".join(sorted({method for route in there for method in route.methods or ()} or _READING))


def _described(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"][1:]) or "the request"
    return plain(f"{where}: {error['msg']}")

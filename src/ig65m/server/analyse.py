"""Routes that analyse an upload, and the login."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ValidationError

from ig65m.server import browse
from ig65m.server.admission import Stopping
from ig65m.server.errors import ApiError
from ig65m.server.routes import Count, Given, Merge
from ig65m.server.schemas import Classification, Extraction, LoginResult, SearchResults, Token, error_responses
from ig65m.server.security import COOKIE
from ig65m.server.service import Service
from ig65m.server.uploads import FIELD, ClientDisconnected, received

router = APIRouter(prefix="/api")

_BINARY: Final = {"type": "string", "format": "binary"}
_FORM: Final = {"type": "object", "properties": {FIELD: _BINARY}, "required": [FIELD], "additionalProperties": False}
_UPLOAD: Final[dict[str, Any]] = {
    "requestBody": {
        "description": "bytes of a video, or a form with a file",
        "required": True,
        "content": {"application/octet-stream": {"schema": _BINARY}, "multipart/form-data": {"schema": _FORM}},
    }
}
_LOGIN: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": Token.model_json_schema()}}}
}
_REFUSALS: Final = error_responses(400, 408, 413, 415, 422, 503)
_SEARCH_REFUSALS: Final = error_responses(400, 404, 408, 413, 415, 422, 503)
_LOGIN_BYTES: Final = 8192
_LOGIN_SECONDS: Final = 10.0
_MONTH: Final = 30 * 24 * 3600


@router.post("/classify", response_model=Classification, responses=_REFUSALS, openapi_extra=_UPLOAD)
async def classify(
    service: Given, request: Request, top_k: Annotated[int, Query(ge=1, le=20, description="labels of each clip")] = 5
) -> Response:
    """Classify an upload: labels of each clip, and of the whole video."""
    return await _upload(service, request, lambda path, stopping: service.classify(path, top_k, stopping))


@router.post("/features", response_model=Extraction, responses=_REFUSALS, openapi_extra=_UPLOAD)
async def features(service: Given, request: Request) -> Response:
    """Extract features of an upload: a row for each clip."""
    return await _upload(service, request, service.extract)


@router.post("/search", response_model=SearchResults, responses=_SEARCH_REFUSALS, openapi_extra=_UPLOAD)
async def search(service: Given, request: Request, count: Count = 12, merge: Merge = True) -> Response:
    """Find clips of the index that are similar to any clip of an upload."""

    def job(path: Path, stopping: Stopping) -> SearchResults | None:
        done = service.features(path, stopping)
        if done is None:
            return None
        if not done.spans:
            raise ApiError(422, "unreadable", "the upload has no complete clip")
        return browse.like_features(service.index, done.array, done.spans, count, merge=merge)

    return await _upload(service, request, job)


async def _upload(service: Service, request: Request, job: Callable[[Path, Stopping], BaseModel | None]) -> Response:
    """Receive the upload and respond with the result of the job; the file is deleted then."""
    with service.admission.slot() as slot:
        async with received(request, service.folder, service.rules.upload, slot) as path:

            def work(stopping: Stopping) -> str | None:
                answer = job(path, stopping)
                return None if answer is None else answer.model_dump_json()

            return Response(await slot.run(work, request), media_type="application/json")


@router.post("/login", responses=error_responses(400, 404, 408, 413, 415, 422, 503), openapi_extra=_LOGIN)
async def login(service: Given, request: Request, response: Response) -> LoginResult:
    """Exchange the token for a cookie."""
    if service.access.token is None:
        raise ApiError(404, "no_token", "this service has no token; no login is needed")
    token = await _token(request)
    if not service.access.knows(token):
        await service.logins.wait(request.scope)
        raise ApiError(401, "wrong_token", "the token is wrong")
    over_tls = request.headers.get("origin", "").startswith("https:")  # as the browser says: TLS may end at a proxy
    response.set_cookie(COOKIE, service.access.cookie, max_age=_MONTH, httponly=True, samesite="strict", secure=over_tls)
    return LoginResult(status="ok")


async def _token(request: Request) -> str:
    """Read the token from a small JSON body. Raises ApiError: 400, 408, 413, 415, 422; ClientDisconnected."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "wrong_kind", "expected JSON, with its content type application/json")
    body = b""
    try:
        async with asyncio.timeout(_LOGIN_SECONDS):
            while True:
                message = await request.receive()
                if message["type"] != "http.request":
                    raise ClientDisconnected
                body += message.get("body", b"")
                if len(body) > _LOGIN_BYTES:
                    raise ApiError(413, "too_large", f"a login has at most {_LOGIN_BYTES} bytes")
                if not message.get("more_body", False):
                    return Token.model_validate_json(body).token
    except TimeoutError:
        raise ApiError(408, "too_slow", "the login was too slow") from None
    except ValidationError as error:
        broken = error.errors()[0]["type"] == "json_invalid"
        wanted = 'expected {"token": "..."}'
        raise (ApiError(400, "bad_json", wanted) if broken else ApiError(422, "bad_parameter", wanted)) from None

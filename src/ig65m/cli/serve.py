"""ig65m serve"""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ig65m.cli.options import (
    ENGINE,
    Device,
    Engine,
    Index,
    LimitOptions,
    MaxFrames,
    MaxMemory,
    Precision,
    Threads,
    Timeout,
    flattened,
    option,
)
from ig65m.cli.progress import say_engine
from ig65m.cli.signals import finishing
from ig65m.cli.terminal import say
from ig65m.errors import UsageError, needs

if TYPE_CHECKING:
    from ig65m.server.service import Rules

TOKEN = "IG65M_TOKEN"
ADDRESS, MOTION, UPLOADS = "Address and access", "Camera motion", "Uploads"


@dataclass(frozen=True, kw_only=True)
class _Limits(LimitOptions):
    """What one upload may cost."""

    max_frames: MaxFrames = 20_000
    max_memory: MaxMemory = 2.0
    timeout: Timeout = 20.0


@flattened
def serve(
    index: Index,
    host: Annotated[str, option(ADDRESS, "Address to listen on; one open to other machines needs a token.")] = "127.0.0.1",
    port: Annotated[int, option(ADDRESS, "Port to listen on; 0 for any free one.")] = 8000,
    token_file: Annotated[
        Path | None, option(ADDRESS, f"File with the token that every request must carry; or set {TOKEN}.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, option(ADDRESS, "Another host name of the service, NAME or NAME:PORT; repeatable.")
    ] = None,
    root: Annotated[
        list[Path] | None,
        option(ADDRESS, "Serve only files in this folder, links resolved; repeatable. Default: all files of the index."),
    ] = None,
    motion: Annotated[
        Path | None, option(MOTION, "Folder of `ig65m motion --output`; the page shows the camera motion of its videos.")
    ] = None,
    model: Annotated[str | None, option(ENGINE, "File of the index's model, if it has no public name.")] = None,
    batch_size: Annotated[int, option(ENGINE, "Clips of several uploads that go through the network together.")] = 8,
    device: Device = "cpu",
    engine: Engine = None,
    precision: Precision = None,
    threads: Threads = None,
    max_upload: Annotated[float, option(UPLOADS, "Largest upload, in MiB.")] = 128.0,
    queue: Annotated[int, option(UPLOADS, "Most uploads at a time, waiting ones included; others get status 503.")] = 32,
    workers: Annotated[int, option(UPLOADS, "Uploads that are processed at the same time.")] = 4,
    max_seconds: Annotated[float, option(UPLOADS, "Longest processing time of one upload, in seconds.")] = 300.0,
    upload_timeout: Annotated[float, option(UPLOADS, "Longest time to receive one upload, in seconds.")] = 300.0,
    min_rate: Annotated[
        float, option(UPLOADS, "Slowest rate at which a client may send an upload or read a response, in KiB a second.")
    ] = 16.0,
    patience: Annotated[float, option(UPLOADS, "Time over which that rate is measured, in seconds.")] = 10.0,
    *,
    decoding: _Limits,
) -> None:
    """Serve search, labels and features over HTTP, and a web page to browse the videos of an index.

    Example: ig65m serve index/ --port 8000
    """
    token = _token(token_file)
    limits = decoding.limits()
    from ig65m.video.isolation import prepare

    prepare(limits)
    with needs("serve", "serving"):
        from ig65m.explain.class_maps import ClassMapper, has_class_maps
        from ig65m.motion.folder import MotionFolder
        from ig65m.search.index import Index
        from ig65m.search.query import extractor_for, extractor_options
        from ig65m.server.class_maps import LazyMapper
        from ig65m.server.run import access_policy, bind, serve_on
        from ig65m.server.service import opened
        from ig65m.tasks.options import Options
    rules = _rules(max_upload, queue, workers, max_seconds, upload_timeout, min_rate, patience)
    for folder in root or ():
        if not folder.is_dir():
            raise UsageError(f"--root {folder}: no such folder")
    motions = None if motion is None else MotionFolder(motion)
    with bind(host, port) as listener:
        access = access_policy(listener, token, allow_host or ())
        known = Index.open(index)
        options: dict[str, Any] = {
            "batch_size": batch_size,
            "device": device,
            "engine": engine,
            "precision": precision,
            "threads": threads,
            "limits": limits,
            "on_engine": say_engine,
            "shared": True,
        }
        extractor = extractor_for(known, model, **options)
        mapper = None
        if has_class_maps(extractor.card):
            alone: dict[str, Any] = {"shared": False, "batch_size": 1, "on_engine": None}
            mapper = LazyMapper(partial(ClassMapper, Options.of(extractor_options(known, model) | options | alone)))
        with opened(known, extractor, access, rules, limits, root or (), motions, mapper) as service, finishing() as stopping:
            say(f"ig65m: {known.described()}")
            if damaged := known.damaged:
                say(f"ig65m: {damaged:,} clips of the index are damaged and left out; rebuild the index to restore them")
            address, number = listener.getsockname()[:2]
            say(f"ig65m: serving at http://{f'[{address}]' if ':' in address else address}:{number}/")
            serve_on(listener, service, stopping, say)


def _token(file: Path | None) -> str | None:
    """Return the token, and remove it from the environment: worker processes must not see it."""
    from_environment = os.environ.pop(TOKEN, None)
    if file is None:
        return from_environment
    if from_environment is not None:
        raise UsageError(f"a token in {file} and another in {TOKEN}; give only one")
    with file.open(encoding="utf-8", errors="replace") as text:
        return text.read(10_000).strip()


def _rules(
    max_upload: float, queue: int, workers: int, max_seconds: float, upload_timeout: float, min_rate: float, patience: float
) -> "Rules":
    from ig65m.server.service import Rules
    from ig65m.server.uploads import Pace, UploadLimits

    for name, value, most in (("--queue", queue, 1000), ("--workers", workers, 64)):
        if not 1 <= value <= most:
            raise UsageError(f"{name} must be from 1 to {most}, got {value}")
    seconds = (("--max-seconds", max_seconds, 86400), ("--upload-timeout", upload_timeout, 86400))
    pace = (("--min-rate", min_rate, 1 << 20), ("--patience", patience, 3600))
    for name, number, most in (("--max-upload", max_upload, 1 << 20), *seconds, *pace):
        if not 0 < number <= most:
            raise UsageError(f"{name} must be more than 0 and at most {most:,}, got {number:g}")
    idle = min(15.0, upload_timeout)
    upload = UploadLimits(int(max_upload * (1 << 20)), upload_timeout, idle, Pace(min_rate * 1024, patience))
    return Rules(queue=queue, workers=workers, seconds=max_seconds, upload=upload)

"""ig65m serve"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ig65m.cli import options as opt
from ig65m.cli.signals import finishing
from ig65m.cli.terminal import say
from ig65m.errors import UsageError

if TYPE_CHECKING:
    from ig65m.server.service import Rules

TOKEN = "IG65M_TOKEN"
_NEEDED = {"fastapi", "multipart", "PIL", "python_multipart", "starlette", "uvicorn"}


def serve(
    index: Annotated[Path, typer.Argument(help="The index that `ig65m index build` made.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="The index's model, where its name does not find it: a file.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen at; one that others can reach needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at; 0: any that is free.")] = 8000,
    token_file: Annotated[
        Path | None, typer.Option(help=f"A file with the token that one must show; or give it in {TOKEN}.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name by which the service is called, NAME or NAME:PORT; repeatable.")
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(help="Serve only files of the index that lie in this folder, links resolved; repeatable. Default: all."),
    ] = None,
    max_upload: Annotated[float, typer.Option(help="MiB that an upload may have.")] = 128.0,
    queue: Annotated[int, typer.Option(help="Uploads at a time, those that wait included; more are sent away.")] = 32,
    workers: Annotated[int, typer.Option(help="Uploads that are worked at at a time.")] = 4,
    max_seconds: Annotated[float, typer.Option(help="Seconds that one upload is worked at.")] = 300.0,
    upload_timeout: Annotated[float, typer.Option(help="Seconds in which an upload must be there.")] = 300.0,
    min_rate: Annotated[
        float, typer.Option(help="KiB a second that a client must send of its upload and take of its response.")
    ] = 16.0,
    patience: Annotated[float, typer.Option(help="Seconds over which that rate is measured.")] = 10.0,
    batch_size: Annotated[int, typer.Option(help="Clips of several uploads that go through the network together.")] = 8,
    device: opt.Device = "cpu",
    engine: opt.EngineOption = None,
    precision: opt.PrecisionOption = None,
    threads: opt.Threads = None,
    max_pixels: opt.MaxPixels = opt.LIMITS.pixels,
    max_frames: Annotated[int, typer.Option(help="Frames of one upload; one with more is given up there.")] = 20_000,
    max_memory: Annotated[float, typer.Option(help="GiB of memory for decoding one video.")] = 2.0,
    timeout: Annotated[float, typer.Option(help="Seconds without a new frame after which a video is given up.")] = 20.0,
) -> None:
    """Search, labels and features over HTTP, and a page to look at the videos of an index.

    Example: ig65m serve index/ --port 8000
    """
    token = _token(token_file)
    limits = opt.limits(max_pixels, max_frames, max_memory, timeout, in_process=False)
    try:
        from ig65m.search.index import Index
        from ig65m.search.query import extractor_for
        from ig65m.server.run import access_policy, bound, serve_on
        from ig65m.server.service import opened
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _NEEDED:
            raise
        raise UsageError(f"serving needs {error.name}: pip install 'ig65m[serve]'") from None
    rules = _rules(max_upload, queue, workers, max_seconds, upload_timeout, min_rate, patience)
    for folder in root or ():
        if not folder.is_dir():
            raise UsageError(f"--root {folder}: no such folder")
    with bound(host, port) as listener:
        access = access_policy(listener, token, allow_host or ())
        known = Index.open(index)
        options: dict[str, Any] = {
            "batch_size": batch_size,
            "device": device,
            "engine": engine,
            "precision": precision,
            "threads": threads,
            "limits": limits,
            "on_engine": opt.on_engine,
            "shared": True,
        }
        extractor = extractor_for(known, model, **options)
        with opened(known, extractor, access, rules, limits, root or ()) as service, finishing() as stopping:
            say(f"ig65m: {known.described()}")
            if damaged := known.damaged:
                say(f"ig65m: {damaged:,} clips of the index are damaged and left out; build it again to have them")
            address, number = listener.getsockname()[:2]
            say(f"ig65m: serving at http://{f'[{address}]' if ':' in address else address}:{number}/")
            serve_on(listener, service, stopping, say)


def _token(file: Path | None) -> str | None:
    """The token, taken out of the environment: the processes that decode need not know it."""
    from_environment = os.environ.pop(TOKEN, None)
    if file is None:
        return from_environment
    if from_environment is not None:
        raise UsageError(f"a token in {file} and one in {TOKEN}; give one of them")
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

"""Streams that the user names: standard input, or a live source; checked before anything is opened."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from ig65m.cli.options import INPUT, VIDEOS, option
from ig65m.errors import UsageError
from ig65m.video.stream import Stream

PIPE = "ffmpeg -i SOURCE -f matroska - | ig65m classify -"
CAMERA = "ffmpeg -f v4l2 -i {} -f matroska - | ig65m classify - --follow"

VideosOrStream = Annotated[list[str] | None, VIDEOS]


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How a stream is read."""

    follow: Annotated[
        bool, option(INPUT, "Print each clip of standard input (-) or --live as soon as its last frame is there.", "--follow")
    ] = False
    live: Annotated[
        str | None,
        option(INPUT, "Connect to this live source (rtsp://...) and open nothing else; with --follow.", metavar="SOURCE"),
    ] = None

    def stream(self, inputs: Sequence[str], excluded: Mapping[str, object], *, in_process: bool) -> Stream | None:
        """Return the stream that a command reads; None for other inputs.

        `excluded` are values of options that need a whole file, by what a message says of them. Raises UsageError for a stream
        that cannot be read, or not with these inputs and options.
        """
        if self.live is not None:
            if inputs:
                raise UsageError(f"--live takes the place of inputs; leave {inputs[0]} out")
            name = _checked(self.live)
            if not self.follow:
                raise UsageError("--live has no end; add --follow for results as they come")
            stream = Stream(name=name, url=self.live, prompt=True)
        elif "-" in inputs:
            if len(inputs) > 1:
                raise UsageError("-: standard input is one video; give it alone, without other inputs")
            stream = Stream(name="-", pipe=_pipe(), prompt=self.follow)
        elif self.follow:
            raise UsageError("--follow is for a stream: - (standard input) or --live SOURCE; leave it out for files")
        else:
            return None
        if given := [name for name, value in excluded.items() if value]:
            raise UsageError(f"{given[0]}, so not for a stream ({stream}); save the stream to a file first")
        if in_process:
            raise UsageError("--in-process is for files; a stream is decoded in a worker process, which can be stopped")
        return stream


def _pipe() -> int:
    """Return a file descriptor of standard input for the worker process."""
    try:
        number = os.dup(sys.stdin.fileno())
    except (OSError, ValueError) as error:
        raise UsageError(f"-: standard input cannot be read; pipe a video into it, as in: {PIPE}") from error
    if os.isatty(number):
        raise UsageError(f"-: standard input is a terminal, so nothing is piped; pipe a video into it, as in: {PIPE}")
    return number


def _checked(source: str) -> str:
    """Return the name of a live source, without user, password and query. Raises UsageError, which does not show them."""
    if re.match(r"/dev/|v4l2:|video[0-9]", source):
        device = source if re.fullmatch(r"/dev/[\w/-]+", source) else "/dev/video0"
        raise UsageError(f"--live does not open devices; let FFmpeg read the camera: {CAMERA.format(device)}")
    scheme, colons, _ = source.partition("://")
    if not colons or scheme.lower() != "rtsp":
        kind = f"{scheme}://" if colons and re.fullmatch(r"[A-Za-z0-9+.-]{1,20}", scheme) else "this kind of source"
        raise UsageError(f"--live opens rtsp:// alone, not {kind}; let FFmpeg read other sources: {PIPE} --follow")
    try:
        parts = urlsplit(source)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not source.isascii() or not source.isprintable() or " " in source or "@" in parts.path:
        raise UsageError(
            "--live: the address is not rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH; write other characters as %XX, such as %2F"
        )
    host = f"[{host}]" if ":" in host else host
    return f"rtsp://{host}{'' if port is None else f':{port}'}{parts.path}"


def check_given(inputs: Sequence[str] | None, stream: StreamOptions, command: str) -> list[str]:
    """Return the inputs. Raises UsageError if there is neither an input nor a live source."""
    if not inputs and stream.live is None:
        raise UsageError(f"Missing argument 'INPUT' (see `ig65m {command} --help`)")
    return list(inputs or [])

"""Real processes that write videos into pipes, and the program that reads them."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ig65m.zoo.cards import EMBEDDED

PROGRAM = Path(sys.executable).parent / "ig65m"
FFMPEG = ("ffmpeg", "-v", "error", "-nostdin")


def stream_bytes(video: Path, format_name: str, *options: object, before: Sequence[object] = ()) -> bytes:
    """What FFmpeg writes into a pipe for a video; without options its packets are copied."""
    command = [*FFMPEG, *before, "-i", video, *(options or ("-c", "copy")), "-an", "-f", format_name, "-"]
    return subprocess.run([*map(str, command)], capture_output=True, check=True).stdout


@contextmanager
def sender(video: Path, format_name: str, *options: object, before: Sequence[object] = ("-re",)) -> Iterator[Any]:
    """An ffmpeg process that writes a video into its stdout, by default in real time."""
    command = [*FFMPEG, *before, "-i", video, *(options or ("-c", "copy")), "-an", "-f", format_name, "-"]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def program(command: str, *args: object, **how: Any) -> "subprocess.Popen[str]":
    """Start ig65m with the embedded network."""
    words = [PROGRAM, command, *args, "--model", EMBEDDED]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*map(str, words)], **(pipes | how))


def finish(process: "subprocess.Popen[str]") -> tuple[int, list[Any], str]:
    """Exit code, lines of JSON on stdout, and stderr."""
    out, err = process.communicate(timeout=120)
    return process.returncode, [json.loads(line) for line in out.splitlines()], err


def piped(data: bytes, command: str, *args: object) -> tuple[int, str, str]:
    """Run ig65m on bytes that come as fast as it reads them."""
    words = [*map(str, (PROGRAM, command, *args, "--model", EMBEDDED))]
    done = subprocess.run(words, input=data, capture_output=True, timeout=120, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@contextmanager
def pipe_of(data: bytes, file: Path) -> Iterator[int]:
    """A pipe into which another process writes the bytes, by way of a file; yields the end to read from."""
    file.write_bytes(data)
    with subprocess.Popen(["cat", str(file)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as cat:
        assert cat.stdout is not None
        try:
            yield cat.stdout.fileno()
        finally:
            cat.kill()

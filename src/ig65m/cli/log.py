"""What `--debug` prints besides tracebacks."""

import logging

from ig65m.cli.terminal import say


class _Lines(logging.Handler):
    """Prints log records as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"ig65m: {record.getMessage()}")


def say_log() -> None:
    """Print the messages that ig65m logs, those for debugging included."""
    log = logging.getLogger("ig65m")
    log.setLevel(logging.DEBUG)
    log.addHandler(_Lines())

"""Files that stand under their final name only when they are whole."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def finished_file(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; what was written there gets the final name when the block ends without an error."""
    temporary = path.with_name(f".ig65m-{uuid.uuid4().hex}.part")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

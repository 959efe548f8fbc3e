"""Whether an output is a file or a folder, by its name."""

import os
from pathlib import Path
from typing import Final

from ig65m.errors import UsageError

FILES: Final = (".npy", ".npz", ".parquet")


def is_file_name(output: str) -> bool:
    """Return whether an output names a file of features; otherwise it names a folder.

    Raises UsageError for an empty name, and for an unknown suffix if there is no such folder.
    """
    if not output:
        raise UsageError(f"the output has no name; give a file ({', '.join(FILES)}) or a folder")
    path = Path(output)
    if output.endswith("/") or os.path.isdir(path):  # noqa: PTH112 - Path's raises where the name is too long
        return False
    if path.suffix and path.suffix not in FILES:
        files = ", ".join(FILES)
        raise UsageError(f"{output}: expected a file ({files}) or a folder; a folder with a dot in its name must end in /")
    return bool(path.suffix)

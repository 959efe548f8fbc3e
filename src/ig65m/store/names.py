"""What the name of an output says."""

import os
from pathlib import Path
from typing import Final

from ig65m.errors import UsageError

FILES: Final = (".npy", ".npz", ".parquet")


def is_file_name(output: str) -> bool:
    """Whether an output names a file of features; if not, it names a folder of them.

    Raises UsageError if it does neither: no name, or a suffix of another kind on what is no folder.
    """
    if not output:
        raise UsageError(f"the output has no name; give a file ({', '.join(FILES)}) or a folder")
    path = Path(output)
    if output.endswith("/") or os.path.isdir(path):  # noqa: PTH112 - Path's raises where the name is too long
        return False
    if path.suffix and path.suffix not in FILES:
        raise UsageError(f"{output}: features are written as {', '.join(FILES)}; a folder's name ends in / if it has a dot")
    return bool(path.suffix)

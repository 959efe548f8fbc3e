"""The text of a list of videos: its lines, and its cells if it is a table."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from ig65m.errors import UsageError, shown

MAX_LIST: Final = 1 << 28  # bytes


@dataclass(frozen=True)
class ListFile:
    """The text of a list: its lines that are not blank, with their numbers."""

    path: Path
    text: str
    lines: tuple[tuple[int, str], ...]

    def error(self, line: int, problem: str) -> UsageError:
        """An error in a line."""
        return UsageError(f"{self.path}, line {line}: {problem}")

    @cached_property
    def header(self) -> tuple[str, ...]:
        """The names of a table's columns, without case, in its first line. Raises UsageError if one is named twice."""
        line, fields = next(self._fields(), (1, []))
        names = tuple(name.strip().casefold() for name in fields)
        for place, name in enumerate(names):
            if name and name in names[:place]:
                raise self.error(line, f"the column {shown([name])} is named twice; expected each name once")
        return names

    def cells(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield the number of each row's last line, and its cells by the names in the header."""
        names = self.header
        rows = self._fields()
        next(rows, None)
        for line, fields in rows:
            if any(field.strip() for field in fields[len(names) :]):
                raise self.error(line, f"{len(fields)} fields, but the first line names {len(names)} columns")
            yield line, dict(zip(names, (field.strip() for field in fields), strict=False))

    def _fields(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the fields of each row of a table that is not blank, and the number of its last line."""
        delimiter = "\t" if self.path.suffix.lower() == ".tsv" else ","
        lines = (f"{line}\n" for line in self.text.split("\n"))
        rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
        before = 0
        try:
            for fields in rows:
                if any(field.strip() for field in fields):
                    yield rows.line_num, fields
                before = rows.line_num
        except csv.Error as error:
            raise self.error(
                before + 1,
                f"a quote is not closed, or closed within a field ({error}); expected a table with commas (.csv) or tabs "
                '(.tsv), and "" for a quote in a field in quotes',
            ) from None


def open_list(path: Path) -> ListFile:
    """Read the text of a list. Raises UsageError if it is empty, larger than MAX_LIST, or no text."""
    size = path.stat().st_size
    if size > MAX_LIST:
        raise UsageError(f"{path} has {size:,} bytes; a list of videos has at most {MAX_LIST:,}")
    text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    if "\0" in text:
        raise UsageError(f"{path}: expected a text file with a list of videos, found binary data")
    text = re.sub(r"\r\n|\r", "\n", text)  # str.splitlines also splits at characters that names may contain
    lines = tuple((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    if not lines:
        raise UsageError(f"{path}: the list is empty; expected a video on each line")
    return ListFile(path, text, lines)

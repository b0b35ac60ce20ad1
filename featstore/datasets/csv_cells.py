"""Rows of the CSV files that data sets come with: cells of any length, errors that name the line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager

from featstore.errors import DatasetError

__all__ = ["decoded", "long_cells", "rows_of"]

_LONGEST_CELL = 1 << 27  # characters; the csv module's own limit is less than a page of lyrics


@contextmanager
def long_cells() -> Iterator[None]:
    """Let the csv module read long cells; its limit is one for the whole process, so it is restored."""
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def decoded(data: bytes, source: str) -> str:
    """Text of a UTF-8 file, with or without a byte order mark.

    Raises
    ------
    DatasetError
        When it is not UTF-8; the message names the line.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        what = f"not UTF-8 text ({error.reason} in line {line})"
        raise DatasetError(what, source, "Save the list as UTF-8") from error


def rows_of(
    text: str, source: str, *, delimiter: str = ",", skip_blanks: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """(Number of its first line, cells) of every row that is not empty; ``skip_blanks`` those after a delimiter.

    Raises
    ------
    DatasetError
        When the file is no CSV; the message names the line.
    """
    before = 0
    with long_cells():
        try:
            reader = csv.reader(
                io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=skip_blanks, strict=True
            )
            for cells in reader:
                if cells:
                    yield before + 1, cells
                before = reader.line_num
        except csv.Error as error:
            what = f"not readable as CSV: {error}, in the record that begins in line {before + 1}"
            fix = 'Check the delimiter, and write a quote within quotes twice: "12"" mix.wav"'
            raise DatasetError(what, source, fix) from error

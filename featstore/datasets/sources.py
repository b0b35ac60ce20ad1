"""What adapters share: folders and files as people keep them, lists read row by row, and how faults are refused."""

from __future__ import annotations

import csv
import io
import os
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from pathlib import Path

from featstore.errors import DatasetError, check_known

__all__ = [
    "absolute",
    "check_choices",
    "check_column",
    "decoded",
    "existing_folder",
    "places_of",
    "read_text",
    "refuse_repeats",
    "rows_of",
    "two_sided",
]

_LONGEST_CELL = 1 << 27  # characters; the csv module's own limit is less than a page of lyrics


def absolute(path: str | os.PathLike[str], base: str | os.PathLike[str] = "") -> Path:
    """A path as a user writes it: ``~`` is the home folder, a relative one starts at ``base`` or the working folder."""
    return Path(os.path.abspath(os.path.join(base, os.path.expanduser(path))))


def existing_folder(root: str | os.PathLike[str], fix: str) -> Path:
    """The folder of a data set.

    Raises
    ------
    DatasetError
        When there is none; ``fix`` says which folder is meant.
    """
    base = absolute(root)
    if not base.is_dir():
        raise DatasetError("this is a file, not a folder" if base.exists() else "no such folder", str(base), fix)
    return base


def places_of(base: Path, named: str, usual: Sequence[str]) -> list[Path]:
    """Where a part of a data set may lie: at the place that the user named, or in one of the usual sub-folders."""
    return [absolute(named, base)] if named else [base / name for name in usual]


def check_choices(kind: str, **options: tuple[str, Collection[str]]) -> None:
    """Refuse an option of an adapter, given with what it may be, that is none of it."""
    for name, (value, allowed) in options.items():
        check_known(value, allowed, f"{name}={value!r} is not a choice", f"data set {kind}")


def check_column(name: str, columns: Iterable[object], where: object) -> None:
    """Refuse the name of a column that a table does not have."""
    check_known(name, list(map(str, columns)), f"there is no column {name!r}", str(where), error=DatasetError)


def refuse_repeats(
    places: Iterable[tuple[Hashable, object]], what: str, where: object, fix: str = "Remove one of them"
) -> None:
    """Refuse a name that is listed twice.

    Parameters
    ----------
    places : iterable of (name, place)
        Such as the line that it stands in.
    what : str
        Message; ``{0}`` is the name, ``{1}`` and ``{2}`` are its two places.
    """
    first: dict[Hashable, object] = {}
    for name, place in places:
        if name in first:
            raise DatasetError(what.format(name, first[name], place), str(where), fix)
        first[name] = place


def two_sided(groups: Iterable[str | None], splits: Iterable[str | None]) -> dict[str, list[str]]:
    """Groups that are on more than one side, in their order, with the sorted names of the sides."""
    sides: dict[str, set[str]] = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        if group is not None and split is not None:
            sides[group].add(split)
    return {group: sorted(found) for group, found in sides.items() if len(found) > 1}


def read_text(path: Path, *, absent: str = "", fix: str = "It comes with the data set") -> str:
    """Text of a UTF-8 file, with or without a byte order mark.

    Raises
    ------
    DatasetError
        When there is no such file (``absent`` and ``fix`` say so in other words), or it is not UTF-8.
    """
    try:
        return decoded(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise DatasetError(absent or f"no {path.name} here", str(path), fix) from error
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}", str(path), "Check the permissions") from error


def decoded(data: bytes, source: str) -> str:
    """Text of the bytes of a UTF-8 file, with or without a byte order mark.

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
    text: str, source: str, *, delimiter: str = ",", skip_blanks: bool = False, even: str = ""
) -> Iterator[tuple[int, list[str]]]:
    """(Number of its first line, cells) of every row of CSV that is not blank.

    Parameters
    ----------
    text, source : str
        Of a file, and its name for messages.
    delimiter : str
    skip_blanks : bool
        Leave out blanks after a delimiter.
    even : str
        Every row must have as many cells as the first one: what to do where one has not. Any number where empty.

    Raises
    ------
    DatasetError
        When the file is no CSV; the message names the line.
    """
    before = width = 0
    limit = csv.field_size_limit(_LONGEST_CELL)  # one for the whole process, so it is restored
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=skip_blanks, strict=True
        )
        for cells in reader:
            if any(map(str.strip, cells)):
                width = width or len(cells)
                if even and len(cells) != width:
                    what = f"line {before + 1} has {len(cells)} cells, the header has {width}"
                    raise DatasetError(what, source, even)
                yield before + 1, cells
            before = reader.line_num
    except csv.Error as error:
        form = "cells separated by tabs" if delimiter == "\t" else "CSV"
        what = f"not readable as {form}: {error}, in the record that begins in line {before + 1}"
        fix = 'Check the delimiter, and write a quote within quotes twice: "12"" mix.wav"'
        raise DatasetError(what, source, fix) from error
    finally:
        csv.field_size_limit(limit)

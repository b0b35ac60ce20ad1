"""The ``csv`` data set: a list of files with labels, splits and groups."""

from __future__ import annotations

import io
import logging
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featstore.datasets.folder import SPLIT_NAMES
from featstore.datasets.sources import absolute, check_column, read_text, refuse_repeats, rows_of
from featstore.datasets.spelling import clean_name, clean_names, printable
from featstore.datasets.table import PROBE_COLUMNS, Task, TrackTable, label_facts, track_table
from featstore.errors import DatasetError, check_known
from featstore.object_storage import is_object_url

__all__ = ["index_csv"]

# Codes such as 0042 are text: as numbers they would lose their zeros.
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
# Columns that are read for what they say, and names under which featstore adds columns of its own.
_READ = ("track_id", "path", "split", "group")
_RESERVED = frozenset({"labels", *PROBE_COLUMNS, "row", "status", "stage", "error"})
_DELIMITERS = ",;\t|"
_BLANK_QUOTE = re.compile(r"(?:^|[,;\t|]) +\"", re.MULTILINE)


def index_csv(
    root: str | os.PathLike[str],
    *,
    label_column: str | None = None,
    separator: str = "|",
    delimiter: str | None = None,
    task: Task | None = None,
    name: str = "",
) -> TrackTable:
    """A CSV list: columns path, and if wanted track_id, labels, split, group; further columns are kept.

    Paths are relative to the list; ids default to the path as written. A split may be called by its usual variants
    (``training``, ``val``, ``dev``, ``eval`` …). Names that print alike are one: labels, splits and groups are
    brought to composed Unicode without blanks at their ends. A further column whose name featstore uses itself, such
    as ``duration_s``, is kept as ``listed_duration_s``.

    Parameters
    ----------
    root : path
        The list, UTF-8, with a header line.
    label_column : str, optional
        Column of the labels; by default ``labels``, or ``label``, or no labels.
    separator : str
        What stands between two labels of a track; empty means that the cell is one label.
    delimiter : str, optional
        What stands between two cells; by default a tab for ``.tsv``, else the one of comma, semicolon, tab and bar
        that the header has most of.
    task : "multi_label", "single_label" or "none", optional
        By default single_label when no track has two labels.
    name : str
        Name of the data set; the file's by default.

    Raises
    ------
    DatasetError
        When the list cannot be read, lacks a column (the message names those there are), is empty, or has a row with
        the wrong number of cells, without a path, with an unknown split, with two labels of a single-label set or
        with an id that an earlier row has (the message names the line).
    """
    source = absolute(root)
    header, rows = _read_rows(source, delimiter)
    column = _label_column(label_column, header, source)
    labels, note = clean_names([_labels(row[column], separator) if column else [] for _, row in rows])
    columns: dict[str, Any] = {
        "track_id": [clean_name(row.get("track_id", "")) or row["path"] for _, row in rows],
        "path": [printable(_found(source.parent, row["path"])) for _, row in rows],
        "labels": labels,
        "split": [_split(row.get("split", ""), line, source) for line, row in rows],
        "group": [clean_name(row.get("group", "")) or None for _, row in rows],
    }
    lines = [line for line, _ in rows]
    twice, fix = "two tracks have the id {0!r}: lines {1} and {2}", "list each file once with all its labels"
    places = zip(columns["track_id"], lines, strict=True)
    refuse_repeats(places, twice, source, f"Give each track its own id, or {fix}")
    for line, names in zip(lines, labels, strict=True):
        if task == "single_label" and len(names) > 1:
            what = f"{len(names)} labels on one track of a single-label set in line {line}: {', '.join(names)}"
            raise DatasetError(what, str(source), "Keep one label, or leave the task out")
    notes = [note] if note else []
    for extra in header:
        if extra not in _READ and not (extra == "labels" and column == "labels"):
            kept = _free_name(extra, header)
            if kept != extra:
                notes.append(f"the column {extra!r} is kept as {kept!r}: featstore fills a column of that name itself")
            columns[kept] = _typed([_plain(row[extra]) for _, row in rows])
    facts = label_facts(labels) | ({"task": task} if task else {})
    name, root = name or printable(source.stem), printable(str(source.parent))
    return track_table(columns, name=name, root=root, notes=notes, level=logging.WARNING, **facts)


def _plain(cell: str) -> str:
    """A further cell: a name is spelled like any other name, a text of several lines stays as it is."""
    return cell.strip() if "\n" in cell.strip() else clean_name(cell)


def _free_name(name: str, header: list[str]) -> str:
    """The name of a further column: its own, unless featstore adds a column of that name."""
    if name not in _RESERVED:
        return name
    kept = f"listed_{name}"
    while kept in header:
        kept += "_"
    return kept


def _read_rows(source: Path, delimiter: str | None) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header, and (line number, cells by column) of every row that is not blank."""
    if source.exists() and not source.is_file():
        raise DatasetError("not a file", str(source), "Name a CSV file")
    text = read_text(source, absent="no such file", fix="Name a CSV file")
    lines = _cells(text, source, delimiter)
    first, cells = next(lines, (1, []))
    if not cells:
        raise DatasetError("the list is empty", str(source), "The first line names the columns, such as path,labels")
    header = _header(cells, first, source)
    rows = [(line, dict(zip(header, cells, strict=True))) for line, cells in lines]
    if not rows:
        raise DatasetError("the list has no tracks", str(source), "Write one line per track below the header")
    for line, row in rows:
        if not row["path"].strip():
            raise DatasetError(f"line {line} has no path", str(source), "Give every track a path")
    unnamed = [name for name in header if name.startswith("column ") and not any(row[name].strip() for _, row in rows)]
    return [name for name in header if name not in unnamed], rows


def _cells(text: str, source: Path, delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """(Number of its first line, cells) of every record that is not blank; all have as many cells as the header."""
    first = next((line for line in io.StringIO(text, newline=None) if line.strip()), "")
    # a blank before a quote belongs to neither: the quote would be read as a letter
    blanks = _BLANK_QUOTE.search(text) is not None
    if len(delimiter or ",") != 1:
        raise DatasetError(f"delimiter {delimiter!r} is not one character", str(source), "Write: --set delimiter=;")
    between, even = delimiter or _delimiter(source, first), "Quote cells that hold the delimiter"
    for line, cells in rows_of(text, str(source), delimiter=between, skip_blanks=blanks, even=even):
        if "\0" in "".join(cells):
            raise DatasetError(f"a NUL byte in line {line}", str(source), "Save the list as UTF-8 again")
        yield line, cells


def _header(cells: list[str], line: int, source: Path) -> list[str]:
    header = [clean_name(cell) or f"column {place}" for place, cell in enumerate(cells, 1)]
    refuse_repeats(((name, line) for name in header), "two columns are called {0!r} in line {1}", source, "Rename one")
    check_column("path", header, source)
    return header


def _delimiter(source: Path, header: str) -> str:
    if source.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    return max(_DELIMITERS, key=header.count)


def _label_column(asked: str | None, header: list[str], source: Path) -> str | None:
    if asked is not None:
        check_column(asked, header, source)
    return asked or next((name for name in ("labels", "label") if name in header), None)


def _labels(cell: str, separator: str) -> list[str]:
    """Labels of one cell, in the order written."""
    pieces = cell.split(separator) if separator else [cell]
    return [each.strip(" \t") for each in pieces if each.strip(" \t")]


def _split(cell: str, line: int, source: Path) -> str | None:
    text = clean_name(cell).lower()
    if not text:
        return None
    check_known(text, SPLIT_NAMES, f"unknown split {cell!r} in line {line}", str(source), error=DatasetError)
    return SPLIT_NAMES[text]


def _typed(cells: list[str]) -> Any:
    """Whole numbers or numbers when all cells are such, else text; an empty cell is missing."""
    import pandas as pd

    filled = [each for each in cells if each]
    if filled and all(_INTEGER.fullmatch(each) for each in filled) and all(abs(int(each)) < 2**63 for each in filled):
        return pd.array([int(each) if each else None for each in cells], dtype="Int64")
    if filled and all(_NUMBER.fullmatch(each) for each in filled):
        return [float(each) if each else float("nan") for each in cells]
    return [each or None for each in cells]


def _found(folder: Path, path: str) -> str:
    """An absolute path as it is on the disk, or the URL of an object.

    A path is taken as written when there is such a file. If not, it may be written with blanks around it, or in
    another Unicode form than the disk has it (a list from macOS, files on Linux).
    """
    if is_object_url(path.strip()):
        return path.strip()
    absolute = os.path.join(folder, os.path.expanduser(path))
    if path.isascii() and path.strip() == path:
        return absolute
    plain = path.strip()
    forms = (path, plain, unicodedata.normalize("NFC", plain), unicodedata.normalize("NFD", plain))
    places = [os.path.join(folder, os.path.expanduser(each)) for each in forms]
    return next(filter(os.path.exists, places), places[1])

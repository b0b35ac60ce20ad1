"""The ``csv`` data set: a list of files with labels, splits and groups."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.datasets.folder import SPLIT_NAMES
from featstore.errors import DatasetError, did_you_mean
from featstore.object_storage import is_object_url

if TYPE_CHECKING:
    from featstore.datasets.table import Task, TrackTable

__all__ = ["index_csv"]

# Codes such as 0042 are text: as numbers they would lose their zeros.
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_OWN = ("track_id", "path", "labels", "split", "group")


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
    (``training``, ``val``, ``dev``, ``eval`` …).

    Parameters
    ----------
    root : path
        The list, UTF-8, with a header line.
    label_column : str, optional
        Column of the labels; by default ``labels``, or ``label``, or no labels.
    separator : str
        What stands between two labels of a track; empty means that the cell is one label.
    delimiter : str, optional
        What stands between two cells; by default a tab for ``.tsv``, ``;`` when the header has more
        of these than commas.
    task : "multi_label", "single_label" or "none", optional
        By default single_label when no track has two labels.
    name : str
        Name of the data set; the file's by default.

    Raises
    ------
    DatasetError
        When the list cannot be read, lacks a column (the message names those there are), is empty, or has a row with
        the wrong number of cells, without a path, or with an unknown split (the message names the line).
    """
    import pandas as pd

    from featstore.datasets.table import TableInfo, TrackTable

    source = Path(os.path.abspath(os.path.expanduser(root)))
    header, rows = _read_rows(source, delimiter)
    if "path" not in header:
        raise _no_column("path", header, source)
    column = _label_column(label_column, header, source)
    labels = [_labels(row[column], separator) if column else [] for _, row in rows]
    split_column = [_split(row.get("split", ""), line, source) for line, row in rows]
    frame = pd.DataFrame(
        {
            "track_id": [row.get("track_id") or row["path"] for _, row in rows],
            "path": [_absolute(source.parent, row["path"]) for _, row in rows],
            "labels": labels,
            "split": split_column,
            "group": [row.get("group") or None for _, row in rows],
        }
    )
    for extra in header:
        if extra not in _OWN:
            frame[extra] = _typed([row[extra] for _, row in rows])
    if task is None:
        task = "none" if not any(labels) else "single_label" if all(len(each) < 2 for each in labels) else "multi_label"
    classes = tuple(sorted({label for each in labels for label in each}))
    return TrackTable(frame, TableInfo(name=name or source.stem, task=task, classes=classes, root=str(source.parent)))


def _read_rows(source: Path, delimiter: str | None) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header, and (line number, cells by column) of every row that is not blank."""
    if not source.is_file():
        raise DatasetError("no such file" if not source.exists() else "not a file", str(source), "Name a CSV file")
    rows = []
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter or _delimiter(source, first), strict=True)
            header = [each.strip() for each in next(reader, [])]
            _check_header(header, source)
            for cells in reader:
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    raise DatasetError(
                        f"line {reader.line_num} has {len(cells)} cells, the header has {len(header)}",
                        str(source),
                        "Quote cells that hold the delimiter",
                    )
                row = dict(zip(header, cells, strict=True))
                if not row.get("path", "-"):
                    raise DatasetError(f"line {reader.line_num} has no path", str(source), "Give every track a path")
                rows.append((reader.line_num, row))
    except UnicodeDecodeError as error:
        raise DatasetError(f"not UTF-8 text ({error.reason})", str(source), "Save the list as UTF-8") from error
    except (csv.Error, OSError, TypeError) as error:
        raise DatasetError(f"not readable as CSV: {error}", str(source), "Check quotes and the delimiter") from error
    if not rows:
        raise DatasetError("the list has no tracks", str(source), "Write one line a track below the header")
    return header, rows


def _delimiter(source: Path, header: str) -> str:
    if source.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    return ";" if header.count(";") > header.count(",") else ","


def _check_header(header: list[str], source: Path) -> None:
    if not header:
        raise DatasetError("the list is empty", str(source), "The first line names the columns, such as path,labels")
    for name in header:
        if header.count(name) > 1:
            raise DatasetError(f"two columns are called {name!r}", str(source), "Rename one")


def _no_column(name: str, header: list[str], source: Path) -> DatasetError:
    return DatasetError(f"there is no column {name!r}", str(source), did_you_mean(name, header))


def _label_column(asked: str | None, header: list[str], source: Path) -> str | None:
    if asked is not None and asked not in header:
        raise _no_column(asked, header, source)
    return asked or next((name for name in ("labels", "label") if name in header), None)


def _labels(cell: str, separator: str) -> list[str]:
    """Labels of one cell, each once, in the order written."""
    pieces = cell.split(separator) if separator else [cell]
    return list(dict.fromkeys(each.strip() for each in pieces if each.strip()))


def _split(cell: str, line: int, source: Path) -> str | None:
    text = cell.strip().lower()
    if not text:
        return None
    if text not in SPLIT_NAMES:
        raise DatasetError(f"unknown split {cell!r} in line {line}", str(source), did_you_mean(text, SPLIT_NAMES))
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


def _absolute(folder: Path, path: str) -> str:
    """An absolute path, or the URL of an object as it is."""
    return path if is_object_url(path) else os.path.join(folder, os.path.expanduser(path))

"""Which works there are: style, family, split and length of each, from a table of facts that ships with featstore.

``python -m featstore.datasets.demo.families --write`` makes the table again from the installed scores (about half an
hour on one core); ``--check N`` recomputes the facts of N works and compares.
"""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from featstore.errors import DatasetError

__all__ = ["Entry", "catalogue", "write_table"]

_TABLE = "catalogue.csv.gz"
_COLUMNS = ("work", "style", "family", "split", "ticks", "notes")


@dataclass(frozen=True, slots=True)
class Entry:
    """What the shipped table says of a work.

    Attributes
    ----------
    work, style, family, split : str
        A family is named after one of its works.
    ticks : int
        Length in ticks, 480 to the quarter note, tunes with their repeats.
    notes : int
    """

    work: str
    style: str
    family: str
    split: str
    ticks: int
    notes: int


@cache
def catalogue() -> tuple[Entry, ...]:
    """All works of the shipped table, in its order.

    Raises
    ------
    DatasetError
        When the table is missing or damaged.
    """
    try:
        data = (files("featstore.datasets.demo") / _TABLE).read_bytes()
        rows = list(csv.reader(io.StringIO(gzip.decompress(data).decode())))
        if tuple(rows[0]) != _COLUMNS:
            raise ValueError(f"columns {rows[0]}")
        names = [row[0] for row in rows[1:]]
        return tuple(
            Entry(work, style, names[int(family)], split, int(ticks), int(notes))
            for work, style, family, split, ticks, notes in rows[1:]
        )
    except (OSError, ValueError, IndexError, EOFError) as error:
        reason = f"the catalogue cannot be read: {error}"
        raise DatasetError(reason, "built-in music", "Install featstore again") from error


def write_table(entries: list[Entry], path: Path) -> None:
    """Write entries as compressed CSV; the same entries give the same bytes."""
    from featstore.atomic import write_bytes

    row_of = {entry.work: row for row, entry in enumerate(entries)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for each in entries:
        writer.writerow((each.work, each.style, row_of[each.family], each.split, each.ticks, each.notes))
    write_bytes(path, gzip.compress(text.getvalue().encode(), 9, mtime=0))

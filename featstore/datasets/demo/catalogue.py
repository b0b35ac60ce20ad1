"""Which works there are: style, family, split and length of each, from a table of facts that ships with featstore.

``python -m featstore.datasets.demo.catalogue --write`` makes the table again from the installed scores (about half an
hour on one core); ``--check N`` recomputes the facts of N works and compares.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from featstore.datasets.demo.packages import corpus_folder
from featstore.datasets.demo.readers import file_text, split_tunes
from featstore.errors import DatasetError

__all__ = ["FEWEST_NOTES", "STYLES", "Entry", "Work", "catalogue", "scan_corpus", "work_named", "write_table"]

STYLES = (
    "reel",
    "jig",
    "hornpipe",
    "slip jig",
    "Scots air",
    "German song",
    "Chinese song",
    "chorale",
    "mass",
    "madrigal",
    "trecento",
    "string quartet",
)

FEWEST_NOTES = 16
"""Works with fewer notes are left out."""

_TABLE = "catalogue.csv.gz"
_COLUMNS = ("work", "style", "family", "split", "ticks", "notes")
_RHYTHMS = (("slip", "slip jig"), ("jig", "jig"), ("reel", "reel"), ("hornpipe", "hornpipe"), ("clog", "hornpipe"))


@dataclass(frozen=True, slots=True)
class Work:
    """One tune or movement in the installed scores.

    Attributes
    ----------
    name : str
        Id, such as ``oneills/0051-0100#12`` or ``bach/bwv155.5``.
    style : str
        One of ``STYLES``.
    path : Path
        The file it stands in.
    position : int
        Which tune of an ABC book it is; -1 for a score of its own.
    """

    name: str
    style: str
    path: Path
    position: int = -1

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that stand for the name in file names."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:12]


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


def work_named(name: str, style: str) -> Work:
    """The work of a catalogue entry, found in the installed scores without reading them.

    Raises
    ------
    DatasetError
        When its file is not there.
    """
    collection, _, rest = name.partition("/")
    folder, suffix = _PLACES[collection]
    book, mark, number = rest.partition("#")
    path = corpus_folder() / folder / f"{book}{suffix}"
    if not path.is_file():
        raise DatasetError(f"a score is missing: {name}", str(path), "Install music21 again")
    return Work(name, style, path, int(number) if mark else -1)


# Where the works of a collection lie in the corpus, and how their files end.
_PLACES = {
    "oneills": ("oneills1850", ".abc"),
    "ryans": ("ryansMammoth", ".abc"),
    "airds": ("airdsAirs", ".abc"),
    "essen": ("essenFolksong", ".abc"),
    "bach": ("bach", ".mxl"),
    "palestrina": ("palestrina", ".krn"),
    "monteverdi": ("monteverdi", ".mxl"),
    "trecento": ("trecento", ".xml"),
    "beethoven": ("beethoven", ".mxl"),
    "mozart": ("mozart", ".mxl"),
    "haydn": ("haydn", ".mxl"),
    "schumann": ("schumann_robert", ".mxl"),
}


def scan_corpus() -> list[Work]:
    """Every work that the installed scores hold, before any is parsed, in order of its id."""
    return sorted([*_tunes(), *_scores()], key=lambda work: work.name)


def _files(collection: str) -> list[Path]:
    folder, suffix = _PLACES[collection]
    return sorted((corpus_folder() / folder).rglob(f"*{suffix}"))


def tune_field(text: str, letter: str) -> str:
    """A field of an ABC tune; empty when it has none."""
    found = re.search(rf"(?m)^{letter}:[ \t]*(.*?)[ \t]*$", text)
    return found[1] if found else ""


def _tunes() -> Iterator[Work]:
    for collection in ("oneills", "ryans", "airds", "essen"):
        for path in _files(collection):
            if path.stem.startswith(("test", "variant")):
                continue
            for position, text in enumerate(split_tunes(path)):
                style = _tune_style(collection, text)
                if style:
                    yield Work(f"{collection}/{path.stem}#{position}", style, path, position)


def _tune_style(collection: str, text: str) -> str:
    if collection == "airds":
        return "Scots air"
    if collection == "essen":
        origin = tune_field(text, "O")
        return "Chinese song" if origin.startswith("China") else "German song" if "Deutschland" in origin else ""
    rhythm = tune_field(text, "R").lower().replace(" ", "")
    return next((style for word, style in _RHYTHMS if word in rhythm), "")


def _scores() -> Iterator[Work]:
    for path in _files("bach"):
        # the others are keyboard and orchestral pieces
        if re.fullmatch(r"bwv\d+(\.\d+)?", path.stem) and path.stem not in ("bwv846", "bwv1080"):
            yield Work(f"bach/{path.stem}", "chorale", path)
    for path in _files("palestrina"):
        yield Work(f"palestrina/{path.stem}", "mass", path)
    for path in _files("monteverdi"):
        if not path.stem.endswith("_old"):
            yield Work(f"monteverdi/{path.stem}", "madrigal", path)
    for path in _files("trecento"):
        if "bak" not in path.stem:
            yield Work(f"trecento/{path.stem}", "trecento", path)
    for collection in ("beethoven", "mozart", "haydn", "schumann"):
        top = corpus_folder() / _PLACES[collection][0]
        for path in _files(collection):
            book = path.relative_to(top).with_suffix("").as_posix()
            if not book.startswith(("k545", "opus48", "dichterliebe")):  # a sonata and songs
                yield Work(f"{collection}/{book}", "string quartet", path)


def mass_of(path: Path) -> str:
    """The mass that a Humdrum movement belongs to, by its reference record."""
    found = re.search(r"(?m)^!!!OPR:[ \t]*(.*?)[ \t]*$", file_text(path))
    return found[1] if found else path.stem


if __name__ == "__main__":
    from featstore.datasets.demo.families import main

    raise SystemExit(main())

"""The installed scores as works: tunes of ABC books and scores of their own, found without parsing any."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from featstore.datasets.demo.packages import corpus_folder
from featstore.errors import DatasetError

__all__ = ["STYLES", "Work", "mass_of", "scan_corpus", "tune_field", "tune_text", "work_named"]

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
_QUARTETS = r"(?!k545|opus48|dichterliebe).*"  # the others are a sonata and songs
# Styles of the collections of scores, and which of their works are of it.
_SCORES = {
    "bach": ("chorale", r"(?!bwv846$|bwv1080$)bwv\d+(\.\d+)?"),  # the others are keyboard and orchestral pieces
    "palestrina": ("mass", ".*"),
    "monteverdi": ("madrigal", ".*(?<!_old)"),
    "trecento": ("trecento", "(?!.*bak).*"),
} | dict.fromkeys(("beethoven", "mozart", "haydn", "schumann"), ("string quartet", _QUARTETS))
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


def file_text(path: Path) -> str:
    """A text file, UTF-8 or else Latin-1, with plain line ends."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


@cache
def split_tunes(path: Path) -> tuple[str, ...]:
    """The tunes of an ABC book, each from its ``X:`` on."""
    return tuple(each.strip() + "\n" for each in re.split(r"(?m)^(?=X:)", file_text(path)) if each.startswith("X:"))


def tune_text(path: Path, position: int) -> str:
    """One tune of an ABC book."""
    return split_tunes(path)[position]


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
    for collection, (style, pattern) in _SCORES.items():
        top = corpus_folder() / _PLACES[collection][0]
        for path in _files(collection):
            name = path.relative_to(top).with_suffix("").as_posix()
            if re.fullmatch(pattern, name):
                yield Work(f"{collection}/{name}", style, path)


def mass_of(path: Path) -> str:
    """The mass that a Humdrum movement belongs to, by its reference record."""
    return tune_field(file_text(path), "!!!OPR") or path.stem

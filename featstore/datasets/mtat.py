"""The ``mtat`` data set: MagnaTagATune, 25,863 clips of 29 s with the 50 most used of its tags.

Source: E. Law et al., "Evaluation of algorithms using games: the case of music tagging", ISMIR 2009. The split by
folders (12, 1 and 3 of 16) and the order of the tags are those of the resolution study (Ferraro et al., EUSIPCO 2020).
"""

from __future__ import annotations

import csv
import logging
import os
import re
from pathlib import Path
from typing import Any

from featstore.datasets.card import described
from featstore.datasets.sources import check_choices, existing_folder, places_of, read_text, refuse_repeats, rows_of
from featstore.datasets.table import TrackTable, track_table
from featstore.errors import DatasetError

__all__ = ["COUNTS", "TAGS", "UNUSABLE", "index_mtat"]

logger = logging.getLogger(__name__)

# by frequency: the order of the outputs of all published models for this set
TAGS = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano",
    "ambient", "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing",
    "vocals", "no vocals", "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop",
    "soft", "sitar", "solo", "man", "classic", "choir", "voice", "new age", "dance", "male voice",
    "female vocal", "beats", "harp", "cello", "no voice", "weird", "country", "metal", "female voice", "choral",
)  # fmt: skip
# clips whose audio cannot be used: they are empty in the published archive
UNUSABLE = ("35644", "55753", "57881")
# tracks of each split in the whole set
COUNTS = {
    "full": {"train": 18_706, "valid": 1_825, "test": 5_329},
    "cleaned": {"train": 15_244, "valid": 1_529, "test": 4_332},
}
ANNOTATIONS = "annotations_final.csv"
INFO = "clip_info_final.csv"
_FOLDERS = "0123456789abcdef"
_SPLIT_OF = {letter: "train" if letter < "c" else "valid" if letter == "c" else "test" for letter in _FOLDERS}
_PATH = re.compile(r"([0-9a-f])/(.+)-(\d+)-(\d+)\.mp3")
# where people unpack the archive of the clips, besides the root itself
_AUDIO_FOLDERS = ("", "mp3", "audio", "clips", "mtat/mp3")


@described(
    citation=(
        "E. Law, K. West, M. Mandel, M. Bay, J. S. Downie, Evaluation of algorithms using games: the case of music "
        "tagging, ISMIR 2009"
    ),
    licence="research use; audio of Magnatune, CC BY-NC-SA 1.0",
    counts={"mtat": COUNTS["full"], "mtat-cleaned": COUNTS["cleaned"]},
)
def index_mtat(
    root: str | os.PathLike[str],
    *,
    split: str = "full",
    annotations: str = "",
    audio: str = "",
    tags: str = "top50",
) -> TrackTable:
    """MagnaTagATune: ``annotations_final.csv`` and the clips in folders 0 to f, with the split by folders.

    Folders 0 to b train, c validates, d to f test. The group of a clip is its song, so that no song is on two sides;
    ``artist`` (as the file names have it) is a column of its own, because some artists are.
    The three clips that the archive ships without audio are left out.

    Parameters
    ----------
    root : path
        Folder of the set.
    split : "full" or "cleaned"
        ``cleaned`` leaves out clips without any of the tags. Scores on the two cannot be compared, so the table of
        the cleaned set is called ``mtat-cleaned``.
    annotations : str
        The annotations, when they do not lie in ``root``.
    audio : str
        The folder that holds 0 to f; by default the root, or ``mp3``, ``audio`` or ``clips`` in it.
    tags : "top50" or "all"
        The 50 most used tags in the published order, or all 188 in the order of the file.

    Raises
    ------
    DatasetError
        No annotations or no clip folders; another header; a line with the wrong number of cells, a value that is
        neither 0 nor 1, or a path of another form; a clip or a file that is listed twice.
    ConfigError
        For an unknown split or choice of tags.
    """
    check_choices("mtat", split=(split, COUNTS), tags=(tags, ("top50", "all")))
    base = existing_folder(root, f"Name the folder that holds {ANNOTATIONS} and the folders 0 to f")
    source = Path(os.path.expanduser(annotations)) if annotations else base / ANNOTATIONS
    clips = _clip_folder(base, audio)
    classes, rows = _read_annotations(source, tags)
    usable = [row for row in rows if row["track_id"] not in UNUSABLE]
    kept = [row for row in usable if split == "full" or row["labels"]]
    absent = sorted({row["path"][0] for row in kept} - _present(clips))
    facts = _facts(source.with_name(INFO))
    for row in kept:
        row["path"] = str(clips / row["path"])
        row |= {column: known.get(row["track_id"]) for column, known in facts.items()}
    notes = [f"{len(rows):,} annotated clips, {len(rows) - len(usable)} without audio left out"]
    if split == "cleaned":
        notes.append(f"{len(usable) - len(kept):,} without any of the {len(classes)} tags left out")
    if absent:
        notes.append(f"folders not there: {', '.join(absent)}")
        logger.warning("%s: folders not there: %s", clips, ", ".join(absent))
    name = "mtat" if split == "full" else "mtat-cleaned"
    return track_table(kept, name=name, task="multi_label", classes=classes, root=str(base), notes=notes)


def _present(clips: Path) -> set[str]:
    return {letter for letter in _FOLDERS if (clips / letter).is_dir()}


def _clip_folder(base: Path, audio: str) -> Path:
    """The folder that holds the folders 0 to f."""
    places = places_of(base, audio, _AUDIO_FOLDERS)
    for place in places:
        if _present(place):
            return place
    archives = sorted(entry.name for entry in base.iterdir() if entry.name.startswith("mp3.zip"))
    fix = (
        f"Unpack the archive first: cat {archives[0].removesuffix('.001')}.* > all.zip && unzip all.zip"
        if archives and archives[0].endswith(".001")
        else "Unpack the clips there, or name their folder with --set audio=FOLDER"
    )
    looked = ", ".join(str(place) for place in places)
    raise DatasetError(f"none of the clip folders 0 to f is in {looked}", str(base), fix)


def _read_annotations(source: Path, tags: str) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Tags in order, and the columns of each clip; paths are relative to the folder of the clips."""
    text = read_text(source, absent="no annotations here", fix=f"{ANNOTATIONS} comes with the data set")
    lines = rows_of(text, str(source), delimiter="\t", even="Copy the file again")
    _, header = next(lines, (1, []))
    classes = _classes(header, tags, source)
    columns = [(header.index(name), name) for name in classes]
    rows = {line: _row(cells, line, columns, str(source)) for line, cells in lines}
    if not rows:
        raise DatasetError("the annotations have no clips", str(source), "Copy the file again")
    for what, column in (("clip", "track_id"), ("file", "path")):
        places = ((row[column], line) for line, row in rows.items())
        refuse_repeats(places, f"{what} {{0}} is listed twice, in lines {{1}} and {{2}}", source)
    return classes, list(rows.values())


def _classes(header: list[str], tags: str, source: Path) -> tuple[str, ...]:
    """Tags to use, from a header that must be that of the data set."""
    if len(header) < 3 or header[0] != "clip_id" or header[-1] != "mp3_path":
        shown = ", ".join(header[:3]) + (" …" if len(header) > 3 else "")
        raise DatasetError(
            f"the header is not that of the annotations: {shown or 'nothing'}",
            str(source),
            "It begins with clip_id, ends with mp3_path, and is separated by tabs",
        )
    present = tuple(header[1:-1])
    places = zip(present, range(len(present)), strict=True)
    refuse_repeats(places, "two columns are called {0!r}", source, "Copy the file again")
    missing = [name for name in TAGS if name not in present] if tags == "top50" else []
    if missing:
        raise DatasetError(
            f"{len(missing)} of the 50 tags have no column: {', '.join(missing[:5])}",
            str(source),
            "Copy the file again, or take the tags that are there: --set tags=all",
        )
    return TAGS if tags == "top50" else present


def _row(cells: list[str], line: int, columns: list[tuple[int, str]], source: str) -> dict[str, Any]:
    clip_id, path = cells[0], cells[-1]
    if not clip_id.isascii() or not clip_id.isdigit():
        raise DatasetError(f"line {line}: {clip_id!r} is no clip id", source, "Ids are whole numbers")
    place = _PATH.fullmatch(path)
    if place is None or "/" in place[2]:
        what = f"line {line}: {path!r} is no path of a clip"
        raise DatasetError(what, source, "They look like f/song-0-29.mp3, with f in 0 to f")
    for position, name in columns:
        if cells[position] not in ("0", "1"):
            what = f"line {line}: {name!r} is {cells[position]!r}, neither 0 nor 1"
            raise DatasetError(what, source, "Copy the file again")
    folder, song, start_s, _ = place.groups()
    return {
        "track_id": clip_id,
        "path": path,
        "labels": [name for position, name in columns if cells[position] == "1"],
        "split": _SPLIT_OF[folder],
        "group": f"{folder}/{song}",
        "artist": song.partition("-")[0],
        "start_s": int(start_s),
    }


def _facts(source: Path) -> dict[str, dict[str, str | None]]:
    """Title, album and artist's name by clip from the file beside the annotations, where it is there and readable."""
    if not source.is_file():
        return {}
    try:
        with open(source, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
            names = {"title": "title", "album": "album", "artist_name": "artist"}
            return {column: {row["clip_id"]: row.get(name) or None for row in rows} for column, name in names.items()}
    except (UnicodeDecodeError, csv.Error, KeyError, OSError) as error:
        logger.warning("%s cannot be read (%s): titles and albums are left out", source, error)
        return {}

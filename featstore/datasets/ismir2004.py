"""The ``ismir2004`` data set: the genre contest of ISMIR 2004, 2,187 songs of Magnatune in six classes.

Source: P. Cano et al., "ISMIR 2004 audio description contest", MTG-TR-2006-02, 2006.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.datasets.card import described
from featstore.datasets.sources import absolute, check_choices, read_text, rows_of
from featstore.datasets.splits import assign_splits
from featstore.datasets.table import TrackTable, track_table
from featstore.errors import DatasetError, check_known

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CLASSES", "PARTS", "index_ismir2004"]

CLASSES = ("classical", "electronic", "jazz_blues", "metal_punk", "rock_pop", "world")
PARTS = ("training", "development", "evaluation")
COUNTS = {
    "training": (320, 115, 26, 45, 101, 122),
    "development": (320, 114, 26, 45, 102, 122),
    "evaluation": (319, 115, 26, 45, 101, 123),
}
_CLASS_OF = {"jazz": "jazz_blues", "blues": "jazz_blues", "metal": "metal_punk", "punk": "metal_punk",
             "rock": "rock_pop", "pop": "rock_pop"} | {name: name for name in CLASSES}  # fmt: skip
_ANONYMOUS = re.compile(r"(artist_[^_/]+)_(album_[^_/]+)_(track_.+)\.mp3", re.IGNORECASE)
_HEADER = frozenset({"class", "genre", "artist", "album", "track", "path", "file"})
_SPLITS = ("official", "artists")


@described(
    citation=(
        "P. Cano, E. Gómez, F. Gouyon, P. Herrera, M. Koppenberger, B. Ong, X. Serra, S. Streich, N. Wack, ISMIR 2004 "
        "audio description contest, MTG-TR-2006-02, 2006"
    ),
    licence="songs of Magnatune, CC BY-NC-SA 1.0",
    counts={
        "ismir2004-development": {"train": 656, "valid": 73, "test": 729},
        "ismir2004-evaluation": {"train": 656, "valid": 73, "test": 729},
    },
)
def index_ismir2004(
    root: str | os.PathLike[str], *, split: str = "official", test: str = "development", seed: int = 0
) -> TrackTable:
    """ISMIR 2004 genre: ``audio`` and ``metadata`` with ``training``, ``development`` and ``evaluation``.

    729 songs in each part, six classes (metal and punk are one, rock and pop, jazz and blues). A tenth of the training
    songs validates, drawn from the seed in proportion within each class. In the official split every artist of
    evaluation is in training, and nearly every album: scores reward recognising albums, and the notes say how many.
    ``split=artists`` divides training and evaluation by artist instead. The songs of development are anonymous.

    Parameters
    ----------
    root : path
        The folder that holds ``audio`` and ``metadata``.
    split : "official" or "artists"
    test : "development" or "evaluation"
        The part that tests in the official split. Together with training, development gives the class counts usual
        in papers that name 1,458 songs.
    seed : int
        Of the validation songs, and of the split by artists.

    Raises
    ------
    DatasetError
        No lists or audio; a line with too few cells, an unknown class, or a song without a file of its name.
    ConfigError
        For an unknown split or part.
    """
    import pandas as pd

    check_choices("ismir2004", split=(split, _SPLITS), test=(test, PARTS[1:]))
    base = absolute(root)
    if not (base / "audio").is_dir():
        raise DatasetError("no folder audio here", str(base), "Name the folder that holds audio and metadata")
    parts = ("training", "evaluation" if split == "artists" else test)
    songs = [song for part in parts for song in _read_part(base, part)]
    named = not any(_ANONYMOUS.fullmatch(song["path"]) for song in songs)
    renamed = _find_files(base, songs)
    frame = pd.DataFrame(songs)
    notes = [f"test: {'by artist' if split == 'artists' else test}", *_count_notes(songs, parts)]
    if split == "artists":
        frame["split"] = assign_splits(frame, fractions=(0.7, 0.1, 0.2), seed=seed)
    else:
        frame["split"] = _official(frame, seed)
        notes.append(_overlap(frame) if named else "artists of development are anonymous")
    if renamed:
        notes.append(f"{len(renamed)} paths were matched without marks and punctuation: {', '.join(renamed[:3])}")
    name = "ismir2004-artists" if split == "artists" else f"ismir2004-{test}"
    return track_table(frame, name=name, task="single_label", classes=CLASSES, root=str(base), notes=notes)


def _read_part(base: Path, part: str) -> list[dict[str, Any]]:
    """Columns of the songs of a list, which has quoted cells and maybe a header; paths are relative to their part."""
    folder = base / "metadata" / part
    names = ("tracklist.csv", "ground_truth.csv")
    source = next((folder / name for name in names if (folder / name).is_file()), folder / names[0])
    text = read_text(source, fix="It comes with the metadata of the contest")
    songs = []
    for line, cells in rows_of(text, str(source), skip_blanks=True):
        cells = [cell.strip() for cell in cells]
        if line == 1 and {cell.lower() for cell in cells} & _HEADER and cells[0].lower() not in _CLASS_OF:
            continue
        if len(cells) < 6:
            what = f"line {line} has {len(cells)} cells, a song has 6 or 7"
            raise DatasetError(what, str(source), "class, artist, album, track, number, path")
        label, artist, album, title, _, path, *_ = cells
        what = f"line {line}: unknown class {label!r}"
        check_known(label.lower(), _CLASS_OF, what, str(source), error=DatasetError)
        path = path.removeprefix("./").removeprefix(f"audio/{part}/").removeprefix(f"{part}/")
        if path.startswith("/") or ".." in Path(path).parts:
            raise DatasetError(f"line {line}: the path {path!r} leads out of the set", str(source), "Correct the list")
        songs.append(
            {
                "track_id": f"{part}/{path.removesuffix('.mp3')}",
                "path": path,
                "labels": [_CLASS_OF[label.lower()]],
                "group": _group(part, artist, path),
                "artist": artist,
                "album": album,
                "title": title,
                "part": part,
            }
        )
    if not songs:
        raise DatasetError("the list has no songs", str(source), "Copy it again")
    return songs


def _find_files(base: Path, songs: list[dict[str, Any]]) -> list[str]:
    """Set the file of each song; the paths of the list that no file has as written.

    A few names differ from the list in an apostrophe or in letters outside ASCII.
    """
    by_form: dict[str, str] = {}
    for part in {song["part"] for song in songs}:
        folder = base / "audio" / part
        for place, _, names in os.walk(folder):
            for name in names:
                relative = os.path.relpath(os.path.join(place, name), folder)
                by_form[f"{part}/{_plain(relative)}"] = os.path.join(folder, relative)
    renamed, n_found = [], 0
    for song in songs:
        path, written = song["path"], os.path.join(base, "audio", song["part"], song["path"])
        found = written if os.path.isfile(written) else by_form.get(f"{song['part']}/{_plain(path)}")
        song["path"] = found or written
        renamed += [path] if found not in (None, written) else []
        n_found += found is not None
    if not n_found:
        raise DatasetError("none of the songs is there", str(base / "audio"), "Unpack the audio of the contest there")
    return renamed


def _plain(path: str) -> str:
    """A path in which letters have no marks, and what is neither letter nor digit is ``_``."""
    decomposed = unicodedata.normalize("NFKD", os.fsencode(path).decode("utf-8", "replace")).casefold()
    kept = "".join(each for each in decomposed if not unicodedata.combining(each))
    return re.sub(r"[^a-z0-9/.]+", "_", kept)


def _group(part: str, artist: str, path: str) -> str:
    match = _ANONYMOUS.fullmatch(path.rpartition("/")[2])
    return f"{part} {match[1]}" if match else _plain(artist) or f"{part}/{path}"


def _official(frame: pd.DataFrame, seed: int) -> list[str]:
    """Training songs with a tenth of them to validate, whole songs in proportion within each class; the rest tests."""
    training = frame[frame["part"] == "training"]
    drawn = assign_splits(training, fractions=(0.9, 0.1, 0.0), seed=seed, group_column=None)
    chosen = dict(zip(training["track_id"], drawn, strict=True))
    return [chosen.get(track, "test") for track in frame["track_id"]]


def _overlap(frame: pd.DataFrame) -> str:
    """How many test songs share artist or album with training."""
    test, rest = frame[frame["split"] == "test"], frame[frame["split"] != "test"]
    artists = int(test["group"].isin(set(rest["group"])).sum())
    albums = {*zip(rest["group"], rest["album"], strict=True)}
    shared = sum(pair in albums for pair in zip(test["group"], test["album"], strict=True))
    return f"{artists} of {len(test)} test songs have an artist of training, {shared} an album of training"


def _count_notes(songs: list[dict[str, Any]], parts: tuple[str, ...]) -> Iterator[str]:
    for part in parts:
        counts = Counter(song["labels"][0] for song in songs if song["part"] == part)
        found = tuple(counts[name] for name in CLASSES)
        if found != COUNTS[part]:
            yield f"{part} has {'/'.join(map(str, found))} songs, published {'/'.join(map(str, COUNTS[part]))}"

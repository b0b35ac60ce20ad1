"""The ``fma`` data set: the Free Music Archive, 106,574 tracks with clips of 30 s, in three subsets.

Source: M. Defferrard, K. Benzi, P. Vandergheynst, X. Bresson, "FMA: a dataset for music analysis", ISMIR 2017. Faulty
clips: issues 8, 41 and 44 of its repository, and reports of users (``fma_faults.csv``).
"""

from __future__ import annotations

import ast
import csv
import hashlib
import logging
import os
import zipfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from featstore.atomic import atomic_path, disk_errors
from featstore.datasets.card import described
from featstore.datasets.csv_cells import decoded, rows_of
from featstore.datasets.table import SPLITS
from featstore.errors import DatasetError, check_known
from featstore.log import progress

if TYPE_CHECKING:
    from featstore.datasets.table import TrackTable

__all__ = ["GENRES", "MEDIUM_COUNTS", "SUBSETS", "index_fma"]

logger = logging.getLogger(__name__)

SUBSETS = ("small", "medium", "large")  # each holds the ones before it
_SPLIT_OF = {"training": "train", "validation": "valid", "test": "test"}
_COLUMNS = (
    ("set", "split"), ("set", "subset"), ("artist", "id"), ("artist", "name"), ("album", "id"), ("track", "title"),
    ("track", "genre_top"), ("track", "genres"), ("track", "genres_all"), ("track", "duration"),
)  # fmt: skip

# Tracks of the medium subset: train, valid, test.
MEDIUM_COUNTS: Mapping[str, tuple[int, int, int]] = {
    "Blues": (58, 8, 8), "Classical": (495, 62, 62), "Country": (142, 18, 18), "Easy Listening": (13, 2, 6),
    "Electronic": (5050, 632, 632), "Experimental": (1801, 225, 225), "Folk": (1215, 152, 152),
    "Hip-Hop": (1761, 220, 220), "Instrumental": (1045, 131, 174), "International": (814, 102, 102),
    "Jazz": (306, 39, 39), "Old-Time / Historic": (408, 51, 51), "Pop": (945, 122, 119), "Rock": (5681, 711, 711),
    "Soul-RnB": (94, 18, 42), "Spoken": (94, 12, 12),
}  # fmt: skip
GENRES = tuple(MEDIUM_COUNTS)
_SMALL_GENRES = (
    "Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of tracks.csv."""

    track: int
    split: str
    subset: str
    artist: str
    artist_name: str
    album: str
    title: str
    genre: str
    genres: list[int]
    genres_all: list[int]
    full_track_s: float | None

    @property
    def name(self) -> str:
        return f"{self.track:06d}"


@described(
    citation="M. Defferrard, K. Benzi, P. Vandergheynst, X. Bresson, FMA: a dataset for music analysis, ISMIR 2017",
    licence="metadata CC BY 4.0; each track under the licence that its artist chose (column track.license)",
    checksums={
        "fma_metadata.zip": "sha1:f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
        "fma_small.zip": "sha1:ade154f733639d52e35e32f5593efe5be76c6d70",
        "fma_medium.zip": "sha1:c67b69ea232021025fca9231fc1c7c1a063ab50b",
        "fma_large.zip": "sha1:497109f4dd721066b5ce5e5f250ec604dc78939e",
    },
    clip_s=29.9,
)
def index_fma(
    root: str | os.PathLike[str],
    *,
    subset: str = "medium",
    metadata: str = "",
    audio: str = "",
    exclude: str = "no_audio",
    verify: str = "no",
) -> TrackTable:
    """Free Music Archive: ``fma_metadata`` and ``fma_small``, ``fma_medium`` or ``fma_large``, as folders or zips.

    A subset holds the smaller ones: ``medium`` is small and medium. Labels are the root genres (16 in medium), in
    alphabetical order; a track of large may have none. The split is the official one, the group is the artist, who
    must be on one side. Clips known to hold no audio stay in the table without a split, with the reason in
    ``probe_error``; ``fault`` names them and the short or reported ones. Tracks and labels are joined by id.

    A zip of the metadata is read as it is; the clips of a zip of audio are unpacked beside it, those alone that are
    not there.

    Parameters
    ----------
    root : path
        The folder that holds the folders or zips.
    subset : "small", "medium" or "large"
    metadata, audio : str
        Folders or zips of the metadata and of the audio, when they do not lie in ``root`` under their own names.
    exclude : "no_audio", "reported" or "none"
        ``reported`` leaves out the clips that users report as unreadable or distorted, too.
    verify : "yes" or "no"
        Compare every file with the SHA-1 in ``checksums``; a file that differs is marked as unreadable.

    Raises
    ------
    DatasetError
        No metadata or audio; another header; a value of another form (the message names the line); an artist on two
        sides; two rows of one track.
    ConfigError
        For an unknown choice.
    """
    import pandas as pd

    from featstore.datasets.table import TableInfo, TrackTable

    for option, value, allowed in (
        ("subset", subset, SUBSETS),
        ("exclude", exclude, ("no_audio", "reported", "none")),
        ("verify", verify, ("yes", "no")),
    ):
        check_known(value, allowed, f"{option}={value!r} is not a choice", "data set fma")
    base = Path(os.path.abspath(os.path.expanduser(root)))
    source, text = _metadata(base, metadata)
    rows = [row for row in _read_tracks(text, source) if SUBSETS.index(row.subset) <= SUBSETS.index(subset)]
    if not rows:
        raise DatasetError(f"no track is in the subset {subset}", source, "Copy the file again")
    _check_artists(rows, source)
    clips = _clips(base, audio, subset, [row.name for row in rows])
    errors = _differing(clips, rows) if verify == "yes" else {}
    faults = _known_faults()
    left_out = {"no_audio": {"no_audio"}, "reported": {"no_audio", "unreadable", "distorted"}, "none": set[str]()}[
        exclude
    ]
    excluded = [row.track for row in rows if faults.get(row.track, "") in left_out]
    columns = {
        "track_id": [row.name for row in rows],
        "path": [str(clips / row.name[:3] / f"{row.name}.mp3") for row in rows],
        "labels": [[row.genre] if row.genre else [] for row in rows],
        "split": [None if row.track in excluded else row.split for row in rows],
        "group": [row.artist for row in rows],
        "probe_error": [
            f"known fault: {faults[row.track]}" if row.track in excluded else errors.get(row.name) for row in rows
        ],
        "official_split": [row.split for row in rows],
        "fault": [faults.get(row.track) for row in rows],
        "subset": [row.subset for row in rows],
        "artist": [row.artist_name for row in rows],
        "album": [row.album for row in rows],
        "title": [row.title for row in rows],
        "genres": [row.genres for row in rows],
        "genres_all": [row.genres_all for row in rows],
        "full_track_s": [row.full_track_s for row in rows],  # as reported, of the track that the clip is cut from
    }
    known = GENRES if subset != "small" else _SMALL_GENRES
    classes = tuple(sorted({row.genre for row in rows if row.genre} | set(known)))
    notes = [_count_note(rows, subset), f"{len(excluded)} clips left out for known faults"]
    for note in notes:
        logger.info("FMA: %s", note)
    info = TableInfo(name=f"fma-{subset}", task="single_label", classes=classes, root=str(base), notes="; ".join(notes))
    return TrackTable(pd.DataFrame(columns), info)


# ------------------------------------------------------------------------------------------------------------- metadata


def _metadata(base: Path, named: str) -> tuple[str, str]:
    """Where tracks.csv is, and its text: in a folder, or in a zip as it is."""
    if named:
        places = [Path(os.path.abspath(os.path.join(base, os.path.expanduser(named))))]
    else:
        places = [base / "fma_metadata", base, base / "fma_metadata.zip"]
    for place in places:
        if (place / "tracks.csv").is_file():
            source = str(place / "tracks.csv")
            return source, decoded((place / "tracks.csv").read_bytes(), source)
        if place.suffix == ".zip" and place.is_file():
            with _opened(place) as archive:
                name = next((each for each in archive.namelist() if each.rpartition("/")[2] == "tracks.csv"), None)
                if name is None:
                    raise DatasetError("the archive has no tracks.csv", str(place), "Name fma_metadata.zip")
                source = f"{place}:{name}"
                return source, decoded(_member(archive, name), source)
    looked = ", ".join(str(place) for place in places)
    fix = "tracks.csv comes in fma_metadata.zip; name its folder with --set metadata=FOLDER"
    raise DatasetError(f"no tracks.csv in {looked}", str(base), fix)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DatasetError(f"the archive cannot be opened: {error}", str(path), "Fetch it again") from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Content of a member; the archives are compressed by BZIP2, which Python reads and some tools do not."""
    try:
        return archive.read(name)
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise DatasetError(
            f"{name} in the archive is damaged: {error}", str(archive.filename), "Fetch it again"
        ) from error


def _read_tracks(text: str, source: str) -> list[_Row]:
    """All lines; two rows of header, then one that holds only the name of the index."""
    lines = rows_of(text, source)
    (_, top), (_, below) = next(lines, (1, [])), next(lines, (2, []))
    place = {pair: column for column, pair in reversed(list(enumerate(zip(top, below, strict=False))))}
    missing = [".".join(pair) for pair in _COLUMNS if pair not in place]
    if missing:
        fix = "tracks.csv has two rows of header, such as track and genre_top; copy it from fma_metadata.zip"
        raise DatasetError(f"no columns {', '.join(missing)}", source, fix)
    columns = [place[pair] for pair in _COLUMNS]
    rows: dict[int, _Row] = {}
    for line, cells in lines:
        if cells[0] == "track_id":
            continue
        if len(cells) != len(top):
            raise DatasetError(
                f"line {line} has {len(cells)} cells, the header has {len(top)}", source, "Copy it again"
            )
        row = _row(cells[0], [cells[column] for column in columns], f"{source}, line {line}")
        if row.track in rows:
            raise DatasetError(f"track {row.track} is listed twice, again in line {line}", source, "Copy it again")
        rows[row.track] = row
    return list(rows.values())


def _row(track: str, cells: list[str], where: str) -> _Row:
    split, subset, artist, artist_name, album, title, genre, genres, genres_all, seconds = (
        each.strip() for each in cells
    )
    if not (track.isascii() and track.isdecimal()) or int(track) > 999_999:
        raise DatasetError(f"{track!r} is no track id", where, "Ids are whole numbers of up to six digits")
    if split not in _SPLIT_OF or subset not in SUBSETS or not artist:
        what = f"set.split={split!r}, set.subset={subset!r}, artist.id={artist!r}"
        raise DatasetError(what, where, "These are training, validation or test; small, medium or large; a number")
    try:
        full = float(seconds) if seconds else None
    except ValueError:
        raise DatasetError(f"track.duration={seconds!r} is no number", where, "Copy the file again") from None
    return _Row(
        int(track), _SPLIT_OF[split], subset, artist, artist_name, album, title, genre,
        _id_list(genres, where), _id_list(genres_all, where), full,
    )  # fmt: skip


def _id_list(text: str, where: str) -> list[int]:
    """A list of genre ids, which the file has as a Python literal."""
    try:
        found = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, list) or not all(isinstance(each, int) for each in found):
        raise DatasetError(f"{text[:40]!r} is no list of genre ids", where, "Lists look like [21, 58]")
    return found


def _check_artists(rows: list[_Row], source: str) -> None:
    """An artist is on one side of the official split; anything else is another file."""
    sides: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        sides[row.artist].add(row.split)
    both = [artist for artist, found in sides.items() if len(found) > 1]
    if both:
        shown = ", ".join(f"{artist} ({'/'.join(sorted(sides[artist]))})" for artist in both[:3])
        what = f"{len(both)} artists are on two sides of the split: {shown}"
        raise DatasetError(what, source, "The official split keeps artists apart: copy fma_metadata.zip again")


def _count_note(rows: list[_Row], subset: str) -> str:
    """How the tracks of each genre and split compare with the published ones."""
    counts = Counter((row.genre, row.split) for row in rows)
    if subset == "large":
        return f"{len(rows):,} tracks, published 106,574"
    published = MEDIUM_COUNTS if subset == "medium" else dict.fromkeys(_SMALL_GENRES, (800, 100, 100))
    other = [
        f"{genre} {'/'.join(str(counts[genre, split]) for split in SPLITS)} (published {'/'.join(map(str, numbers))})"
        for genre, numbers in published.items()
        if numbers != tuple(counts[genre, split] for split in SPLITS)
    ]
    total = "/".join(f"{sum(row.split == split for row in rows):,}" for split in SPLITS)
    return f"{total} tracks, " + (f"counts differ: {', '.join(other)}" if other else "as published in every genre")


def _known_faults() -> dict[int, str]:
    """Fault of each clip that is known to have one."""
    text = (files("featstore.datasets") / "fma_faults.csv").read_text(encoding="utf-8")
    return {int(row["track_id"]): row["fault"] for row in csv.DictReader(text.splitlines())}


# ---------------------------------------------------------------------------------------------------------------- audio


def _clips(base: Path, named: str, subset: str, names: list[str]) -> Path:
    """The folder of the clips, unpacked from a zip where that is what there is."""
    if named:
        places = [Path(os.path.abspath(os.path.join(base, os.path.expanduser(named))))]
    else:  # a bigger subset's folder holds the smaller ones
        bigger = [f"fma_{each}" for each in SUBSETS[SUBSETS.index(subset) :]]
        # the zip before the folder: what an interrupted run unpacked is completed
        places = [base / name for each in bigger for name in (f"{each}.zip", each)] + [base]
    for place in places:
        if place.suffix == ".zip" and place.is_file():
            return _unpacked(place, names)
        if place.is_dir() and any((place / name[:3]).is_dir() for name in names[:2000]):
            return place
    looked = ", ".join(str(place) for place in places)
    raise DatasetError(
        f"no clips such as {names[0][:3]}/{names[0]}.mp3 in {looked}",
        str(base),
        "Name their folder with --set audio=FOLDER",
    )


def _unpacked(place: Path, names: list[str]) -> Path:
    """Clips of a zip beside it, each written whole; those there with the right size are left as they are."""
    target = place.with_suffix("")
    with _opened(place) as archive:
        wanted = {f"{name}.mp3" for name in names} | {"checksums"}
        members = [each for each in archive.infolist() if each.filename.rpartition("/")[2] in wanted]
        if not members:
            raise DatasetError("the archive holds none of the clips", str(place), "Name the zip of the subset")
        lacking = []
        for member in members:
            parts = member.filename.split("/")
            path = (
                target / parts[-2] / parts[-1] if parts[-1].endswith(".mp3") and len(parts) > 1 else target / parts[-1]
            )
            if not path.is_file() or path.stat().st_size != member.file_size:
                lacking.append((member.filename, path))
        with disk_errors(target):
            for name, path in progress(lacking, desc="unpack", unit="file"):
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(path) as part:
                    Path(part).write_bytes(_member(archive, name))
    return target


def _differing(clips: Path, rows: list[_Row]) -> dict[str, str]:
    """Why a clip cannot be trusted, by name: its digest is not the one in ``checksums``."""
    source = clips / "checksums"
    if not source.is_file():
        raise DatasetError("no file checksums to compare with", str(clips), "It comes in the zip of the audio")
    digests = {}
    for line in source.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        digests[Path(name).stem] = digest
    found = {}
    for row in progress(rows, desc="verify", unit="file"):
        path = clips / row.name[:3] / f"{row.name}.mp3"
        if path.is_file() and row.name in digests and _sha1(path) != digests[row.name]:
            found[row.name] = "the file is not the published one: its SHA-1 differs from checksums"
    return found


def _sha1(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()

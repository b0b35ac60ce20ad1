"""The ``fma`` data set: the Free Music Archive, 106,574 tracks with clips of 30 s, in three subsets.

Source: M. Defferrard, K. Benzi, P. Vandergheynst, X. Bresson, "FMA: a dataset for music analysis", ISMIR 2017. Faulty
clips: issues 8, 41 and 44 of its repository, and reports of users (``fma_faults.csv``).
"""

from __future__ import annotations

import ast
import csv
import hashlib
import os
import zipfile
from collections import Counter
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from featstore.atomic import write_bytes
from featstore.datasets.card import described
from featstore.datasets.sources import (
    absolute,
    check_choices,
    decoded,
    places_of,
    read_text,
    refuse_repeats,
    rows_of,
    two_sided,
)
from featstore.datasets.table import SPLITS, TrackTable, track_table
from featstore.errors import DatasetError
from featstore.log import progress

__all__ = ["GENRES", "MEDIUM_COUNTS", "SUBSETS", "index_fma"]

_LEFT_OUT = {"no_audio": ("no_audio",), "reported": ("no_audio", "unreadable", "distorted"), "none": ()}
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
    check_choices("fma", subset=(subset, SUBSETS), exclude=(exclude, _LEFT_OUT), verify=(verify, ("yes", "no")))
    base = absolute(root)
    source, text = _metadata(base, metadata)
    among = SUBSETS[: SUBSETS.index(subset) + 1]
    rows = [row for row in _read_tracks(text, source) if row["subset"] in among]
    if not rows:
        raise DatasetError(f"no track is in the subset {subset}", source, "Copy the file again")
    _check_artists(rows, source)
    clips = _clips(base, audio, subset, [row["track_id"] for row in rows])
    for row in rows:
        row["path"] = str(clips / row["track_id"][:3] / f"{row['track_id']}.mp3")
    errors = _differing(clips, rows) if verify == "yes" else {}
    for row in rows:
        row["probe_error"] = errors.get(row["track_id"])
        if row["fault"] in _LEFT_OUT[exclude]:
            row |= {"split": None, "probe_error": f"known fault: {row['fault']}"}
    known = GENRES if subset != "small" else _SMALL_GENRES
    classes = tuple(sorted({name for row in rows for name in row["labels"]} | set(known)))
    excluded = sum(row["split"] is None for row in rows)
    notes = [_count_note(rows, subset), f"{excluded} clips left out for known faults"]
    facts: dict[str, Any] = {"task": "single_label", "classes": classes, "root": str(base), "notes": notes}
    return track_table(rows, name=f"fma-{subset}", **facts)


# ------------------------------------------------------------------------------------------------------------- metadata


def _metadata(base: Path, named: str) -> tuple[str, str]:
    """Where tracks.csv is, and its text: in a folder, or in a zip as it is."""
    places = places_of(base, named, ("fma_metadata", "", "fma_metadata.zip"))
    for place in places:
        if (place / "tracks.csv").is_file():
            return str(place / "tracks.csv"), read_text(place / "tracks.csv")
        if place.suffix == ".zip" and place.is_file():
            with _opened(place) as archive:
                name = next((each for each in archive.namelist() if each.rpartition("/")[2] == "tracks.csv"), None)
                if name is None:
                    raise DatasetError("the archive has no tracks.csv", str(place), "Name fma_metadata.zip")
                source = f"{place}:{name}"
                return source, decoded(_member(archive, name), source)
    fix = "tracks.csv comes in fma_metadata.zip; name its folder with --set metadata=FOLDER"
    raise DatasetError(f"no tracks.csv in {', '.join(map(str, places))}", str(base), fix)


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


def _read_tracks(text: str, source: str) -> list[dict[str, Any]]:
    """Columns of all tracks; two rows of header, then one that holds only the name of the index."""
    lines = rows_of(text, source, even="Copy it again")
    (_, top), (_, below) = next(lines, (1, [])), next(lines, (2, []))
    place = {pair: column for column, pair in reversed(list(enumerate(zip(top, below, strict=False))))}
    missing = [".".join(pair) for pair in _COLUMNS if pair not in place]
    if missing:
        fix = "tracks.csv has two rows of header, such as track and genre_top; copy it from fma_metadata.zip"
        raise DatasetError(f"no columns {', '.join(missing)}", source, fix)
    columns, faults = [place[pair] for pair in _COLUMNS], _known_faults()
    rows = {
        line: _row(cells[0], [cells[column].strip() for column in columns], faults, f"{source}, line {line}")
        for line, cells in lines
        if cells[0] != "track_id"
    }
    places = ((int(row["track_id"]), line) for line, row in rows.items())
    refuse_repeats(places, "track {0} is listed twice, again in line {2}", source, "Copy it again")
    return list(rows.values())


def _row(track: str, cells: list[str], faults: Mapping[int, str], where: str) -> dict[str, Any]:
    split, subset, artist, artist_name, album, title, genre, genres, genres_all, seconds = cells
    if not (track.isascii() and track.isdecimal()) or int(track) > 999_999:
        raise DatasetError(f"{track!r} is no track id", where, "Ids are whole numbers of up to six digits")
    if split not in _SPLIT_OF or subset not in SUBSETS or not artist:
        what = f"set.split={split!r}, set.subset={subset!r}, artist.id={artist!r}"
        raise DatasetError(what, where, "These are training, validation or test; small, medium or large; a number")
    try:
        full = float(seconds) if seconds else None
    except ValueError:
        raise DatasetError(f"track.duration={seconds!r} is no number", where, "Copy the file again") from None
    return {
        "track_id": f"{int(track):06d}",
        "labels": [genre] if genre else [],
        "split": _SPLIT_OF[split],
        "group": artist,
        "official_split": _SPLIT_OF[split],
        "fault": faults.get(int(track)),
        "subset": subset,
        "artist": artist_name,
        "album": album,
        "title": title,
        "genres": _id_list(genres, where),
        "genres_all": _id_list(genres_all, where),
        "full_track_s": full,  # as reported, of the track that the clip is cut from
    }


def _id_list(text: str, where: str) -> list[int]:
    """A list of genre ids, which the file has as a Python literal."""
    try:
        found = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, list) or not all(isinstance(each, int) for each in found):
        raise DatasetError(f"{text[:40]!r} is no list of genre ids", where, "Lists look like [21, 58]")
    return found


def _check_artists(rows: list[dict[str, Any]], source: str) -> None:
    """An artist is on one side of the official split; anything else is another file."""
    both = two_sided([row["group"] for row in rows], [row["split"] for row in rows])
    if both:
        shown = ", ".join(f"{artist} ({'/'.join(sides)})" for artist, sides in list(both.items())[:3])
        what = f"{len(both)} artists are on two sides of the split: {shown}"
        raise DatasetError(what, source, "The official split keeps artists apart: copy fma_metadata.zip again")


def _count_note(rows: list[dict[str, Any]], subset: str) -> str:
    """How the tracks of each genre and split compare with the published ones."""
    if subset == "large":
        return f"{len(rows):,} tracks, published 106,574"
    counts = Counter((name, row["official_split"]) for row in rows for name in row["labels"])
    published = MEDIUM_COUNTS if subset == "medium" else dict.fromkeys(_SMALL_GENRES, (800, 100, 100))
    other = [
        f"{genre} {'/'.join(str(counts[genre, split]) for split in SPLITS)} (published {'/'.join(map(str, numbers))})"
        for genre, numbers in published.items()
        if numbers != tuple(counts[genre, split] for split in SPLITS)
    ]
    total = "/".join(f"{sum(row['official_split'] == split for row in rows):,}" for split in SPLITS)
    return f"{total} tracks, " + (f"counts differ: {', '.join(other)}" if other else "as published in every genre")


def _known_faults() -> dict[int, str]:
    """Fault of each clip that is known to have one."""
    text = (files("featstore.datasets") / "fma_faults.csv").read_text(encoding="utf-8")
    return {int(row["track_id"]): row["fault"] for row in csv.DictReader(text.splitlines())}


# ---------------------------------------------------------------------------------------------------------------- audio


def _clips(base: Path, named: str, subset: str, names: list[str]) -> Path:
    """The folder of the clips, unpacked from a zip where that is what there is."""
    bigger = [f"fma_{each}" for each in SUBSETS[SUBSETS.index(subset) :]]  # their folders hold the smaller ones
    # the zip before the folder: what an interrupted run unpacked is completed
    places = places_of(base, named, [*(name for each in bigger for name in (f"{each}.zip", each)), ""])
    for place in places:
        if place.suffix == ".zip" and place.is_file():
            return _unpacked(place, names)
        if place.is_dir() and any((place / name[:3]).is_dir() for name in names[:2000]):
            return place
    what = f"no clips such as {names[0][:3]}/{names[0]}.mp3 in {', '.join(map(str, places))}"
    raise DatasetError(what, str(base), "Name their folder with --set audio=FOLDER")


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
            kept = parts[-2:] if parts[-1].endswith(".mp3") else parts[-1:]
            path = target.joinpath(*kept)
            if not path.is_file() or path.stat().st_size != member.file_size:
                lacking.append((member.filename, path))
        for name, path in progress(lacking, desc="unpack", unit="file"):
            write_bytes(path, _member(archive, name))
    return target


def _differing(clips: Path, rows: list[dict[str, Any]]) -> dict[str, str]:
    """Why a clip cannot be trusted, by name: its digest is not the one in ``checksums``."""
    fix = "It comes in the zip of the audio"
    lines = read_text(clips / "checksums", absent="no file checksums to compare with", fix=fix).splitlines()
    digests = {Path(name).stem: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = {}
    for row in progress(rows, desc="verify", unit="file"):
        name = row["track_id"]
        if os.path.isfile(row["path"]) and name in digests and _sha1(row["path"]) != digests[name]:
            found[name] = "the file is not the published one: its SHA-1 differs from checksums"
    return found


def _sha1(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()

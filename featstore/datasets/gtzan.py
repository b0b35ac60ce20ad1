"""The ``gtzan`` data set: 1,000 clips of 30 s in ten genres, with its known faults.

Source: G. Tzanetakis and P. Cook, "Musical genre classification of audio signals", IEEE Transactions on Speech and
Audio Processing 10 (5), 2002. Faults: B. L. Sturm, "An analysis of the GTZAN music genre dataset", MIRUM 2012. The
fault-filtered split keeps artists apart: C. Kereliuk, B. L. Sturm, J. Larsen, "Deep learning and music adversaries",
IEEE Transactions on Multimedia 17 (11), 2015.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from featstore.datasets.card import described
from featstore.datasets.repeats import repeat_lists
from featstore.datasets.sources import check_choices, existing_folder, read_text, two_sided
from featstore.datasets.splits import joined
from featstore.datasets.table import SPLITS, TrackTable, track_table
from featstore.errors import ConfigError, DatasetError
from featstore.grouping import assign_rows

__all__ = ["FAULT_FILTERED", "GENRES", "index_gtzan"]

logger = logging.getLogger(__name__)

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
_TOPS = ("", "genres", "genres_original", "Data/genres_original", "GTZAN/genres")
_NAME = re.compile(r"([a-z]+)\.(\d{5})\.(au|wav)")
_MODES = ("stratified", "folds", "fault_filtered", "none")
COUNTS = {"train": 443, "valid": 197, "test": 290}

# File numbers of train, valid and test; the 70 others repeat or resemble files of another part, or are distorted.
FAULT_FILTERED: Mapping[str, tuple[str, str, str]] = {
    "blues": ("29-49,73-97", "0-11,50-60", "12-28,61-72,98-99"),
    "classical": ("30-33,43-48,50-67,80-99", "0-10,68-76", "11-29,34-41,49,77-79"),
    "country": ("19-26,28-29,65-99", "0-7,9-18,27,41-42,45,49", "30-40,43-44,46-48,50-51,53-64"),
    "disco": (
        "5,15-20,22-37,39-45,47,49,53-54,56-57,59,61,70,73-74,89",
        "0,2-4,6-14,46,48,52,67-68,72,75,90,95",
        "1,21,58,62-66,69,76-88,91-94,96-97,99",
    ),
    "hiphop": ("2-25,28-29,31-38,41-42,55-61,77-80", "81-98", "0,26-27,30,40,43-45,51-54,62-75,99"),
    "jazz": ("0-1,11-24,41,47-72", "2-10,25-32", "73-99"),
    "metal": (
        "2-3,5,21,24,35,46-57,59-66,69,71-72,79-80,84,86,89-99",
        "0-1,6-11,16-20,36-37,68,76-77,81-82",
        "12-15,22-23,25-33,38-39,67,70,73-75,78,83,85,87-88",
    ),
    "pop": (
        "2-9,11-12,16-20,23-29,31-36,38-42,44,46,49-50,80,97-99",
        "10,53,55,58-62,81,83-86",
        "0-1,13-14,43,63-66,69-79,82,88-96",
    ),
    "reggae": (
        "0-2,4,6,9,11-12,14-32,42-45,49-51,54-60,63,69",
        "61-62,70,72,74,76-78,85,92-99",
        "34-40,46-48,52-53,64-68,71,79,82-84,87-90",
    ),
    "rock": ("0-9,16-26,57-70,91-99", "38,49-56,71-85", "10-15,27-37,39-48,86-90"),
}


@described(
    citation="G. Tzanetakis, P. Cook, Musical genre classification of audio signals, IEEE TSAP 10 (5), 2002",
    licence="not stated; excerpts of commercial recordings, for research",
    counts={"gtzan-fault-filtered": COUNTS},
    clip_s=29.9,
)
def index_gtzan(
    root: str | os.PathLike[str],
    *,
    split: str = "stratified",
    fold: int = 0,
    folds: int = 10,
    seed: int = 0,
    folds_file: str = "",
    repeats: str = "",
) -> TrackTable:
    """GTZAN: 1,000 clips in ten genres, as ``genres/`` (.au or .wav) or ``genres_original/`` (.wav).

    The set holds repeats and several clips of one recording, and names no artist: the groups are those of
    ``repeats``, a file that ``featstore datasets check TRACKS --fingerprint --repeats FILE`` writes. jazz.00054 cannot
    be decoded in one copy; the track stays, with the reason. Lengths vary between 29.9 and 30.7 s.

    Parameters
    ----------
    root : path
        The folder of the genre folders, or the one above it.
    split : "stratified", "folds", "fault_filtered" or "none"
        Stratified 80/20 into train and test; ten folds, of which ``fold`` tests and the next one validates;
        443/197/290 tracks with artists kept apart (70 faulty ones left out).
    fold, folds, seed : int
        Of the folds and of the stratified split.
    folds_file : str
        Lines ``blues.00000.au 3`` (or with a comma): the fold of each track, instead of one drawn from the seed.
    repeats : str
        JSON list of lists of track ids that are one recording.

    Raises
    ------
    DatasetError
        No genre folders; two files of one number; a folds or repeats file that names no track or misses some.
    ConfigError
        An unknown split, or a fold outside the folds.
    """
    check_choices("gtzan", split=(split, _MODES))
    top, files = _genre_files(existing_folder(root, "Name the folder that holds genres or genres_original"))
    ids = list(files)
    labels = {track: track.partition(".")[0] for track in ids}
    groups = _repeat_groups(repeats, ids) if repeats else {}
    fold_of = dict.fromkeys(ids, -1)
    notes = _shortfalls(labels)
    if split == "fault_filtered":
        splits = fault_filtered_split()
        notes.append(f"{sum(track not in splits for track in ids)} faulty tracks left out")
    elif split == "folds":
        if folds_file:
            fold_of = _read_folds(Path(folds_file), ids)
            folds = 1 + max(fold_of.values())
        else:
            fold_of = _parts(labels, groups, [1 / folds] * folds, seed)
        if not 0 <= fold < folds:
            raise ConfigError(f"fold={fold} is not one of {folds}", "data set gtzan", f"Use 0 to {folds - 1}")
        names = {fold: "test", (fold + 1) % folds: "valid"}
        splits = {track: names.get(number, "train") for track, number in fold_of.items()}
        notes.append(f"fold {fold} of {folds} tests, drawn from " + (folds_file or f"seed {seed}"))
    elif split == "stratified":
        parts = _parts(labels, groups, [0.8, 0.2], seed)
        splits = {track: ("train", "test")[part] for track, part in parts.items()}
    else:
        splits = {}
    _warn_of_leaks(splits, groups, notes)
    filtered = split == "fault_filtered"
    notes.append("artists known to Sturm's index are apart" if filtered else "artists are not known")
    rows = [
        {
            "track_id": track,
            "path": str(files[track]),
            "labels": [labels[track]],
            "split": splits.get(track),
            "group": groups.get(track),
            "fold": fold_of[track],
        }
        for track in ids
        if track in splits or not filtered
    ]
    name = "gtzan-fault-filtered" if filtered else "gtzan"
    return track_table(rows, name=name, task="single_label", classes=GENRES, root=str(top), notes=notes)


def fault_filtered_split() -> dict[str, str]:
    """Split of each track of the fault-filtered list, by track id such as ``blues.00029``."""
    return {
        f"{genre}.{number:05d}": split
        for genre, parts in FAULT_FILTERED.items()
        for split, ranges in zip(SPLITS, parts, strict=True)
        for number in _numbers(ranges)
    }


def _numbers(ranges: str) -> Iterator[int]:
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _genre_files(base: Path) -> tuple[Path, dict[str, Path]]:
    """The folder of the genre folders, and the file of every track in order of genre and number."""
    tops = [base / name for name in _TOPS]
    top = next((each for each in tops if any((each / genre).is_dir() for genre in GENRES)), None)
    if top is None:
        what = f"no folder of a genre is in {', '.join(map(str, tops))}"
        raise DatasetError(what, str(base), f"They are {', '.join(GENRES)}")
    files: dict[str, Path] = {}
    for genre in GENRES:
        for path in sorted((top / genre).glob("*")):
            match = _NAME.fullmatch(path.name)
            if match is None or match[1] != genre:
                continue
            track = f"{genre}.{match[2]}"
            if track in files:
                what = f"two files of {track}: {files[track].name} and {path.name}"
                raise DatasetError(what, str(path.parent), "Keep one of the two copies of the set")
            files[track] = path
    if not files:
        raise DatasetError("no audio named like blues.00000.au or .wav", str(top), "Copy the set again")
    return top, files


def _shortfalls(labels: Mapping[str, str]) -> list[str]:
    counts = Counter(labels.values())
    short = [f"{genre} {counts[genre]}" for genre in GENRES if counts[genre] != 100]
    return [f"not 100 clips: {', '.join(short)}"] if short else []


def _parts(labels: Mapping[str, str], groups: Mapping[str, str], shares: list[float], seed: int) -> dict[str, int]:
    """Part of each track; tracks of one recording stay together."""
    rows = [groups.get(track, track) for track in labels]
    parts = assign_rows(rows, [[genre] for genre in labels.values()], shares=shares, seed=seed)
    return dict(zip(labels, parts, strict=True))


def _read_folds(source: Path, ids: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    text = read_text(source, absent=f"no file of folds {source.name}", fix="Name a text file")
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.replace(",", " ").split()
        if not cells:
            continue
        track = Path(cells[0]).name.removesuffix(".au").removesuffix(".wav")
        if len(cells) != 2 or not cells[1].isdecimal() or track not in ids or track in found:
            what = f"line {number} is not a track and its fold: {line.strip()!r}"
            raise DatasetError(what, str(source), "Write each track once: blues.00000 3")
        found[track] = int(cells[1])
    missing = [track for track in ids if track not in found]
    if missing:
        what = f"{len(missing)} tracks have no fold, {missing[0]} among them"
        raise DatasetError(what, str(source), "List every track")
    return found


def _repeat_groups(source: str, ids: list[str]) -> dict[str, str]:
    """Group of each track that is in a list of repeats; lists that share a track are one group."""
    lists = repeat_lists(source, set(ids))
    lists_of: dict[str, list[int]] = {}
    for number, tracks in enumerate(lists):
        for track in tracks:
            lists_of.setdefault(track, []).append(number)
    first = joined(len(lists), [(found[0], other) for found in lists_of.values() for other in found])
    return {track: f"repeat of {lists[first[found[0]]][0]}" for track, found in lists_of.items()}


def _warn_of_leaks(splits: Mapping[str, str], groups: Mapping[str, str], notes: list[str]) -> None:
    leaks = sorted(two_sided(groups.values(), map(splits.get, groups)))
    if leaks:
        notes.append(f"{len(leaks)} recordings are on two sides: {', '.join(leaks[:3])}")
        logger.warning("GTZAN: %s", notes[-1])
    elif splits and not groups:
        logger.warning(
            "GTZAN holds repeats of recordings; without --set repeats=FILE they may be on two sides of this split "
            "(featstore datasets check TRACKS --fingerprint --repeats FILE finds them)"
        )

"""The ``msd`` data set: previews of the Million Song Dataset with the 50 most used Last.fm tags.

The audio was never part of the data set and the splits are other people's files: the user brings both. Three layouts of
the split exist and are found by their files:

``lee``
    ``filtered_list_train.cP``, ``filtered_list_test.cP``, ``msd_id_to_tag_vector.cP`` and, for previews that are named
    by their 7digital number, ``MSD_id_to_7D_id.pkl`` and ``7D_id_to_path.pkl``; clips of at least 29.1 s. The first
    201,680 of the training list train, the rest validates. The resolution study used this one.
``choi``
    ``{train,valid,test}_x_msd_id.txt``, ``…_y.npy`` and, where they are, ``…_x_filename.txt`` or ``…_x_7d_id.txt``.
``pons``
    ``{train,val,test}_gt_msd.tsv`` (an id and a list of 50 numbers a line) and, where it is, ``index_msd.tsv``.

Source: T. Bertin-Mahieux et al., "The Million Song Dataset", ISMIR 2011.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featstore.datasets.card import described
from featstore.datasets.msd_splits import LAYOUTS, TAGS, Entry, find_layout, read_split
from featstore.datasets.sources import check_choices, existing_folder, places_of, refuse_repeats
from featstore.datasets.table import TrackTable, track_table
from featstore.errors import DatasetError

__all__ = ["COUNTS", "TAGS", "index_msd"]

# tracks of each split in the whole set; ``pons`` is the split of ``lee`` in other files
COUNTS = {
    "lee": {"train": 201_680, "valid": 11_774, "test": 28_435},
    "choi": {"train": 201_680, "valid": 12_634, "test": 28_540},
}
_MSD_ID = re.compile(r"TR[A-Z]{5}[0-9A-F]{11}")
_SPLIT_FOLDERS = ("", "split", "splits", "MSD_split", "split/msd", "index", "index/msd")
_AUDIO_FOLDERS = ("", "audio", "mp3", "previews", "clips")
_SUFFIXES = (".mp3", ".clip.mp3", ".wav", ".flac", ".ogg")
_PROBED = 300  # tracks looked at to learn how the previews are laid out


@described(
    citation="T. Bertin-Mahieux, D. P. W. Ellis, B. Whitman, P. Lamere, The Million Song Dataset, ISMIR 2011",
    licence="metadata for research; previews and tags keep the terms of 7digital and Last.fm",
    counts={"msd": COUNTS["lee"], "msd-choi": COUNTS["choi"]},
)
def index_msd(
    root: str | os.PathLike[str], *, split: str = "auto", splits: str = "", audio: str = "", n_train: int = 201_680
) -> TrackTable:
    """Million Song Dataset: the Last.fm top-50 split and the previews that you have, in any of the known layouts.

    Previews lie below the audio folder by MSD id (``A/D/I/TRAADIN128F931D672.mp3`` or flat), by 7digital number
    (``6/0/6010476.clip.mp3`` or flat), or where the split's own list of files says. Nothing is unpickled: the lists
    that come as pickles are read as plain data. There is no artist in these files, so tracks have no group.

    Parameters
    ----------
    root : path
        Folder of the set.
    split : "auto", "lee", "choi" or "pons"
        Layout of the split; ``auto`` goes by the files that are there.
    splits : str
        Folder of the split's files, when it is not the root or one of its usual sub-folders.
    audio : str
        Folder of the previews, when it is not the root or one of its usual sub-folders.
    n_train : int
        Ids of Lee's training list that train; the rest of it validates.

    Raises
    ------
    DatasetError
        No split or no preview found (with the places looked at); a file that cannot be read; an id that is no MSD id,
        is listed twice, or has no tags; another list of tags.
    ConfigError
        For an unknown layout.
    """
    check_choices("msd", split=(split, ("auto", *LAYOUTS)))
    base = existing_folder(root, "Name the folder that holds the split and the previews")
    layout, folder = find_layout(places_of(base, splits, _SPLIT_FOLDERS), split, base)
    entries = read_split(layout, folder, int(n_train))
    _check_ids(entries, folder)
    paths, shape = _audio_paths(entries, places_of(base, audio, _AUDIO_FOLDERS), base)
    columns: dict[str, Any] = {
        "track_id": [entry.msd_id for entry in entries],
        "path": paths,
        "labels": [list(entry.labels) for entry in entries],
        "split": [entry.split for entry in entries],
        "id_7digital": [entry.number or None for entry in entries],
    }
    notes = [f"{layout} split from {folder}; previews as {shape}; artists are not known: one may be on two sides"]
    name = "msd" if layout != "choi" else "msd-choi"  # other tracks: scores cannot be compared
    return track_table(columns, name=name, task="multi_label", classes=TAGS, root=str(base), notes=notes)


def _check_ids(entries: list[Entry], folder: Path) -> None:
    for entry in entries:
        if _MSD_ID.fullmatch(entry.msd_id) is None:
            what = f"{entry.msd_id!r} is no id of the Million Song Dataset"
            raise DatasetError(what, f"{folder}, {entry.split} list", "Ids look like TRAADIN128F931D672")
    places = ((entry.msd_id, entry.split) for entry in entries)
    refuse_repeats(places, "{0} is listed twice, for {1} and {2}", folder)


def _candidates(entry: Entry) -> Iterator[tuple[str, str]]:
    """Names that a preview may have below the audio folder, each with the shape that it is an example of."""
    name = entry.msd_id
    if entry.file:
        stem = entry.file.removesuffix(".npy")
        yield "the split's own paths", entry.file
        for suffix in _SUFFIXES:
            yield f"the split's own paths with {suffix}", stem + suffix
    for suffix in _SUFFIXES:
        yield f"A/B/C/ID{suffix}", f"{name[2]}/{name[3]}/{name[4]}/{name}{suffix}"
        yield f"ID{suffix}", f"{name}{suffix}"
        if entry.number:
            number = entry.number
            yield f"0/1/NUMBER{suffix}", f"{number[0]}/{number[1:2] or '0'}/{number}{suffix}"
            yield f"NUMBER{suffix}", f"{number}{suffix}"


def _audio_paths(entries: list[Entry], places: list[Path], base: Path) -> tuple[list[str], str]:
    """A path for every track, by the first layout of the previews that one of the first tracks is found in.

    Looking for each track in every layout would ask a file system of 240,000 files millions of questions.
    """
    step = max(1, len(entries) // _PROBED)
    for place, entry in itertools.product(places, entries[::step][:_PROBED]):
        for shape, name in _candidates(entry):
            if (place / name).is_file():
                paths = [dict(_candidates(each)).get(shape) for each in entries]
                return [str(place / (name or f"{e.msd_id}.mp3")) for name, e in zip(paths, entries, strict=True)], shape
    plain = [
        name for shape, name in _candidates(entries[0]) if shape.endswith(("paths", ".mp3")) and ".clip" not in shape
    ]
    tried = ", ".join(dict.fromkeys(plain))
    what = f"no preview of {min(len(entries), _PROBED)} tracks looked for is below {', '.join(map(str, places))}"
    fix = f"They are found as {tried}, or with other suffixes; name their folder with --set audio=FOLDER"
    raise DatasetError(what, str(base), fix)

"""Files in which the Last.fm top-50 split of the Million Song Dataset is passed around, read as plain data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featstore.datasets.inert_pickle import read_inert_pickle
from featstore.datasets.sources import read_text
from featstore.datasets.table import SPLITS
from featstore.errors import DatasetError

__all__ = ["LAYOUTS", "TAGS", "Entry", "find_layout", "read_split"]

# by frequency: the order of the outputs of all published models for this set
TAGS = (
    "rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock", "jazz",
    "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "Mellow", "electronica",
    "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient", "acoustic",
    "experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country", "easy listening", "sexy",
    "catchy", "funk", "electro", "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad", "House", "happy",
)  # fmt: skip
_TAG_LISTS = ("50tagList.txt", "50tags.txt")

# layout -> files that must be there
LAYOUTS: dict[str, tuple[str, ...]] = {
    "lee": ("filtered_list_train.cP", "filtered_list_test.cP", "msd_id_to_tag_vector.cP"),
    "choi": tuple(f"{part}_{what}" for part in ("train", "valid", "test") for what in ("x_msd_id.txt", "y.npy")),
    "pons": ("train_gt_msd.tsv", "val_gt_msd.tsv", "test_gt_msd.tsv"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A track of a split.

    Attributes
    ----------
    msd_id, split : str
    labels : tuple of str
    number : str
        Its 7digital number, empty when the files do not say.
    file : str
        Its file as the split's files have it, empty likewise.
    """

    msd_id: str
    split: str
    labels: tuple[str, ...]
    number: str = ""
    file: str = ""


def find_layout(places: Sequence[Path], wanted: str, base: Path) -> tuple[str, Path]:
    """The layout of the split, and the folder that its files are in.

    Raises
    ------
    DatasetError
        When no folder has all files of a layout; the message names those that are missing where some are there.
    """
    names = list(LAYOUTS) if wanted == "auto" else [wanted]
    found = [
        (name, place, [file for file in LAYOUTS[name] if not (place / file).is_file()])
        for place in places
        for name in names
        if any((place / file).is_file() for file in LAYOUTS[name])
    ]
    if found:
        name, place, missing = min(found, key=lambda each: bool(each[2]))  # the first that is whole, or else the first
        if missing:
            what = f"the {name} split lacks {', '.join(missing)}"
            raise DatasetError(what, str(place), "Copy the missing files there")
        return name, place
    first = "; ".join(f"{name}: {', '.join(LAYOUTS[name][:2])} …" for name in names)
    looked = ", ".join(str(place) for place in places)
    fix = f"Known layouts: {first}. Name their folder with --set splits=FOLDER"
    raise DatasetError(f"no split found in {looked}", str(base), fix)


def read_split(layout: str, folder: Path, n_train: int) -> list[Entry]:
    """Tracks of all three parts, in the order of the files.

    Raises
    ------
    DatasetError
        When a file cannot be read, lists do not fit together, or the tags are not those of the published order.
    """
    _check_tag_list(folder)
    reader = {"lee": _read_lee, "choi": _read_choi, "pons": _read_pons}[layout]
    entries = list(reader(folder, n_train))
    for file in (entry.file for entry in entries):
        if file.startswith(("/", "~")) or ".." in Path(file).parts:
            what = f"the path {file!r} leads out of the folder of the previews"
            raise DatasetError(what, str(folder), "Mend the list")
    for split in SPLITS:
        if not any(entry.split == split for entry in entries):
            raise DatasetError(f"the {split} list is empty", str(folder), "Copy the files again")
    return entries


def _check_tag_list(folder: Path) -> None:
    """Refuse a list of tags beside the split that is not the published one: every label would be wrong."""
    for name in _TAG_LISTS:
        source = folder / name
        if source.is_file():
            found = tuple(line.strip() for line in read_text(source).splitlines() if line.strip())
            if found != TAGS:
                place = next((i for i, pair in enumerate(zip(found, TAGS, strict=False)) if pair[0] != pair[1]), None)
                what = f"{len(found)} tags" if place is None else f"tag {place + 1} is {found[place]!r}"
                wanted = f"{len(TAGS)}" if place is None else repr(TAGS[place])
                raise DatasetError(f"{what}, not {wanted}", str(source), "Use the files of the published split")


def _read_lee(folder: Path, n_train: int) -> Iterator[Entry]:
    train, source = folder / "filtered_list_train.cP", folder / "msd_id_to_tag_vector.cP"
    ids = _id_list(train)
    if len(ids) <= n_train:
        what = f"the list has {len(ids):,} ids, and the first {n_train:,} train: none is left to validate"
        raise DatasetError(what, str(train), "Copy the file again, or say how many train: --set n_train=N")
    parts = {"train": ids[:n_train], "valid": ids[n_train:], "test": _id_list(folder / "filtered_list_test.cP")}
    vectors = _table(source)
    numbers = _table(folder / "MSD_id_to_7D_id.pkl", needed=False)
    files = _table(folder / "7D_id_to_path.pkl", needed=False)
    for split, msd_id in ((split, each) for split, listed in parts.items() for each in listed):
        if msd_id not in vectors:
            raise DatasetError(f"{msd_id} of the {split} list has no tags", str(source), "Copy it again")
        number = str(numbers.get(msd_id, ""))
        yield Entry(msd_id, split, _labels(vectors[msd_id], f"{source}, {msd_id}"), number, files.get(number, ""))


def _read_choi(folder: Path, n_train: int) -> Iterator[Entry]:
    import numpy as np

    for split in SPLITS:
        source = folder / f"{split}_y.npy"
        try:
            targets = np.load(source, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DatasetError(f"no array of plain numbers: {error}", str(source), "Copy the file again") from error
        ids = _lines(folder / f"{split}_x_msd_id.txt")
        numbers = _lines(folder / f"{split}_x_7d_id.txt", len(ids))
        files = _lines(folder / f"{split}_x_filename.txt", len(ids))
        if targets.shape != (len(ids), len(TAGS)):
            what = f"targets of shape {targets.shape} for {len(ids)} ids and {len(TAGS)} tags"
            raise DatasetError(what, str(source), "The lists of a split belong together: copy them again")
        for row, msd_id in enumerate(ids):
            yield Entry(msd_id, split, _labels(targets[row], f"{source}, row {row}"), numbers[row], files[row])


def _read_pons(folder: Path, n_train: int) -> Iterator[Entry]:
    files = dict(_pairs(folder / "index_msd.tsv")) if (folder / "index_msd.tsv").is_file() else {}
    for split, name in zip(SPLITS, ("train", "val", "test"), strict=True):
        source = folder / f"{name}_gt_msd.tsv"
        for number, (msd_id, text) in enumerate(_pairs(source), 1):
            try:
                vector = json.loads(text)
            except ValueError as error:
                raise DatasetError(f"line {number} holds no list of numbers", str(source), "Copy it again") from error
            yield Entry(msd_id, split, _labels(vector, f"{source}, line {number}"), file=files.get(msd_id, ""))


def _id_list(source: Path) -> list[str]:
    found = read_inert_pickle(source)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise DatasetError("it is not a list of ids", str(source), "Copy the file again")
    return found


def _table(source: Path, *, needed: bool = True) -> dict[Any, Any]:
    if not needed and not source.is_file():
        return {}
    found = read_inert_pickle(source)
    if not isinstance(found, dict):
        raise DatasetError("it is not a table by id", str(source), "Copy the file again")
    return {str(key): value for key, value in found.items()}


def _labels(vector: Any, where: str) -> tuple[str, ...]:
    """Tags from 50 numbers, 0 or 1."""
    try:
        values = [float(value) for value in vector]
    except (TypeError, ValueError):
        values = []
    if len(values) != len(TAGS) or not set(values) <= {0.0, 1.0}:
        raise DatasetError(f"not {len(TAGS)} numbers that are 0 or 1", where, "Copy the file again")
    return tuple(tag for tag, value in zip(TAGS, values, strict=True) if value)


def _lines(source: Path, expected: int | None = None) -> list[str]:
    """Lines of a list; empty ones in their place when an optional list is not there."""
    if expected is not None and not source.is_file():
        return [""] * expected
    lines = [line.strip() for line in read_text(source).splitlines() if line.strip()]
    if expected is not None and len(lines) != expected:
        what = f"{len(lines)} lines for {expected} ids"
        raise DatasetError(what, str(source), "The lists of a split belong together")
    return lines


def _pairs(source: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_text(source).splitlines(), 1):
        if line.strip():
            first, tab, second = line.partition("\t")
            if not tab:
                raise DatasetError(f"line {number} has no tab", str(source), "Copy the file again")
            yield first.strip(), second.strip()

"""Altered copies of the tracks of a table, with a table of their own; made once, and the same for the same seed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featstore.atomic import write_json
from featstore.datasets import TrackTable
from featstore.errors import ConfigError, DatasetError, FeatstoreError, did_you_mean
from featstore.log import progress
from featstore.workflows.alterations import parse_alteration
from featstore.workflows.indexing import probe_tracks
from featstore.workflows.side_by_side import side_by_side

__all__ = ["Altered", "alter_tracks", "first_tracks", "part_of"]

_ABOUT = "alteration.json"


@dataclass(slots=True)
class Altered:
    """What became of a table.

    Attributes
    ----------
    table : TrackTable
        Tracks that have a copy, with the paths of the copies; ids, labels, splits and groups stay.
    failed : dict of str to str
        Track to reason.
    """

    table: TrackTable
    failed: dict[str, str]


def alter_tracks(
    table: TrackTable, alteration: str, folder: str | os.PathLike[str], *, seed: int = 0, jobs: int | None = None
) -> Altered:
    """Write an altered mono copy of each track; copies that are already there stay.

    Parameters
    ----------
    table : TrackTable
    alteration : str
        Such as ``noise-20dB``; see :mod:`featstore.workflows.alterations`.
    folder : path
        Of the copies.
    seed : int
        With the track's id it decides what is random.
    jobs : int, optional
        Processes; all cores by default.

    Returns
    -------
    Altered
        A track that cannot be read or altered is in it with its error; the others are made all the same.

    Raises
    ------
    ConfigError
        For an unknown alteration, or a folder with copies of another one.
    DatasetError
        When no track could be altered.
    """
    kind, target = parse_alteration(alteration), Path(folder)
    _claim(target, {"alteration": alteration, "seed": seed})
    frame = table.frame
    rows: list[dict[str, Any]] = [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
    copies = [str(target / f"{_digest(row['track_id'])}{kind.suffix}") for row in rows]
    work = [(alteration, row, copy, seed) for row, copy in zip(rows, copies, strict=True)]
    found = list(progress(side_by_side(_alter_file, work, jobs=jobs), total=len(work), desc=alteration, unit="track"))
    failed = {row["track_id"]: error for row, error in zip(rows, found, strict=True) if error}
    made = frame.assign(path=[os.path.abspath(copy) for copy in copies], probe_error=None)
    kept = made[~made["track_id"].isin(list(failed))].reset_index(drop=True)
    if not len(kept):
        _release(target)
        raise DatasetError(f"no track could be altered: {next(iter(failed.values()))}", f"alteration {alteration}")
    info = replace(table.info, root=str(target.absolute()))
    return Altered(probe_tracks(TrackTable(kept, info), jobs=jobs), failed)


def part_of(table: TrackTable, *, split: str | None = None, most: int | None = None) -> TrackTable:
    """Tracks of one split, and at most ``most`` of those, in an order that their ids alone decide.

    Raises
    ------
    DatasetError
        When the table has no track of this split.
    """
    frame = table.frame
    if split is not None:
        known = sorted({str(name) for name in frame["split"] if isinstance(name, str)})
        frame = frame[frame["split"] == split]
        if not len(frame):
            fix = did_you_mean(split, known) if known else "There are no splits yet: featstore datasets split"
            raise DatasetError(f"no track in the split {split!r}", table.info.name, fix)
    if most:
        frame = frame[frame["track_id"].isin(first_tracks(frame["track_id"], most))]
    return TrackTable(frame.reset_index(drop=True), table.info)


def first_tracks(track_ids: Iterable[str], most: int) -> list[str]:
    """At most ``most`` tracks, in an order that their ids alone decide: a larger choice contains the smaller."""
    return sorted(set(track_ids), key=lambda track: hashlib.sha256(track.encode()).digest())[:most]


def _claim(folder: Path, about: dict[str, Any]) -> None:
    """Make the folder, or refuse it where it holds other copies."""
    path = folder / _ABOUT
    there = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else about
    if there != about:
        found = f"the folder holds copies of {there['alteration']} with seed {there['seed']}"
        raise ConfigError(found, str(folder), "Choose another folder")
    write_json(path, about)


def _release(folder: Path) -> None:
    """Leave a folder without copies to whatever comes next."""
    (folder / _ABOUT).unlink()
    with contextlib.suppress(OSError):  # it holds other files
        folder.rmdir()


def _digest(track: str) -> str:
    return hashlib.sha256(track.encode()).hexdigest()[:16]


def _alter_file(work: tuple[str, dict[str, Any], str, int]) -> str:
    """Write one copy; return what went wrong, or nothing."""
    alteration, track, target, seed = work
    if Path(target).is_file():
        return ""
    rng = np.random.default_rng([seed, int(_digest(str(track["track_id"])), 16)])
    try:
        parse_alteration(alteration).write(track, Path(target), rng=rng)
    except FeatstoreError as error:
        return str(error)
    return ""

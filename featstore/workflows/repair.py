"""Mending a store: what is damaged is forgotten and computed again, nothing else is touched."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featstore.datasets import TrackTable
from featstore.errors import StoreError
from featstore.extract import ExtractOptions
from featstore.extract.plan import header_of
from featstore.extract.run import compute_missing
from featstore.specs import parse_feature
from featstore.store.backends import ROOTS
from featstore.store.layout import Layout
from featstore.store.location import Location, open_location
from featstore.store.manifest import MANIFEST, restore_root
from featstore.store.packed_file import packed_location
from featstore.store.records import CommitRecord, committed_shards, record_name
from featstore.store.store import TRACKS, Store, open_store
from featstore.store.verify import Problem, verify

__all__ = ["RepairReport", "repair"]

logger = logging.getLogger(__name__)

ROOT_FILES = {*ROOTS, "features/zarr.json"}


@dataclass(slots=True)
class RepairReport:
    """What was wrong, what was done, and what is left.

    Attributes
    ----------
    found, left : list of Problem
    shards : int
        Pairs of array and shard that were computed again.
    """

    found: list[Problem] = field(default_factory=list)
    left: list[Problem] = field(default_factory=list)
    shards: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "found": [problem.as_json() for problem in self.found],
            "recomputed_shards": self.shards,
            "left": [problem.as_json() for problem in self.left],
        }


def repair(
    path: str | Path, *, tracks: TrackTable | None = None, options: ExtractOptions | None = None
) -> RepairReport:
    """Verify a store, forget what is damaged and compute only that again from the audio.

    Parameters
    ----------
    path : path
    tracks : TrackTable, optional
        Where the audio files are now; also restores a track table that is lost.
    options : ExtractOptions

    Raises
    ------
    StoreError
        When the store's root or track table is damaged and cannot be made again.
    """
    if packed_location(path) is not None:
        raise StoreError(
            "a packed store cannot be mended in place", str(path), "Pack it again from the store it was made of"
        )
    location = open_location(path)
    report = RepairReport(found=verify(location))
    if not report.found:
        return report
    _mend_root(location, report.found, tracks)
    _mend_array_metadata(location, report.found)
    store = open_store(location)
    damaged = _damaged_pairs(store, report.found)
    for key, shard in sorted(damaged):
        location.remove(record_name(key, shard))
    for problem in report.found:
        if problem.file == MANIFEST:
            location.remove(MANIFEST)
    store.refresh()
    keys = list(store.arrays)
    compute_missing(store, keys, options or ExtractOptions(), tracks)
    report.shards = len(damaged)
    report.left = verify(location)
    return report


def _mend_root(location: Location, found: list[Problem], tracks: TrackTable | None) -> None:
    """Make root files again from what else is known, or say what is needed."""
    damaged = {problem.file for problem in found}
    if damaged & ROOT_FILES:
        restore_root(location)
    for name in damaged:
        if name.startswith("requests/"):  # only a list of names that were asked for: asked again, it comes back
            location.remove(name)
    if TRACKS in damaged:
        store = open_store(location)
        if tracks is None:
            raise StoreError(
                "the track table is damaged",
                f"{location}/{TRACKS}",
                "Give the table that the store was made from: featstore store repair STORE --tracks T.parquet",
            )
        store.restore_tracks(tracks.frame)


def _mend_array_metadata(location: Location, found: list[Problem]) -> None:
    """Write damaged array metadata again, from the canonical names and layouts in the commit records."""
    damaged = {problem.key for problem in found if problem.file.endswith(".json")}
    damaged |= {problem.file.split("/")[1] for problem in found if problem.file.startswith("features/")}
    store = open_store(location)
    for key in location.list("commits"):
        record = _any_record(location, key) if key in damaged else None
        if record is not None:
            request = parse_feature(record.name)
            assert request.encoding is not None
            store.restore_array(header_of(request.spec, request.encoding), Layout(**record.layout))


def _any_record(location: Location, key: str) -> CommitRecord | None:
    for shard in committed_shards(location, key):
        try:
            return CommitRecord.from_bytes(location.read(record_name(key, shard)), record_name(key, shard))
        except (StoreError, OSError):
            continue
    return None


def _damaged_pairs(store: Store, problems: list[Problem]) -> set[tuple[str, int]]:
    return {(p.key, p.shard) for p in problems if p.shard >= 0 and p.key in store.arrays}

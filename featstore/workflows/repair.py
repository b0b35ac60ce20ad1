"""Mending a store: what is damaged is forgotten and computed again, nothing else is touched."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from featstore.datasets import TrackTable
from featstore.errors import StoreError
from featstore.extract import ExtractOptions
from featstore.extract.plan import header_of
from featstore.extract.run import compute_missing
from featstore.extract.sources import SourceAudit, audit_sources
from featstore.extract.weights import restore_codebooks
from featstore.specs import parse_feature
from featstore.store.backends import CODEBOOKS, STORES
from featstore.store.codebooks import all_codebooks
from featstore.store.garbage import collect_garbage
from featstore.store.layout import Layout, StoredArray
from featstore.store.location import Location, open_location
from featstore.store.manifest import MANIFEST, open_manifest, restore_root
from featstore.store.opening import open_store
from featstore.store.pack_records import forget_pairs, mend_pack
from featstore.store.packed_file import packed_location
from featstore.store.record_pack import PACK
from featstore.store.records import CommitRecord, scan_records
from featstore.store.store import Store
from featstore.store.stored_tracks import TRACKS
from featstore.store.verify import Problem, verify
from featstore.store.writing import restore_array, restore_tracks

__all__ = ["RepairReport", "repair"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class RepairReport:
    """What was wrong, what was done, and what is left.

    Attributes
    ----------
    found, left : list of Problem
    shards : int
        Pairs of array and shard that were computed again.
    audio : SourceAudit or None
        Audio files that changed, where that was asked for.
    """

    found: list[Problem] = field(default_factory=list)
    left: list[Problem] = field(default_factory=list)
    shards: int = 0
    audio: SourceAudit | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "found": list(map(asdict, self.found)),
            "recomputed_shards": self.shards,
            "left": list(map(asdict, self.left)),
            **({} if self.audio is None else {"audio": self.audio.as_json()}),
        }


def repair(
    path: str | Path,
    *,
    tracks: TrackTable | None = None,
    options: ExtractOptions | None = None,
    audio: bool = False,
) -> RepairReport:
    """Verify a store, forget what is damaged and compute only that again from the audio.

    A damaged shard whose audio files are not all there any more stays as it is: what can be read of it is not given up.

    Parameters
    ----------
    path : path
    tracks : TrackTable, optional
        Where the audio files are now; also restores a track table that is lost.
    options : ExtractOptions
    audio : bool
        Compute shards again, too, whose audio files changed since.

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
    report = RepairReport(found=verify(location))  # it refuses a folder that is no store: nothing there is ours
    collect_garbage(location)  # of an earlier repair, too, that was killed when all was mended
    if not report.found and not audio:
        return report
    if report.found:
        if _mend_root(location, report.found, tracks):
            _look_again(location, report.found)
        _mend_packs(location, report.found)
        if _mend_array_metadata(location, report.found):
            _look_again(location, report.found)
    stuck = _mend_codebooks(location, report.found)
    if stuck and all(map(_is_of_codebook, report.found)) and not audio:
        report.left = verify(location)  # a new manifest would take the damaged ones for right
        return report
    store = open_store(location)
    damaged = _damaged_pairs(store, report.found)
    lost = {pair for pair in damaged if _audio_is_gone(store, *pair, tracks)}
    forget_pairs(location, damaged - lost)
    for problem in report.found:
        if problem.file == MANIFEST:
            open_manifest(store.backend)
    store.refresh()
    again: set[tuple[str, int]] = set()
    if audio:
        report.audio = audit_sources(store, tracks)
        again = report.audio.pairs
    if report.found or again:
        compute_missing(store, list(store.arrays), options or ExtractOptions(), tracks, again)
    report.shards = len((damaged | again) - lost)
    report.left = verify(location)
    report.left += [problem for problem in stuck if problem.file not in {left.file for left in report.left}]
    if lost:
        logger.error("%d damaged shards are kept: audio files that they were made from are gone", len(lost))
    return report


def _audio_is_gone(store: Store, key: str, shard: int, tracks: TrackTable | None) -> bool:
    """Whether a file is missing from which a damaged shard was made: computed again, its track would be lost."""
    try:
        record = store.records(key).get(shard)
    except StoreError:
        record = None  # the record itself is damaged: nothing of the shard can be read
    if record is None:
        return False
    here = {} if tracks is None else dict(zip(tracks.frame["track_id"], tracks.frame["path"], strict=True))
    places = [here.get(track, path) for track, path in store.table.pairs(record.rows)]
    stored = [place for place, frames in zip(places, record.n_frames, strict=True) if frames >= 0]
    return any("://" not in place and not Path(place).exists() for place in stored)


def _look_again(location: Location, found: list[Problem]) -> None:
    """Add the problems that one that is mended now had hidden: without a root nothing else can be checked."""
    found += [problem for problem in verify(location) if problem not in found]


def _mend_root(location: Location, found: list[Problem], tracks: TrackTable | None) -> bool:
    """Make root files again from what else is known, or say what is needed; whether there was anything to do."""
    damaged = {problem.file for problem in found}
    roots = {name for backend in STORES for name in STORES.load(backend).root_files({})}
    if damaged & roots:
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
        restore_tracks(store, tracks.frame)
    return bool(damaged & {*roots, TRACKS})


def _mend_packs(location: Location, found: list[Problem]) -> None:
    """Write damaged files of packed records again from the records in them that are intact."""
    for name in sorted({problem.file for problem in found}):
        parts = name.split("/")
        if len(parts) == 3 and parts[0] == "commits" and parts[2] == PACK:
            mend_pack(location, parts[1])


def _mend_array_metadata(location: Location, found: list[Problem]) -> bool:
    """Write damaged array metadata again, from the names and layouts in the commit records; whether there were any."""
    damaged = {problem.key for problem in found if problem.file.endswith(".json")}
    damaged |= {problem.file.split("/")[1] for problem in found if problem.file.startswith("features/")}
    store, mended = open_store(location), False
    for key in location.list("commits"):
        record = _any_record(location, key) if key in damaged else None
        if record is not None:
            request = parse_feature(record.name)
            assert request.encoding is not None
            restore_array(store, StoredArray(header_of(request.spec, request.encoding), Layout(**record.layout)))
            mended = True
    return mended


def _mend_codebooks(location: Location, found: list[Problem]) -> list[Problem]:
    """Write damaged codebooks again from the weights, where they are known; the problems that are left."""
    damaged = [problem for problem in found if _is_of_codebook(problem)]
    if not damaged:
        return []
    store = open_store(location)
    # the folder's own file, which belongs to no codebook, comes with any of them
    problems = {problem: store.backend.codebook_name(problem.file.split("/")[1]) or "" for problem in damaged}
    names = set(all_codebooks(store) if "" in problems.values() else problems.values())
    left = restore_codebooks(store, names)
    for name, lacking in left.items():
        logger.error("the codebook %s cannot be written again: %s", name, lacking)
    return [problem for problem, name in problems.items() if name in left]


def _is_of_codebook(problem: Problem) -> bool:
    return problem.file.startswith(f"{CODEBOOKS}/")


def _any_record(location: Location, key: str) -> CommitRecord | None:
    return next((found.record for found in scan_records(location, key) if found.record is not None), None)


def _damaged_pairs(store: Store, problems: list[Problem]) -> set[tuple[str, int]]:
    return {(p.key, p.shard) for p in problems if p.shard >= 0 and p.key in store.arrays}

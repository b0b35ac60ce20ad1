"""Integrity of a store: every committed byte is where it was written, and nothing that was promised is lost."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from featstore.errors import CorruptFeature, NewerFormat, StoreError
from featstore.log import progress
from featstore.store.backends import CODEBOOKS, STORES
from featstore.store.base_array import BaseArray
from featstore.store.codebooks import needed_codebooks
from featstore.store.consolidate import array_files
from featstore.store.convert import unfinished_conversion
from featstore.store.digests import digest_fits
from featstore.store.location import Location, open_location
from featstore.store.manifest import MANIFEST, read_manifest
from featstore.store.mixed_versions import describe_mix, mixed_sources, mixed_versions
from featstore.store.opening import CONVERSION, open_store
from featstore.store.packed_file import PackedLocation, packed_location
from featstore.store.records import CommitRecord, Found, scan_records
from featstore.store.store import Store
from featstore.store.stored_tracks import TRACKS

__all__ = ["Problem", "verify"]

logger = logging.getLogger(__name__)

DIFFERENT = "the bytes differ from what was committed"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes
    ----------
    what : str
        A sentence.
    file : str
        Name inside the store.
    key, feature : str
        Array concerned, empty for files of the whole store.
    shard : int
        -1 where it is not about one.
    tracks : tuple of str
        Tracks whose data are touched, where that is known (at most ten).
    """

    what: str
    file: str
    key: str = ""
    feature: str = ""
    shard: int = -1
    tracks: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = f" (shard {self.shard} of {self.feature or self.key})" if self.shard >= 0 else ""
        tracks = f", tracks {', '.join(self.tracks)}" if self.tracks else ""
        return f"{self.file}: {self.what}{place}{tracks}"


def verify(path: str | Location, *, quick: bool = False) -> list[Problem]:
    """Check a store and return everything that is wrong with it; an empty list says that all is well.

    Parameters
    ----------
    path : path or Location
    quick : bool
        Look at metadata, records, presence and sizes, and read no data.

    Raises
    ------
    StoreError
        When there is no store at that place at all, or a newer version wrote it.

    See Also
    --------
    featstore.workflows.repair.repair : Computes damaged shards again.
    """
    try:
        store = open_store(path)
    except NewerFormat:
        raise
    except StoreError as error:
        packed = packed_location(path)
        if packed is not None:  # a file that is there and cannot be read is damaged, whatever it was
            return [Problem(error.what, packed.root.name)]
        location = open_location(path)
        if not location.exists("manifest.json") and not location.list("commits"):
            raise
        return [Problem(error.what, _root_name(location))]
    problems, listed = _read_manifest(store.location)
    problems += _check_manifest(store.location, listed)
    unfinished = unfinished_conversion(store.location)
    if unfinished is not None:
        problems.append(Problem(unfinished, CONVERSION))
    try:
        names = {int(row): str(track) for track, row in store.table.frame["row"].items()}
        arrays, n_shards = store.arrays, store.n_shards
    except StoreError as error:
        return [*problems, Problem(error.what, error.where.removeprefix(f"{store.location}/"))]
    for key in store.location.list("commits"):
        if key not in arrays:
            lost = store.backend.metadata_name(key)
            problems.append(Problem("an array with committed shards has lost its metadata", lost, key))
    pairs = ((key, found) for key in arrays for found in scan_records(store.location, key))
    for key, found in progress(pairs, total=len(arrays) * n_shards, desc="verify", unit="shard"):
        problems += _check_shard(store, key, found, names, quick)
    for key in arrays:
        problems += _check_metadata(store, key, listed)
        if isinstance(store.location, PackedLocation):
            problems += _check_packed(store, store.location, key, names)
    problems += _check_codebooks(store)
    problems += _check_counts(store, finished=bool(listed))
    problems += _check_sources(store)
    _warn_of_mixes(store)
    unique = {(p.file, p.shard, p.what): p for p in problems}
    return sorted(unique.values(), key=lambda p: (p.file, p.shard, p.what))


def _root_name(location: Location) -> str:
    """Name of a damaged or lost root file: the one that is there, or that belongs to the other files."""
    backends = [STORES.load(name) for name in STORES]
    there = [backend.root for backend in backends if location.exists(backend.root)]
    there += [backend.root for backend in backends if any(map(location.exists, backend.other_files))]
    return str((there or [backends[0].root])[0])


def _read_manifest(location: Location) -> tuple[list[Problem], dict[str, list[Any]]]:
    """What is wrong with the manifest, and what it lists: nothing of an unfinished store, nor where it is damaged."""
    try:
        files = read_manifest(location)
    except CorruptFeature as error:
        return [Problem(error.what, MANIFEST)], {}
    if files is None and location.list("commits"):
        return [Problem("the manifest is gone: it alone shows whether a listed file was lost", MANIFEST)], {}
    return [], files or {}


def _check_manifest(location: Location, listed: dict[str, list[Any]]) -> Iterator[Problem]:
    location.prefetch(listed)
    for name, (size, digest) in listed.items():
        try:
            content = location.read(name)
        except StoreError as error:  # a name that would leave the store
            yield Problem(error.what, "manifest.json")
            continue
        except OSError:
            yield Problem("a file that the manifest lists is gone", name, *_place(name))
            continue
        if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
            yield Problem("the file differs from what the manifest lists", name, *_place(name))


def _place(name: str) -> tuple[str, str, int]:
    """Array key, feature (unknown here) and shard that a file name speaks of."""
    parts = name.split("/")
    if parts[0] == "commits" and len(parts) == 3 and parts[2].removesuffix(".json").isdecimal():
        return parts[1], "", int(parts[2].removesuffix(".json"))
    return (parts[1] if parts[0] in ("features", "commits") and len(parts) > 2 else "", "", -1)


def _check_shard(store: Store, key: str, found: Found, names: dict[int, str], quick: bool) -> Iterator[Problem]:
    name, shard, record = found.name, found.shard, found.record
    problem = partial(Problem, key=key, feature=store.arrays[key].spec.short(), shard=shard)
    if found.error is not None:
        yield problem(found.error.what, name)
    if record is None:
        return
    if record.generation < found.packed_generation:
        yield problem("the record is older than the packed one of its shard", name)
        return
    if record.key != key or record.shard != shard:
        yield problem(f"the record is that of shard {record.shard} of {record.key}", name)
        return
    for file, (size, digest) in record.files.items():
        try:
            what = _check_file(store.location, file, size, digest, quick)
            tracks = tuple(_damaged_tracks(store, record, names)) if what == DIFFERENT else ()
        except StoreError as error:
            what, tracks = error.what, ()
        if what:
            yield problem(what, file, tracks=tracks)
    rows = store.shard_rows(shard)
    if len(record.n_frames) > len(rows) or record.first_row != rows.start:
        yield problem(f"the record counts {len(record.n_frames)} tracks, the table {len(rows)}", name)
    explained = {o.row for o in record.outcomes}
    lost = [row for row in record.rows if not record.holds(row) and row not in explained]
    if lost:
        yield problem(f"{len(lost)} tracks are neither stored nor explained", name)


def _check_codebooks(store: Store) -> Iterator[Problem]:
    """Stored tokens need the code vectors that they stand for."""
    for name, keys in needed_codebooks(store).items():
        place = (f"{CODEBOOKS}/{name}", keys[0], store.arrays[keys[0]].spec.short())
        try:
            vectors, _ = store.backend.read_codebook(name)
            plain = store.location.plain_codebook(name) if isinstance(store.location, PackedLocation) else None
        except StoreError as error:
            yield Problem(error.what, *place)
            continue
        if plain is not None and not np.array_equal(plain, vectors):
            yield Problem("the codebook for plain readers differs from the store's own", *place)


def _check_counts(store: Store, *, finished: bool) -> Iterator[Problem]:
    """Every track of the table has one row, and in a finished store a record."""
    frame = store.table.frame
    rows = frame["row"]
    if rows.duplicated().any() or frame.index.duplicated().any() or (rows < 0).any():
        yield Problem("track ids or rows are not unique", TRACKS)
        return
    for key, array in store.arrays.items() if finished else ():
        with suppress(StoreError):  # reported already, with the record's name
            lost = set(rows).difference(*(record.rows for record in store.records(key).values()))
            if lost:
                what = f"{len(lost)} tracks of a finished store are neither stored nor explained"
                yield Problem(what, f"commits/{key}", key, array.spec.short())


def _check_sources(store: Store) -> Iterator[Problem]:
    """All values of a track come from one version of its audio file."""
    with suppress(StoreError):  # damaged records are reported already
        if mixed := mixed_sources(store):
            count = "1 track holds" if len(mixed) == 1 else f"{len(mixed)} tracks hold"
            what = f"{count} features of two versions of the audio file (mended by repair --audio)"
            yield Problem(what, "commits", tracks=tuple(mixed)[:10])


def _warn_of_mixes(store: Store) -> None:
    """Say which arrays have shards of different library versions: nothing is wrong with them, but they may differ."""
    for key, array in store.arrays.items():
        with suppress(StoreError):  # damaged records are reported already
            mixed = mixed_versions(store.records(key).values())
            if mixed:
                logger.warning("%s: %s mixes %s", store.location, array.spec.short(), describe_mix(mixed))


def _check_file(location: Location, file: str, size: int, digest: str, quick: bool) -> str:
    """Say what is wrong with a committed file; empty where nothing is."""
    found = location.size(file)
    if found < 0:
        return "a committed file is missing"
    if found != size:
        return f"the file has {found} bytes instead of {size}"
    return "" if quick or digest_fits(location.map(file), digest) else DIFFERENT


def _damaged_tracks(store: Store, record: CommitRecord, names: dict[int, str]) -> Iterator[str]:
    """Tracks of a damaged shard that cannot be read, at most ten."""
    base = BaseArray(store.backend, store.arrays[record.key], {record.shard: record}, store.n_rows)
    found = 0
    for row in record.rows:
        if base.lengths[row] > 0 and found < 10:
            try:
                base.read(row)
            except (StoreError, OSError):
                found += 1
                yield names.get(row, f"row {row}")


def _check_packed(store: Store, location: PackedLocation, key: str, names: dict[int, str]) -> Iterator[Problem]:
    """What plain readers see of a packed store beside its data must say what the records say."""
    array = store.arrays[key]
    problem = partial(Problem, file=location.root.name, key=key, feature=array.spec.short())
    try:
        lengths, ids = location.plain_rows(array.header)
        expected = BaseArray(store.backend, array, store.records(key), store.n_rows).lengths
    except StoreError as error:
        yield problem(error.what)
        return
    if not np.array_equal(lengths, expected) or ids != [names.get(row, "") for row in range(store.n_rows)]:
        yield problem("lengths or ids differ from the records")


def _check_metadata(store: Store, key: str, listed: dict[str, list[Any]]) -> Iterator[Problem]:
    """Array metadata must say what the header, the layout and the records imply."""
    header = store.arrays[key].header
    try:
        expected, plain = array_files(store, key), array_files(store, key, with_cost=False)
    except StoreError:
        return  # reported already
    for name, content in expected.items():
        try:
            found = store.location.read(name)
        except OSError:
            yield Problem("array metadata is missing", name, key, header.spec.short())
            continue
        # what is not listed is still to be brought up to date; the first stores have no cost of the encoding
        if name in listed and found not in (content, plain[name]):
            yield Problem("array metadata differs from what the records imply", name, key, header.spec.short())

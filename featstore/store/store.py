"""A store: frozen track order, logical arrays, commit records; opened for reading, or prepared for writing."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import featstore.store.ledger as ledger_rules
import featstore.store.sizes as sizes
from featstore.arrays import FloatArray
from featstore.atomic import canonical_json
from featstore.errors import CorruptFeature, MissingFeature, NewerFormat, StoreError, did_you_mean
from featstore.specs import FeatureRequest, FeatureSpec, View, match_stored, view_of
from featstore.store.backends import Backend, backend_at
from featstore.store.codebooks import read_codebook, write_codebook
from featstore.store.layout import ArrayHeader, Layout, choose_layout
from featstore.store.leases import hold_store
from featstore.store.location import Location, open_location
from featstore.store.manifest import MANIFEST, open_manifest, read_root, write_manifest
from featstore.store.mixed_versions import mixed_versions
from featstore.store.pack_records import pack_records
from featstore.store.packed_file import PackedBackend, packed_location
from featstore.store.reader import BaseArray, FeatureReader
from featstore.store.records import CommitRecord, committed_shards, read_records, scan_records
from featstore.store.table_info import StoredTable, carry_over, table_of
from featstore.store.track_index import TrackIndex
from featstore.store.track_order import ordered, parquet_bytes
from featstore.store.writer import ShardWriter

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMAT", "TRACKS", "Store", "open_store"]

FORMAT = 1  # of the layout on disk when a store is made; raised with a reader for the old one
NEWEST_FORMAT = 2  # a store's format when commit records are packed, which the first versions would not see
TRACKS = "tracks.parquet"


class Store:
    """Features of a track collection. Index it with a feature's name to read; see :func:`open_store`.

    Attributes
    ----------
    location : Location
    backend : Backend
    attributes : dict
        ``format``, ``backend``, ``shard_tracks``, ``seed``, ``featstore`` (version that made it).
    """

    def __init__(self, backend: Backend, attributes: dict[str, Any]) -> None:
        self.backend, self.location, self.attributes = backend, backend.location, attributes
        self._records: dict[str, dict[int, CommitRecord]] = {}

    def __repr__(self) -> str:
        return f"<store {self.location}: {len(self.tracks)} tracks, {len(self.arrays)} arrays>"

    def refresh(self) -> None:
        """Forget what was read from disk: another process may have added to it."""
        self._records = {}
        self.location.refresh()
        for name in ("arrays", "tracks", "track_rows", "track_index"):
            self.__dict__.pop(name, None)

    # -- what is there --------------------------------------------------------------------------------------------

    @property
    def shard_tracks(self) -> int:
        """Tracks a shard."""
        return int(self.attributes["shard_tracks"])

    @cached_property
    def track_rows(self) -> pd.DataFrame:
        """Tracks by id as they were stored, without the ledger."""
        import pandas as pd

        try:
            frame = pd.read_parquet(io.BytesIO(self.location.read(TRACKS)))
        except (OSError, ValueError) as error:
            raise CorruptFeature(
                "the track table cannot be read", f"{self.location}/{TRACKS}", "Restore it from a copy"
            ) from error
        return frame.set_index("track_id")

    @cached_property
    def track_index(self) -> TrackIndex:
        """Rows, ids and files alone: a fraction of the whole table."""
        try:
            return TrackIndex(self.location.read(TRACKS))
        except (OSError, ValueError, KeyError) as error:
            raise CorruptFeature(
                "the track table cannot be read", f"{self.location}/{TRACKS}", "Restore it from a copy"
            ) from error

    @cached_property
    def tracks(self) -> pd.DataFrame:
        """Tracks by id: ``row``, ``path``, ``labels``, ``split``, …, and the ledger's ``status`` and ``error``."""
        return ledger_rules.with_ledger(self.track_rows, self)

    @property
    def table_info(self) -> StoredTable | None:
        """Name, task and classes of the track table that the store was made from; None where it came without."""
        return table_of(self.track_rows)

    @property
    def n_rows(self) -> int:
        """Rows of every array (a row may be empty where tracks were added later)."""
        return self.track_index.n_rows

    @cached_property
    def arrays(self) -> dict[str, tuple[ArrayHeader, Layout]]:
        """Stored arrays by key, whether or not a shard is committed."""
        found = {}
        for key in self.backend.array_keys():
            try:
                found[key] = ArrayHeader.from_attributes(self.backend.read_array(key))
            except (ValueError, KeyError, TypeError) as error:
                raise CorruptFeature(
                    "array metadata cannot be read", f"{self.location}/features/{key}", "Run featstore store verify"
                ) from error
        return found

    def records(self, key: str) -> dict[int, CommitRecord]:
        """Commit records of an array by shard."""
        if key not in self._records:
            self._records[key] = read_records(self.location, key)
        return self._records[key]

    def shard_rows(self, shard: int) -> range:
        """Rows of a shard that hold tracks."""
        return self.track_index.within(shard * self.shard_tracks, self.shard_tracks)

    def tracks_of(self, rows: range) -> list[tuple[str, str]]:
        """(track id, audio file) of some rows."""
        return self.track_index.tracks(rows)

    def paths_of(self, rows: range) -> tuple[str, ...]:
        """Audio files of some rows."""
        return tuple(path for _, path in self.track_index.tracks(rows))

    @property
    def n_shards(self) -> int:
        """Shards of every array."""
        return -(-self.n_rows // self.shard_tracks)

    @property
    def requests(self) -> list[str]:
        """Names of all features that an extraction asked for, in canonical form."""
        names: dict[str, None] = {}
        for entry in self.location.list("requests"):
            names |= dict.fromkeys(json.loads(self.location.read(f"requests/{entry}"))["features"])
        return list(names)

    @property
    def features(self) -> list[str]:
        """Names of what is stored, then of the views that were asked for."""
        stored = [header.name for header, _ in self.arrays.values()]
        return stored + [name for name in self.requests if name not in stored]

    @property
    def fingerprint(self) -> str:
        """Digest over the store's metadata and all commit records, packed or not: changes whenever content does."""
        digest = hashlib.sha256(canonical_json(self.attributes | {"format": FORMAT}))
        for key in sorted(self.arrays):
            for found in scan_records(self.location, key):
                if found.error is not None:
                    raise found.error
                if found.record is not None:
                    digest.update(found.text)
        return digest.hexdigest()[:32]

    # -- reading --------------------------------------------------------------------------------------------------

    def find(self, request: FeatureRequest) -> tuple[View, str] | None:
        """Return the best way to read a feature: (view, array key).

        The most exact first, then what has more shards (an array that is still being derived hides nothing of its
        base), then the least indirect.
        """
        found: list[tuple[View, str]] = []
        for key, (header, _) in self.arrays.items():
            if request.encoding is not None and header.encoding != request.encoding:
                continue
            view = view_of(request.spec, header.spec, header.encoding)
            if view is not None:
                found.append((view, key))
        least = min((view.bound for view, _ in found), default=0.0)
        best = [(view, key) for view, key in found if view.bound == least]
        if len(best) < 2:
            return best[0] if best else None
        shards = {key: sum(1 for _ in committed_shards(self.location, key)) for _, key in best}
        return min(best, key=lambda way: (-shards[way[1]], not way[0].is_identity, way[0].stride, way[1]))

    def __getitem__(self, feature: str | FeatureSpec | FeatureRequest) -> FeatureReader:
        request = self._request(feature)
        way = self.find(request)
        if way is None:
            raise self._missing(request)
        view, key = way
        header, layout = self.arrays[key]
        base = BaseArray(self.backend, header, layout, self.records(key), self.n_rows)
        if view.codes:
            view = view.with_table(self.codebook(request.spec)[0])
        return FeatureReader(request.spec, view, base, self.track_rows, str(self.location))

    def codebook(self, spec: Any) -> tuple[FloatArray, dict[str, Any]]:
        """Code vectors float32 (codebooks, codes, width) of a token feature, and what is known of its codec.

        Raises
        ------
        CorruptFeature
            When the store lacks them, or their bytes were changed.
        """
        return read_codebook(self.backend, spec.codebook_name)

    def put_codebook(self, spec: Any, vectors: FloatArray, attributes: dict[str, Any]) -> None:
        """Keep the code vectors of a token feature, once for all its arrays."""
        write_codebook(self.backend, spec.codebook_name, vectors, attributes)

    def __contains__(self, feature: str | FeatureSpec | FeatureRequest) -> bool:
        return self.find(self._request(feature)) is not None

    def _request(self, feature: str | FeatureSpec | FeatureRequest) -> FeatureRequest:
        return match_stored(feature, [header.spec for header, _ in self.arrays.values()])

    def _missing(self, request: FeatureRequest) -> MissingFeature:
        short = request.spec.short()
        stored = {header.spec.short(): header.name for header, _ in self.arrays.values()}
        near = did_you_mean(short, stored) if stored else "The store holds no feature yet"
        return MissingFeature(
            f"the store has no {short}"
            + (f" in {request.encoding}" if request.encoding else "")
            + " and nothing it derives from",
            str(self.location),
            f"{near}. To add it: featstore extract TRACKS -f '{short}' -s {self.location}",
        )

    # -- preparing to write -----------------------------------------------------------------------------------------

    def add_arrays(self, headers: Iterable[ArrayHeader], compression: str = "none") -> None:
        """Create the arrays that are not there yet; those that are stay as they are."""
        new = [header for header in headers if header.key not in self.arrays]
        if not new:
            return
        with hold_store(self.location):
            if not self.location.exists(MANIFEST):
                open_manifest(self.backend)
            for header in new:
                layout = choose_layout(header, self.shard_tracks, compression)
                # the group's own file comes last: without it nothing is there
                for name, content in self._first_files(header, layout).items():
                    self.location.write(name, content)
        self.refresh()

    def _first_files(self, header: ArrayHeader, layout: Layout) -> dict[str, bytes]:
        """Metadata of an array of which nothing is known to be committed."""
        longest = header.fixed_frames if header.fixed_frames is not None else layout.slab_frames
        return self.backend.array_files(header, layout, self.n_rows, longest)

    def array_files(self, key: str, *, with_cost: bool = True) -> dict[str, bytes]:
        """Metadata files of an array as its records imply them: its shape, and what its encoding cost."""
        header, layout = self.arrays[key]
        records, longest = self.records(key), header.fixed_frames
        if longest is None:
            longest = max((int(record.lengths.max(initial=0)) for record in records.values()), default=0)
        cost = sizes.measured(records.values()) if with_cost else None
        return self.backend.array_files(header, layout, self.n_rows, longest, cost)

    def restore_array(self, header: ArrayHeader, layout: Layout) -> None:
        """Write an array's metadata again as its header and layout imply; its shape follows on consolidation."""
        for name, content in self._first_files(header, layout).items():
            self.location.write(name, content)
        self.refresh()

    def restore_tracks(self, frame: pd.DataFrame) -> None:
        """Write the track table again from the table that the store was made from: the order follows from the ids."""
        self.location.write(TRACKS, parquet_bytes(ordered(frame, self.attributes["seed"], 0)))
        self.refresh()

    def add_tracks(self, frame: pd.DataFrame) -> int:
        """Append the tracks that are not there yet, from the next shard boundary on; how many there were."""
        new = frame[~frame["track_id"].isin(self.track_rows.index)]
        if new.empty:
            return 0
        import pandas as pd

        with hold_store(self.location):
            first = self.n_shards * self.shard_tracks
            known = self.track_rows.reset_index()
            # before anything is written: tables that do not fit together are refused
            joined = pd.concat([known, ordered(new, self.attributes["seed"], first)])
            merged = carry_over(joined, known, new, where=str(self.location))
            open_manifest(self.backend)  # the last one promises the old table; the end of a run writes it again
            self.location.write(TRACKS, parquet_bytes(merged))
            self.refresh()
        self.consolidate(finished=False)
        return len(new)

    def note_request(self, names: Sequence[str]) -> None:
        """Keep the names of the features that were asked for: views have no other trace."""
        content = canonical_json({"features": list(names)})
        name = f"requests/{hashlib.sha256(content).hexdigest()[:16]}.json"
        if not self.location.exists(name):
            self.location.write(name, content)

    def missing(
        self,
        keys: Sequence[str],
        *,
        retry: Sequence[str] = (),
        again: Collection[tuple[str, int]] = (),
        limit: int | None = None,
    ) -> list[tuple[int, list[str]]]:
        """(shard, array keys) that are not committed, or whose failures have one of the ``retry`` statuses.

        Pairs (array key, shard) in ``again`` count as missing. With ``limit`` only rows below it count.
        """
        n_rows = self.n_rows if limit is None else min(limit, self.n_rows)
        todo = []
        for shard in range(-(-n_rows // self.shard_tracks)):
            if not len(self.shard_rows(shard)):
                continue
            lacking = []
            for key in keys:
                record = self.records(key).get(shard)
                unfinished = record is None or record.has_pending(n_rows) or (key, shard) in again
                if unfinished or (record is not None and retry and record.wants_retry(retry)):
                    lacking.append(key)
            if lacking:
                todo.append((shard, lacking))
        return todo

    def shard_writer(self, shard: int, keys: Sequence[str], run: str = "") -> ShardWriter:
        """Open a shard of some arrays for writing, under a lease."""
        rows = self.shard_rows(shard)
        return ShardWriter(self.backend, [self.arrays[key] for key in keys], shard, rows.start, len(rows), run)

    def consolidate(self, *, finished: bool = True) -> None:
        """Bring array shapes in line with what is committed; if nothing is missing pack records, write the manifest."""
        # of parts that finish at the same time, none brings back what another has overtaken
        with hold_store(self.location):
            self.refresh()
            finished = finished and not self.missing(list(self.arrays))
            for key in self.arrays:
                self._bring_up_to_date(self.array_files(key))
            self._bring_up_to_date(self.backend.derived_files(self.arrays, self.n_rows))
            if finished:
                pack_records(self)
                self.attributes = read_root(self.backend)
                write_manifest(self)

    def _bring_up_to_date(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            if not self.location.exists(name) or self.location.read(name) != content:
                self.location.write(name, content)

    # -- reports ----------------------------------------------------------------------------------------------------

    def ledger(self) -> pd.DataFrame:
        """Every (track, feature) that is not plainly ok: ``status``, ``stage``, ``error``, ``path``."""
        return ledger_rules.outcomes(self)

    def extract_seconds(self, key: str) -> float | None:
        """Worker seconds of the runs that computed an array, shared among the arrays of a pass; None if unknown."""
        shares = []
        for name in self.location.list("log"):
            try:
                entry = json.loads(self.location.read(f"log/{name}"))
                if key in entry["keys"]:
                    shares.append(float(entry["worker_seconds"]) / len(entry["keys"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # logs are for people: a damaged one costs nothing but this number
        return sum(shares) if shares else None

    def status(self, keys: Collection[str] | None = None) -> dict[str, Any]:
        """Counts over tracks: ``tracks, ok, failed, pending, by_reason``; they add up. Of some arrays, or of all."""
        return ledger_rules.summary(self, keys)

    def info(self) -> list[dict[str, Any]]:
        """One row a feature: its name, how it is kept, what it weighs, what its encoding cost, mixed versions."""
        mixed = {key: mixed_versions(self.records(key).values()) for key in self.arrays}
        return [row | {"mixed_versions": mixed[row["key"]]} for row in sizes.describe(self)]


def open_store(path: str | os.PathLike[str] | Location) -> Store:
    """Open a store for reading: a folder, or the one file that ``featstore store pack`` made.

    Raises
    ------
    StoreError
        When there is none, or a newer version wrote it.

    Examples
    --------
    >>> open_store("nowhere.zarr")
    Traceback (most recent call last):
    featstore.errors.StoreError: there is no store [nowhere.zarr]. Check the path, or make one with featstore extract
    """
    packed = packed_location(path)
    location = packed or open_location(path)
    backend: Backend | None = PackedBackend(packed) if packed else backend_at(location)
    if backend is None:
        raise StoreError("there is no store", str(location), "Check the path, or make one with featstore extract")
    try:
        attributes = backend.read_root(location.read(backend.root))
        newer = int(attributes["format"]) > NEWEST_FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            "this is no store of featstore, or its root is damaged", str(location), "Run featstore store verify"
        ) from error
    if newer:
        raise NewerFormat(
            f"the store has format {attributes['format']}, this version reads up to {NEWEST_FORMAT}",
            str(location),
            "Upgrade featstore",
        )
    return Store(backend, attributes)

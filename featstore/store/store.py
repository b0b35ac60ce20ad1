"""A store that is open: what it holds, and the features that can be read from it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from featstore.arrays import FloatArray
from featstore.atomic import DAMAGED, canonical_json, damage, json_object
from featstore.errors import CorruptFeature, MissingFeature, StoreError, did_you_mean
from featstore.html_repr import html_card
from featstore.specs import FeatureRequest, FeatureSpec, View, match_stored, parse_feature, view_of
from featstore.store.backends import Backend
from featstore.store.base_array import BaseArray
from featstore.store.layout import StoredArray
from featstore.store.ledger import with_ledger
from featstore.store.old_formats import PACKED11, OldArray, read_stored_array
from featstore.store.reader import FeatureReader
from featstore.store.records import CommitRecord, committed_shards, intact_records, read_records
from featstore.store.stored_tracks import StoredTracks
from featstore.store.weight_notes import read_weights_note

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMAT", "NEWEST_FORMAT", "Store"]

FORMAT = 1  # of the layout on disk when a store is made; raised with a reader for the old one
NEWEST_FORMAT = 2  # a store's format when commit records are packed, which the first versions would not see


class Store:
    """Features of a track collection. Index it with a feature's name to read.

    Attributes
    ----------
    location : Location
    backend : Backend
    attributes : dict
        ``format``, ``backend``, ``shard_tracks``, ``seed``, ``featstore`` (version that made it).

    See Also
    --------
    featstore.store.opening : Opens and makes stores.
    featstore.store.ledger : Counts and failures of tracks.
    featstore.store.sizes : Sizes and encoding errors of features.
    featstore.store.writing : Adds arrays, tracks and shards.
    """

    def __init__(self, backend: Backend, attributes: dict[str, Any], *, old_formats: bool = False) -> None:
        self.backend, self.location, self.attributes = backend, backend.location, attributes
        self._old_formats = old_formats
        self._records: dict[str, dict[int, CommitRecord]] = {}

    def __repr__(self) -> str:
        return f"<store {self.location}: {len(self.table)} tracks, {len(self.arrays)} arrays>"

    def _repr_html_(self) -> str:
        names = self.features
        rows = ((parse_feature(name).spec.short(), name.rpartition("@")[2].partition("(")[0]) for name in names)
        return html_card(f"{self.location}: {len(self.table)} tracks", rows, ("feature", "encoding"), total=len(names))

    def _ipython_key_completions_(self) -> list[str]:
        return [*(array.spec.short() for array in self.arrays.values()), *self.features]

    def refresh(self) -> None:
        """Forget what was read from disk: another process may have added to it."""
        self._records = {}
        self.location.refresh()
        for name in ("arrays", "table", "tracks"):
            self.__dict__.pop(name, None)

    # -- tracks -----------------------------------------------------------------------------------------------------

    @cached_property
    def table(self) -> StoredTracks:
        """Tracks as they were stored, each part of the table read when it is needed."""
        return StoredTracks(self.location)

    @cached_property
    def tracks(self) -> pd.DataFrame:
        """Tracks by id: ``row``, ``path``, ``labels``, ``split``, …, and the ledger's ``status`` and ``error``."""
        return with_ledger(self)

    @property
    def shard_tracks(self) -> int:
        """Tracks per shard."""
        return int(self.attributes["shard_tracks"])

    @property
    def n_rows(self) -> int:
        """Rows of every array (a row may be empty where tracks were added later)."""
        return self.table.n_rows

    @property
    def n_shards(self) -> int:
        """Shards of every array."""
        return -(-self.n_rows // self.shard_tracks)

    def shard_rows(self, shard: int) -> range:
        """Rows of a shard that hold tracks."""
        return self.table.within(shard * self.shard_tracks, self.shard_tracks)

    # -- features ---------------------------------------------------------------------------------------------------

    @cached_property
    def arrays(self) -> dict[str, StoredArray]:
        """Stored arrays by key, whether or not a shard is committed."""
        found = {}
        for key in self.backend.array_keys():
            where = f"{self.location}/features/{key}"
            with damage("array metadata cannot be read", where, "Run featstore store verify"):
                found[key] = read_stored_array(self.backend.read_array(key))
                if found[key].key != key or found[key].layout.shard_tracks != self.shard_tracks:
                    raise ValueError("of another array")
            if isinstance(found[key], OldArray) and not self._old_formats:
                raise StoreError(
                    f"tokens in the old encoding {PACKED11} are read by featstore store convert only",
                    where,
                    f"Run featstore store convert {self.location} NEW: it writes them as uint16",
                )
        return found

    def records(self, key: str) -> dict[int, CommitRecord]:
        """Commit records of an array by shard."""
        if key not in self._records:
            found = read_records(self.location, key)
            stop = max((record.rows.stop for record in found.values()), default=0)
            if stop > self.n_rows:  # another process may have added tracks since the table was read
                self.refresh()
            if stop > self.n_rows:
                where = f"{self.location}/commits/{key}"
                raise CorruptFeature("records count tracks that the table lacks", where, "Run featstore store verify")
            self._records[key] = found
        return self._records[key]

    @property
    def requests(self) -> list[str]:
        """Names of all features that an extraction asked for, in canonical form."""
        names: dict[str, None] = {}
        for entry in self.location.list("requests"):
            with damage("names of features cannot be read", f"{self.location}/requests/{entry}"):
                found = json_object(self.location.read(f"requests/{entry}"))["features"]
                names |= {str(name): None for name in found if parse_feature(name)}
        return list(names)

    @property
    def features(self) -> list[str]:
        """Names of what is stored, then of the views that were asked for."""
        stored = [array.header.name for array in self.arrays.values()]
        return stored + [name for name in self.requests if name not in stored]

    def extract_seconds(self, key: str) -> float | None:
        """Worker seconds of the runs that computed an array, shared among the arrays of a pass; None if unknown."""
        shares = []
        for name in self.location.list("log"):
            with suppress(*DAMAGED):  # logs are for people: a damaged one costs nothing but this number
                entry = json_object(self.location.read(f"log/{name}"))
                if key in entry["keys"]:
                    shares.append(float(entry["worker_seconds"]) / len(entry["keys"]))
        return sum(shares) if shares else None

    def weights_note(self, digest: str) -> dict[str, Any]:
        """What the extraction knew of weights: ``path``, ``licence``, ``data`` …; empty where that is unknown."""
        return read_weights_note(self.location, digest)

    @property
    def fingerprint(self) -> str:
        """Digest over the store's metadata and all commit records, packed or not: changes whenever content does."""
        digest = hashlib.sha256(canonical_json(self.attributes | {"format": FORMAT}))
        for key in sorted(self.arrays):
            for found in intact_records(self.location, key):
                if found.record is not None:
                    digest.update(found.text)
        return digest.hexdigest()[:32]

    # -- reading ----------------------------------------------------------------------------------------------------

    def find(self, request: FeatureRequest) -> tuple[View, str] | None:
        """Return the best way to read a feature: (view, array key), None where there is none.

        The way with most committed shards, so that an array in the making never hides a complete one; of those the
        most exact, then the least indirect. Shards count that no run left unfinished for some of their tracks.
        """
        ways: list[tuple[View, str]] = []
        for key, array in self.arrays.items():
            if request.encoding is not None and not request.encoding.admits(array.header.encoding):
                continue
            view = view_of(request.spec, array.spec, array.header.encoding)
            if view is not None:
                ways.append((view, key))
        if len(ways) < 2:
            return ways[0] if ways else None
        shards = {key: sum(1 for _ in committed_shards(self.location, key)) for _, key in ways}
        best = min(ways, key=lambda way: _preference(way, shards))
        if self._whole_shards(best[1]) < shards[best[1]]:  # only then do the other arrays' records matter
            shards = {key: self._whole_shards(key) for _, key in ways}
            best = min(ways, key=lambda way: _preference(way, shards))
        return best

    def _whole_shards(self, key: str) -> int:
        return sum(not record.has_pending(self.n_rows) for record in self.records(key).values())

    def __getitem__(self, feature: str | FeatureSpec | FeatureRequest) -> FeatureReader:
        request = self._request(feature)
        way = self.find(request)
        if way is None:
            raise self._missing(request)
        view, key = way
        base = BaseArray(self.backend, self.arrays[key], self.records(key), self.n_rows)
        if view.codes:
            view = view.with_table(self.codebook(request.spec)[0])
        return FeatureReader(request.spec, view, base, self.table, str(self.location))

    def to_hf_dataset(self, feature: str | FeatureSpec | FeatureRequest, track_ids: Sequence[str] | None = None) -> Any:
        """Return a feature as a data set of Hugging Face's ``datasets``, cached as Arrow on disk.

        A row has ``track_id``, ``labels``, ``split``, ``group`` and the values under the feature's kind, as nested
        lists in the order of the reader's axes.

        Raises
        ------
        MissingDependency
            When the package ``datasets`` is not installed.
        """
        from featstore.store.hf_dataset import to_hf_dataset

        return to_hf_dataset(self[feature], self.tracks, track_ids)

    def codebook(self, spec: Any) -> tuple[FloatArray, dict[str, Any]]:
        """Code vectors float32 (codebooks, codes, width) of a token feature, and what is known of its codec.

        Raises
        ------
        CorruptFeature
            When the store lacks them, or their bytes were changed.
        """
        return self.backend.read_codebook(spec.codebook_name)

    def __contains__(self, feature: str | FeatureSpec | FeatureRequest) -> bool:
        return self.find(self._request(feature)) is not None

    def _request(self, feature: str | FeatureSpec | FeatureRequest) -> FeatureRequest:
        return match_stored(feature, [array.spec for array in self.arrays.values()])

    def _missing(self, request: FeatureRequest) -> MissingFeature:
        short = request.spec.short()
        stored = {array.spec.short(): array.header.name for array in self.arrays.values()}
        near = did_you_mean(short, stored) if stored else "The store holds no feature yet"
        return MissingFeature(
            f"the store has no {short}"
            + (f" in {request.encoding}" if request.encoding else "")
            + " and nothing it derives from",
            str(self.location),
            f"{near}. To add it: featstore extract TRACKS -f '{short}' -s {self.location}",
        )


def _preference(way: tuple[View, str], shards: dict[str, int]) -> tuple[int, float, bool, int, str]:
    """Sort key of a way to read a feature, the best one first."""
    view, key = way
    return -shards[key], view.bound, not view.is_identity, view.stride, key

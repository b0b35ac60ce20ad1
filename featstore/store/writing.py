"""Additions to a store: arrays, tracks, names of requested features, shards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from featstore.atomic import canonical_json
from featstore.store.consolidate import consolidate
from featstore.store.layout import ArrayHeader, StoredArray, choose_layout
from featstore.store.leases import hold_store
from featstore.store.manifest import MANIFEST, open_manifest
from featstore.store.store import Store
from featstore.store.stored_tracks import TRACKS, ordered, parquet_bytes
from featstore.store.table_info import carry_over
from featstore.store.writer import ShardWriter

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "add_arrays",
    "add_tracks",
    "create_arrays",
    "note_request",
    "restore_array",
    "restore_tracks",
    "write_shard",
]


def add_arrays(store: Store, headers: Iterable[ArrayHeader], compression: str = "none") -> None:
    """Create the arrays that are not there yet; those that are stay as they are."""
    new = [header for header in headers if header.key not in store.arrays]
    create_arrays(store, [StoredArray(one, choose_layout(one, store.shard_tracks, compression)) for one in new])


def create_arrays(store: Store, arrays: Sequence[StoredArray]) -> None:
    """Create arrays with the layouts that they have."""
    if not arrays:
        return
    with hold_store(store.location):
        if not store.location.exists(MANIFEST):
            open_manifest(store.backend)
        for array in arrays:
            restore_array(store, array)
    store.refresh()


def restore_array(store: Store, array: StoredArray) -> None:
    """Write an array's metadata as its header and layout imply; its shape follows on consolidation."""
    fixed = array.header.fixed_frames
    longest = array.layout.slab_frames if fixed is None else fixed
    # the group's own file comes last: without it there is no array
    for name, content in store.backend.array_files(array, store.n_rows, longest).items():
        store.location.write(name, content)


def restore_tracks(store: Store, frame: pd.DataFrame) -> None:
    """Write the track table again from the table that the store was made from: the order follows from the ids."""
    store.location.write(TRACKS, parquet_bytes(ordered(frame, store.attributes["seed"], 0)))
    store.refresh()


def add_tracks(store: Store, frame: pd.DataFrame) -> int:
    """Append the tracks that are not there yet, from the next shard boundary on; return how many there were."""
    new = frame[~frame["track_id"].isin(store.table.files["track_id"])]
    if new.empty:
        return 0
    import pandas as pd

    with hold_store(store.location):
        first = store.n_shards * store.shard_tracks
        known = store.table.frame.reset_index()
        # before anything is written: tables that do not fit together are refused
        joined = pd.concat([known, ordered(new, store.attributes["seed"], first)])
        merged = carry_over(joined, known, new, where=str(store.location))
        open_manifest(store.backend)  # the last one promises the old table; the end of a run writes it again
        store.location.write(TRACKS, parquet_bytes(merged))
        store.refresh()
    consolidate(store, finished=False)
    return len(new)


def note_request(store: Store, names: Sequence[str]) -> None:
    """Keep the names of the features that were asked for: views have no other trace."""
    content = canonical_json({"features": list(names)})
    name = f"requests/{hashlib.sha256(content).hexdigest()[:16]}.json"
    if not store.location.exists(name):
        store.location.write(name, content)


def write_shard(store: Store, shard: int, keys: Sequence[str], run: str = "") -> ShardWriter:
    """Open a shard of some arrays for writing, under a lease.

    See Also
    --------
    featstore.store.missing.find_missing : What there is to write.
    featstore.store.consolidate.consolidate : To be called when all is written.
    """
    return ShardWriter(store.backend, [store.arrays[key] for key in keys], shard, store.shard_rows(shard), run)

"""Metadata brought in line with the records: array shapes, files for plain readers, packed records, the manifest."""

from __future__ import annotations

from collections.abc import Iterable

from featstore.store.layout import StoredArray
from featstore.store.leases import hold_store
from featstore.store.manifest import read_root, write_manifest
from featstore.store.missing import find_missing
from featstore.store.pack_records import pack_records
from featstore.store.records import CommitRecord
from featstore.store.sizes import measured
from featstore.store.store import Store

__all__ = ["array_files", "consolidate", "longest_track"]


def array_files(store: Store, key: str, *, with_cost: bool = True) -> dict[str, bytes]:
    """Metadata files of an array as its records imply them: its shape, and what its encoding cost."""
    array, records = store.arrays[key], store.records(key).values()
    cost = measured(records) if with_cost else None
    return store.backend.array_files(array, store.n_rows, longest_track(array, records), cost)


def longest_track(array: StoredArray, records: Iterable[CommitRecord]) -> int:
    """Frames of the longest track of an array, as its records imply them."""
    fixed = array.header.fixed_frames
    return max((record.longest for record in records), default=0) if fixed is None else fixed


def consolidate(store: Store, *, finished: bool = True) -> None:
    """Bring array shapes in line with what is committed; if nothing is missing pack records, write the manifest."""
    # of parts that finish at the same time, none brings back what another has overtaken
    with hold_store(store.location):
        store.refresh()
        finished = finished and not find_missing(store)
        for key in store.arrays:
            _write_changed(store, array_files(store, key))
        _write_changed(store, store.backend.derived_files(store.arrays, store.n_rows))
        if finished:
            pack_records(store)
            store.attributes = read_root(store.backend)
            write_manifest(store)


def _write_changed(store: Store, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        store.location.write_changed(name, content)

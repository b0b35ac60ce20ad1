"""Packing the commit records of a finished store, and removing damaged ones.

Readers see exactly one record per pair, even if packing is interrupted: the packed file is complete before a record's
own file is removed, and a file that remains counts and has the same content. Own files are removed only while no shard
is being written: see :func:`featstore.store.leases.hold_store`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from typing import Any

import featstore.store.record_pack as record_pack
from featstore.store.backends import Backend
from featstore.store.leases import PACKING, Lease, hold_store, live_writers
from featstore.store.location import Location
from featstore.store.manifest import MANIFEST, manifest_bytes, read_root
from featstore.store.record_pack import PACK, PACK_FORMAT, pack_bytes, pack_name, whole_lines
from featstore.store.records import intact_records, record_name
from featstore.store.store import Store

__all__ = ["forget_pairs", "mend_pack", "pack_records", "packs"]

logger = logging.getLogger(__name__)

_AT_ONCE = 1000  # files removed between two checks of the lease


def packs(n_records: int) -> bool:
    """Whether the records of an array are packed when it is finished."""
    return n_records >= record_pack.PACK_FROM


def pack_records(store: Store) -> None:
    """Pack the records of all arrays that have many, or new ones beside packed ones.

    Nothing is done while a shard is being written: the next finished run packs.
    """
    location = store.location
    keys = [key for key in store.arrays if _is_due(location, key)]
    if not keys:
        return
    with hold_store(location, PACKING) as lease:
        writers = live_writers(location)
        if writers:
            key, shard, owner = writers[0]
            logger.info("records are left unpacked: process %d on %s writes %s/%d", owner.pid, owner.host, key, shard)
            return
        _raise_format(store.backend)
        for key in keys:
            _pack(location, key, lease)


def _is_due(location: Location, key: str) -> bool:
    names = location.list(f"commits/{key}")
    loose = sum(1 for name in names if name.endswith(".json") and name.removesuffix(".json").isdecimal())
    return loose > 0 and (PACK in names or packs(loose))


def _raise_format(backend: Backend) -> None:
    """Let versions that know no packed records refuse the store, before there are any; open its manifest."""
    location = backend.location
    attributes = read_root(backend)
    raised = attributes | {"format": max(PACK_FORMAT, int(attributes["format"]))}
    location.write_changed(MANIFEST, manifest_bytes(raised, {}))
    if raised != attributes:
        for name, content in backend.root_files(raised).items():
            location.write_changed(name, content)


def _pack(location: Location, key: str, lease: Lease) -> None:
    """Write the packed file, then remove what it holds."""
    records: dict[int, dict[str, Any]] = {}
    own = []
    for found in intact_records(location, key):
        if found.record is not None:
            records[found.shard] = json.loads(found.data)
        if found.name != pack_name(key):
            own.append(record_name(key, found.shard))
    lease.check()
    location.write_changed(pack_name(key), pack_bytes(key, records))
    for start in range(0, len(own), _AT_ONCE):
        lease.check()
        location.remove_many(own[start : start + _AT_ONCE])


def mend_pack(location: Location, key: str, *, without: Collection[int] = ()) -> None:
    """Write an array's packed records again from those that are intact, without some shards.

    Records in files of their own stay, so that a writer of another shard is not disturbed.
    """
    with hold_store(location, PACKING):
        try:
            records = whole_lines(location.open(pack_name(key)), key)
        except FileNotFoundError:
            return
        kept = {shard: content for shard, content in records.items() if shard not in without}
        if kept:
            location.write_changed(pack_name(key), pack_bytes(key, kept))
        else:
            location.remove(pack_name(key))


def forget_pairs(location: Location, pairs: Iterable[tuple[str, int]]) -> None:
    """Remove the records of some pairs, wherever they are: the pairs do not exist any more."""
    by_key: dict[str, set[int]] = {}
    for key, shard in pairs:
        by_key.setdefault(key, set()).add(shard)
    for key, shards in sorted(by_key.items()):
        if PACK in location.list(f"commits/{key}"):
            mend_pack(location, key, without=shards)  # first: a record of its own may hide a packed one
        location.remove_many([record_name(key, shard) for shard in sorted(shards)])

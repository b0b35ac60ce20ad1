"""A store written again in another backend or compression: same encoded values, ledger, records and provenance."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from featstore.atomic import canonical_json, json_object
from featstore.errors import ConfigError, StoreError, did_you_mean
from featstore.log import progress
from featstore.store.backends import CODEBOOKS, STORES, backend_named_by, make_backend
from featstore.store.base_array import stored_chunks
from featstore.store.codebooks import all_codebooks
from featstore.store.consolidate import consolidate
from featstore.store.garbage import swept
from featstore.store.layout import COMPRESSIONS, Layout, StoredArray
from featstore.store.leases import Lease, hold_store
from featstore.store.location import Location, open_location
from featstore.store.manifest import MANIFEST, read_manifest
from featstore.store.missing import find_missing
from featstore.store.old_formats import PACKED11, OldArray
from featstore.store.opening import CONVERSION, existing_backend, open_store
from featstore.store.records import CommitRecord, record_name
from featstore.store.store import FORMAT, Store
from featstore.store.stored_tracks import TRACKS
from featstore.store.writer import ArrayWriter
from featstore.store.writing import create_arrays, note_request

__all__ = ["companions", "convert", "unfinished_conversion"]

logger = logging.getLogger(__name__)


def convert(
    source: str | Path | Location,
    target: str | Path | Location,
    *,
    backend: str | None = None,
    compression: str | None = None,
) -> Store:
    """Write a store again elsewhere; after an interruption, the same call continues.

    Parameters
    ----------
    source, target : path or URL
    backend : str, optional
        ``zarr`` or ``hdf5``; by default what the target's name ends in (``.zarr``, ``.h5``), else the other one than
        the source's.
    compression : str, optional
        ``none``, ``lz4`` or ``zstd``; by default each array's own, or ``zstd`` where that is no longer written.

    Raises
    ------
    StoreError
        When the target is another store than a conversion of this one, or a folder with other files.
    CorruptFeature
        When stored bytes of the source differ from what was committed; nothing damaged is copied.

    See Also
    --------
    featstore.store.pack.pack : Writes one HDF5 file.
    featstore.store.diff.compare : Compares two stores by content.
    """
    if compression is not None and compression not in COMPRESSIONS:
        raise ConfigError(f"compression={compression!r} is unknown", "", did_you_mean(compression, COMPRESSIONS))
    old = open_store(source, old_formats=True)
    other = next(name for name in STORES if name != old.backend.name)
    new = _open_target(old, target, backend or backend_named_by(target) or other)
    arrays = _to_copy(old)
    _add_arrays(new, [StoredArray(array.header, _layout(array.layout, compression)) for array in arrays])
    pairs = [(array, record) for array in arrays for record in old.records(array.key).values()]
    todo = [(array, record) for array, record in pairs if not _is_done(new, array, record)]
    logger.info("%d of %d shards to convert", len(todo), len(pairs))
    with swept(new.location):
        for array, record in progress(todo, desc="convert", unit="shard"):
            _copy_shard(old, new, array, record)
    for name in all_codebooks(old):
        new.backend.write_codebook(name, *old.backend.read_codebook(name))
    for name, content in companions(old):
        if name.startswith("requests/") and PACKED11.encode() in content:
            names = json_object(content)["features"]
            note_request(new, [str(feature).replace(f"@{PACKED11}", "@uint16") for feature in names])
        elif not new.location.exists(name):
            new.location.write(name, content)
    new.refresh()
    new.location.remove(CONVERSION)
    consolidate(new, finished=bool(read_manifest(old.location)) and not find_missing(new))
    return new


def unfinished_conversion(location: Location) -> str | None:
    """Sentence about a store that a stopped conversion left unfinished; None for any other store."""
    try:
        source = str(json_object(location.read(CONVERSION))["source"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError):
        source = "SOURCE"
    return f"the conversion of {source} into this store is unfinished: featstore store convert {source} {location}"


def companions(store: Store) -> Iterator[tuple[str, bytes]]:
    """Files that no backend changes: what was asked for, logs, and whatever else lies in folders of its own."""
    own = {"features", "commits", "leases", "staging", CODEBOOKS, MANIFEST, TRACKS}
    for backend in map(STORES.load, STORES):
        own |= {backend.root, *backend.other_files}
    for folder in store.location.list(""):
        if folder in own:
            continue
        for name, _ in store.location.walk(folder):
            if not name.rpartition("/")[2].startswith("."):  # half an atomic write
                yield name, store.location.read(name)


def _to_copy(old: Store) -> list[StoredArray]:
    """Arrays of the source, each to be written under the key of its header."""
    found = {key: array for key, array in old.arrays.items() if not isinstance(array, OldArray)}
    for key, array in old.arrays.items():
        if isinstance(array, OldArray) and found.setdefault(array.header.key, array) is not array:
            logger.warning("%s/features/%s is left out: the same tokens are in the store as uint16", old.location, key)
    return list(found.values())


def _layout(layout: Layout, compression: str | None) -> Layout:
    own = layout.compression if layout.compression in COMPRESSIONS else "zstd"
    return replace(layout, compression=compression or own)


def _open_target(old: Store, target: str | Path | Location, backend: str) -> Store:
    """Make the new store, or open the one that an earlier conversion began."""
    location = open_location(target)
    made = make_backend(backend, location)
    if str(location) == str(old.location):
        raise StoreError("source and target are the same", str(location), "Choose a new folder")
    there = existing_backend(location)
    content = old.table.content
    attributes = old.attributes | {"backend": made.name, "format": FORMAT}
    if there is not None:
        new = open_store(location)
        same = new.attributes | {"format": FORMAT} == attributes and new.table.content == content
        if not same or not set(new.arrays) <= {array.header.key for array in old.arrays.values()}:
            raise StoreError(
                "the target is a store of its own, not a conversion of this one",
                str(location),
                "Choose a new or empty folder",
            )
        return new
    with hold_store(location):
        location.write(CONVERSION, canonical_json({"source": str(old.location)}))
        location.write(TRACKS, content)
        for name, root in made.root_files(attributes).items():
            location.write(name, root)
    return open_store(location)


def _add_arrays(new: Store, arrays: Sequence[StoredArray]) -> None:
    """Create the arrays that are not there yet; those that are must be laid out as asked now."""
    for wanted in arrays:
        array = new.arrays.get(wanted.key, wanted)
        if array.layout != wanted.layout:
            raise StoreError(
                f"the target already holds {array.spec.short()} with compression {array.layout.compression}",
                str(new.location),
                f"Go on with --compression {array.layout.compression}, or choose a new folder",
            )
    create_arrays(new, [wanted for wanted in arrays if wanted.key not in new.arrays])


def _is_done(new: Store, array: StoredArray, record: CommitRecord) -> bool:
    key = array.header.key
    there = new.records(key).get(record.shard)
    if there is None:
        return False
    if _essence(there) != _essence(record):
        raise StoreError(
            f"shard {record.shard} of {key} in the target is not that of the source",
            str(new.location),
            "The source changed since, or it is another store: choose a new folder",
        )
    return True


def _essence(record: CommitRecord) -> CommitRecord:
    """Return what a record says whatever the backend."""
    return replace(record, key="", name="", files={}, layout={})


def _copy_shard(old: Store, new: Store, array: StoredArray, record: CommitRecord) -> None:
    """Copy one shard chunk by chunk and commit it under the same generation."""
    target, shard = new.arrays[array.header.key], record.shard
    key, location, backend = target.key, new.location, new.backend
    with Lease(location, [key], shard) as lease:
        writer = ArrayWriter(backend, target, shard, len(record.n_frames), lease.staging())
        writer.lengths[:] = record.n_frames
        try:
            for slab, slot, chunk, codes in stored_chunks(old.backend, array, record):
                writer.put(slab, slot, chunk, codes)
            files, steps = backend.adopt_shard(target, shard, record.lengths, writer.finish())
            location.together(steps)
            name = target.header.name
            copied = replace(record, key=key, name=name, files=files, layout=asdict(target.layout))
            location.write(record_name(key, shard), copied.to_bytes())
        finally:
            writer.abandon()

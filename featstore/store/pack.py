"""Writing a store, of any backend, into one HDF5 file: see :mod:`featstore.store.packed_file`."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from featstore.atomic import atomic_path, remove_abandoned
from featstore.errors import StoreError, check_known
from featstore.log import progress_bar
from featstore.store.backends import CODEBOOKS
from featstore.store.base_array import BaseArray, stored_chunks
from featstore.store.codebooks import all_codebooks
from featstore.store.consolidate import longest_track
from featstore.store.convert import companions
from featstore.store.digests import digest_text, new_digest
from featstore.store.hdf5_store import LIBVER, create_chunked, describe_array, encode_hdf5_chunk
from featstore.store.layout import StoredArray
from featstore.store.location import Location
from featstore.store.manifest import MANIFEST, manifest_bytes
from featstore.store.opening import open_store
from featstore.store.packed_file import PackedBackend, PackedLocation
from featstore.store.records import CommitRecord, record_name
from featstore.store.sizes import measured
from featstore.store.store import FORMAT, Store
from featstore.store.stored_tracks import TRACKS

__all__ = ["COMPRESSIONS", "pack"]

COMPRESSIONS = ("none", "gzip")  # what every HDF5 library can read


def pack(
    source: str | os.PathLike[str] | Location, target: str | os.PathLike[str], *, compression: str = "none"
) -> Store:
    """Write a store into one new HDF5 file and open it.

    The encoded values, the ledger, the records and their provenance stay; compressed chunks are written again with
    HDF5's own filters, so that plain h5py needs no plugin.

    Parameters
    ----------
    source : path or URL of a store
    target : path
        Must not exist.
    compression : str
        ``none``, or ``gzip`` (with byte shuffling).

    Raises
    ------
    StoreError
        When the target exists, or the disk refuses.
    CorruptFeature
        When stored bytes of the source differ from what was committed.

    See Also
    --------
    featstore.store.convert.convert : Writes a folder from a packed file.
    """
    check_known(compression, COMPRESSIONS, f"compression={compression!r} is unknown here")
    store, target = open_store(source), Path(target)
    if target.exists():
        raise StoreError("the file exists already", str(target), "Choose another name, or remove it")
    remove_abandoned(target)
    with atomic_path(target) as part:
        _write(store, part, target, compression)
    return open_store(target)


def _write(store: Store, part: Path, target: Path, compression: str) -> None:
    import h5py

    backend = PackedBackend(PackedLocation(target))
    files = {TRACKS: store.table.content} | dict(companions(store))
    books = {name: store.backend.read_codebook(name) for name in all_codebooks(store)}
    for name, (vectors, about) in books.items():
        files |= backend.codebook_files(name, np.ascontiguousarray(vectors, dtype="<f4"), about)
    attributes = store.attributes | {"backend": backend.name, "format": FORMAT}
    files |= backend.root_files(attributes)
    with h5py.File(part, "w", libver=LIBVER) as file:
        total = sum(len(store.records(key)) for key in store.arrays)
        with progress_bar(total=total, desc="pack", unit="shard") as bar:
            for key in sorted(store.arrays):
                files |= _write_array(store, key, backend, file, compression, bar)
        _write_ids(store, file)
        folder: Any = file.create_group(CODEBOOKS) if books else None
        for name, (vectors, _) in books.items():  # for plain readers, as the arrays are
            folder.create_dataset(name, data=vectors, chunks=vectors.shape, fletcher32=True, track_times=False)
        covered = {name: content for name, content in files.items() if not name.startswith("log/")}
        files[MANIFEST] = manifest_bytes(attributes, covered)
        group = file.create_group("store")
        for name, content in sorted(files.items()):
            group.create_dataset(name, data=np.frombuffer(content, dtype=np.uint8), track_times=False)


def _write_array(
    store: Store, key: str, backend: PackedBackend, file: Any, compression: str, bar: Any
) -> dict[str, bytes]:
    """Write the data of one array; its metadata file and its records."""
    array, records = store.arrays[key], store.records(key)
    header, target = array.header, replace(array.layout, compression=compression)
    packed_array = StoredArray(header, target)
    longest, cost = longest_track(array, records.values()), measured(records.values())
    files = backend.array_files(packed_array, store.n_rows, longest, cost)
    group = file.create_group(f"features/{key}")
    shape = header.shape_of(longest, store.n_rows)
    data = create_chunked(group, "data", shape, packed_array)
    for shard, record in sorted(records.items()):
        stretches = _write_shard(store, array, compression, record, data, backend)
        packed = replace(record, files=stretches, layout=asdict(target))
        files[record_name(key, shard)] = packed.to_bytes()
        bar.update(1)
    lengths = BaseArray(store.backend, array, records, store.n_rows).lengths.astype("<i4")
    chunks = (max(1, min(len(lengths), 1 << 16)),)
    group.create_dataset(header.lengths_name, data=lengths, chunks=chunks, fletcher32=True, track_times=False)
    describe_array(group, packed_array, cost)
    return files


def _write_shard(
    store: Store, array: StoredArray, compression: str, record: CommitRecord, data: Any, backend: PackedBackend
) -> dict[str, list[Any]]:
    """Write the chunks of one shard; name of each stretch of time to its bytes and digest."""
    layout = array.layout
    slabs = range(layout.n_slabs(record.longest))
    digests, sizes = [new_digest() for _ in slabs], [0 for _ in slabs]
    for slab, slot, chunk, codes in stored_chunks(store.backend, array, record):
        block = encode_hdf5_chunk(codes, compression)
        first = slab * layout.slab_frames + chunk * layout.chunk_frames
        data.id.write_direct_chunk(array.header.chunk_place(record.first_row + slot, first), block)
        digests[slab].update(block)
        sizes[slab] += len(block)
    return {backend.slab_name(array, record.shard, slab): [sizes[slab], digest_text(digests[slab])] for slab in slabs}


def _write_ids(store: Store, file: Any) -> None:
    """Names of the rows for plain readers."""
    import h5py

    names = [b""] * store.n_rows
    for track, row in store.table.row_of.items():
        names[row] = str(track).encode()
    text = h5py.string_dtype("utf-8", max(1, max(map(len, names), default=1)))
    file.create_dataset(
        "track_id", data=np.array(names, dtype=text), chunks=(max(1, min(len(names), 4096)),), fletcher32=True
    )

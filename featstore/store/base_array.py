"""A stored array: its chunks are found, checked and decoded here, without going through zarr or h5py."""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from featstore.arrays import AnyArray, IntArray
from featstore.errors import CorruptFeature, MissingFeature, StoreError
from featstore.store.backends import Backend, make_backend
from featstore.store.layout import StoredArray
from featstore.store.records import CommitRecord
from featstore.store.spool import Slab

__all__ = ["BaseArray", "nothing_stored", "stored_chunks"]

MAX_OPEN_SLABS = 512  # file handles are closed at once after mapping; this bounds the address space and the indices


class BaseArray:
    """One stored array: encoded values of any track, any stretch of frames.

    Picklable; files are mapped when first read, in each process by itself.

    Attributes
    ----------
    key : str
        Path-safe name of the array in its store.
    dtype : numpy.dtype
        Type of the encoded values.
    item_shape : tuple of int
        Axes of one track before time.
    chunk_frames : int
        Frames of a chunk.
    mapped : bool
        Whether reads of a chunk return a view of the mapped file: it is not compressed.
    lengths : array of int64
        Frames of every row, -1 where nothing is stored.

    See Also
    --------
    FeatureReader : What users get from ``store[name]``.
    """

    def __init__(self, backend: Backend, array: StoredArray, records: Mapping[int, CommitRecord], n_rows: int) -> None:
        self.backend, self.location = backend, backend.location
        self.array, self.header, self.layout, self.n_rows = array, array.header, array.layout, n_rows
        self.key, self.item_shape, self.dtype = self.header.key, self.header.item_shape, self.header.encoding.dtype
        self.chunk_frames, self.mapped = self.layout.chunk_frames, self.layout.compression == "none"
        self.lengths: IntArray = np.full(n_rows, -1, dtype=np.int64)
        for record in records.values():
            self.lengths[record.first_row : record.first_row + len(record.n_frames)] = record.lengths
        self.shard_rows = [records[shard].rows for shard in sorted(records)]
        self._slabs: OrderedDict[tuple[int, int], Slab] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_slabs": OrderedDict()}

    @property
    def nbytes(self) -> int:
        """Bytes of all files of the array on disk, metadata included."""
        return sum(size for _, size in self.location.walk(f"features/{self.header.key}"))

    def stage(self) -> None:
        """Keep local copies of the shard files read from now on, where they are remote and the disk has room."""
        location = self.location.staged(lambda: self.nbytes)
        if location is not self.location:
            self.location, self.backend = location, make_backend(self.backend.name, location)
            self._slabs.clear()

    def read(self, row: int, start: int = 0, stop: int | None = None) -> AnyArray:
        """Encoded values (*item_shape, stop - start) of one track; a read-only view where one chunk holds them all.

        Of an array of excerpts it is excerpts ``start`` to ``stop``: (stop - start, *item_shape, frames).

        Raises
        ------
        MissingFeature
            When nothing is stored for the track.
        StoreError
            When the frames asked for lie outside the track.
        CorruptFeature
            When stored bytes differ from what was committed.
        """
        n_frames = int(self.lengths[row]) if 0 <= row < self.n_rows else -1
        if n_frames < 0:
            raise nothing_stored(f"row {row}", self.header.name)
        stop = n_frames if stop is None else stop
        if not 0 <= start <= stop <= n_frames:
            raise StoreError(
                f"frames {start} to {stop} lie outside the track's {n_frames}", self.header.name, "Ask for less"
            )
        size = self.layout.chunk_frames
        first, last = start // size, max(start, stop - 1) // size
        if first == last and stop > start:
            return self.header.stretch(self.read_chunk(row, first), start - first * size, stop - first * size)
        out = np.empty(self.header.shape_of(stop - start), dtype=self.dtype)
        for chunk in range(first, last + 1):
            begin = chunk * size
            low, high = max(start, begin), min(stop, begin + size)
            if high > low:
                part = self.header.stretch(self.read_chunk(row, chunk), low - begin, high - begin)
                self.header.stretch(out, low - start, high - start)[...] = part
        return out

    def expect(self, row: int, chunk: int) -> None:
        """Say that a chunk of a track will be read soon, so that a disk can fetch many side by side."""
        slab, slot, within = self._place(row, chunk)
        slab.expect(slot, within)

    def mapped_chunk(self, row: int, chunk: int) -> tuple[mmap.mmap, int, int] | None:
        """File, address and bytes of a chunk that is mapped with its crc32c behind it; None where none is."""
        slab, slot, within = self._place(row, chunk)
        return slab.mapped_chunk(slot, within)

    def read_chunk(self, row: int, chunk: int) -> AnyArray:
        """Encoded values of a whole chunk of a stored track, also of places behind its end; errors as for ``read``."""
        slab, slot, within = self._place(row, chunk)
        return slab.read_chunk(slot, within)

    def _place(self, row: int, chunk: int) -> tuple[Slab, int, int]:
        """Shard file of a chunk of a track, and the numbers of both in it."""
        shard, slot = divmod(row, self.layout.shard_tracks)
        slab, within = divmod(chunk, self.layout.slab_chunks)
        opened = self._slabs.get((shard, slab))
        if opened is None:
            opened = _open_shard_file(self.backend, self.array, shard, slab)
            self._slabs[shard, slab] = opened
            while len(self._slabs) > MAX_OPEN_SLABS:
                self._slabs.popitem(last=False)
        return opened, slot, within


def nothing_stored(what: str, feature: str) -> MissingFeature:
    """Error of a read where the store has nothing."""
    return MissingFeature(f"nothing is stored for {what}", feature, "See featstore status --failures")


def stored_chunks(
    backend: Backend, array: StoredArray, record: CommitRecord
) -> Iterator[tuple[int, int, int, AnyArray]]:
    """(slab, slot, chunk, encoded values) of every chunk of a committed shard, in the order of its files.

    Raises
    ------
    CorruptFeature
        When a file is not there or is no file of its backend, or stored bytes differ from what was committed.
    """
    for slab in range(array.layout.n_slabs(record.longest)):
        source = _open_shard_file(backend, array, record.shard, slab)
        for slot, chunk in record.chunks(array.layout, slab):
            yield slab, slot, chunk, source.read_chunk(slot, chunk)


def _open_shard_file(backend: Backend, array: StoredArray, shard: int, slab: int) -> Slab:
    name = backend.slab_name(array, shard, slab)
    try:
        return backend.open_slab(name, array)
    except FileNotFoundError:
        raise CorruptFeature(
            "a committed shard file is missing", f"{backend.location}/{name}", "Run featstore store repair"
        ) from None

"""A whole store in one HDF5 file, for sending and archiving: read-only, and plain h5py needs no plugin for it.

``features/<key>/data`` is one chunked dataset with HDF5's own filters only; ``store/`` holds the store's other files
(track table, records, manifest, log) as they are, byte for byte. To this room the file looks like a folder: see
:class:`PackedLocation`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from featstore.arrays import AnyArray, IntArray
from featstore.atomic import DAMAGED, json_object
from featstore.errors import CorruptFeature, StoreError
from featstore.store.hdf5_store import Hdf5Backend, chunk_places, decode_hdf5_chunk, open_hdf5
from featstore.store.layout import ArrayHeader, StoredArray
from featstore.store.location import FolderLocation, Location, Seen, map_file, open_location
from featstore.store.old_formats import read_stored_array
from featstore.store.spool import ABSENT

__all__ = ["PackedBackend", "PackedLocation", "packed_location"]

Index = npt.NDArray[np.uint64]


def packed_location(path: str | os.PathLike[str] | Location) -> PackedLocation | None:
    """Location of a packed store where the path is a file, else None."""
    if isinstance(path, PackedLocation):
        return path
    location = open_location(path)
    if isinstance(location, FolderLocation) and location.root.is_file():
        return PackedLocation(location.root)
    return None


class PackedLocation(Location):
    """The files of a packed store by their relative names; those with data are stretches of the file itself."""

    heartbeat_s = FolderLocation.heartbeat_s

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self._files: dict[str, bytes] | None = None
        self._indices: dict[str, Index] = {}
        self._view: memoryview | None = None

    def __str__(self) -> str:
        return str(self.root)

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_files": None, "_indices": {}, "_view": None}

    # -- what is in the file ----------------------------------------------------------------------------------------

    def _open(self) -> Any:
        try:
            return open_hdf5(self.bytes_view)
        except OSError as error:
            raise CorruptFeature(
                "the file is no HDF5, or damaged", str(self.root), "Pack the store again, or restore a copy"
            ) from error

    @property
    def files(self) -> dict[str, bytes]:
        """Content of every file that is kept as it is."""
        import h5py

        if self._files is None:
            found: dict[str, bytes] = {}

            def note(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset):
                    found[name] = item[:].tobytes()

            with self._open() as file:
                try:
                    file["store"].visititems(note)
                except DAMAGED as error:
                    raise CorruptFeature(
                        "the file is no packed store, or damaged", str(self.root), "Make one with featstore store pack"
                    ) from error
            self._files = found
        return self._files

    def chunk_index(self, array: StoredArray) -> Index:
        """Offset and length of every chunk of an array, (rows, chunks of a row, 2)."""
        if array.key not in self._indices:
            with self._open() as file:
                try:
                    self._indices[array.key] = chunk_places(file[f"features/{array.key}/data"], array)
                except DAMAGED as error:
                    where = f"{self}/{array.key}"
                    raise CorruptFeature("an array is damaged", where, "Pack the store again") from error
        return self._indices[array.key]

    @property
    def bytes_view(self) -> memoryview:
        """Read-only memory map of the whole file."""
        if self._view is None:
            self._view = map_file(self.root)
        return self._view

    def plain_rows(self, header: ArrayHeader) -> tuple[IntArray, list[str]]:
        """Lengths and track ids as plain readers see them: they follow from all the rest."""
        with self._open() as file:
            try:
                lengths = file[f"features/{header.key}/{header.lengths_name}"][:].astype(np.int64)
                return lengths, [name.decode() for name in file["track_id"][:]]
            except DAMAGED as error:
                raise CorruptFeature("lengths or ids cannot be read", str(self), "Pack the store again") from error

    def plain_codebook(self, name: str) -> AnyArray | None:
        """A codebook as plain readers see it; None where the file was packed without."""
        with self._open() as file:
            try:
                return file[f"codebooks/{name}"][...] if f"codebooks/{name}" in file else None
            except DAMAGED as error:
                raise CorruptFeature("a codebook cannot be read", str(self), "Pack the store again") from error

    def _spans(self, name: str) -> Index:
        """Offset and length of the chunks behind ``features/<key>/<shard>.<slab>.chunks``, in order."""
        _, key, base = name.split("/")
        shard, slab = (int(part) for part in base.removesuffix(".chunks").split("."))
        array = read_stored_array(json_object(self.files[f"features/{key}/array.json"]))
        index, layout = self.chunk_index(array), array.layout
        rows = slice(shard * layout.shard_tracks, (shard + 1) * layout.shard_tracks)
        here: Index = index[rows, slab * layout.slab_chunks : (slab + 1) * layout.slab_chunks].reshape(-1, 2)
        there: Index = here[here[:, 0] != ABSENT]
        return there

    # -- the interface of a location --------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether the file or folder is there."""
        return name in self.files or any(file.startswith(f"{name}/") for file in self.files) or self.size(name) >= 0

    def size(self, name: str) -> int:
        """Bytes of a file, or -1 when it is absent."""
        if name in self.files:
            return len(self.files[name])
        try:
            return int(self._spans(name)[:, 1].sum())
        except (LookupError, TypeError, ValueError):
            return -1

    def read(self, name: str) -> bytes:
        """Whole content of a file."""
        if name not in self.files:
            raise FileNotFoundError(2, "No such file in the packed store", name)
        return self.files[name]

    def stamp(self, name: str) -> str:
        """Time of the packed file's last change."""
        return str(self.root.stat().st_mtime_ns)

    def open(self, name: str) -> memoryview:
        """Content of a file."""
        return self.map(name)

    def map(self, name: str) -> memoryview:
        """Content of a file; of a data file all its chunks, one after the other."""
        if name in self.files:
            return memoryview(self.files[name])
        view = self.bytes_view
        return memoryview(b"".join(view[int(start) : int(start + size)] for start, size in self._spans(name)))

    def list(self, name: str) -> list[str]:
        """Names of the entries of a folder, sorted; an absent folder has none."""
        parts = PurePosixPath(name).parts
        inside = (PurePosixPath(file).parts for file in self.files)
        return sorted({own[len(parts)] for own in inside if own[: len(parts)] == parts and len(own) > len(parts)})

    def walk(self, name: str) -> Iterator[tuple[str, int]]:
        """Every file below a folder with its size, in sorted order; the data of an array are one of them."""
        parts = PurePosixPath(name).parts
        for file in sorted(self.files):
            own = PurePosixPath(file).parts
            if own[: len(parts)] == parts:
                yield file, len(self.files[file])
            if own[0] == "commits" and ("features", own[1])[: len(parts)] == parts[:2] and len(parts) < 3:
                record = json_object(self.files[file])
                yield from ((data, int(size)) for data, (size, _) in sorted(record["files"].items()))

    def peek(self, name: str) -> Seen | None:
        """A small file with its age."""
        if name not in self.files:
            return None
        return Seen(self.files[name], time.time() - self.root.stat().st_mtime, self.stamp(name))

    def path(self, name: str) -> Path:
        """Refuse: nothing in a packed store has a path of its own."""
        raise _read_only(self)

    def write(self, name: str, data: bytes) -> None:
        """Refuse, as all that would change something: a packed store is read-only."""
        raise _read_only(self)

    def adopt(self, staged: Path, name: str) -> None:
        """Refuse."""
        raise _read_only(self)

    def staging(self, owner: str) -> Path:
        """Refuse."""
        raise _read_only(self)

    def remove(self, name: str) -> None:
        """Refuse."""
        raise _read_only(self)

    def create(self, name: str, data: bytes) -> str | None:
        """Refuse."""
        raise _read_only(self)

    def touch(self, name: str, data: bytes, version: str) -> str | None:
        """Refuse."""
        raise _read_only(self)

    def replace(self, name: str, data: bytes, version: str) -> str | None:
        """Refuse."""
        raise _read_only(self)

    def take_away(self, name: str, version: str) -> None:
        """Refuse."""
        raise _read_only(self)


def _read_only(location: PackedLocation) -> StoreError:
    return StoreError(
        "a packed store is read-only", str(location), "Make a folder of it: featstore store convert FILE.h5 FOLDER"
    )


class PackedBackend(Hdf5Backend):
    """Reads the arrays of a packed store."""

    name, endings, other_files = "packed", (), ()

    def derived_files(self, arrays: Mapping[str, StoredArray], n_rows: int) -> dict[str, bytes]:
        """Files that follow from all the rest: none, plain readers see the arrays themselves."""
        return {}

    def slab_name(self, array: StoredArray, shard: int, slab: int) -> str:
        """Name under which one shard's stretch of time is known."""
        return f"features/{array.key}/{shard}.{slab}.chunks"

    def open_slab(self, name: str, array: StoredArray) -> Any:
        """Open one shard's stretch of time."""
        shard, slab = (int(part) for part in name.rpartition("/")[2].removesuffix(".chunks").split("."))
        return PackedSlab(cast(PackedLocation, self.location), array, shard, slab)


class PackedSlab:
    """One shard's tracks over one stretch of time, inside the packed file."""

    def __init__(self, location: PackedLocation, array: StoredArray, shard: int, slab: int) -> None:
        self._header, self._layout, self._location = array.header, array.layout, location
        self._index = location.chunk_index(array)
        self._first = (shard * self._layout.shard_tracks, slab * self._layout.slab_chunks)

    def chunk_span(self, slot: int, chunk: int) -> tuple[int, int] | None:
        """Offset and length of a chunk's bytes in the file, or None where none were written."""
        row, place = self._first[0] + slot, self._first[1] + chunk
        if row >= self._index.shape[0] or place >= self._index.shape[1]:
            return None
        offset, length = self._index[row, place].tolist()
        return None if offset == ABSENT else (offset, length)

    def read_chunk(self, slot: int, chunk: int) -> AnyArray:
        """Values (*item_shape, chunk_frames) of a chunk that the commit record promises.

        Raises
        ------
        CorruptFeature
            When it is absent, lies outside the file, or fails its checksum.
        """
        span, data = self.chunk_span(slot, chunk), self._location.bytes_view
        where = f"{self._location}, {self._header.key}, row {self._first[0] + slot}, chunk {self._first[1] + chunk}"
        if span is None or span[0] + span[1] > len(data):
            raise CorruptFeature("a committed chunk is missing", where, "Pack the store again")
        block = data[span[0] : span[0] + span[1]]
        shape = self._header.shape_of(self._layout.chunk_frames)
        return decode_hdf5_chunk(block, self._header.encoding.dtype, shape, self._layout.compression, where)

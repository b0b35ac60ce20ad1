"""A whole store in one HDF5 file, for sending and archiving: read-only, and plain h5py needs no plugin for it.

``features/<key>/data`` is one chunked dataset with HDF5's own filters only; ``store/`` holds the store's other files
(track table, records, manifest, log) as they are, byte for byte. To this room the file looks like a folder: see
:class:`PackedLocation`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from featstore.arrays import AnyArray, IntArray
from featstore.atomic import damage, json_object
from featstore.errors import StoreError
from featstore.store.hdf5_store import Hdf5Backend, Hdf5Slab, chunk_places, open_hdf5
from featstore.store.layout import ArrayHeader, StoredArray
from featstore.store.location import FileVersion, FolderLocation, Location, map_file, open_location
from featstore.store.old_formats import read_stored_array
from featstore.store.spool import ABSENT

__all__ = ["PackedBackend", "PackedLocation", "packed_location"]

Index = npt.NDArray[np.uint64]

_PACK_AGAIN = "Pack the store again"


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
        self._indices: dict[str, Index] = {}

    def __str__(self) -> str:
        return str(self.root)

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_indices": {}}

    # -- what is in the file ----------------------------------------------------------------------------------------

    def _open(self) -> Any:
        with damage("the file is no HDF5, or damaged", str(self.root), "Pack the store again, or restore a copy"):
            return open_hdf5(self.bytes_view)

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Content of every file that is kept as it is."""
        import h5py

        found: dict[str, bytes] = {}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = item[:].tobytes()

        what, fix = "the file is no packed store, or damaged", "Make one with featstore store pack"
        with self._open() as file, damage(what, str(self.root), fix):
            file["store"].visititems(note)
        return found

    def chunk_index(self, array: StoredArray) -> Index:
        """Offset and length of every chunk of an array, (rows, chunks of a row, 2)."""
        if array.key not in self._indices:
            with self._open() as file, damage("an array is damaged", f"{self}/{array.key}", _PACK_AGAIN):
                self._indices[array.key] = chunk_places(file[f"features/{array.key}/data"], array)
        return self._indices[array.key]

    @cached_property
    def bytes_view(self) -> memoryview:
        """Read-only memory map of the whole file."""
        return map_file(self.root)

    def plain_rows(self, header: ArrayHeader) -> tuple[IntArray, list[str]]:
        """Lengths and track ids as plain readers see them: they follow from all the rest."""
        with self._open() as file, damage("lengths or ids cannot be read", str(self), _PACK_AGAIN):
            lengths = file[f"features/{header.key}/{header.lengths_name}"][:].astype(np.int64)
            return lengths, [name.decode() for name in file["track_id"][:]]

    def plain_codebook(self, name: str) -> AnyArray | None:
        """A codebook as plain readers see it; None where the file was packed without."""
        with self._open() as file, damage("a codebook cannot be read", str(self), _PACK_AGAIN):
            return file[f"codebooks/{name}"][...] if f"codebooks/{name}" in file else None

    def _spans(self, name: str) -> Index:
        """Offset and length of the chunks behind ``features/<key>/<shard>.<slab>.chunks``, in order."""
        array = read_stored_array(json_object(self.files[f"features/{name.split('/')[1]}/array.json"]))
        index = self.slab_index(array, *shard_and_slab(name))
        there: Index = index[index[:, 0] != ABSENT]
        return there

    def slab_index(self, array: StoredArray, shard: int, slab: int) -> Index:
        """Offset and length of every chunk of one shard's stretch of time, (tracks x chunks of a track, 2)."""
        whole, layout = self.chunk_index(array), array.layout
        rows = slice(shard * layout.shard_tracks, (shard + 1) * layout.shard_tracks)
        here = whole[rows, slab * layout.slab_chunks : (slab + 1) * layout.slab_chunks]
        index: Index = np.full((layout.shard_tracks, layout.slab_chunks, 2), ABSENT, dtype=np.uint64)
        index[: here.shape[0], : here.shape[1]] = here
        return index.reshape(-1, 2)

    # -- the interface of a location --------------------------------------------------------------------------------

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

    def map(self, name: str) -> memoryview:
        """Content of a file; of a data file all its chunks, one after the other."""
        if name in self.files:
            return memoryview(self.files[name])
        view = self.bytes_view
        return memoryview(b"".join(view[int(start) : int(start + size)] for start, size in self._spans(name)))

    def list(self, name: str) -> list[str]:
        """Names of the entries of a folder, sorted; an absent folder has none."""
        start = f"{name}/" if name else ""
        return sorted({file[len(start) :].split("/")[0] for file in self.files if file.startswith(start)})

    def walk(self, name: str) -> Iterator[tuple[str, int]]:
        """Every file below a folder with its size, in sorted order; the data of an array are one of them."""
        start = f"{name}/" if name else ""
        for file in sorted(self.files):
            if file.startswith(start):
                yield file, len(self.files[file])
            folder, _, rest = file.partition("/")
            if folder == "commits" and f"features/{rest.partition('/')[0]}/".startswith(start):
                record = json_object(self.files[file])
                yield from ((data, int(size)) for data, (size, _) in sorted(record["files"].items()))

    def peek(self, name: str) -> FileVersion | None:
        """A small file with its age."""
        if name not in self.files:
            return None
        return FileVersion(self.files[name], time.time() - self.root.stat().st_mtime, self.stamp(name))

    def read_only(self) -> StoreError:
        """Error of every method that would change something."""
        advice = "Make a folder of it: featstore store convert FILE.h5 FOLDER"
        return StoreError("a packed store is read-only", str(self), advice)

    def path(self, name: str) -> Path:
        """Refuse: nothing in a packed store has a path of its own."""
        raise self.read_only()


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
        return PackedSlab(cast(PackedLocation, self.location), name, array)


class PackedSlab(Hdf5Slab):
    """One shard's tracks over one stretch of time, inside the packed file."""

    def __init__(self, location: PackedLocation, name: str, array: StoredArray) -> None:
        self._set(location.bytes_view, f"{location}/{name}", array)
        self._index = location.slab_index(array, *shard_and_slab(name))


def shard_and_slab(name: str) -> tuple[int, int]:
    """Numbers in the name of one shard's stretch of time."""
    shard, slab = name.rpartition("/")[2].removesuffix(".chunks").split(".")
    return int(shard), int(slab)

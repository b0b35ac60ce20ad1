"""Stores in the memory of this process, at ``memory://NAME``: for tests, and as an example of a small backend.

:class:`MemoryLocation` holds the files, :class:`MemoryBackend` says what is in them: JSON for metadata, the shard files
of the Zarr backend for data.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from featstore.arrays import FloatArray
from featstore.atomic import canonical_json, json_object
from featstore.errors import StoreError
from featstore.store.backends import CODEBOOKS, Backend
from featstore.store.chunks import checked, crc32c
from featstore.store.layout import ArrayHeader, StoredArray
from featstore.store.location import Location, Seen
from featstore.store.zarr_store import ZarrSlab, ZarrSlabWriter

__all__ = ["MemoryBackend", "MemoryLocation"]

_FILES: defaultdict[str, dict[str, tuple[bytes, float, str]]] = defaultdict(dict)  # content, time, version
_versions = itertools.count(1)
_lock = threading.RLock()


class MemoryLocation(Location):
    """Files in a dictionary of this process, shared by all locations of one name."""

    heartbeat_s = 5.0

    def __init__(self, url: str) -> None:
        self._name = url
        self._files = _FILES[url]

    def __str__(self) -> str:
        return self._name

    def __reduce__(self) -> NoReturn:
        raise StoreError("a store in memory is visible to one process only", str(self), "Use threads, or a folder")

    def exists(self, name: str) -> bool:
        """Whether the file or folder is there."""
        self.check(name)
        return name in self._files or bool(self.list(name))

    def size(self, name: str) -> int:
        """Bytes of a file, or -1 when it is absent."""
        return len(self._files[name][0]) if name in self._files else -1

    def read(self, name: str) -> bytes:
        """Whole content of a file."""
        self.check(name)
        if name not in self._files:
            raise FileNotFoundError(2, "No such file", f"{self}/{name}")
        return self._files[name][0]

    def stamp(self, name: str) -> str:
        """Text that changes when the file does."""
        return self._files[name][2]

    def open(self, name: str) -> memoryview:
        """Content of a file."""
        return memoryview(self.read(name))

    def map(self, name: str) -> memoryview:
        """Content of a file."""
        return memoryview(self.read(name))

    def list(self, name: str) -> list[str]:
        """Names of the entries of a folder, sorted; an absent folder has none."""
        start = f"{name}/" if name else ""
        return sorted({file[len(start) :].split("/")[0] for file in list(self._files) if file.startswith(start)})

    def walk(self, name: str) -> Iterator[tuple[str, int]]:
        """Every file below a folder with its size, in sorted order."""
        start = f"{name}/" if name else ""
        yield from ((file, self.size(file)) for file in sorted(self._files) if file.startswith(start))

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place."""
        self.check(name)
        self._files[name] = (bytes(data), time.time(), str(next(_versions)))

    def adopt(self, staged: Path, name: str) -> None:
        """Read a finished local file, and delete it."""
        self.write(name, staged.read_bytes())
        staged.unlink()

    def staging(self, owner: str) -> Path:
        """Local folder for files in the making."""
        return Path(tempfile.mkdtemp(prefix=f"featstore-{owner}-"))

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        self._files.pop(name, None)

    def create(self, name: str, data: bytes) -> str | None:
        """Make a file that is not there yet."""
        return self.replace(name, data, "")

    def peek(self, name: str) -> Seen | None:
        """A small file with its age."""
        found = self._files.get(name)
        return None if found is None else Seen(found[0], max(0.0, time.time() - found[1]), found[2])

    def touch(self, name: str, data: bytes, version: str) -> str | None:
        """Write new content in place of one's own last one."""
        return self.replace(name, data, version)

    def replace(self, name: str, data: bytes, version: str) -> str | None:
        """Write in place of one version of a file; None when it has changed."""
        with _lock:
            if self._version(name) != version:
                return None
            self.write(name, data)
            return self._version(name)

    def take_away(self, name: str, version: str) -> None:
        """Delete one version of a file."""
        with _lock:
            if self._version(name) == version:
                self.remove(name)

    def _version(self, name: str) -> str:
        return self._files[name][2] if name in self._files else ""


class MemoryBackend(Backend):
    """Metadata as JSON, shard files as in Zarr.

    Raises
    ------
    StoreError
        At any location but a :class:`MemoryLocation`: no other program could read the files.
    """

    name, root = "memory", "store-in-memory.json"

    def __init__(self, location: Location) -> None:
        if not isinstance(location, MemoryLocation):
            raise StoreError("the memory backend writes no files", str(location), "Use memory://NAME, or zarr or hdf5")
        super().__init__(location)

    @classmethod
    def root_files(cls, attributes: dict[str, Any]) -> dict[str, bytes]:
        """Return the file that makes the location a store."""
        return {cls.root: canonical_json(attributes)}

    def read_root(self, content: bytes) -> Any:
        """Return the store's own metadata from the root file."""
        return json_object(content)

    def array_files(
        self, array: StoredArray, n_rows: int, n_frames: int, cost: Mapping[str, float | int] | None = None
    ) -> dict[str, bytes]:
        """Metadata file of an array."""
        content = array.as_attributes() | {"shape": array.header.shape_of(n_frames, n_rows), "cost": dict(cost or {})}
        return {self.metadata_name(array.key): canonical_json(content)}

    def metadata_name(self, key: str) -> str:
        """Name of the array's metadata."""
        return f"features/{key}/array.json"

    def read_array(self, key: str) -> dict[str, Any]:
        """Attributes of an array."""
        return json_object(self.location.read(self.metadata_name(key)))

    def slab_name(self, array: StoredArray, shard: int, slab: int) -> str:
        """Name of the file that holds one shard's stretch of time."""
        return f"features/{array.key}/{shard}.{slab}"

    def slab_writer(self, path: Path, array: StoredArray) -> ZarrSlabWriter:
        """Open a new shard file for writing."""
        return ZarrSlabWriter(path, array)

    def open_slab(self, name: str, array: StoredArray) -> ZarrSlab:
        """Open a shard file for reading."""
        return ZarrSlab(self.location.open(name), f"{self.location}/{name}", array)

    @classmethod
    def metadata_count(cls, header: ArrayHeader, n_shards: int) -> int:
        """One file; frame counts are in the records only."""
        return 1

    def codebook_files(self, name: str, vectors: FloatArray, attributes: dict[str, Any]) -> dict[str, bytes]:
        """Return one file: a line of JSON, the vectors, a checksum of both."""
        about = {"shape": vectors.shape, "attributes": attributes}
        body = canonical_json(about).replace(b"\n", b" ") + b"\n" + vectors.tobytes()
        return {f"{CODEBOOKS}/{name}": body + crc32c(body)}

    def codebook_name(self, entry: str) -> str | None:
        """Name of the file."""
        return entry

    def load_codebook(self, name: str) -> tuple[FloatArray, dict[str, Any]]:
        """Vectors and attributes of a codebook."""
        place = f"{CODEBOOKS}/{name}"
        body = bytes(checked(memoryview(self.location.read(place)), f"{self.location}/{place}"))
        line, _, raw = body.partition(b"\n")
        about = json_object(line)
        return np.frombuffer(raw, dtype="<f4").reshape(about["shape"]).astype(np.float32), about["attributes"]

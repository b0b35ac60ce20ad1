"""Stores in the memory of this process, at ``memory://NAME``: for tests and notebooks."""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from featstore.errors import StoreError
from featstore.store.location import FileVersion, Location
from featstore.store.zarr_store import ZarrBackend

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

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        self._files.pop(name, None)

    def create(self, name: str, data: bytes) -> str | None:
        """Make a file that is not there yet."""
        return self.replace(name, data, "")

    def peek(self, name: str) -> FileVersion | None:
        """A small file with its age."""
        found = self._files.get(name)
        return None if found is None else FileVersion(found[0], max(0.0, time.time() - found[1]), found[2])

    def replace(self, name: str, data: bytes, version: str) -> str | None:
        """Write in place of one version of a file; None when it has changed."""
        with _lock:
            if self._version(name) != version:
                return None
            self.write(name, data)
            return self._version(name)

    def remove_version(self, name: str, version: str) -> None:
        """Delete one version of a file."""
        with _lock:
            if self._version(name) == version:
                self.remove(name)

    def _version(self, name: str) -> str:
        return self._files[name][2] if name in self._files else ""


class MemoryBackend(ZarrBackend):
    """Arrays as in Zarr, below a root of its own.

    Raises
    ------
    StoreError
        At any location but a :class:`MemoryLocation`: no other program could read the files.
    """

    name, root, endings = "memory", "store-in-memory.json", ()

    def __init__(self, location: Location) -> None:
        if not isinstance(location, MemoryLocation):
            raise StoreError("the memory backend writes no files", str(location), "Use memory://NAME, or zarr or hdf5")
        super().__init__(location)

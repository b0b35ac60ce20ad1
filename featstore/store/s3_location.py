"""A store in a bucket: the same promises as in a folder, kept by the object store itself.

* A put object appears whole or not at all, and every read that starts later sees it. So shard files go straight to
  their final names, and the record that is put last is the commit, as on disk.
* Leases are objects that are created with ``If-None-Match: *`` and kept alive, taken over and deleted with
  ``If-Match``: of several processes, the server lets one.
* Files in the making, and the copies that loaders keep, are in a local folder for temporary files (``TMPDIR``).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from featstore import atomic
from featstore.errors import ObjectStorageError, StoreError
from featstore.object_client import client
from featstore.object_storage import ObjectPlace
from featstore.owner import Owner
from featstore.store.location import FileBytes, FileVersion, Location, map_descriptor, map_file

__all__ = ["RemoteBytes", "S3Location"]

logger = logging.getLogger(__name__)

TAIL_BYTES = 64 << 10  # fetched when a file is opened: its index, as a rule
AHEAD_BYTES = 4 << 20  # fetched at once where reads follow each other
_LARGE = 1 << 18  # bytes from which it pays to ask first whether an object has changed
_STAGE_SHARE = 0.5  # of the free local disk that copies may take

_conditional: set[tuple[int, str, str]] = set()  # (process, server, bucket) that were seen to honour conditions


class S3Location(Location):
    """Objects below ``s3://bucket/prefix``. Picklable; each process makes its own connection."""

    is_remote = True
    heartbeat_s = 15.0  # a beat is a request, and requests are paid for

    def __init__(self, url: str) -> None:
        self.place = ObjectPlace(url)
        if not self.place.prefix:
            raise StoreError("a store needs a path of its own in the bucket", url, "Write s3://BUCKET/NAME.zarr")
        self._soon: dict[str, bytes | None] = {}
        self._walked: dict[str, list[tuple[str, int]]] = {}
        self._large: dict[str, tuple[str, bytes]] = {}
        self._copies: Path | None = None

    def __str__(self) -> str:
        return str(self.place)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_soon": {}, "_walked": {}, "_large": {}}

    # -- reading --------------------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether the object is there."""
        if name in self._soon:
            return self._soon[name] is not None
        return self.place.head(self.check(name)) is not None

    def size(self, name: str) -> int:
        """Bytes of an object, or -1 when it is absent, from one listing of all objects around it."""
        folder = "/".join(self.check(name).split("/")[:2])
        if folder == name:
            found = self.place.head(name)
            return -1 if found is None else found[0]
        return next((size for found, size in self._listing(folder) if found == name), -1)

    def read(self, name: str) -> bytes:
        """Whole content of an object."""
        if name in self._soon:
            data = self._soon.pop(name)
            if data is None:
                raise FileNotFoundError(2, "no such object", self.place.url(name))
            return data
        kept = self._large.get(name)
        if kept is not None and self.stamp(name) == kept[0]:
            return kept[1]
        found = self.place.get(self.check(name))
        if len(found.data) >= _LARGE:  # the track table: read again after every refresh, and mostly the same
            self._large[name] = (found.version, found.data)
        return found.data

    def stamp(self, name: str) -> str:
        """Return the object's entity tag."""
        found = self.place.head(self.check(name))
        if found is None:
            raise FileNotFoundError(2, "no such object", self.place.url(name))
        return found[1]

    def open(self, name: str) -> FileBytes:
        """Open an object for reads by range; where copies are kept, copy it and map the copy."""
        if self._copies is None:
            return RemoteBytes(self.place, self.check(name))
        copy = self._copies / hashlib.sha256(name.encode()).hexdigest()[:32]
        if not copy.exists():
            with atomic.atomic_path(copy) as part, part.open("wb") as file:
                self.place.download(self.check(name), file)
        return map_file(copy)

    def map(self, name: str) -> memoryview:
        """Memory map of a copy without a name: its space is free again once the map is closed."""
        with atomic.disk_errors(tempfile.gettempdir()), tempfile.TemporaryFile() as file:
            self.place.download(self.check(name), file)
            return map_descriptor(file.fileno())

    def list(self, name: str) -> list[str]:
        """Names of the entries of a folder, sorted; an absent folder has none."""
        return self.place.names_in(self.check(name))

    def walk(self, name: str) -> Iterator[tuple[str, int]]:
        """Every object below a folder with its size, in sorted order; data are listed once until something changes."""
        yield from self._listing(self.check(name))

    def _listing(self, folder: str) -> Iterable[tuple[str, int]]:
        if not folder.startswith("features/"):
            return self.place.walk(folder)
        if folder not in self._walked:
            self._walked[folder] = list(self.place.walk(folder))
        return self._walked[folder]

    def prefetch(self, names: Iterable[str]) -> None:
        """Fetch small objects, several at a time; each is kept until it is read."""
        wanted = [self.check(name) for name in names]
        found = self.place.get_many(wanted)
        self._soon |= {name: found.get(name) for name in wanted}

    def refresh(self) -> None:
        """Forget listings and what was fetched ahead."""
        self._soon, self._walked = {}, {}

    def staged(self, measure: Callable[[], int]) -> Location:
        """Return a location that keeps local copies of the objects it opens, if half of the free disk holds them.

        The folder of the copies is shared with the processes that the location is sent to, and goes with the process
        that made it.
        """
        if self._copies is not None:
            return self
        n_bytes, free = measure(), shutil.disk_usage(tempfile.gettempdir()).free
        if n_bytes > _STAGE_SHARE * free:
            logger.warning(
                "%s: %.1f GB do not fit into half of the free %.1f GB in %s; reading by range, which is slow for crops",
                self,
                n_bytes / 1e9,
                free / 1e9,
                tempfile.gettempdir(),
            )
            return self
        other = S3Location(str(self))
        other._copies = self.staging(f"{Owner.this_process().label}-{secrets.token_hex(4)}")
        weakref.finalize(other, _remove_own, other._copies, os.getpid())
        return other

    # -- writing --------------------------------------------------------------------------------------------------

    def write(self, name: str, data: bytes) -> None:
        """Put an object, in one atomic step."""
        self._changed(name)
        self.place.put(self.check(name), data)

    def adopt(self, staged: Path, name: str) -> None:
        """Upload a finished local file; large ones in parts, which become one object when all have arrived."""
        self._changed(name)
        self.place.upload(staged, self.check(name))
        staged.unlink()

    def remove(self, name: str) -> None:
        """Delete an object if it is there."""
        self._changed(name)
        self.place.delete(self.check(name))

    def remove_many(self, names: Iterable[str]) -> None:
        """Delete many objects, several at a time."""
        gone = [self.check(name) for name in names]
        for name in gone:
            self._changed(name)
        self.place.delete_many(gone)

    def _changed(self, name: str) -> None:
        self._walked = {}
        self._soon.pop(name, None)

    # -- small objects that several may want -----------------------------------------------------------------------

    def create(self, name: str, data: bytes) -> str | None:
        """Make an object that is not there yet.

        Raises
        ------
        ObjectStorageError
            When the server takes no notice of conditions: several writers would destroy each other's work there.
        """
        version = self.place.put_if(self.check(name), data, version=None)
        if version is not None:
            self._demand_conditions(name)
        return version

    def _demand_conditions(self, name: str) -> None:
        """Create an object that exists already, once a process: the server must refuse."""
        here = (os.getpid(), str(client().meta.endpoint_url), self.place.bucket)
        if here in _conditional:
            return
        if self.place.put_if(name, b"{}", version=None) is not None:
            self.place.delete(name)
            raise ObjectStorageError(
                "the server ignores If-None-Match, so that writers cannot keep out of each other's way",
                str(self),
                "Write to a server that supports conditional requests (S3 does), or to disk and copy the store",
            )
        _conditional.add(here)

    def peek(self, name: str) -> FileVersion | None:
        """A small object with its age by the server's clock."""
        try:
            found = self.place.get(self.check(name))
        except FileNotFoundError:
            return None
        return FileVersion(found.data, found.age_s, found.version)

    def replace(self, name: str, data: bytes, version: str) -> str | None:
        """Replace one version of an object; the new version, None when the object has changed since."""
        return self.place.put_if(self.check(name), data, version=version)

    def remove_version(self, name: str, version: str) -> None:
        """Delete one version of an object; a newer one stays."""
        self.place.delete(self.check(name), version=version)


class RemoteBytes:
    """An object read by range: the end when it is opened, then what is asked for, and more where reads go onwards.

    Every read demands the version that was opened: an object replaced meanwhile is an error, never a mixture.
    """

    def __init__(self, place: ObjectPlace, name: str) -> None:
        end = place.get(name, start=-TAIL_BYTES)
        self._place, self._name = place, name
        self._size, self._version = end.size, end.version
        self._kept = [(end.size - len(end.data), memoryview(end.data))]
        self._next = -1

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, span: slice, /) -> memoryview:
        start, stop, _ = span.indices(self._size)
        for first, data in self._kept:
            if first <= start and stop <= first + len(data):
                self._next = stop
                return data[start - first : stop - first]
        if stop <= start:
            return memoryview(b"")
        end = min(self._size, max(stop, start + AHEAD_BYTES)) if start == self._next else stop
        data = memoryview(self._place.get(self._name, start=start, stop=end, version=self._version).data)
        self._kept[1:] = [(start, data)]
        self._next = stop
        return data[: stop - start]


def _remove_own(folder: Path, pid: int) -> None:
    if os.getpid() == pid:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)

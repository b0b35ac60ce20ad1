"""Where a store's files are: whole-file reads and atomic writes by relative name, so that backends know no paths.

A location is a folder or, in :mod:`featstore.store.s3_location`, a prefix of a bucket. Both give the same promises: a
file appears whole or not at all; of several processes that create one file, one succeeds; deletes and replacements of
small files apply only to the version that was read.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

from featstore import atomic
from featstore.errors import StoreError
from featstore.registry import Registry
from featstore.store.write_behind import flush_threads

__all__ = ["LOCATIONS", "FileBytes", "FileVersion", "FolderLocation", "Location", "open_location"]

LOCATIONS = Registry(
    "kind of location",
    {
        "file": "featstore.store.location:FolderLocation",
        "s3": "featstore.store.s3_location:S3Location",
        "memory": "featstore.store.memory_store:MemoryLocation",
    },
)


class FileBytes(Protocol):
    """Bytes of a file, by stretches: a memory map, or an object that is fetched piece by piece."""

    def __len__(self) -> int:
        """Bytes of the file."""

    def __getitem__(self, span: slice, /) -> memoryview:
        """Return a stretch of the file."""


class FileVersion(NamedTuple):
    """A small file as it was read.

    Attributes
    ----------
    data : bytes
    age_s : float
        Seconds since it was written or touched.
    version : str
        Equal as long as the file is the same.
    """

    data: bytes
    age_s: float
    version: str


class Location(ABC):
    """A place for files. Names are relative, with ``/`` between parts."""

    heartbeat_s: ClassVar[float]
    is_remote: ClassVar[bool] = False  # no file system: other programs cannot follow paths there

    @abstractmethod
    def __str__(self) -> str: ...

    def check(self, name: str) -> str:
        """Return the name of a file, which stays inside the location.

        Raises
        ------
        StoreError
            For a name that would leave the location.
        """
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise StoreError(f"unsafe file name {name!r}", str(self), "The store's metadata was tampered with")
        return name

    def path(self, name: str) -> Path:
        """File system path of ``name``.

        Raises
        ------
        StoreError
            For a name that leaves the location, or where there is no file system.
        """
        raise StoreError("this is not on a file system", f"{self}/{name}", "Use a path, or copy the store to one")

    # -- reading --------------------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether the file or folder is there."""
        self.check(name)
        return self.size(name) >= 0 or bool(self.list(name))

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of a file, or -1 when it is absent."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Whole content of a file; ``FileNotFoundError`` when it is absent."""

    @abstractmethod
    def stamp(self, name: str) -> str:
        """Text that changes when the file does."""

    def open(self, name: str) -> FileBytes:
        """Open a file for reads of some of its bytes."""
        return self.map(name)

    def map(self, name: str) -> memoryview:
        """Read-only memory map of a file (empty files give an empty view)."""
        return memoryview(self.read(name))

    @abstractmethod
    def list(self, name: str) -> list[str]:
        """Names of the entries of a folder, sorted; an absent folder has none."""

    @abstractmethod
    def walk(self, name: str) -> Iterator[tuple[str, int]]:
        """Every file below a folder with its size, in sorted order."""

    def prefetch(self, names: Iterable[str]) -> None:  # noqa: B027 (files on disk need nothing)
        """Fetch small files together that are read next, where that helps."""

    def refresh(self) -> None:  # noqa: B027 (nor do they here)
        """Forget what is remembered of files: another process may have changed them."""

    def staged(self, measure: Callable[[], int]) -> Location:
        """Return a location that keeps local copies of files it opens: itself where files are local already.

        ``measure`` returns the bytes of all files that will be opened.
        """
        return self

    # -- writing: a read-only location leaves these as they are --------------------------------------------------

    def read_only(self) -> StoreError:
        """Error of every method that would change something."""
        return StoreError("nothing can be written here", str(self), "Choose another place")

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place in one atomic step."""
        raise self.read_only()

    def write_changed(self, name: str, data: bytes) -> None:
        """Put a file in place unless it has that content already."""
        with suppress(FileNotFoundError):
            if self.read(name) == data:
                return
        self.write(name, data)

    def adopt(self, staged: Path, name: str) -> None:
        """Move a finished local file into the store under ``name``; it is whole before it gets its name."""
        raise self.read_only()

    def together(self, steps: Sequence[Callable[[], None]]) -> None:
        """Take writing steps that do not depend on each other, side by side where that is faster.

        All of them are over when this returns; the first error is raised.
        """
        for step in steps:
            step()

    @property
    def staging_folder(self) -> Path:
        """Folder of what this machine's processes make for the store, among this user's temporary files.

        Raises
        ------
        StoreError
            When another user has taken its name.
        """
        root = Path(tempfile.gettempdir()) / f"featstore-staging-{os.getuid()}"
        with atomic.disk_errors(root):
            root.mkdir(mode=0o700, exist_ok=True)
        if root.is_symlink() or root.stat().st_uid != os.getuid():
            raise StoreError("the folder for files in the making belongs to another user", str(root), "Set TMPDIR")
        return root / hashlib.sha256(str(self).encode()).hexdigest()[:16]

    def staging(self, owner: str) -> Path:
        """Local folder for files in the making; :mod:`featstore.store.leases` says who is alive."""
        folder = self.staging_folder / owner
        with atomic.disk_errors(folder):
            for _ in range(8):
                with suppress(FileNotFoundError):  # the parent was empty, and was collected as garbage in between
                    folder.mkdir(parents=True, exist_ok=True)
                    return folder
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        raise self.read_only()

    def remove_many(self, names: Iterable[str]) -> None:
        """Delete many files, those that are there."""
        for name in names:
            self.remove(name)

    # -- small files that several may want --------------------------------------------------------------------------

    def create(self, name: str, data: bytes) -> str | None:
        """Make a file that is not there yet: its version, None when there is one."""
        raise self.read_only()

    @abstractmethod
    def peek(self, name: str) -> FileVersion | None:
        """A small file with its age, None when it is absent."""

    def touch(self, name: str, data: bytes, version: str) -> str | None:
        """Show that a file's owner lives; its new version, None when it is another's now (where that is known)."""
        return self.replace(name, data, version)

    def replace(self, name: str, data: bytes, version: str) -> str | None:
        """Replace one version of a file; the new version, None when the file has changed since."""
        raise self.read_only()

    def remove_version(self, name: str, version: str) -> None:
        """Delete one version of a file; a newer one stays."""
        raise self.read_only()


class FolderLocation(Location):
    """A folder on a file system."""

    heartbeat_s = 5.0

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def __str__(self) -> str:
        return str(self.root)

    def path(self, name: str) -> Path:
        """File system path of ``name``; a name that leaves the folder is refused."""
        return self.root.joinpath(self.check(name))

    def size(self, name: str) -> int:
        """Bytes of a file, or -1 when it is absent."""
        try:
            return self.path(name).stat().st_size
        except OSError:
            return -1

    def read(self, name: str) -> bytes:
        """Whole content of a file."""
        return self.path(name).read_bytes()

    def stamp(self, name: str) -> str:
        """Time of the last change."""
        return str(self.path(name).stat().st_mtime_ns)

    def map(self, name: str) -> memoryview:
        """Read-only memory map of a file (empty files give an empty view)."""
        return map_file(self.path(name))

    def list(self, name: str) -> list[str]:
        """Names of the entries of a folder, sorted; an absent folder has none."""
        try:
            return sorted(entry.name for entry in os.scandir(self.path(name)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def walk(self, name: str) -> Iterator[tuple[str, int]]:
        """Every file below a folder with its size, in sorted order."""
        for entry in self.list(name):
            child = f"{name}/{entry}" if name else entry
            path = self.path(child)
            if path.is_dir() and not path.is_symlink():
                yield from self.walk(child)
            elif path.exists():
                yield child, path.stat().st_size

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place in one atomic step."""
        atomic.write_bytes(self.path(name), data)

    def adopt(self, staged: Path, name: str) -> None:
        """Move a finished local file into the store under ``name``; it is flushed before it gets its name."""
        target = self.path(name)
        with atomic.disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(staged, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(staged, target)
            atomic.fsync_directory(target.parent)

    def together(self, steps: Sequence[Callable[[], None]]) -> None:
        """Take the steps in threads: a disk flushes many files in little more than the time of one."""
        waiting = [flush_threads().submit(step) for step in steps]
        wait(waiting)
        for one in waiting:
            one.result()

    @property
    def staging_folder(self) -> Path:
        """Folder of files in the making, on the same file system."""
        return self.root / "staging"

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        self.path(name).unlink(missing_ok=True)

    def create(self, name: str, data: bytes) -> str | None:
        """Make a file that is not there yet."""
        path = self.path(name)
        with atomic.disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                return None
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
            except BaseException:  # a full disk may not leave an empty file without an owner
                path.unlink(missing_ok=True)
                raise
        return ""

    def peek(self, name: str) -> FileVersion | None:
        """A small file with its age."""
        path = self.path(name)
        try:
            data, state = path.read_bytes(), path.stat()
        except FileNotFoundError:
            return None
        return FileVersion(data, max(0.0, time.time() - state.st_mtime), _version(state))

    def touch(self, name: str, data: bytes, version: str) -> str | None:
        """Set the time of the last change; a file system has no check of the owner in the same step."""
        os.utime(self.path(name))
        return version

    def replace(self, name: str, data: bytes, version: str) -> str | None:
        """Delete the version that was read, then create: of two that try, one create fails."""
        self.remove_version(name, version)
        return self.create(name, data)

    def remove_version(self, name: str, version: str) -> None:
        """Move the file aside under a private name, compare its version, and put a newer one back."""
        path = self.path(name)
        grave = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
        with suppress(FileNotFoundError):
            os.rename(path, grave)
            if _version(grave.stat()) != version:
                with suppress(FileExistsError):
                    os.link(grave, path)
            grave.unlink()


def _version(state: os.stat_result) -> str:
    return f"{state.st_ino}-{state.st_mtime_ns}"


def map_file(path: Path) -> memoryview:
    """Read-only memory map of a file (empty files give an empty view)."""
    with open(path, "rb") as file:
        return map_descriptor(file.fileno())


def map_descriptor(descriptor: int) -> memoryview:
    """Read-only memory map of an open file, which may be closed then."""
    size = os.fstat(descriptor).st_size
    return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) if size else b"")


def open_location(url: str | os.PathLike[str] | Location) -> Location:
    """Location of a path, or of a ``file://``, ``s3://`` or ``memory://`` URL.

    Raises
    ------
    StoreError
        For any other kind of URL.
    MissingDependency
        For ``s3://`` when the ``s3`` extra is not installed.
    """
    if isinstance(url, Location):
        return url
    text = os.fspath(url)
    scheme, found, _ = text.partition("://")
    scheme = scheme if found else "file"
    if scheme not in LOCATIONS:
        raise StoreError(f"stores on {scheme}:// are not supported", text, "Use a path on a file system, or s3://")
    location: Location = LOCATIONS.load(scheme)(text.removeprefix("file://"))
    return location

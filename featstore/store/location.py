"""Where a store's files are: whole-file reads and atomic writes by relative name, so that backends know no paths."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from featstore import atomic
from featstore.errors import StoreError

__all__ = ["Location", "open_location"]


class Location:
    """A folder on a file system. Names are relative, with ``/`` between parts."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def __str__(self) -> str:
        return str(self.root)

    def path(self, name: str) -> Path:
        """File system path of ``name``; a name that leaves the folder is refused."""
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise StoreError(f"unsafe file name {name!r}", str(self), "The store's metadata was tampered with")
        return self.root.joinpath(*parts)

    def exists(self, name: str) -> bool:
        """Whether the file or folder is there."""
        return self.path(name).exists()

    def size(self, name: str) -> int:
        """Bytes of a file, or -1 when it is absent."""
        try:
            return self.path(name).stat().st_size
        except OSError:
            return -1

    def read(self, name: str) -> bytes:
        """Whole content of a file."""
        return self.path(name).read_bytes()

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

    def staging(self, owner: str) -> Path:
        """Folder for files in the making, on the same file system; :mod:`featstore.store.leases` says who is alive."""
        folder = self.root / "staging" / owner
        with atomic.disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def map(self, name: str) -> memoryview:
        """Read-only memory map of a file (empty files give an empty view)."""
        with open(self.path(name), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b"")

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

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        self.path(name).unlink(missing_ok=True)


def open_location(url: str | os.PathLike[str] | Location) -> Location:
    """Location of a path or a ``file://`` URL."""
    if isinstance(url, Location):
        return url
    text = os.fspath(url)
    if "://" in text and not text.startswith("file://"):
        scheme = text.split("://", 1)[0]
        raise StoreError(f"stores on {scheme}:// are not supported yet", text, "Use a path on a file system")
    return Location(text.removeprefix("file://"))

"""Files that appear whole or not at all: written aside, flushed, renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featstore.errors import StoreError

__all__ = [
    "atomic_path",
    "canonical_json",
    "disk_errors",
    "fsync_directory",
    "write_bytes",
    "write_json",
    "write_text",
    "writer_of",
]


@contextmanager
def disk_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the operating system's refusals to write into a ``StoreError`` with a way out."""
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "Free some space, or choose another folder, then run again: what is committed stays valid",
            errno.EDQUOT: "Your disk quota is used up: free some space, then run again to go on",
            errno.EROFS: "The file system is read-only: choose another folder",
            errno.EACCES: "Ask for write permission, or choose another folder",
            errno.EPERM: "Ask for write permission, or choose another folder",
        }.get(error.errno or 0, "Check the disk, then run again to go on")
        raise StoreError(f"cannot write: {error.strerror}", os.fspath(path), advice) from error


def fsync_directory(path: str | os.PathLike[str]) -> None:
    """Make renames inside ``path`` survive a power cut (a no-op where folders cannot be opened)."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:  # some network file systems refuse to flush a folder; the rename itself stays atomic
        pass
    finally:
        os.close(handle)


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; on success it takes the target's place, on failure it is removed."""
    target = Path(target)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.parent / f".{target.name[:80]}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part"
        try:
            part.touch(exist_ok=False)
            mode = part.stat().st_mode
            yield part
            with open(part, "rb+") as file:
                os.fchmod(file.fileno(), stat.S_IMODE(mode))  # safetensors leaves files that only their owner can read
                os.fsync(file.fileno())
            os.replace(part, target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        fsync_directory(target.parent)


def _host() -> str:
    """Short, path-safe name of this machine."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def writer_of(name: str) -> int | None:
    """Process that makes a temporary file of :func:`atomic_path`, None where another machine's process does."""
    host, _, rest = name.removesuffix(".part").rpartition(".")[2].partition("-")
    pid = rest.partition("-")[0]
    return int(pid) if host == _host() and pid.isdecimal() else None


def write_bytes(target: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``target`` in one atomic step."""
    with atomic_path(target) as part:
        part.write_bytes(data)


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 to ``target`` in one atomic step."""
    write_bytes(target, text.encode())


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and one layout, so that equal values have equal bytes; NaN is refused."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_json(target: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as canonical JSON in one atomic step."""
    write_bytes(target, canonical_json(value))

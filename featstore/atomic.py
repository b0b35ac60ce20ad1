"""Files that appear whole or not at all: written aside, flushed, renamed."""

from __future__ import annotations

import errno
import functools
import glob
import hashlib
import json
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from featstore.errors import CorruptFeature, StoreError
from featstore.owner import process_lives, this_machine

__all__ = [
    "DAMAGED",
    "atomic_path",
    "canonical_json",
    "damage",
    "digest_of_json",
    "disk_errors",
    "fsync_directory",
    "is_abandoned",
    "json_object",
    "remove_abandoned",
    "remove_abandoned_in",
    "write_bytes",
    "write_json",
    "write_text",
    "writer_of",
]

DAMAGED = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
"""What parsers raise on bytes that were damaged or edited."""

REPAIR = "Run featstore store repair"


@contextmanager
def damage(what: str, where: str, fix: str = REPAIR) -> Iterator[None]:
    """Turn what parsers raise on damaged bytes into a ``CorruptFeature``."""
    try:
        yield
    except DAMAGED as error:
        raise CorruptFeature(what, where, fix) from error


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
    with suppress(OSError):  # some network file systems refuse to flush a folder; the rename itself stays atomic
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; on success it takes the target's place, on failure it is removed."""
    target = Path(target)
    with disk_errors(target):
        if target.exists() and not target.is_file():  # a file in a device's place is a fault of all programs
            what = "a folder" if target.is_dir() else "a device or a pipe"
            raise StoreError(f"cannot write: this is {what}", os.fspath(target), "Name a file")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.parent / f".{target.name[:80]}.{_system()}-{os.getpid()}-{secrets.token_hex(4)}.part"
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


def _system() -> str:
    """Short, path-safe name of the running system whose process numbers this process sees."""
    return hashlib.sha256(f"{socket.gethostname()} {this_machine()}".encode()).hexdigest()[:8]


def writer_of(name: str) -> int | None:
    """Process that makes a temporary file of :func:`atomic_path`, None where another system's process does."""
    system, _, rest = name.removesuffix(".part").rpartition(".")[2].partition("-")
    pid = rest.partition("-")[0]
    return int(pid) if system == _system() and re.fullmatch("[0-9]{1,9}", pid) else None


def is_abandoned(part: Path) -> bool:
    """Whether the process that makes a temporary file is gone; of another system's: whether the file is a day old."""
    pid = writer_of(part.name)
    if pid is not None:
        return not process_lives(pid)
    try:
        return time.time() - part.stat().st_mtime > 86400
    except OSError:
        return False


def remove_abandoned(target: str | os.PathLike[str]) -> None:
    """Remove the temporary files beside ``target`` that killed writers of it left."""
    target = Path(target)
    _remove(target.parent.glob(f".{glob.escape(target.name[:80])}.*.part"))


def remove_abandoned_in(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files in a folder and below that killed writers left."""
    _remove(Path(folder).rglob(".*.part"))


def _remove(parts: Iterable[Path]) -> None:
    for part in parts:
        if is_abandoned(part):
            part.unlink(missing_ok=True)


def write_bytes(target: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``target`` in one atomic step."""
    with atomic_path(target) as part:
        part.write_bytes(data)


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 to ``target`` in one atomic step."""
    write_bytes(target, text.encode())


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and one layout, so that equal values have equal bytes; NaN is refused.

    The layout is that of ``json.dumps`` with ``sort_keys=True, indent=1``, which the standard library writes in Python.
    Here its compiled encoder writes each list of plain values, of which a record of many tracks consists.
    """
    return (_indented(value, "\n") + "\n").encode()


def digest_of_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, by which files that hold their own digest are checked."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


_PLAIN = {str, int, float, bool, type(None)}


def _indented(value: Any, line: str) -> str:
    """JSON of a value; ``line`` is the line break with the indentation that the value stands at."""
    inner = line + " "
    if isinstance(value, dict) and value and set(map(type, value)) == {str}:
        rows = (f"{inner}{_encoder(', ').encode(key)}: {_indented(value[key], inner)}" for key in sorted(value))
        return f"{{{','.join(rows)}{line}}}"
    if isinstance(value, list | tuple) and value:
        if set(map(type, value)) <= _PLAIN:
            return f"[{inner}{_encoder(',' + inner).encode(value)[1:-1]}{line}]"
        return f"[{','.join(inner + _indented(one, inner) for one in value)}{line}]"
    if isinstance(value, dict) and value:  # keys that are no text
        text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
        return text.replace("\n", line)
    return _encoder(", ").encode(value)


@functools.lru_cache(maxsize=64)
def _encoder(between: str) -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(between, ": "))


def json_object(data: bytes | str) -> dict[str, Any]:
    """Read a JSON object that may have been damaged or edited.

    Raises
    ------
    ValueError
        For any other text, and for one that is nested too deeply.
    """
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} instead of an object")
    return value


def write_json(target: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as canonical JSON in one atomic step."""
    write_bytes(target, canonical_json(value))

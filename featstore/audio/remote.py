"""Audio in a bucket: its header is read by range, its samples from a temporary local copy.

Decoders need a file. Each process copies one track at a time and deletes it after use; copies left by a killed process
are deleted by the next process on the machine.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from featstore.errors import DecodeError, ObjectStorageError
from featstore.object_storage import ObjectPlace, is_object_url
from featstore.owner import process_lives
from featstore.seekable_file import SeekableFile

__all__ = ["RangedFile", "local_copy", "ranged_file"]

_HEADER_BYTES = 128 << 10  # fetched at once while a header is read

_held = threading.local()  # URL -> path of the copy, in this thread
_swept: set[int] = set()  # processes that looked for leftovers


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Path of a local file with the audio: ``path`` itself, or a copy of the object of that URL.

    The copy lasts as long as the block; blocks inside it share it. Errors of the block name the URL.

    Raises
    ------
    DecodeError
        When the object cannot be fetched, or there is no room for it.
    """
    if not is_object_url(path):
        yield path
        return
    copies: dict[str, str] = _held.__dict__.setdefault("copies", {})
    mine = path not in copies
    if mine:
        copies[path] = _copy(path)
    local = copies[path]
    try:
        yield local
    except DecodeError as error:
        if error.where != local:
            raise
        raise type(error)(error.what, path, error.fix) from error
    finally:
        if mine:
            del copies[path]
            Path(local).unlink(missing_ok=True)


def _copy(url: str) -> str:
    with _as_decode_errors(url):
        place, name = _place_of(url)
        found = place.head(name)
        if found is None:
            raise FileNotFoundError(url)
        folder = _folder()
        free = shutil.disk_usage(folder).free
        if found[0] > free:
            raise DecodeError(
                f"the file has {found[0] / 1e9:.2f} GB, the folder for temporary files {free / 1e9:.2f} GB free",
                url,
                "Set TMPDIR to a folder with more room",
            )
        suffix = os.path.splitext(name)[1]
        suffix = suffix if suffix[1:].isalnum() and len(suffix) < 9 else ""
        handle, local = tempfile.mkstemp(suffix, f"{os.getpid()}-", folder)
        try:
            with os.fdopen(handle, "wb") as file:
                place.download(name, file)
        except BaseException:
            Path(local).unlink(missing_ok=True)
            raise
    return local


@contextmanager
def ranged_file(url: str) -> Iterator[BinaryIO]:
    """Open an object for reading here and there, without a copy.

    Raises
    ------
    DecodeError
        When there is no such object, or it is empty.
    """
    with _as_decode_errors(url):
        place, name = _place_of(url)
        raw = RangedFile(place, name)
    if raw.size == 0:
        raise DecodeError("the file is empty (0 bytes)", url, "Fetch it again")
    with io.BufferedReader(raw, _HEADER_BYTES) as file:
        yield cast(BinaryIO, file)


class RangedFile(SeekableFile):
    """An object as a file that can be read and sought in; every read is a request."""

    def __init__(self, place: ObjectPlace, name: str) -> None:
        first = place.get(name, start=0, stop=_HEADER_BYTES)
        self._place, self._name = place, name
        self._first, self._version, self.size = first.data, first.version, first.size

    def _next(self, count: int) -> bytes:
        """Fetch the next bytes, unless they came with the first ones."""
        stop = min(self.size, self._at + count)
        if stop <= len(self._first):
            return self._first[self._at : stop]
        if stop <= self._at:
            return b""
        return self._place.get(self._name, start=self._at, stop=stop, version=self._version).data


def _place_of(url: str) -> tuple[ObjectPlace, str]:
    folder, _, name = url.rpartition("/")
    return ObjectPlace(folder), name


@contextmanager
def _as_decode_errors(url: str) -> Iterator[None]:
    """Turn errors of an object store into errors of an audio file."""
    try:
        yield
    except FileNotFoundError as error:
        raise DecodeError("no such object", url, "Check the path in the track table") from error
    except ObjectStorageError as error:
        raise DecodeError(error.what, url, error.fix) from error
    except DecodeError:
        raise
    except OSError as error:
        raise DecodeError(f"no temporary copy can be made: {error.strerror}", url, "Set TMPDIR") from error


def _folder() -> Path:
    """Folder of this user's temporary copies, freed of what dead processes left."""
    folder = Path(tempfile.gettempdir()) / f"featstore-audio-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(1, f"{folder} belongs to another user")
    if os.getpid() not in _swept:
        _swept.add(os.getpid())
        for copy in folder.iterdir():
            pid = copy.name.partition("-")[0]
            if pid.isdecimal() and not process_lives(int(pid)):
                with suppress(OSError):
                    copy.unlink()
    return folder

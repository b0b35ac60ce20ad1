"""What headers said, kept between runs: indexing a large collection goes on where it was stopped.

A file is known by its path, size and time of change. Answers are appended to a text file of JSON lines as they come,
and a line that was cut by a kill is passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from featstore.audio.probe import AudioInfo
from featstore.cache_folder import cache_folder

__all__ = ["ProbeCache", "default_cache"]

logger = logging.getLogger(__name__)


def default_cache(root: str | os.PathLike[str]) -> Path:
    """The user's file of answers for a collection."""
    digest = hashlib.sha256(os.path.abspath(root).encode()).hexdigest()[:16]
    return cache_folder("probes") / f"{digest}.jsonl"


class ProbeCache:
    """Answers by path; use as a context manager. A cache that cannot be read or written costs time, nothing else.

    Parameters
    ----------
    path : Path, optional
        Nothing is kept without.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, tuple[int, int, AudioInfo]] = {}
        self._file: TextIO | None = None

    def __enter__(self) -> ProbeCache:
        if self._path is None:
            return self
        with contextlib.suppress(OSError), open(self._path, encoding="utf-8", errors="replace") as file:
            for line in file:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    path, size, changed, answer = json.loads(line)
                    self._known[path] = (size, changed, AudioInfo(**answer))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "a", encoding="utf-8", buffering=1)  # a kill costs the last line at most
        except OSError as error:
            logger.warning("answers of probing are not kept: %s", error)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def get(self, path: str) -> AudioInfo | None:
        """Answer for a file as it is now; None when it is new or has changed."""
        known = self._known.get(path)
        return known[2] if known is not None and _identity(path) == known[:2] else None

    def put(self, path: str, answer: AudioInfo) -> None:
        """Keep an answer. Files that cannot be read are asked again each time: the cause may lie outside them."""
        if self._file is None:
            return
        identity = _identity(path)
        if identity is None or self._known.get(path, (0, 0))[:2] == identity:
            return
        with contextlib.suppress(OSError):
            self._file.write(json.dumps([path, *identity, asdict(answer)]) + "\n")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None  # no file, or an object in a bucket
    return status.st_size, status.st_mtime_ns

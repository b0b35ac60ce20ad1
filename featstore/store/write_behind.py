"""Flushing to disk in threads: while the next tracks are computed, and many files at once when a shard is committed."""

from __future__ import annotations

import functools
import os
from concurrent.futures import Future, ThreadPoolExecutor

from featstore.atomic import disk_errors

__all__ = ["WriteBehind", "flush_threads"]

FLUSH_BYTES = 8 << 20  # of one file before its flush begins: few enough calls, and little left over for the commit
_THREADS = 16  # they wait for the disk, nearly all the time

_flush = getattr(os, "fdatasync", os.fsync)  # not everywhere


@functools.cache
def flush_threads() -> ThreadPoolExecutor:
    """Threads of this process that wait for the disk, made at the first need."""
    return ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="featstore-flush")


os.register_at_fork(after_in_child=flush_threads.cache_clear)  # threads do not survive a fork


class WriteBehind:
    """Flushes of one open file, one at a time.

    Parameters
    ----------
    descriptor : int
        Of a file that stays open until :meth:`wait` has returned.
    where : path
        Of that file, for messages.
    """

    def __init__(self, descriptor: int, where: str | os.PathLike[str]) -> None:
        self._descriptor, self._where = descriptor, where
        self._waiting = 0
        self._running: Future[None] | None = None

    def written(self, n_bytes: int) -> None:
        """Count bytes that were written; now and then a flush begins."""
        self._waiting += n_bytes
        if self._waiting >= FLUSH_BYTES and (self._running is None or self._running.done()):
            self.wait()  # an error of the last one must not get lost: the system reports it once
            self._waiting = 0
            self._running = flush_threads().submit(_flush, self._descriptor)

    def wait(self) -> None:
        """Return when no flush is running.

        Raises
        ------
        StoreError
            When the disk refused.
        """
        running, self._running = self._running, None
        if running is not None:
            with disk_errors(self._where):
                running.result()

"""Index a data set and probe its files: the track table with durations, rates and what is broken."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from featstore.audio.probe import AudioInfo, probe_audio
from featstore.datasets import describe, index
from featstore.errors import DecodeError
from featstore.log import progress_bar

if TYPE_CHECKING:
    from featstore.datasets import TrackTable

__all__ = ["index_tracks", "probe_tracks"]

logger = logging.getLogger(__name__)

# Probing waits for the disk, not for the processor; more threads than this no longer help on a network file system.
_MOST_THREADS = 16


def index_tracks(
    kind: str, root: str | os.PathLike[str] | None = None, *, jobs: int | None = None, **options: Any
) -> TrackTable:
    """Make the track table of a data set and add what the headers of its files say.

    Parameters
    ----------
    kind, root, **options
        As for ``featstore.datasets.index``.
    jobs : int > 0, optional
        Files handled at a time.

    Returns
    -------
    TrackTable
        A file that cannot be read stays a row, with the reason in ``probe_error``.
    """
    if jobs is not None and "jobs" in describe(kind)[1]:
        options["jobs"] = jobs
    return probe_tracks(index(kind, root, **options), jobs=jobs)


def probe_tracks(table: TrackTable, *, jobs: int | None = None) -> TrackTable:
    """The same table with its probe columns filled in; rows that already carry an error are left as they are."""
    from featstore.datasets import TrackTable

    started = time.monotonic()
    frame = table.frame.copy()
    threads = jobs or min(_MOST_THREADS, 4 * (os.cpu_count() or 1))
    todo = [row for row, error in enumerate(frame["probe_error"]) if error is None]
    paths = [frame["path"].iloc[row] for row in todo]
    columns: dict[str, list[Any]] = {name: list(frame[name]) for name in _COLUMNS}
    errors = list(frame["probe_error"])
    with progress_bar(total=len(todo), desc="probe", unit="file") as bar:
        for row, outcome in zip(todo, _in_order(_probe, paths, threads), strict=True):
            bar.update(1)
            if isinstance(outcome, AudioInfo):
                for name, attribute in _COLUMNS.items():
                    columns[name][row] = getattr(outcome, attribute)
            else:
                errors[row] = outcome
    result = TrackTable(frame.assign(**columns, probe_error=errors), table.info)
    broken = sum(error is not None for error in errors)
    logger.info("probed %d files in %.1f s, %d cannot be read", len(frame), time.monotonic() - started, broken)
    return result


_COLUMNS = {
    "duration_s": "duration_s",
    "source_sample_rate": "sample_rate",
    "channels": "channels",
    "size_bytes": "size_bytes",
}


def _probe(path: str) -> AudioInfo | str:
    try:
        return probe_audio(path)
    except DecodeError as error:
        return error.what


def _in_order(call: Callable[[str], Any], items: Sequence[str], threads: int) -> Iterator[Any]:
    """Results of ``call`` in the order of ``items``; few are under way at a time, so that many need no memory."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Any]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(call, item))
                if len(waiting) >= 8 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
